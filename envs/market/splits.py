"""Which sessions train, which validate, which test: by date, in that order, never shuffled."""

from __future__ import annotations

import datetime as dt
import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Generic, Protocol, TypeVar

import numpy as np
from pydantic import (
    BeforeValidator,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from conf.errors import InputError
from conf.settings import settings
from conf.types import DateArray
from envs.market.history import PricePaths

SPLIT_NAMES = ("train", "validation", "test", "all")
# A month: figures of fewer sessions mean nothing.
MIN_SPLIT_SESSIONS = 21
TRAIN_SHARE, VALIDATION_SHARE = 0.6, 0.2


def _refuse_numbers(value: object) -> object:
    if isinstance(value, int | float):
        raise ValueError("write a date as YYYY-MM-DD")
    return value


# A bare number would be read as seconds since 1970.
Day = Annotated[dt.date, BeforeValidator(_refuse_numbers)]


@settings
class SplitDates:
    """The last day of the training and of the validation split; both null: 60/20/20.

    `train_start` and `test_end` cut off what lies before and after: null is the whole history.
    What lies before `train_start` still warms up the features.
    """

    train_start: Day | None = None  # inclusive
    train_end: Day | None = None  # inclusive
    validation_end: Day | None = None  # inclusive
    test_end: Day | None = None  # inclusive

    @model_validator(mode="after")
    def _check_order(self) -> SplitDates:
        if (self.train_end is None) != (self.validation_end is None):
            raise ValueError("give both train_end and validation_end, or leave both null")
        names = ("train_start", "train_end", "validation_end", "test_end")
        given = [(name, getattr(self, name)) for name in names if getattr(self, name)]
        for (name, day), (later, next_day) in itertools.pairwise(given):
            if day >= next_day:
                raise ValueError(f"{name} {day} must come before {later} {next_day}")
        return self

    @model_serializer(mode="wrap")
    def _without_open_ends(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Open ends are left out, as in the settings of runs from before they existed."""
        written: dict[str, Any] = write(self)
        ends = ("train_start", "test_end")
        return {name: day for name, day in written.items() if name not in ends or day is not None}


@dataclass(frozen=True)
class Split:
    """The sessions start .. stop-1 of a history."""

    name: str  # one of SPLIT_NAMES
    start: int  # first usable session
    stop: int  # one past the last

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop:
            raise InputError(
                f"split {self.name} would span sessions {self.start} to {self.stop}",
                "Give start and stop with 0 <= start < stop",
            )

    @property
    def num_sessions(self) -> int:
        """How many sessions it holds."""
        return self.stop - self.start


@dataclass(frozen=True)
class Splits:
    """The three splits of one history, in time order and without overlap."""

    train: Split
    validation: Split
    test: Split

    @property
    def all(self) -> Split:
        """Every session after the warm-up, those under embargo included."""
        return Split("all", self.train.start, self.test.stop)

    def named(self, name: str) -> Split:
        """The split of that name; InputError if it is not one of SPLIT_NAMES."""
        if name not in SPLIT_NAMES:
            raise InputError(f"there is no split {name!r}", f"Choose from {', '.join(SPLIT_NAMES)}")
        split: Split = getattr(self, name)
        return split


def split_history(
    dates: DateArray,
    boundaries: SplitDates,
    *,
    embargo_days: int,
    warmup_sessions: int,
) -> Splits:
    """Cut the sessions at `dates` (T,) into train, validation and test.

    Training starts at session `warmup_sessions` - 1, the first with that many sessions up to and
    including itself, or at `train_start` where that is later. Validation begins on the first
    session after `train_end`, test on the first after `validation_end`; it ends with the data or
    `test_end`. The embargo, `embargo_days` calendar days, is taken from the end of the earlier
    split. Without `train_end`, 60 / 20 / 20 % of what lies between the first session and the last.

    Raises InputError where a split would keep fewer than MIN_SPLIT_SESSIONS sessions.
    """
    sessions = dates.astype("datetime64[D]")

    def up_to(day: dt.date) -> int:
        return int(np.searchsorted(sessions, np.datetime64(day), side="right"))

    first, last = max(warmup_sessions - 1, 0), len(sessions)
    if boundaries.train_start is not None:
        first = max(first, int(np.searchsorted(sessions, np.datetime64(boundaries.train_start))))
    if boundaries.test_end is not None:
        last = up_to(boundaries.test_end)
    if boundaries.train_end is None or boundaries.validation_end is None:
        usable = max(last - first, 0)
        validation_start = first + round(TRAIN_SHARE * usable)
        test_start = validation_start + round(VALIDATION_SHARE * usable)
    else:
        validation_start = max(min(up_to(boundaries.train_end), last), first)
        test_start = max(min(up_to(boundaries.validation_end), last), first)
    train = _split(sessions, "train", first, validation_start, embargo_days)
    validation = _split(sessions, "validation", validation_start, test_start, embargo_days)
    test = _split(sessions, "test", test_start, last, 0)
    return Splits(train, validation, test)


def _split(dates: DateArray, name: str, start: int, next_start: int, embargo_days: int) -> Split:
    stop = next_start
    if embargo_days and next_start < len(dates):
        last_allowed = dates[next_start] - np.timedelta64(embargo_days, "D")
        stop = min(stop, int(np.searchsorted(dates, last_allowed, side="left")))
    kept = max(stop - start, 0)
    if kept < MIN_SPLIT_SESSIONS:
        covered = f"{dates[0]} to {dates[-1]}" if len(dates) else "nothing"
        raise InputError(
            f"the {name} split keeps {kept} of {max(next_start - start, 0)} sessions after "
            f"warm-up and an embargo of {embargo_days} days; at least {MIN_SPLIT_SESSIONS} are "
            f"needed (the data has {len(dates)} sessions, {covered})",
            "Give more data, or move data.splits.train_end and data.splits.validation_end",
        )
    return Split(name, start, stop)


class _SplitSettings(Protocol):
    @property
    def splits(self) -> SplitDates: ...


HistoryT = TypeVar("HistoryT", bound=PricePaths)
SettingsT = TypeVar("SettingsT", bound=_SplitSettings)


@dataclass(frozen=True)
class Loaded(Generic[HistoryT, SettingsT]):
    """A history, its splits, and how it came about."""

    history: HistoryT
    settings: SettingsT  # that were used: after a fallback not those requested
    notices: tuple[str, ...]  # for the user, one line each
    embargo_days: int  # calendar days between splits
    warmup_sessions: int

    @cached_property
    def splits(self) -> Splits:
        """Train, validation and test; InputError where the history is too short for them."""
        return split_history(
            self.history.dates,
            self.settings.splits,
            embargo_days=self.embargo_days,
            warmup_sessions=self.warmup_sessions,
        )

    def split(self, name: str) -> Split:
        """The split of that name; `all`, the sessions after the warm-up, needs no other to fit."""
        if name == "all":
            return Split("all", max(self.warmup_sessions - 1, 0), self.history.num_sessions)
        return self.splits.named(name)
