"""The best static book against brute force and against what the environment makes of it."""

import itertools

import numpy as np
import pytest

from agents.baselines.hold_to_expiry import HoldToExpiry
from agents.baselines.mean_variance import best_static_weights, listing_costs, slot_returns
from envs.core.batch import Window
from experiments.backtests.backtest import run_backtest
from risk.metrics import simple_returns
from tests.markets import market_of, options_of, random_walk


def three_assets():
    rng = np.random.default_rng(0)
    common = rng.standard_normal((4000, 1))
    own = rng.standard_normal((4000, 3))
    return (0.7 * common + own) * [0.01, 0.02, 0.005] + [6e-4, -9e-4, 2e-4]


def worth(weight, returns, costs, risk_aversion=5.0):
    moved = returns @ np.asarray(weight)
    return moved.mean() - costs @ np.abs(weight) - risk_aversion / 2.0 * moved.var()


@pytest.mark.parametrize("limit", [100.0, 0.4])
@pytest.mark.parametrize("costs", [(0.0, 0.0, 0.0), (1e-4, 1e-4, 1e-4), (1e-4, 1e-3, 3e-4)])
def test_no_book_on_a_grid_around_it_is_worth_more(limit, costs):
    returns, costs = three_assets(), np.array(costs)
    best = best_static_weights(returns, costs, 5.0, limit)
    assert np.abs(best).max() <= limit + 1e-12
    value = worth(best, returns, costs)
    for step in (1e-4, 1e-2, 0.3):
        for move in itertools.product((-step, 0.0, step), repeat=3):
            other = np.clip(best + move, -limit, limit)
            assert worth(other, returns, costs) <= value + 1e-12


def test_on_a_grid_over_everything_it_is_the_best():
    returns, costs, axis = three_assets(), np.array([2e-4, 3e-4, 2e-4]), np.linspace(-1, 1, 21)
    best = best_static_weights(returns, costs, 5.0, 1.0)
    value = worth(best, returns, costs)
    grid = [worth(w, returns, costs) for w in itertools.product(axis, repeat=3)]
    assert max(grid) <= value + 1e-12
    assert value == pytest.approx(max(grid), abs=2e-6)


def test_without_costs_or_bounds_it_is_the_portfolio_of_merton():
    returns = three_assets()
    expected = np.linalg.solve(5.0 * np.cov(returns, rowvar=False, bias=True), returns.mean(0))
    found = best_static_weights(returns, np.zeros(3), 5.0, 1000.0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_what_costs_more_than_it_earns_is_left_alone():
    costs = np.array([1e-2, 0.0, 1e-2])
    found = best_static_weights(three_assets(), costs, 5.0, 1000.0)
    assert (found[[0, 2]] == 0.0).all()
    assert found[1] < 0.0
    assert (best_static_weights(np.zeros((50, 4)), np.zeros(4), 5.0, 1.0) == 0.0).all()


@pytest.mark.parametrize("roll", ["expiry", "daily"])
def test_the_costs_are_those_that_the_environment_charges(roll):
    """And the profits, too. A small book, so that equity hardly moves while contracts are held."""
    options = options_of(chain={"roll": roll}, costs={"kind": "realistic"})
    market = market_of(random_walk(400, paths=3), options)
    weight = np.zeros(20)
    weight[[2, 12]] = 1e-3, -5e-4  # at the money, where no contract falls below the tick
    first, later = market.first_usable, 0 if roll == "daily" else 60
    held = HoldToExpiry(market, weight, np.arange(20), alike=False)
    backtest = run_backtest(held, market, options, Window(first, 400))
    # The book begins with contracts that were listed before, and pays for them.
    window, after = Window(first + later, 400), slice(later, None)
    paid = (backtest.cost / backtest.equity[:, :-1])[:, after]
    expected = listing_costs(market, window) @ np.abs(weight)
    assert paid.mean() == pytest.approx(expected, rel=0.02)
    excess = (simple_returns(backtest.equity) - backtest.risk_free)[:, after] + paid
    gained = (slot_returns(market, window) @ weight).reshape(3, -1)
    assert np.corrcoef(gained.ravel(), excess.ravel())[0, 1] > 0.98
