"""Measures of the book by hand; the summary holds each measure under its name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conf.errors import InputError
from experiments.statistics import performance
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


def test_each_measure_has_its_name() -> None:
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
        "turnover": performance.turnover(TRADED[0], equity),
        "cost_drag": performance.cost_drag(COSTS[0], equity),
        "concentration": performance.concentration(POSITIONS[0]).mean(),
    }
    numbers = summary(0).numbers()
    assert numbers == pytest.approx({name: float(v) for name, v in expected.items()}, rel=1e-12)
    assert all(type(value) is float for value in numbers.values())


def test_many_curves_are_summarised_as_one_by_one() -> None:
    together = summary()
    for path in range(PATHS):
        alone = summary(path)
        for name, values in together._asdict().items():
            assert values.shape == (PATHS,)
            assert values[path] == getattr(alone, name), name
    with pytest.raises(InputError, match="3 curves have no single number"):
        together.numbers()


def test_measures_without_input_are_nan_and_not_zero() -> None:
    numbers = summarise(EQUITY[0], DATES, 0.0001).numbers()
    missing = [name for name, value in numbers.items() if math.isnan(value)]
    assert missing == ["beta", "turnover", "cost_drag", "concentration"]


def test_days_without_a_position_do_not_enter_the_concentration() -> None:
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


def test_turnover_and_cost_are_shares_of_each_days_equity() -> None:
    equity = [100.0, 200.0, 150.0]
    assert performance.turnover([10.0, 40.0], equity) == pytest.approx(252 * (0.1 + 0.2) / 2)
    assert performance.cost_drag([1.0, 4.0], equity) == pytest.approx(252 * (0.01 + 0.02) / 2)
    both = performance.turnover([[10.0, 40.0], [0.0, 0.0]], [equity, equity])
    assert both.tolist() == [performance.turnover([10.0, 40.0], equity), 0.0]


def test_ruin_on_the_last_day_can_still_be_measured() -> None:
    assert performance.turnover([10.0], [100.0, -5.0]) == pytest.approx(25.2)


def test_concentration_runs_from_one_position_to_twenty_equal_ones() -> None:
    assert performance.concentration([0.0, -500.0, 0.0]) == 1.0
    assert performance.concentration(np.tile([1.0, -1.0], 10)) == pytest.approx(0.05)
    assert performance.concentration([1.0, 3.0]) == pytest.approx(10 / 16)
    book = performance.concentration([[0.0, 0.0], [2.0, 0.0]])
    assert math.isnan(book[0])
    assert book[1] == 1.0


def test_iv_rank_is_the_position_in_the_range() -> None:
    assert performance.iv_rank([0.1, 0.5, 0.2]) == pytest.approx(0.25)
    ranks = performance.iv_rank([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.2, 0.2, 0.2]])
    assert ranks[:2].tolist() == [1.0, 0.0]
    assert math.isnan(ranks[2])


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda: performance.turnover([1.0, 2.0], [100.0, 100.0]), "covers 2 sessions"),
        (lambda: performance.turnover([-1.0], [100.0, 100.0]), "traded_usd is negative"),
        (lambda: performance.cost_drag([1.0, 1.0], [100.0, 0.0, 1.0]), "equity is not positive"),
        (lambda: performance.cost_drag([math.nan], [100.0, 1.0]), r"cost_usd\[0\] is nan"),
        (lambda: performance.concentration([1.0, math.nan]), r"position_usd\[1\] is nan"),
        (lambda: performance.iv_rank([0.1, math.nan]), r"implied_vol\[1\] is nan"),
    ],
)
def test_bad_input_is_refused(action: Callable[[], Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        action()
