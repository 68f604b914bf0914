"""Liabilities along a path: when they are sold, what they are worth, what is seen of them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conf.errors import InputError
from envs.core.batch import Window
from envs.hedging.market import UNDERLYING, HedgingMarketSettings, build_hedging_market
from envs.options.black_scholes import price_and_greeks
from tests.envs.hedging.worlds import VOL_ANNUAL, market_of, options_of, paths_of
from tests.panels import panel_of

CALENDAR: list[dict[str, Any]] = [
    {"moneyness": 1.0, "quantity": -1.0},
    {"kind": "put", "moneyness": 0.95, "quantity": 2.0, "sessions": 8},
]


def test_a_month_of_twenty_days_at_twenty_percent_costs_what_black_scholes_says():
    market = market_of(paths_of(3), options_of())
    expected = price_and_greeks(100.0, 100.0, 20 / 250, 0.2, 0.0, 0.0, True)
    np.testing.assert_allclose(market.mark[:, 0, 1], expected.price, rtol=1e-12)
    np.testing.assert_allclose(market.delta[:, 0], expected.delta, rtol=1e-12)
    np.testing.assert_allclose(market.gamma[:, 0], expected.gamma, rtol=1e-12)
    # Of 20 % there, of 20.08 % here.
    np.testing.assert_allclose(market.vega[:, 0] * VOL_ANNUAL, expected.vega * 0.2, rtol=1e-12)
    assert market.years_left[0] == pytest.approx(20 / 252)


def test_a_liability_follows_another_and_is_of_one_size_at_its_sale():
    market = market_of(paths_of(2, sessions=70), options_of(20))
    assert market.instruments == (UNDERLYING, "call_1.00_20")
    assert np.flatnonzero(market.listed).tolist() == [0, 20, 40, 60]
    assert np.flatnonzero(market.leaves[:, 0]).tolist() == [20, 40, 60]
    spot = market.history.close
    for sold in (0, 20, 40):
        np.testing.assert_allclose(market.units[:, sold] * spot[:, sold], 10_000.0)
        payoff = np.maximum(spot[:, sold + 20] - spot[:, sold], 0.0)
        np.testing.assert_allclose(market.aged[:, sold + 20, 1], payoff)
    assert market.starts(Window(1, 61), 20).tolist() == [20, 40]
    assert market.starts(Window(0, 60), 20).tolist() == [0, 20]


def test_a_book_of_several_expiries_is_the_sum_of_its_legs():
    history = paths_of(2, sessions=40)
    whole = market_of(history, options_of(20, liability=CALENDAR))
    calls = market_of(history, options_of(20))
    puts = market_of(history, options_of(8, liability=[{**CALENDAR[1], "sessions": None}]))
    np.testing.assert_allclose(whole.delta[:, :8], calls.delta[:, :8] + puts.delta[:, :8])
    np.testing.assert_allclose(whole.delta[:, 8:20], calls.delta[:, 8:20])
    np.testing.assert_allclose(whole.aged[:, 8, 2], puts.aged[:, 8, 1])
    assert whole.leaves[8].tolist() == [False, False, True]
    assert whole.leaves[20].tolist() == [True, True, False]
    assert not whole.liability[:, 8:20, 1].any()


def test_a_straddle_is_a_call_and_a_put():
    history = paths_of(2)
    call, put, straddle = (
        market_of(history, options_of(liability=name)) for name in ("call", "put", "straddle")
    )
    both = (call.premium + put.premium)[:, :20]
    np.testing.assert_allclose(straddle.premium[:, :20], both)
    np.testing.assert_allclose(call.delta[:, :20] - put.delta[:, :20], 1.0)
    np.testing.assert_allclose(straddle.delta, call.delta + put.delta)


def test_dividends_are_earned_by_what_is_held_and_interest_lifts_the_forward():
    market = market_of(paths_of(2, rate=0.05, dividend_yield=0.02), options_of())
    days = market.history.days_to_next[:-1]
    growth = market.history.close[:, 1:] / market.history.close[:, :-1] * np.exp(0.02 * days / 365)
    np.testing.assert_allclose(market.index_returns(Window(0, 21)), growth - 1.0, atol=1e-12)
    np.testing.assert_allclose(market.mark[:, 1:, 0] / market.mark[:, :-1, 0], growth)
    one_share = market.shares * market.mark[..., 0] / market.history.close
    np.testing.assert_allclose(one_share, market.units)
    calendar = days.sum() / 365
    expected = price_and_greeks(
        100.0, 100.0, calendar, VOL_ANNUAL * np.sqrt(20 / 252 / calendar), 0.05, 0.02, True
    )
    np.testing.assert_allclose(market.mark[:, 0, 1], expected.price, rtol=1e-9)


def test_nothing_seen_depends_on_later_closes():
    history = paths_of(3, sessions=60)
    other = history.close.copy()
    other[:, 31:] *= 1.1
    changed = replace(history, close=other, high=other * 2, low=other / 2)
    options = options_of(20, liability="straddle")
    one, two = market_of(history, options), market_of(changed, options)
    for name in ("mark", "aged", "delta", "gamma", "vega", "units", "premium", "observed"):
        np.testing.assert_array_equal(getattr(one, name)[:, :31], getattr(two, name)[:, :31])
    assert (one.delta[:, 31:40] != two.delta[:, 31:40]).any()


def test_nothing_depends_on_where_the_history_is_cut_off():
    history, options = paths_of(3, sessions=60), options_of(20, liability=CALENDAR)
    whole, cut = market_of(history, options), market_of(history.sessions(0, 31), options)
    for name in ("mark", "aged", "delta", "gamma", "vega", "units", "premium", "observed"):
        np.testing.assert_array_equal(getattr(whole, name)[:, :31], getattr(cut, name))
    for name in ("listed", "leaves", "years_left"):
        np.testing.assert_array_equal(getattr(whole, name)[:31], getattr(cut, name))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"rebalance_every": 3}, "does not divide"),
        ({"liability": [{"sessions": 10}]}, "no leg of the liability lives"),
        ({"liability": [{}, {"sessions": 21}]}, "outlives"),
        ({"liability": [{"quantity": 0.0}]}, "quantity 0"),
        ({"costs": {"rate_bps": 10_000}}, "leaves nothing"),
        ({"hedges": [{"sessions": 40}], "volatility": 0.2}, "trade at what is quoted"),
        ({"reward": {"weights": {"sharpe": 0.3}}}, "has no meaning here"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, complaint):
    with pytest.raises(InputError, match=complaint):
        options_of(20, **changes)


def test_a_short_history_or_a_panel_is_refused():
    with pytest.raises(InputError, match="has 20 sessions, and a liability lives for 20"):
        build_hedging_market(paths_of(1, sessions=19), options_of(20))
    with pytest.raises(InputError, match="is a panel of assets"):
        HedgingMarketSettings().build(panel_of(np.ones((30, 2))))  # type: ignore[arg-type]
