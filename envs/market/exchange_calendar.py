"""The New York Stock Exchange's sessions since 1998: what a complete download has to contain."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
from pandas.tseries.holiday import (
    AbstractHolidayCalendar,
    GoodFriday,
    Holiday,
    USLaborDay,
    USMartinLutherKingJr,
    USMemorialDay,
    USPresidentsDay,
    USThanksgivingDay,
    nearest_workday,
    sunday_to_monday,
)

from conf.types import DateArray

# Days of mourning, the attacks of 2001 and the storm of 2012.
_SPECIAL_CLOSINGS = np.array(
    [
        "2001-09-11",
        "2001-09-12",
        "2001-09-13",
        "2001-09-14",
        "2004-06-11",
        "2007-01-02",
        "2012-10-29",
        "2012-10-30",
        "2018-12-05",
        "2025-01-09",
    ],
    dtype="datetime64[D]",
)


class _ExchangeHolidays(AbstractHolidayCalendar):
    rules = [  # noqa: RUF012 - the base class declares it so
        # A New Year on a Saturday is not made up for: the Friday belongs to the old year.
        Holiday("New Year", month=1, day=1, observance=sunday_to_monday),
        USMartinLutherKingJr,
        USPresidentsDay,
        GoodFriday,
        USMemorialDay,
        Holiday("Juneteenth", month=6, day=19, start_date="2022-01-01", observance=nearest_workday),
        Holiday("Independence", month=7, day=4, observance=nearest_workday),
        USLaborDay,
        USThanksgivingDay,
        Holiday("Christmas", month=12, day=25, observance=nearest_workday),
    ]


def scheduled_holidays(start: dt.date, end: dt.date) -> DateArray:
    """The exchange's regular holidays from `start` to `end`, known years ahead, (H,) days."""
    found = _ExchangeHolidays().holidays(pd.Timestamp(start), pd.Timestamp(end))
    days: DateArray = found.to_numpy().astype("datetime64[D]")
    return days


def exchange_sessions(start: dt.date, end: dt.date) -> DateArray:
    """Every session from `start` to `end`, both inclusive, (T,) days.

    Regular holidays follow the exchange's rules; special closings are known up to October 2025.
    """
    holidays = scheduled_holidays(start, end)
    days = np.arange(np.datetime64(start), np.datetime64(end) + np.timedelta64(1, "D"))
    closed = np.concatenate([holidays, _SPECIAL_CLOSINGS])
    open_days: DateArray = days[np.is_busday(days, holidays=closed)]
    return open_days
