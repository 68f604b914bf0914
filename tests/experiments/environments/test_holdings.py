import json

import numpy as np
import pytest

from conf.errors import InputError
from envs.core.batch import Window
from envs.options.surface import FlatSurface, VixSurface
from experiments.backtests.backtest import run_backtest
from experiments.environments.holdings import position_report, strategy_by_day
from experiments.environments.strategy_names import Leg, name_strategy
from risk.metrics import max_drawdown, sharpe_ratio, simple_returns
from tests.markets import (
    history_of,
    kernel_of,
    market_of,
    options_of,
    random_walk,
    wandering_vol,
)


class Planned:
    """A book for each day, the last one for good; the same for every path."""

    def __init__(self, *actions):
        self.actions, self.day = [np.asarray(a, float) for a in actions], 0

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        action = self.actions[min(self.day, len(self.actions) - 1)]
        self.day += 1
        return np.tile(action, (len(observation), 1)), state


def realistic(roll="expiry"):
    return options_of(costs={"kind": "realistic"}, chain={"roll": roll})


def wandering(roll="expiry", paths=2):
    vol = np.repeat(wandering_vol(160), paths, axis=0)
    return market_of(
        random_walk(160, paths=paths, seed=2, implied_vol=vol), realistic(roll), VixSurface()
    )


def action_of(market, **profile):
    names = [slot.name for slot in market.tape.slots]
    action = np.zeros(20)
    for name, size in profile.items():
        action[names.index(name)] = size
    return action


@pytest.mark.parametrize("roll", ["expiry", "daily"])
def test_the_report_states_the_account_right_after_the_trade(roll):
    market = wandering(roll)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-0.1, 0.1, (30, 20))
    backtest = run_backtest(Planned(*actions), market, realistic(roll), Window(60, 90))
    kernel = kernel_of(market.history, num_envs=2, options=realistic(roll), surface=VixSurface())
    kernel.place(np.array([60, 60]), np.array([0, 1]), np.array([89, 89]))
    accounts, settle = [], kernel.ledger.settle

    def watched(*arguments, **named):
        ledger = kernel.ledger
        accounts.append((ledger.cash.copy(), ledger.equity.copy(), ledger.quantity.copy()))
        return settle(*arguments, **named)

    kernel.ledger.settle = watched  # type: ignore[method-assign]
    for action in actions[:29]:
        kernel.step(np.tile(action, (2, 1)))
    for day in (0, 1, 17, -1):
        for book in (0, 1):
            report = position_report(backtest, market, day, book)
            cash, equity, quantity = (x[book] for x in accounts[day])
            t = 60 + day % 29
            assert report["date"] == str(market.history.dates[t])
            assert report["held_until"] == str(market.history.dates[t + 1])
            assert report["portfolio_value"] == pytest.approx(equity, rel=1e-12)
            assert report["cash"] == pytest.approx(cash, rel=1e-11)
            value = quantity * market.tape.mark[book, t]
            held = {x["option"]: x for x in report["positions"]}
            assert len(held) == np.count_nonzero(quantity) >= 15
            for slot in np.flatnonzero(quantity):
                row = held[market.tape.slots[slot].name]
                assert row["quantity"] == quantity[slot]
                assert row["value"] == pytest.approx(value[slot], rel=1e-12)
                assert row["strike"] == market.tape.strike[book, t, slot]
                assert row["days_to_expiry"] == market.tape.days_to_expiry[t, slot]
            assert report["total_exposure"] == pytest.approx(np.abs(value).sum())
            for name in ("delta", "gamma", "vega", "theta"):
                assert report[f"portfolio_{name}"] == backtest.exposures[name][book, day]


def test_measures_use_no_day_after_the_trade():
    market = wandering()
    backtest = run_backtest(
        Planned(action_of(market, **{"30D_Call_1.00": 0.2})), market, realistic(), Window(60, 160)
    )
    report = position_report(backtest, market, 80)
    curve = backtest.equity[0, :81]
    recent = simple_returns(curve)[20:80]
    assert report["sharpe"] == pytest.approx(sharpe_ratio(recent, backtest.risk_free[20:80]))
    assert report["drawdown"] == pytest.approx(1 - curve[-1] / curve.max())
    assert report["max_drawdown"] == pytest.approx(max_drawdown(curve))
    assert 0 < report["drawdown"] < report["max_drawdown"]
    assert position_report(backtest, market, 59)["sharpe"] is None
    assert position_report(backtest, market, 60)["sharpe"] is not None
    first = position_report(backtest, market, 0)
    assert (first["sharpe"], first["drawdown"], first["max_drawdown"]) == (None, 0.0, 0.0)
    assert position_report(backtest, market) == position_report(backtest, market, 98)
    json.dumps([first, report], allow_nan=False)


def quantities(market, day, **units):
    """The action that holds these multiples of a tenth of equity in notional on a day."""
    mark, spot = market.tape.mark[0, day], market.history.close[0, day]
    return action_of(
        market,
        **{
            name: size * 0.1 * mark[i] / spot / 0.2
            for name, size in units.items()
            for i in [[slot.name for slot in market.tape.slots].index(name)]
        },
    )


def test_each_day_is_named_by_what_is_held_after_its_trade():
    options = options_of()
    market = market_of(history_of(np.full(80, 1000.0)), options, FlatSurface())
    plan = [
        {},
        {"60D_Call_1.00": -1, "60D_Put_1.00": -1},
        {"60D_Put_0.90": 1, "60D_Put_0.95": -1, "60D_Call_1.05": -1, "60D_Call_1.10": 1},
        {"60D_Call_0.95": 1},
    ]
    actions = [quantities(market, 60 + day, **units) for day, units in enumerate(plan)]
    backtest = run_backtest(Planned(*actions), market, options, Window(60, 66))
    names = strategy_by_day(backtest, market)
    assert names == ["cash", "short straddle", "iron condor", "long call", "long call"]
    assert [position_report(backtest, market, day)["strategy"] for day in range(5)] == names
    assert position_report(backtest, market, 0)["positions"] == []
    (only,) = position_report(backtest, market, 3)["positions"]
    assert only["option"] == "60D_Call_0.95"


def test_the_names_of_all_days_are_those_of_each_days_report():
    market = wandering()
    few = np.where(np.arange(20) % 5 == 1, 0.3, 0.0)
    actions = few * np.random.default_rng(0).uniform(-1, 1, (60, 20))
    backtest = run_backtest(Planned(*actions), market, realistic(), Window(60, 121))
    names = strategy_by_day(backtest, market, book=1)
    assert names == [position_report(backtest, market, day, 1)["strategy"] for day in range(60)]
    tape, spot = market.tape, market.history.close[1]
    for day, name in enumerate(names):
        t = 60 + day
        weight = backtest.quantity[1, day] * spot[t] / backtest.equity[1, day]
        legs = [
            Leg(
                slot.is_call,
                tape.strike[1, t, i],
                tape.days_to_expiry[t, i],
                weight[i],
                tape.delta[1, t, i],
                tape.vega[1, t, i],
            )
            for i, slot in enumerate(tape.slots)
        ]
        assert name == name_strategy(legs)
    assert names != strategy_by_day(backtest, market, book=0)
    assert len(set(names)) > 5


def test_a_negligible_book_is_cash():
    options = options_of()
    market = market_of(history_of(np.full(80, 1000.0)), options, FlatSurface())
    for size, name in ((0.009, "cash"), (0.011, "long call")):
        action = quantities(market, 60, **{"60D_Call_1.00": size})
        backtest = run_backtest(Planned(action), market, options, Window(60, 62))
        assert strategy_by_day(backtest, market) == [name]


def test_random_books_are_mixed():
    market = wandering(paths=1)
    actions = np.random.default_rng(0).uniform(-0.5, 0.5, (99, 20))
    backtest = run_backtest(Planned(*actions), market, options_of(), Window(60, 160))
    assert strategy_by_day(backtest, market).count("mixed") > 0.9 * 99


def test_a_ruined_book_reports_its_last_cent_as_cash():
    crash = np.where(np.arange(120) < 70, 1000.0, 300.0)
    options = options_of()
    market = market_of(history_of(crash), options)
    short_puts = np.where(market.tape.is_call, 0.0, -1.0)
    backtest = run_backtest(Planned(short_puts), market, options, Window(60, 100))
    report = position_report(backtest, market)
    assert report["portfolio_value"] == report["cash"] == 0.01
    assert report["positions"] == []
    assert report["strategy"] == "cash"
    assert report["drawdown"] == pytest.approx(1)
    json.dumps(report, allow_nan=False)


def test_the_rank_of_implied_volatility_is_that_of_the_last_year():
    vol = wandering_vol(320)
    market = market_of(random_walk(320, seed=2, implied_vol=vol), realistic(), VixSurface())
    backtest = run_backtest(Planned(np.zeros(20)), market, realistic(), Window(60, 320))
    assert position_report(backtest, market, 250 - 60)["iv_rank"] is None
    day = 300 - 60
    year = vol[0, 300 - 251 : 301]
    expected = (year[-1] - year.min()) / (year.max() - year.min())
    assert position_report(backtest, market, day)["iv_rank"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("day", "book"), [(19, 0), (-20, 0), (0, 1)])
def test_days_and_books_that_do_not_exist_are_refused(day, book):
    market = wandering(paths=1)
    backtest = run_backtest(Planned(np.zeros(20)), market, realistic(), Window(60, 80))
    with pytest.raises(InputError, match="there is no day"):
        position_report(backtest, market, day, book)
