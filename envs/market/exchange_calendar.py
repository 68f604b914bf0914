"""The New York Stock Exchange's sessions, from the rules that `exchange_calendars` keeps (XNYS)."""

from __future__ import annotations

import datetime as dt
from functools import lru_cache

import numpy as np
import pandas as pd
from exchange_calendars.exchange_calendar_xnys import XNYSExchangeCalendar

from conf.types import DateArray

# Its constructor would work out the opening minutes of twenty years; the holidays need none.
_XNYS = object.__new__(XNYSExchangeCalendar)


def scheduled_holidays(start: dt.date, end: dt.date) -> DateArray:
    """The exchange's regular holidays from `start` to `end`, known years ahead, (H,) days."""
    days = _holidays_of(start.year, end.year)
    inside: DateArray = days[(days >= np.datetime64(start)) & (days <= np.datetime64(end))]
    return inside


@lru_cache(maxsize=64)  # each takes some fifty milliseconds
def _holidays_of(first_year: int, last_year: int) -> DateArray:
    first, last = pd.Timestamp(first_year, 1, 1), pd.Timestamp(last_year, 12, 31)
    return _days(_XNYS.regular_holidays.holidays(first, last))


def exchange_sessions(start: dt.date, end: dt.date) -> DateArray:
    """Every session from `start` to `end`, both inclusive, (T,) days.

    Special closings (attacks, storms, days of mourning) are left out beside the regular holidays.
    They were not known in advance, so a listing calendar must not use this function.
    """
    closed = np.concatenate([scheduled_holidays(start, end), _days(_XNYS.adhoc_holidays)])
    days = np.arange(np.datetime64(start), np.datetime64(end) + np.timedelta64(1, "D"))
    open_days: DateArray = days[np.is_busday(days, holidays=closed)]
    return open_days


def trading_days(first_day: dt.date, sessions: int) -> DateArray:
    """`sessions` consecutive sessions from `first_day` on, (T,): no weekends, regular holidays."""
    last_day = first_day + dt.timedelta(days=2 * sessions + 30)
    holidays = scheduled_holidays(first_day, last_day)
    steps = np.arange(sessions)
    return np.busday_offset(np.datetime64(first_day), steps, roll="forward", holidays=holidays)


def closing_times(start: dt.date, end: dt.date) -> dict[dt.date, dt.datetime]:
    """When each session from `start` to `end` closes, UTC; some close early."""
    years = (_closing_times_of(year) for year in range(start.year, end.year + 1))
    return {day: close for each in years for day, close in each.items() if start <= day <= end}


@lru_cache(maxsize=8)  # each takes a tenth of a second
def _closing_times_of(year: int) -> dict[dt.date, dt.datetime]:
    calendar = XNYSExchangeCalendar(start=dt.date(year, 1, 1), end=dt.date(year, 12, 31))
    return {day.date(): close.to_pydatetime() for day, close in calendar.schedule["close"].items()}


def _days(timestamps: pd.DatetimeIndex | list[pd.Timestamp]) -> DateArray:
    return pd.DatetimeIndex(timestamps).to_numpy().astype("datetime64[D]")
