"""A year has as many sessions as its data: nothing else annualises."""

from datetime import date

import numpy as np
import pytest

from agents.baselines.reference import Cash
from envs.allocation.market import AllocationSettings, build_panel_market
from envs.core.batch import Window
from envs.market.exchange_calendar import exchange_sessions
from envs.market.panel import PanelHistory
from envs.market.sources.bundled import load_embedded
from experiments.backtests.backtest import run_backtest
from risk.metrics import annual_return, annual_volatility, sessions_per_year, sharpe_ratio

START = np.datetime64("2015-01-05")
EXCHANGE = exchange_sessions(date(2015, 1, 5), date(2019, 12, 31))
EVERY_DAY = np.arange(START, np.datetime64("2019-12-31"))
WEEKS = np.arange(START, np.datetime64("2019-12-31"), 7)
WEEKDAYS = EVERY_DAY[np.is_busday(EVERY_DAY)]
CALENDARS = {"exchange": (EXCHANGE, 252.0), "every day": (EVERY_DAY, 365.0),
             "weeks": (WEEKS, 365.25 / 7), "weekdays": (WEEKDAYS, 252.0),
             "Sunday to Thursday": (WEEKDAYS - 1, 252.0)}  # fmt: skip


@pytest.mark.parametrize("name", CALENDARS)
def test_the_calendar_is_known_from_its_dates_and_from_its_first_days(name):
    dates, expected = CALENDARS[name]
    assert sessions_per_year(dates) == pytest.approx(expected, rel=1e-12)
    for count in (10, 30, 60, 200):
        assert sessions_per_year(dates[:count]) == sessions_per_year(dates)
        assert sessions_per_year(dates[-count:]) == sessions_per_year(dates)


def test_six_days_a_week_are_counted():
    dates = EVERY_DAY[np.is_busday(EVERY_DAY, weekmask="1111110")]
    assert sessions_per_year(dates) == pytest.approx(6 / 7 * 365.25, rel=2e-3)


def test_a_single_day_says_nothing_and_counts_as_an_exchange():
    assert sessions_per_year(EXCHANGE[:1]) == 252.0


def test_the_embedded_index_has_252():
    assert load_embedded(0.025, 0.015)[0].sessions_per_year == 252.0


@pytest.mark.parametrize("name", ["exchange", "every day", "weeks"])
def test_cash_earns_its_rate_on_every_calendar(name):
    dates, _ = CALENDARS[name]
    close = np.full((len(dates), 2), 100.0)
    history = PanelHistory("toy", ("A", "B"), dates, close, np.full(len(dates), 0.025))
    market = build_panel_market(history, AllocationSettings())
    window = Window(market.first_usable, len(dates))
    measured = run_backtest(Cash(), market, AllocationSettings(), window).performance()
    assert measured.annual_return[0] == pytest.approx(np.expm1(0.025), rel=5e-3)


def test_the_same_moves_are_annualised_by_their_own_calendar():
    rng = np.random.default_rng(0)
    returns = 0.001 + 0.02 * rng.standard_normal(1000)
    curve = np.concatenate([[1.0], np.cumprod(1.0 + returns)])
    ratio = np.sqrt(365 / 252)
    assert annual_volatility(returns, 365.0) == pytest.approx(ratio * annual_volatility(returns))
    assert sharpe_ratio(returns, 0.0, 365.0) == pytest.approx(ratio * sharpe_ratio(returns, 0.0))
    yearly = (1.0 + annual_return(curve)) ** (365 / 252) - 1.0
    assert annual_return(curve, 365.0) == pytest.approx(yearly)
