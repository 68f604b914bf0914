"""Which years each window of a walk-forward trains, validates and tests on.

Years are calendar years. A window trains on the years before its validation years, which lie
before its test years. The embargo (`envs.market.splits`) is the purge, too: the last days of the
training and of the validation stretch are left out for as long as a contract lives, so nothing
that a stretch can hold, and no return that it learns from, reaches into the next.

A test year begins at the last close of the year before: a book that starts in cash then earns
the first return of its year. So every day of the years tested is the return of exactly one window.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from conf.errors import InputError
from conf.settings import settings
from conf.types import DateArray
from envs.market.splits import SplitDates, Splits, split_history

# A quarter of a year: a last year with fewer sessions is not tested.
MIN_TEST_SESSIONS = 63

Years = Annotated[int, Field(ge=1, le=100)]
Year = Annotated[int, Field(ge=1800, le=2200)]


@settings
class WalkForwardSettings:
    """How the years are walked through."""

    mode: Literal["rolling", "anchored"] = "rolling"
    train_years: Years = 5  # anchored: of the first window
    validation_years: Years = 1
    test_years: Years = 1
    first_test: Year | None = None  # null: the earliest possible
    last_test: Year | None = None  # null: the last of the data
    retrain: Literal["fresh", "fine_tune"] = "fresh"
    fine_tune_timesteps: Annotated[int, Field(ge=1)] | None = None  # null: a quarter of the whole
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 2000  # of the bootstrap

    @model_validator(mode="after")
    def _check(self) -> WalkForwardSettings:
        first, last = self.first_test, self.last_test
        if first is not None and last is not None and first > last:
            raise ValueError(f"first_test {first} must not come after last_test {last}")
        if self.fine_tune_timesteps is not None and self.retrain == "fresh":
            raise ValueError("fine_tune_timesteps is given, but retrain is fresh")
        return self


@dataclass(frozen=True)
class YearWindow:
    """One window: calendar years tested, the dates that cut the data, and the stretches."""

    first_test: int  # calendar year
    last_test: int
    dates: SplitDates
    splits: Splits

    @property
    def name(self) -> str:
        """Its folder: the year in which its test begins."""
        return str(self.first_test)

    @property
    def years(self) -> str:
        """The years tested, as people write them."""
        one = self.first_test == self.last_test
        return self.name if one else f"{self.first_test} to {self.last_test}"


def plan_windows(
    dates: DateArray, request: WalkForwardSettings, *, embargo_days: int, warmup_sessions: int
) -> tuple[YearWindow, ...]:
    """The windows over the sessions at `dates` (T,), in time order.

    The first year of the data counts if it begins in January, the last if it has
    `MIN_TEST_SESSIONS`. The last window may test fewer years than the others. Raises InputError
    where the data is too short.
    """
    sessions = dates.astype("datetime64[D]")
    first, last = _tested(sessions, request)
    windows = []
    for year in range(first, last + 1, request.test_years):
        until = min(year + request.test_years - 1, last)
        cut = _cut(sessions, request, year, until)
        try:
            splits = split_history(
                sessions, cut, embargo_days=embargo_days, warmup_sessions=warmup_sessions
            )
        except InputError as error:
            raise InputError(
                f"window {year}: {error.problem}",
                "Give more data, or more walk_forward.train_years or validation_years",
            ) from None
        windows.append(YearWindow(year, until, cut, splits))
    return tuple(windows)


def find_window(windows: Sequence[YearWindow], year: int) -> YearWindow:
    """The window whose test begins in that year; InputError if there is none."""
    for window in windows:
        if window.first_test == year:
            return window
    names = ", ".join(window.name for window in windows)
    raise InputError(f"there is no window {year}", f"Choose walk_forward.window from {names}")


def _tested(dates: DateArray, request: WalkForwardSettings) -> tuple[int, int]:
    """First and last calendar year to be tested."""
    years = dates.astype("datetime64[Y]").astype(np.int64) + 1970
    begin = int(years[0]) + int(dates[0].astype(dt.date).month > 1)
    end = int(years[-1]) - int((years == years[-1]).sum() < MIN_TEST_SESSIONS)
    earliest = begin + request.train_years + request.validation_years
    covered = f"the data has {dates[0]} to {dates[-1]}"
    needed = f"{request.train_years} year(s) to train and {request.validation_years} to validate on"
    if earliest > end:
        raise InputError(
            f"no year is left to be tested: {covered}, and before it come {needed}",
            "Give more data, or fewer walk_forward.train_years",
        )
    for name in ("first_test", "last_test"):
        year = getattr(request, name)
        if year is not None and not earliest <= year <= end:
            raise InputError(
                f"walk_forward.{name} = {year} cannot be tested: {covered}, and before it come "
                f"{needed}",
                f"Choose a year from {earliest} to {end}",
            )
    return request.first_test or earliest, request.last_test or end


def _cut(dates: DateArray, request: WalkForwardSettings, year: int, until: int) -> SplitDates:
    """Boundaries of the window that tests the calendar years `year` to `until`."""
    validated = year - request.validation_years
    before = int(np.searchsorted(dates, np.datetime64(f"{year}-01-01"))) - 1
    rolling = request.mode == "rolling"
    return SplitDates(
        train_start=dt.date(validated - request.train_years, 1, 1) if rolling else None,
        train_end=dt.date(validated - 1, 12, 31),
        validation_end=dates[before].astype(dt.date) - dt.timedelta(days=1),
        test_end=dt.date(until, 12, 31),
    )
