"""Small panels, and policies run on them."""

from dataclasses import replace

import numpy as np

from agents.policy import PolicyBatch
from envs.allocation.market import AllocationSettings, build_panel_market
from envs.core.costs import FlatCosts
from envs.kernels import open_kernel
from envs.market.panel import PanelHistory
from tests.markets import weekdays


def panel(close, rate=0.03):
    """A market with these closes, (T, A) or (P, T, A), and interest for calendar days."""
    close = np.asarray(close, np.float64)
    sessions, assets = close.shape[-2:]
    names = tuple(f"a{k}" for k in range(assets))
    history = PanelHistory("toy", names, weekdays(sessions), close, np.full(sessions, rate))
    return build_panel_market(history, AllocationSettings())


def walk(sessions=260, assets=4, paths=1, seed=0, drift=0.0005):
    rng = np.random.default_rng(seed)
    vol = np.linspace(0.006, 0.02, assets)
    common = 0.5 * rng.standard_normal((paths, sessions, 1))
    steps = drift + vol * (common + rng.standard_normal((paths, sessions, assets)))
    return panel(100.0 * np.exp(np.cumsum(steps, axis=1)))


def run(policy, market, window, cost_bps=10.0, books=1):
    """Equity (sessions, N) and dollars traded (sessions - 1, N) in the environment itself."""
    equity, traded, _ = _run(policy, market, window, cost_bps, books)
    return equity, traded


def weights_of(policy, market, window, cost_bps=10.0, books=1):
    """Weights (sessions - 1, N, A + 1) held after each trade, cash last."""
    return _run(policy, market, window, cost_bps, books)[2]


def _run(policy, market, window, cost_bps, books):
    options = replace(AllocationSettings(), costs=FlatCosts(rate_bps=cost_bps))
    kernel = open_kernel(market, options, window, books, random_start=False)
    batch = PolicyBatch([policy])
    seen, state, start = kernel.reset(), None, np.ones(books, np.bool_)
    equity, traded, weights = [kernel.ledger.equity.copy()], [kernel.ledger.traded.copy()], []
    for _ in range(window.stop - window.start - 1):
        quantity, state = batch.quantities(kernel, seen, state, start)
        before = kernel.ledger.equity
        result = kernel.trade_to(quantity)
        seen, record = result.observation, result.record
        value = record.quantity * record.price
        after = (before - record.cost)[:, None]
        weights.append(np.hstack([value, after - value.sum(-1, keepdims=True)]) / after)
        start = np.zeros(books, np.bool_)
        equity.append(kernel.ledger.equity.copy())
        traded.append(kernel.ledger.traded.copy())
    return np.array(equity), np.diff(traded, axis=0), np.array(weights)
