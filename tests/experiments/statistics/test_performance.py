"""The summary holds each measure under its name, for one curve as for many."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from conf.errors import InputError
from experiments.statistics import performance as book_metrics
from experiments.statistics.performance import Performance, summarise
from risk import metrics

SESSIONS, PATHS, SLOTS = 300, 3, 4
RNG = np.random.default_rng(0)
RETURNS = RNG.normal(0.0005, 0.01, (PATHS, SESSIONS))
EQUITY = 1e5 * np.concatenate([np.ones((PATHS, 1)), np.cumprod(1 + RETURNS, axis=-1)], axis=-1)
DATES = pd.bdate_range("2016-01-04", periods=SESSIONS + 1).to_numpy()
MARKET = RNG.normal(0.0, 0.01, SESSIONS)
TRADED = RNG.uniform(0, 1e4, (PATHS, SESSIONS))
COSTS = TRADED * 5e-4
POSITIONS = RNG.normal(0, 1e4, (PATHS, SESSIONS, SLOTS))
RATE = np.full(SESSIONS, 0.0001)


def summary(path: int | slice = slice(None)) -> Performance:
    return summarise(
        EQUITY[path],
        DATES,
        RATE,
        market_returns=MARKET,
        traded_usd=TRADED[path],
        cost_usd=COSTS[path],
        position_usd=POSITIONS[path],
    )


def test_each_measure_stands_under_its_name() -> None:
    equity, returns = EQUITY[0], metrics.simple_returns(EQUITY[0])
    days = DATES[1:].astype("datetime64[D]")
    expected = {
        "sessions": SESSIONS,
        "total_return": equity[-1] / 1e5 - 1,
        "annual_return": metrics.annual_return(equity),
        "annual_volatility": metrics.annual_volatility(returns),
        "sharpe": metrics.sharpe_ratio(returns, RATE),
        "sortino": metrics.sortino_ratio(returns, RATE),
        "calmar": metrics.calmar_ratio(equity),
        "max_drawdown": metrics.max_drawdown(equity),
        "max_drawdown_sessions": metrics.max_drawdown_sessions(equity),
        "win_rate": metrics.win_rate(returns),
        "profit_factor": metrics.profit_factor(returns),
        "positive_months": metrics.positive_share(returns, days, "month"),
        "positive_years": metrics.positive_share(returns, days, "year"),
        "var_95": metrics.value_at_risk(returns, 0.95),
        "cvar_95": metrics.expected_shortfall(returns, 0.95),
        "kelly": metrics.kelly_fraction(returns),
        "beta": metrics.beta(returns, MARKET),
        "turnover": book_metrics.turnover(TRADED[0], equity),
        "cost_drag": book_metrics.cost_drag(COSTS[0], equity),
        "concentration": book_metrics.concentration(POSITIONS[0]).mean(),
    }
    found = summary(0).numbers()
    assert found == pytest.approx({name: float(v) for name, v in expected.items()}, rel=1e-12)
    assert all(type(value) is float for value in found.values())


def test_many_curves_are_summarised_as_one_by_one() -> None:
    together = summary()
    for path in range(PATHS):
        alone = summary(path)
        for name, values in together._asdict().items():
            assert values.shape == (PATHS,)
            assert values[path] == getattr(alone, name), name
    with pytest.raises(InputError, match="3 curves have no single number"):
        together.numbers()


def test_what_was_not_given_is_missing_and_not_zero() -> None:
    numbers = summarise(EQUITY[0], DATES, 0.0001).numbers()
    missing = [name for name, value in numbers.items() if math.isnan(value)]
    assert missing == ["beta", "turnover", "cost_drag", "concentration"]


def test_days_without_a_position_do_not_count_as_concentrated_or_diverse() -> None:
    positions = np.zeros((SESSIONS, SLOTS))
    assert math.isnan(summarise(EQUITY[0], DATES, RATE, position_usd=positions).concentration)
    positions[10, 2] = -5.0
    positions[11, :2] = 5.0
    assert summarise(EQUITY[0], DATES, RATE, position_usd=positions).concentration == 0.75


def test_dates_include_the_start() -> None:
    with pytest.raises(InputError, match="299 dates for 300 returns"):
        summarise(EQUITY[0], DATES[1:], RATE)
    with pytest.raises(InputError, match="traded_usd"):
        summarise(EQUITY[0], DATES, RATE, traded_usd=np.ones(7))
    with pytest.raises(InputError, match="position_usd"):
        summarise(EQUITY[0], DATES, RATE, position_usd=np.ones((7, SLOTS)))
