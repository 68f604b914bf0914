"""Targets and what was measured, line by line; a missed target is called missed.

Targets for performance carry a 95 % interval: how far the measure could have come out otherwise on
days like these. Requirements for risk are about the worst day that happened and carry none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from conf.types import DateArray, FloatArray
from experiments.backtests.backtest import Backtest
from experiments.statistics.performance import Performance, summarise
from risk.book import Book
from risk.bootstrap import (
    equity_curve,
    mean_block_length,
    percentile_interval,
    stationary_indices,
)
from risk.bounds import LimitSettings, usage_of
from risk.metrics import simple_returns
from risk.overlay import TURNOVER_SESSIONS

Unit = Literal["ratio", "share", "usd"]

_CELLS_AT_ONCE = 2_000_000
_VEGA_EQUITY_USD = 100_000.0  # the equity that the limit on vega in dollars is meant for
# A book cut back to a limit stands on it but for rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class ScoreLine:
    """One target and what was measured, NaN where undefined, in `unit`."""

    table: str
    measure: str
    target: str  # as printed: "> 0.8", "< 25 %"
    measured: float  # ratio, decimal share or dollars; the worst day for risk requirements
    low: float  # 95 % interval; NaN for risk requirements
    high: float
    passed: bool | None  # None: undefined, or a line without a target
    unit: Unit = "ratio"
    days_in_breach: float = math.nan  # share of days, for risk requirements


@dataclass(frozen=True)
class _Measure:
    label: str
    above: bool = True  # is more better?
    unit: Unit = "ratio"

    def target(self, bound: float) -> str:
        if self._is_all(bound):
            return "100 %"
        number = f"{100 * bound:.0f} %" if self.unit == "share" else f"{bound:.1f}"
        return f"{'>' if self.above else '<'} {number}"

    def met(self, value: float, bound: float) -> bool | None:
        if math.isnan(value):
            return None
        if self._is_all(bound):
            return value == bound
        return value > bound if self.above else value < bound

    def _is_all(self, bound: float) -> bool:
        return self.unit == "share" and bound == 1.0


# By field of Performance.
_MEASURES = {
    "sharpe": _Measure("Sharpe ratio"),
    "sortino": _Measure("Sortino ratio"),
    "calmar": _Measure("Calmar ratio"),
    "max_drawdown": _Measure("max drawdown", above=False, unit="share"),
    "annual_return": _Measure("annual return", unit="share"),
    "annual_volatility": _Measure("annual volatility", above=False, unit="share"),
    "win_rate": _Measure("win rate, days", unit="share"),
    "positive_months": _Measure("positive months", unit="share"),
    "positive_years": _Measure("positive years", unit="share"),
}

PERFORMANCE_TARGETS: Mapping[str, Mapping[str, float]] = {
    "MVP, critical": {
        "sharpe": 0.8, "max_drawdown": 0.25, "annual_return": 0.12, "win_rate": 0.52,
        "positive_years": 1.0,
    },
    "MVP, desirable": {
        "sharpe": 1.2, "max_drawdown": 0.15, "annual_return": 0.18, "sortino": 1.5, "calmar": 1.0,
    },
    "excellent": {
        "sharpe": 1.5, "max_drawdown": 0.12, "annual_return": 0.20, "win_rate": 0.60,
        "sortino": 2.0, "calmar": 1.5, "positive_months": 0.75,
    },
    "world-class": {
        "sharpe": 2.0, "max_drawdown": 0.10, "annual_return": 0.25, "win_rate": 0.65,
        "sortino": 2.5, "annual_volatility": 0.12,
    },
    "against the benchmark": {
        "annual_return": 0.15, "sharpe": 1.2, "max_drawdown": 0.20, "annual_volatility": 0.12,
    },
}  # fmt: skip

RISK_TABLE = "risk requirements"

# What buy-and-hold of the S&P 500 is known for, beside what it did on these days: no verdict.
_INDEX = {
    "annual_return": "~ 10 %",
    "sharpe": "~ 0.5-0.7",
    "max_drawdown": "55 % in 2008",
    "annual_volatility": "~ 18 %",
}


def scorecard(
    backtest: Backtest,
    *,
    reps: int = 1000,
    seed: int = 0,
    index_title: str = "S&P 500",
    option_requirements: bool = True,
) -> tuple[ScoreLine, ...]:
    """Every target against what the book did; with `option_requirements`, those on its risk.

    One book: its measures, with the stationary bootstrap's interval over `reps` resamples of its
    days. Several: the median over books and the range of their central 95 %. Risk requirements
    are judged by the worst day of any book.
    """
    book = _with_intervals(backtest, backtest.equity, reps, seed)
    index = _with_intervals(backtest, equity_curve(backtest.index_return), reps, seed)
    lines = []
    for table, targets in PERFORMANCE_TARGETS.items():
        for key, bound in targets.items():
            kind, (value, low, high) = _MEASURES[key], book[key]
            passed, target = kind.met(value, bound), kind.target(bound)
            lines.append(ScoreLine(table, kind.label, target, value, low, high, passed, kind.unit))
    table = f"{index_title}, same days"
    for key, text in _INDEX.items():
        kind, (value, low, high) = _MEASURES[key], index[key]
        known = text if option_requirements else ""
        lines.append(ScoreLine(table, kind.label, known, value, low, high, None, kind.unit))
    return (*lines, *(risk_lines(backtest) if option_requirements else ()))


def _with_intervals(
    backtest: Backtest, equity: FloatArray, reps: int, seed: int
) -> dict[str, tuple[float, float, float]]:
    """Each measure of N curves: the median of those where it is defined, low, high."""
    values = summarise(equity, backtest.dates, backtest.risk_free)
    draws = performance_draws(equity, backtest.dates, backtest.risk_free, reps, seed)
    measured = {}
    for name in _MEASURES:
        by_curve = getattr(values, name)
        defined = by_curve[~np.isnan(by_curve)]
        value = float(np.median(defined)) if len(defined) else math.nan
        low, high = percentile_interval(getattr(draws, name))
        measured[name] = value, float(low), float(high)
    return measured


def performance_draws(
    equity: FloatArray, dates: DateArray, risk_free: FloatArray, reps: int, seed: int
) -> Performance:
    """The measures that intervals are taken from, of equity (P, T + 1).

    One curve: of `reps` stationary bootstrap samples of its days. Several: of each curve. Blocks
    are as long as the returns or their squares need: drawdown depends on both.
    """
    if len(equity) > 1:
        return summarise(equity, dates, risk_free)
    returns = simple_returns(equity)[0]
    block = mean_block_length(np.stack([returns, np.square(returns - returns.mean())]))
    days = stationary_indices(len(returns), block, reps, np.random.default_rng(seed))
    at_once = max(1, _CELLS_AT_ONCE // days.shape[1])
    parts = []
    for first in range(0, reps, at_once):
        drawn = days[first : first + at_once]
        parts.append(summarise(equity_curve(returns[drawn]), dates, risk_free[drawn]))
    return Performance(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def risk_lines(backtest: Backtest) -> tuple[ScoreLine, ...]:
    """The requirements on every single day: the worst seen, and the share of days in breach."""
    usage, turnover = _usage(backtest), _turnover(backtest)
    position, gross, cash = usage["position"], usage["gross"], 1.0 - usage["cash"]
    returns = simple_returns(backtest.equity)
    delta, gamma = backtest.exposures["delta"], backtest.exposures["gamma"]
    vega = np.abs(backtest.exposures["vega"]) / backtest.equity[:, :-1] * _VEGA_EQUITY_USD

    def line(
        measure: str, target: str, values: FloatArray, beyond: FloatArray, unit: Unit
    ) -> ScoreLine:
        """`beyond` (N, T) is by how much each day exceeds what is allowed."""
        day, excess = values[backtest.alive], beyond[backtest.alive]
        share = float((excess > _ROUNDING * np.maximum(1.0, np.abs(day))).mean())
        worst = float(day[excess.argmax()])
        nan, passed = math.nan, share == 0.0
        return ScoreLine(RISK_TABLE, measure, target, worst, nan, nan, passed, unit, share)

    return (
        line("largest position", "20 %", position, position - 0.20, "share"),
        line("total exposure", "150 %", gross, gross - 1.50, "share"),
        line("worst day", "-3 %", returns, -0.03 - returns, "share"),
        line("cash reserve", "10 %", cash, 0.10 - cash, "share"),
        line("turnover, 21 sessions", "200 %", turnover, turnover - 2.0, "share"),
        line("delta", "-0.5 to +0.5", delta, np.abs(delta) - 0.5, "ratio"),
        line("gamma, for 1 %", "-1.0 to +1.0", gamma, np.abs(gamma) - 1.0, "ratio"),
        line("vega per $100,000", "< $10,000", vega, vega - 10_000.0, "usd"),
    )


def _usage(backtest: Backtest) -> dict[str, FloatArray]:
    """What the limits measure, of equity before each trade, (N, T) by rule."""
    shape = backtest.position.shape
    value = backtest.position.reshape(-1, shape[-1])
    zeros = np.zeros_like(value)
    # One "unit" is a dollar of the position: its Greeks are the book's, and known already.
    book = Book(
        quantity=value,
        price=np.ones_like(value),
        equity=backtest.equity[:, :-1].reshape(-1),
        delta=zeros,
        gamma=zeros,
        vega=zeros,
        traded=np.zeros(len(value)),
    )
    return {k: x.reshape(shape[:2]) for k, x in usage_of(value, book, LimitSettings()).items()}


def _turnover(backtest: Backtest) -> FloatArray:
    """Dollars traded in 21 sessions over equity before the last of their trades, (N, T)."""
    total = np.cumsum(backtest.traded, axis=1)
    earlier = np.zeros_like(total)
    earlier[:, TURNOVER_SESSIONS:] = total[:, :-TURNOVER_SESSIONS]
    return np.asarray((total - earlier) / backtest.equity[:, :-1])
