"""The clock that variance runs by: a session is one unit, a day without trading a part of one.

Over a weekend an index moves little more than in a day, so an option that is priced by calendar
days loses three days of time value for one day of risk. In business time a stretch has

    units = sessions + weight x closed days,   years = units / (S + weight (365 - S))

with S sessions a year, so that a year has one year of variance. With weight 1 this is calendar
days / 365. Interest and dividends always run on calendar days.

Volatility stays quoted on calendar days: an option with T calendar and B business years left has
the total variance vol(T)^2 B. Which days are closed is known years ahead: weekends and the
exchange's regular holidays. A closing that nobody foresaw counts as a session.

K. French, Stock returns and the weekend effect, Journal of Financial Economics 8 (1980), and
K. French and R. Roll, Stock return variances, same journal 17 (1986), on variance by trading time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from conf.errors import InputError
from conf.types import DateArray, FloatArray
from envs.market.exchange_calendar import scheduled_holidays

DAYS_PER_YEAR = 365.0  # calendar days, by which rates and maturities are counted
CALENDAR = 1.0  # the weight with which business time is calendar time
# S&P 500, 1999-2013: `estimate_closed_day_weight` gives 0.131.
CLOSED_DAY_WEIGHT = 0.13
_MIN_WEEKENDS = 100
_ONE_DAY = np.timedelta64(1, "D")

ClosedDayWeight = Annotated[float, Field(ge=0.0, le=1.0)]


@dataclass(frozen=True)
class VarianceClock:
    """Business time of a market with so many sessions a year."""

    closed_day_weight: float  # variance of a day without trading, as a share of a session's
    sessions_per_year: float  # 365: it never closes, and all days are sessions

    @property
    def name(self) -> str:
        """business or calendar; where no day is closed they are one."""
        same = self.closed_day_weight == CALENDAR or self.sessions_per_year >= DAYS_PER_YEAR
        return "calendar" if same else "business"

    @property
    def units_per_year(self) -> float:
        """Units that a year of 365 days has."""
        closed_days = DAYS_PER_YEAR - self.sessions_per_year
        return self.sessions_per_year + self.closed_day_weight * closed_days

    def units(self, start: DateArray, end: DateArray) -> FloatArray:
        """Units from the closes of `start` to those of `end`, days that broadcast; 0 if over."""
        first, last = start.astype("datetime64[D]"), end.astype("datetime64[D]")
        days = np.maximum((last - first).astype(np.float64), 0.0)
        if self.sessions_per_year >= DAYS_PER_YEAR or not days.size:
            return np.asarray(days)
        holidays = scheduled_holidays(first.min().item(), last.max().item())
        sessions = np.busday_count(first + _ONE_DAY, last + _ONE_DAY, holidays=holidays)
        sessions = np.maximum(sessions, 0).astype(np.float64)
        units: FloatArray = sessions + self.closed_day_weight * (days - sessions)
        return units

    def years(self, start: DateArray, end: DateArray) -> FloatArray:
        """Years of variance from the closes of `start` to those of `end`."""
        return self.units(start, end) / self.units_per_year


def estimate_closed_day_weight(dates: DateArray, close: FloatArray) -> float:
    """The weight at which weekends of a market had the variance that they had, from 0 to 1.

    dates (T,), close (T,). Half of what the variance of the return over a plain weekend (two closed
    days) has beyond that over a single day, as a share of the latter. InputError where there are
    too few weekends to tell.
    """
    day = dates.astype("datetime64[D]")
    returns = np.diff(np.log(close))
    gap, weekday = np.diff(day).astype(np.int64), (day[:-1].astype(np.int64) + 3) % 7
    weekend, plain = (gap == 3) & (weekday == 4), gap == 1
    if weekend.sum() < _MIN_WEEKENDS or plain.sum() < _MIN_WEEKENDS:
        raise InputError(
            f"there are {int(weekend.sum())} weekends from {day[0]} to {day[-1]}; the weight of a "
            f"closed day needs {_MIN_WEEKENDS}",
            f"Give it as a number: data.closed_day_weight={CLOSED_DAY_WEIGHT}",
        )
    squares = np.square(returns - returns.mean())
    excess = squares[weekend].mean() / squares[plain].mean() - 1.0
    return float(np.clip(excess / 2.0, 0.0, 1.0))
