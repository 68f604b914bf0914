"""Days as vendors write them; the order of day and month is read from the rows, never guessed."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from functools import lru_cache

_END = r"(?=$|[T ,])"  # a time of day and its zone may follow: the day alone counts
_YEAR_FIRST = re.compile(r"(\d{4})(?:([-/.])(\d{1,2})\2(\d{1,2})|(\d{2})(\d{2}))" + _END)
_YEAR_LAST = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4})" + _END)
_DAY_MONTH_NAME = re.compile(r"(\d{1,2})[- ]?([A-Za-z]{3,9})\.?[- ]?(\d{4})" + _END)
_MONTH_NAME_DAY = re.compile(r"([A-Za-z]{3,9})\.? (\d{1,2}),? (\d{4})" + _END)
# Seconds since 1970, or milli-, micro- or nanoseconds, whose first ten digits are the seconds.
_EPOCH = re.compile(r"(\d{9}|(\d{10})(?:\d{3}){0,3})(?:\.0*)?")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def day_comes_first(cells: Sequence[object]) -> bool | None:
    """Whether dates such as 13/01/2020 lead with the day; None where the rows do not decide it."""
    found = (_YEAR_LAST.match(cell.strip()) for cell in cells if isinstance(cell, str))
    pairs = {(int(match[1]), int(match[3])) for match in found if match}
    day_first = any(first > 12 >= second for first, second in pairs)
    month_first = any(second > 12 >= first for first, second in pairs)
    return day_first if day_first != month_first else None


def is_ambiguous(cell: object) -> bool:
    """Whether a cell is a date whose order of day and month has to be known."""
    return isinstance(cell, str) and _YEAR_LAST.match(cell.strip()) is not None


def day_of(cell: object, day_first: bool | None = None) -> dt.date | None:
    """The day in a cell, `day_first` as in `day_comes_first`; None where it holds none."""
    try:
        if isinstance(cell, dt.date) and cell == cell:  # NaT is a date too, unlike itself
            return cell.date() if isinstance(cell, dt.datetime) else cell
        return _written_day(str(cell).strip(), day_first) if isinstance(cell, str | int) else None
    except (ValueError, OverflowError, NotImplementedError):  # pandas: years it alone knows
        return None


@lru_cache(maxsize=50_000)  # long panels name each day many times
def _written_day(text: str, day_first: bool | None) -> dt.date | None:
    if match := _YEAR_FIRST.match(text):
        return dt.date(int(match[1]), int(match[3] or match[5]), int(match[4] or match[6]))
    if match := _YEAR_LAST.match(text):
        first, second = int(match[1]), int(match[3])
        day, month = (first, second) if day_first else (second, first)
        return None if day_first is None else dt.date(int(match[4]), month, day)
    if match := _DAY_MONTH_NAME.match(text):
        return dt.date(int(match[3]), _month(match[2]), int(match[1]))
    if match := _MONTH_NAME_DAY.match(text):
        return dt.date(int(match[3]), _month(match[1]), int(match[2]))
    if match := _EPOCH.fullmatch(text):
        return dt.datetime.fromtimestamp(int(match[2] or match[1]), dt.UTC).date()
    return None


def _month(name: str) -> int:
    return _MONTHS.index(name[:3].lower()) + 1  # a ValueError where there is no such month
