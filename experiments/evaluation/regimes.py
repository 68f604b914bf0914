"""Market regimes and calendar years, and the result of each book in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from conf.types import DateArray, FloatArray
from envs.market.splits import Split
from risk.metrics import max_drawdown, sessions_per_year, sharpe_ratio, simple_returns

MIN_SESSIONS = 20  # of a period, before anything is said about it


@dataclass(frozen=True)
class Period:
    """A stretch of calendar time, both days included."""

    name: str
    first: np.datetime64
    last: np.datetime64


def period(name: str, first: str, last: str) -> Period:
    """A stretch between two days, written YYYY-MM-DD."""
    return Period(name, np.datetime64(first), np.datetime64(last))


REGIMES = (
    period("Dot-com boom and bust", "1999-01-01", "2002-10-09"),
    period("Recovery of 2003", "2002-10-10", "2003-12-31"),
    period("Pre-crisis bull market", "2004-01-01", "2007-12-31"),
    period("Global financial crisis", "2008-01-01", "2009-12-31"),
    period("Post-crisis recovery", "2010-01-01", "2015-12-31"),
    period("Extended bull market", "2016-01-01", "2019-12-31"),
    period("COVID-19 crash", "2020-01-01", "2020-03-31"),
    period("V-shaped recovery", "2020-04-01", "2021-12-31"),
    period("Inflation bear market", "2022-01-01", "2022-12-31"),
    period("Since 2023", "2023-01-01", "2099-12-31"),
)


def calendar_years(dates: DateArray) -> tuple[Period, ...]:
    """Every calendar year that the dates touch."""
    years = np.unique(dates.astype("datetime64[Y]"))
    return tuple(
        Period(str(year), np.datetime64(f"{year}-01-01"), np.datetime64(f"{year}-12-31"))
        for year in years
    )


@dataclass(frozen=True)
class PeriodResult:
    """What one book did in one period; NaN where undefined."""

    total_return: float
    sharpe: float
    max_drawdown: float


@dataclass(frozen=True)
class PeriodRow:
    """A period as far as the data covers it, and each book's result."""

    name: str
    first: np.datetime64
    last: np.datetime64
    seen: str  # which splits it lies in: "train", "validation, test"; "" for none
    books: Mapping[str, PeriodResult]


def period_rows(
    periods: Sequence[Period],
    dates: DateArray,  # (T + 1,) closes, the start included
    risk_free: FloatArray,  # (T,)
    equity: Mapping[str, FloatArray],  # name -> (T + 1,)
    splits: Sequence[Split],
    history_dates: DateArray,
) -> list[PeriodRow]:
    """The periods of which the data covers at least `MIN_SESSIONS` returns."""
    rows, annual = [], sessions_per_year(dates)
    for period in periods:
        inside = np.flatnonzero((dates[1:] >= period.first) & (dates[1:] <= period.last))
        if len(inside) < MIN_SESSIONS:
            continue
        stretch = slice(int(inside[0]), int(inside[-1]) + 2)  # with the close that it starts from
        first, last = dates[stretch][1], dates[stretch][-1]
        free = risk_free[inside]
        books = {name: _result(curve[stretch], free, annual) for name, curve in equity.items()}
        seen = seen_in(first, last, splits, history_dates)
        rows.append(PeriodRow(period.name, first, last, ", ".join(seen), books))
    return rows


def _result(curve: FloatArray, risk_free: FloatArray, annual: float) -> PeriodResult:
    return PeriodResult(
        float(curve[-1] / curve[0] - 1.0),
        float(sharpe_ratio(simple_returns(curve), risk_free, annual)),
        float(max_drawdown(curve)),
    )


def seen_in(
    first: np.datetime64, last: np.datetime64, splits: Sequence[Split], dates: DateArray
) -> list[str]:
    """The names of the splits that share a day with a stretch."""
    return [
        split.name
        for split in splits
        if dates[split.start] <= last and dates[split.stop - 1] >= first
    ]
