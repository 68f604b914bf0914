"""Small panels, and policies run on them."""

from dataclasses import replace

import numpy as np

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


def first_observation(policy, books):
    """What is seen at the start: of interest are returns and volatilities only."""
    assets = policy.begins.shape[1] // 2
    observation = np.zeros((books, 3 * assets + 2), np.float32)
    observation[:, assets : 3 * assets] = policy.begins[np.arange(books) % len(policy.begins)]
    return observation


def asked(policy, books, sessions):
    """What a policy asks for at each session, (sessions, N, A + 1), through `predict` alone."""
    found, state, seen = [], None, first_observation(policy, books)
    start = np.ones(books, np.bool_)
    for _ in range(sessions):
        action, state = policy.predict(seen, state, start)
        found.append(action)
        start = np.zeros(books, np.bool_)
    return np.stack(found)


def run(policy, market, window, cost_bps=10.0, books=1):
    """Equity (sessions, N) and dollars traded (sessions - 1, N) in the environment itself."""
    options = replace(AllocationSettings(), costs=FlatCosts(rate_bps=cost_bps))
    kernel = open_kernel(market, options, window, books, random_start=False)
    seen, state, start = kernel.reset(), None, np.ones(books, np.bool_)
    equity, traded = [kernel.ledger.equity.copy()], [kernel.ledger.traded.copy()]
    for _ in range(window.stop - window.start - 1):
        action, state = policy.predict(seen, state, start, deterministic=True)
        seen = kernel.step(action).observation
        start = np.zeros(books, np.bool_)
        equity.append(kernel.ledger.equity.copy())
        traded.append(kernel.ledger.traded.copy())
    return np.array(equity), np.diff(traded, axis=0)
