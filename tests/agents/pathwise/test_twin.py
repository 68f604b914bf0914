"""The twin against the environment itself, and its gradients against finite differences."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from agents.pathwise.allocation import AllocationTwin
from agents.pathwise.option_book import OptionTwin
from envs.allocation.market import AllocationSettings, build_panel_market
from envs.core.batch import Window
from envs.core.costs import FlatCosts
from envs.kernels import open_kernel
from envs.option_portfolio.sizing import target_quantity
from envs.options.surface import VixSurface
from tests.markets import market_of, options_of, random_walk, wandering_vol
from tests.panels import panel_of

BOOKS, LENGTH = 8, 90
REALISTIC = {"kind": "realistic", "impact_threshold_units": 20.0, "impact_bps": 300.0}
# Cheap contracts, a low price level, bands, daily rolls, impact: every branch of the environment.
BOOK_OPTIONS: dict[str, dict[str, Any]] = {
    "default": {"costs": REALISTIC},
    "band": {"costs": REALISTIC, "sizing": {"no_trade_band": 0.01, "min_tick_usd": 2.0}},
    "notional": {"costs": REALISTIC, "sizing": {"unit": "notional", "no_trade_band": 0.01}},
    "daily": {"costs": REALISTIC, "chain": {"roll": "daily"}},
    "no_costs": {},
}


def option_case(name, sessions=420, paths=3, **history):
    walk = random_walk(sessions, paths, seed=3, rate=0.04, **history)
    walk = replace(walk, implied_vol=np.broadcast_to(wandering_vol(sessions), walk.close.shape))
    options = options_of(**BOOK_OPTIONS[name])
    market = market_of(walk, options, VixSurface())
    return market, options, OptionTwin(market, options)


def allocation_case(threshold, bps=30.0, assets=4, action="weights"):
    rng = np.random.default_rng(0)
    steps = 0.0005 + 0.012 * rng.standard_normal((2, 300, assets))
    market = build_panel_market(
        panel_of(100.0 * np.exp(steps.cumsum(axis=1)), 0.04), AllocationSettings()
    )
    options = replace(
        AllocationSettings(),
        costs=FlatCosts(rate_bps=bps),
        rebalance_threshold=threshold,
        action=action,
    )
    return market, options, AllocationTwin(market, options)


def drifting(rng, size, scale):
    """Actions (L, B, A) that wander, so that a band sees small and large changes."""
    noise = rng.standard_normal((LENGTH, BOOKS, size))
    return scale * np.cumsum(noise, axis=0) / np.sqrt(1 + np.arange(LENGTH))[:, None, None]


def kernel_books(market, options, actions, path, start):
    """Excess returns, equity (L, B) and observations (L, B, D) of the environment."""
    window = Window(market.first_usable, market.history.num_sessions)
    kernel = open_kernel(market, options, window, BOOKS, random_start=False)
    observations = [kernel.place(start, path, start + LENGTH)]
    excess, equity = [], []
    for t in range(LENGTH):
        before = kernel.ledger.equity.copy()
        seen = kernel.step(actions[t]).observation
        excess.append(kernel.ledger.equity / before - 1.0 - market.cash_return[start + t])
        equity.append(kernel.ledger.equity.copy())
        observations.append(seen)
    return np.array(excess), np.array(equity), np.array(observations[:-1])


def twin_books(twin, actions, path, start, dtype=torch.float64):
    days = twin.days(path, start, LENGTH, dtype=dtype)
    wanted = twin.wanted(torch.from_numpy(actions), days)
    seen, books = [], twin.open(days)
    for t in range(LENGTH):
        seen.append(twin.observe(books, days.day(t)).numpy())
        books, _, _ = twin.advance(wanted[t], books, days.day(t))
    earned = twin.earn(wanted, days)
    return earned.excess.numpy(), earned.equity.numpy(), np.array(seen)


def starts(market, seed=1):
    rng = np.random.default_rng(seed)
    last = market.history.num_sessions - LENGTH
    start = rng.integers(market.first_usable, last, BOOKS)
    return rng.integers(0, len(market.mark), BOOKS), start


def both(case, actions, dtype=torch.float64):
    market, options, twin = case
    path, start = starts(market)
    kernel = kernel_books(market, options, actions, path, start)
    return kernel, twin_books(twin, actions, path, start, dtype)


@pytest.mark.parametrize("name", BOOK_OPTIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_an_option_book_earns_what_the_environment_says(name, dtype):
    case = option_case(name)
    actions = drifting(np.random.default_rng(2), 20, 0.03)
    (excess, equity, _), (own, own_equity, _) = both(case, actions, dtype)
    assert np.abs(excess).max() > 1e-3
    close = 1e-9 if dtype == torch.float64 else 1e-6
    np.testing.assert_allclose(own, excess, atol=close, rtol=0)
    np.testing.assert_allclose(own_equity, equity, rtol=LENGTH * close)


@pytest.mark.parametrize("threshold", [0.0, 0.05])
def test_an_allocation_earns_what_the_environment_says(threshold):
    case = allocation_case(threshold)
    logits = drifting(np.random.default_rng(2), 5, 0.5)
    weights = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    (excess, equity, seen), (own, own_equity, own_seen) = both(case, weights)
    np.testing.assert_allclose(own, excess, atol=1e-9, rtol=0)
    np.testing.assert_allclose(own_equity, equity, rtol=1e-9)
    np.testing.assert_allclose(own_seen, seen, atol=2e-5)


def bands(rng, cash):
    """Weights of four assets, of cash and four widths; with little cash, bands would borrow."""
    logits = drifting(rng, 9, 0.3)
    logits[..., 4] += np.log(cash)
    return np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("cash", [5.0, 1e-3])
def test_an_allocation_within_bands_earns_what_the_environment_says(cash):
    case = allocation_case(0.0, action="band")
    (excess, equity, seen), (own, own_equity, own_seen) = both(
        case, bands(np.random.default_rng(2), cash)
    )
    np.testing.assert_allclose(own, excess, atol=1e-9, rtol=0)
    np.testing.assert_allclose(own_equity, equity, rtol=1e-9)
    np.testing.assert_allclose(own_seen, seen, atol=2e-5)


@pytest.mark.parametrize("name", BOOK_OPTIONS)
def test_an_actor_sees_what_the_environment_shows(name):
    case = option_case(name)
    (_, _, seen), (_, _, own) = both(case, drifting(np.random.default_rng(2), 20, 0.03))
    assert own.dtype == np.float32
    np.testing.assert_allclose(own, seen, atol=2e-5)


def test_closed_markets_are_not_traded_in():
    market, options, _ = option_case("notional")
    closed = np.random.default_rng(0).random(market.history.close.shape) < 0.3
    market = replace(market, market_closed=closed)
    actions = drifting(np.random.default_rng(2), 20, 0.03)
    (excess, _, _), (own, _, _) = both((market, options, OptionTwin(market, options)), actions)
    np.testing.assert_allclose(own, excess, atol=1e-9, rtol=0)


def test_a_multiple_of_the_costs_is_charged():
    market, options, _ = option_case("notional")
    actions = drifting(np.random.default_rng(2), 20, 0.03)
    path, start = starts(market)
    doubled = replace(options, costs=options.costs.times(2.0))
    excess, _, _ = kernel_books(market.with_costs(2.0), doubled, actions, path, start)
    own, _, _ = twin_books(OptionTwin(market, options, 2.0), actions, path, start)
    np.testing.assert_allclose(own, excess, atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", ["band", "notional", "default"])
def test_quantities_are_those_of_the_sizing_formula(name):
    market, _, twin = option_case(name)
    path, start = starts(market)
    rng = np.random.default_rng(4)
    days = twin.days(path, start, 1)
    action = rng.uniform(-0.2, 0.2, (BOOKS, 20))
    spot, mark = days.spot[0].numpy(), days.mark[0].numpy()
    equity = rng.uniform(5e4, 2e5, BOOKS)
    current = rng.uniform(-0.2, 0.2, (BOOKS, 20)) * (equity / spot)[:, None]
    current[rng.random(current.shape) < 0.3] = 0.0
    expected = target_quantity(action, current, mark, spot, equity, twin.sizing)
    books = twin.open(days)._replace(
        quantity=torch.from_numpy(current), equity=torch.from_numpy(equity)
    )
    wanted = twin.wanted(torch.from_numpy(action[None]), days)[0]
    own, _ = twin.trade(wanted, books, days.day(0))
    np.testing.assert_allclose(own.numpy(), expected, rtol=1e-12, atol=1e-12)


def test_a_ruined_book_is_closed_and_stays_so():
    market, options, _ = option_case("default")
    options = replace(options, episode=replace(options.episode, ruin_share=0.97))
    twin = OptionTwin(market, options)
    path, session = starts(market)
    days = twin.days(path, session, LENGTH)
    action = torch.from_numpy(drifting(np.random.default_rng(2), 20, 0.1)).requires_grad_()
    earned = twin.earn(twin.wanted(action, days), days)
    excess, ruined = earned.excess.detach().numpy(), (earned.equity < twin.ruin).numpy()
    assert ruined[:-3].any(axis=0).sum() > 2
    assert (excess[1:][ruined[:-1]] <= 0.0).all()  # what closing costs
    assert not excess[2:][ruined[:-2] & ruined[1:-1]].any()
    (gradient,) = torch.autograd.grad(earned.excess.sum(), action)
    assert torch.isfinite(gradient).all()
