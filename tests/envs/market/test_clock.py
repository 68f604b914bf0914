"""A year has one year of variance, closed days have their share of it, and nothing is foreseen."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from conf.errors import InputError
from conf.types import DateArray
from envs.market.clock import (
    CALENDAR,
    CLOSED_DAY_WEIGHT,
    VarianceClock,
    estimate_closed_day_weight,
)
from envs.market.exchange_calendar import trading_days
from envs.market.models.gbm import GbmModel, Scenario, simulate_gbm
from envs.market.sources.index import Sp500Data, load_market, past_of
from tests.markets import history_of

CLOCK = VarianceClock(0.13, 252.0)


def day(text: str) -> DateArray:
    return np.array(text, "datetime64[D]")


@pytest.mark.parametrize(
    ("start", "end", "sessions", "closed"),
    [
        ("2018-07-02", "2018-07-03", 1, 0),
        ("2018-07-03", "2018-07-05", 1, 1),  # Independence Day
        ("2018-07-06", "2018-07-09", 1, 2),  # a weekend
        ("2018-08-31", "2018-09-04", 1, 3),  # Labor Day
        ("2018-07-06", "2018-07-07", 0, 1),  # to a Saturday
        ("2001-09-10", "2001-09-17", 5, 2),  # nobody knew that the exchange would stay closed
        ("2018-12-04", "2018-12-06", 2, 0),  # nor that it would mourn a president
        ("2018-07-09", "2018-07-09", 0, 0),
        ("2018-07-09", "2018-07-02", 0, 0),  # over
    ],
)
def test_sessions_count_one_and_scheduled_closed_days_their_weight(
    start: str, end: str, sessions: int, closed: int
) -> None:
    assert CLOCK.units(day(start), day(end)) == pytest.approx(sessions + 0.13 * closed, abs=1e-15)
    years = (sessions + 0.13 * closed) / (252 + 0.13 * 113)
    assert CLOCK.years(day(start), day(end)) == pytest.approx(years, abs=1e-17)


def test_a_year_has_one_year_of_variance() -> None:
    for weight in (0.0, 0.13, 1.0):
        clock = VarianceClock(weight, 252.0)
        assert clock.years(day("1999-01-04"), day("2018-12-31")) / 20 == pytest.approx(1, abs=2e-3)


def test_the_calendar_clock_is_days_over_365_to_the_bit() -> None:
    clock, dates = VarianceClock(CALENDAR, 252.0), day("2001-01-01") + np.arange(500)
    assert clock.name == "calendar"
    assert CLOCK.name == "business"
    assert VarianceClock(0.13, 365.0).name == "calendar"  # no day is closed
    assert np.array_equal(clock.years(dates[0], dates), np.arange(500) / 365.0)


def test_what_trades_every_day_has_no_closed_days() -> None:
    dates = day("2018-01-01") + np.arange(400)
    history = history_of(np.full(400, 1000.0), dates=dates, closed_day_weight=0.13)
    assert np.array_equal(history.clock.years(dates[0], dates), np.arange(400) / 365.0)
    assert history.units_to_next.tolist() == [1.0] * 399 + [0.0]


def test_variance_adds_up_over_any_split_of_a_stretch() -> None:
    dates = trading_days(date(2005, 6, 1), 400)
    steps = CLOCK.years(dates[:-1], dates[1:])
    total = CLOCK.years(dates[:1], dates[1:])
    np.testing.assert_allclose(np.cumsum(steps), total, rtol=1e-12)


def test_the_default_is_what_the_training_years_had() -> None:
    past = past_of(load_market(Sp500Data(), embargo_days=0), "train")
    estimate = estimate_closed_day_weight(past.dates, past.close[0])
    assert estimate == pytest.approx(CLOSED_DAY_WEIGHT, abs=0.005)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_estimate_finds_the_weight_that_a_market_was_simulated_with(weight: float) -> None:
    scenario = Scenario(
        dates=trading_days(date(1990, 1, 2), 2520),
        num_paths=40,
        initial_price=1000.0,
        drift=0.05,
        rate=0.02,
        dividend_yield=0.01,
        closed_day_weight=weight,
    )
    history = simulate_gbm(GbmModel(), scenario, np.random.default_rng(5))
    found = [estimate_closed_day_weight(history.dates, close) for close in history.close]
    assert np.mean(found) == pytest.approx(weight, abs=0.05)


def test_too_few_weekends_say_nothing() -> None:
    history = history_of(np.linspace(1000.0, 1100.0, 300))
    with pytest.raises(InputError, match=r"weekends from .*closed_day_weight=0.13"):
        estimate_closed_day_weight(history.dates, history.close[0])


def test_fitted_is_the_estimate_of_the_training_years_alone() -> None:
    loaded = load_market(Sp500Data(closed_day_weight="fitted"), embargo_days=60)
    past = past_of(loaded, "train")
    expected = estimate_closed_day_weight(past.dates, past.close[0])
    assert loaded.history.closed_day_weight == expected == pytest.approx(0.138, abs=0.001)
    assert "a closed day has 0.138 of a session's variance" in loaded.notices[-1]


@pytest.mark.parametrize("weight", [-0.1, 1.1, np.nan])
def test_an_impossible_weight_is_refused(weight: float) -> None:
    with pytest.raises(InputError, match="closed_day_weight"):
        history_of(np.full(30, 1000.0), closed_day_weight=weight)
