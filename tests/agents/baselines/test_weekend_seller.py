"""The weekend seller: which closes, which contracts, and flat at all others."""

import dataclasses
from datetime import date

import numpy as np
import pytest

from agents.baselines.weekend_seller import WeekendSeller, before_long_gaps
from envs.core.batch import Window
from envs.market.exchange_calendar import exchange_sessions
from envs.options.surface import VixSurface
from experiments.backtests.backtest import run_backtest
from tests.markets import history_of, market_of, options_of, random_walk, wandering_vol

DAY = np.datetime64


@pytest.mark.parametrize(
    ("day", "long"),
    [
        ("2001-09-07", True),  # a Friday
        ("2001-09-10", False),  # the closed week was not scheduled
        ("2018-03-29", True),  # before Good Friday
        ("2018-07-03", False),  # one day off
        ("2018-11-21", False),  # Thanksgiving, Friday is open
        ("2017-09-01", True),  # before Labor Day
    ],
)
def test_gaps_are_those_of_the_schedule(day, long):
    dates = exchange_sessions(date(2001, 1, 1), date(2018, 12, 31))
    assert before_long_gaps(dates)[dates == DAY(day)].tolist() == [long]


def test_the_last_date_needs_no_next_one():
    dates = exchange_sessions(date(2018, 1, 1), date(2018, 12, 28))
    for length in (len(dates), len(dates) - 30):
        np.testing.assert_array_equal(
            before_long_gaps(dates[:length]), before_long_gaps(dates)[:length]
        )


def seller_in(paths=1):
    vol = np.repeat(wandering_vol(160), paths, axis=0)
    history = random_walk(160, paths=paths, seed=2, implied_vol=vol)
    options = options_of()
    market = market_of(history, options, VixSurface())
    return WeekendSeller(market, 0.5), market, options


def test_it_is_short_the_nearest_call_and_put_over_weekends_only():
    seller, market, options = seller_in()
    backtest = run_backtest(seller, market, options, Window(60, 150))
    dates, sold = backtest.dates[:-1], backtest.quantity[0]
    fridays = (dates.astype(int) + 3) % 7 == 4
    short = (sold != 0).any(axis=1)
    assert short[fridays].all()
    plain = fridays | np.isin(dates, dates[before_long_gaps(dates)])
    assert not short[~plain].any()
    for row in np.nonzero(fridays)[0]:
        session = 60 + row
        spot = market.history.close[0, session]
        for calls in (True, False):
            shortest = np.array([slot.maturity_days == 30 for slot in market.tape.slots])
            side = np.nonzero(shortest & (market.tape.is_call == calls))[0]
            nearest = side[np.abs(market.tape.strike[0, session, side] - spot).argmin()]
            others = np.setdiff1d(side, nearest)
            expected = -0.5 * backtest.equity[0, row] / spot
            assert sold[row, nearest] == pytest.approx(expected, rel=1e-12)
            assert (sold[row, others] == 0.0).all()


def test_what_trades_below_the_tick_is_not_sold():
    market, options = market_of(history_of(np.full(160, 1000.0)), options_of()), options_of()
    cheap = dataclasses.replace(
        market.tape, mark=np.where(market.tape.is_call, 0.04, 9.0) * np.ones_like(market.tape.mark)
    )
    priced = dataclasses.replace(market, tape=cheap)
    held = run_backtest(WeekendSeller(priced, 0.5), priced, options, Window(60, 80)).quantity[0]
    assert (held[:, market.tape.is_call] == 0.0).all()
    assert (held[:, ~market.tape.is_call] < 0.0).any()
