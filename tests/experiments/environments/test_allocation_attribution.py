import numpy as np
import pytest

from conf.errors import InputError
from envs.core.batch import Window
from experiments.backtests.backtest import run_backtest
from experiments.environments.attribution import ALLOCATION_TERMS, attribute_allocation
from experiments.environments.holdings import portfolio_report, weights_held
from tests.panels import allocation_of, panel_market_of, random_panel


class Weights:
    """Other weights every day."""

    def __init__(self, assets, seed=3):
        self.rng, self.assets = np.random.default_rng(seed), assets

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return self.rng.dirichlet(np.ones(self.assets + 1), len(observation)), None


OPTIONS = allocation_of(costs={"kind": "flat", "rate_bps": 10.0})


def run(paths=2, window=None):
    market = panel_market_of(random_panel(120, assets=3, paths=paths), OPTIONS)
    return run_backtest(Weights(3), market, OPTIONS, window or Window(25, 80)), market


def test_the_causes_of_a_day_add_up_to_its_pnl():
    backtest, market = run()
    split = attribute_allocation(backtest, market)
    assert tuple(split.terms) == ALLOCATION_TERMS
    np.testing.assert_allclose(
        sum(split.terms.values()), np.diff(backtest.equity, axis=1), atol=1e-9
    )
    assert np.abs(split.terms["residual"]).max() < 1e-9 * backtest.equity.max()


def test_each_cause_by_hand():
    backtest, market = run(paths=1)
    split, t, day = attribute_allocation(backtest, market), 25 + 7, 7
    close = market.history.close[0]
    returns = close[t + 1] / close[t] - 1
    held = backtest.quantity[0, day] * close[t]
    assert split.terms["market"][0, day] == pytest.approx(held.sum() * returns.mean())
    assert split.terms["selection"][0, day] == pytest.approx(
        (held * (returns - returns.mean())).sum()
    )
    cash = backtest.equity[0, day] - backtest.cost[0, day] - held.sum()
    days = market.history.days_to_next[t]
    assert split.terms["carry"][0, day] == pytest.approx(
        cash * np.expm1(market.history.rate[t] * days / 365)
    )


def test_equal_weights_have_no_selection():
    market = panel_market_of(random_panel(120, assets=3), OPTIONS)

    class Equal(Weights):
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            return np.tile([0.3, 0.3, 0.3, 0.1], (len(observation), 1)), None

    split = attribute_allocation(run_backtest(Equal(3), market, OPTIONS, Window(25, 80)), market)
    assert np.abs(split.terms["selection"]).max() < 1e-9


def test_weights_held_sum_to_one_and_equal_the_requested():
    backtest, market = run(paths=1)
    weights = weights_held(backtest)
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, atol=1e-12)
    target = np.random.default_rng(3).dirichlet(np.ones(4), 1)
    np.testing.assert_allclose(weights[0, 0], target[0], atol=1e-12)
    report = portfolio_report(backtest, market)
    assert sum(report["mean_weights"].values()) == pytest.approx(1.0)
    assert sum(report["last_book"]["weights"].values()) == pytest.approx(1.0)


def test_a_backtest_of_another_market_is_refused():
    backtest, _ = run(paths=1)
    other = panel_market_of(random_panel(120, assets=4), OPTIONS)
    with pytest.raises(InputError, match="was not run on this market"):
        attribute_allocation(backtest, other)
