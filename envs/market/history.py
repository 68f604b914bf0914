"""The history of one index, the type that every source of index data returns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from conf.errors import InputError
from conf.types import BoolArray, DateArray, FloatArray
from envs.market.clock import CLOSED_DAY_WEIGHT, VarianceClock
from risk.metrics import sessions_per_year

Scalar = TypeVar("Scalar", bound=np.generic)

MAX_GAP_SESSIONS = 10
_FEW_ROWS = 20  # of which no usual step can be read
# Values of `implied_vol_source`.
VOL_OBSERVED, VOL_ESTIMATED = 1, 0
_PATH_COLUMNS = ("open", "high", "low", "close", "volume", "implied_vol")
_SESSION_COLUMNS = ("rate", "dividend_yield")


def readonly(values: NDArray[Scalar]) -> NDArray[Scalar]:
    """A copy that cannot be written to."""
    values = np.array(values, copy=True)
    values.setflags(write=False)
    return values


def fingerprint_of(columns: Mapping[str, NDArray[np.generic]]) -> str:
    """SHA-256 over named arrays: names, types, shapes and content."""
    digest = hashlib.sha256()
    for name in sorted(columns):
        values = np.ascontiguousarray(columns[name])
        digest.update(f"{name}{values.dtype.str}{values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


class PricePaths:
    """Prices of P paths over T dated sessions: the part that all histories share."""

    dates: DateArray  # (T,)
    close: FloatArray  # (P, T, ...)

    @property
    def num_paths(self) -> int:
        """P, the number of price paths."""
        return int(self.close.shape[0])

    @property
    def num_sessions(self) -> int:
        """T, the number of trading sessions."""
        return int(self.dates.shape[0])

    @cached_property
    def sessions_per_year(self) -> float:
        """Sessions a year: what annualises everything measured on this history."""
        return sessions_per_year(self.dates)

    @cached_property
    def days_to_next(self) -> FloatArray:
        """Calendar days from each session to the next, (T,); 0 at the last."""
        return readonly(np.append(np.diff(self.dates).astype(np.float64), 0.0))


def check_shape(
    history: str, name: str, values: NDArray[np.generic], shape: tuple[int, ...]
) -> None:
    """InputError unless the column has that shape."""
    if values.shape != shape:
        raise InputError(
            f"{history}: {name} has shape {values.shape}, expected {shape}",
            "Give every column one value a session",
        )


def allowed_gap(dates: DateArray) -> int:
    """Weekdays that rising dates (T,) may lack in a row: more than MAX_GAP_SESSIONS if weekly."""
    if len(dates) < _FEW_ROWS:
        return MAX_GAP_SESSIONS
    usual = int(np.median(np.busday_count(dates[:-1], dates[1:])))
    return MAX_GAP_SESSIONS + max(usual - 1, 0)


def check_dates(history: str, dates: DateArray, *, daily: bool = True) -> None:
    """InputError unless dates rise strictly and leave no long gap; `allowed_gap` if not daily."""
    steps = np.diff(dates).astype(int)
    if steps.size and steps.min() <= 0:
        where = int(np.argmax(steps <= 0)) + 1
        raise InputError(
            f"{history}: date {dates[where]} (session {where}) does not come after "
            f"{dates[where - 1]}",
            "Sort the rows by date and remove duplicates",
        )
    missing = np.busday_count(dates[:-1], dates[1:]) - 1
    max_gap = MAX_GAP_SESSIONS if daily else allowed_gap(dates)
    if missing.size and missing.max() > max_gap:
        where = int(np.argmax(missing))
        raise InputError(
            f"{history}: {missing[where]} weekdays are missing between "
            f"{dates[where]} and {dates[where + 1]}",
            f"Fill the gap (at most {max_gap} are allowed) or start after it",
        )


def stack_paths(name: str, histories: Sequence[MarketHistory]) -> MarketHistory:
    """The paths of histories that share dates, rates and clock, side by side."""
    columns: dict[str, Any] = {
        column: np.concatenate([getattr(history, column) for history in histories])
        for column in _PATH_COLUMNS
    }
    return replace(histories[0], name=name, **columns)


@dataclass(frozen=True)
class MarketHistory(PricePaths):
    """Daily market data of one index: P price paths (1 for real history) over T sessions.

    Arrays are copied, made read-only and checked when the object is built; anything missing or
    impossible raises InputError. `fingerprint` identifies the content.
    """

    name: str  # of the source, for messages: "sp500", "file prices.csv"
    dates: DateArray  # (T,) days, strictly increasing
    open: FloatArray  # (P, T) index points
    high: FloatArray  # (P, T) index points
    low: FloatArray  # (P, T) index points
    close: FloatArray  # (P, T) index points
    volume: FloatArray  # (P, T) shares; 0 where the source has none
    implied_vol: FloatArray  # (P, T) annual, decimal (VIX / 100)
    implied_vol_source: NDArray[np.int8]  # (T,) VOL_OBSERVED or VOL_ESTIMATED
    rate: FloatArray  # (T,) continuous annual decimal, earned from this close to the next
    dividend_yield: FloatArray  # (T,) continuous annual decimal
    extras: Mapping[str, FloatArray] = field(default_factory=dict)  # name -> (P, T)
    # Of variance, at which options on this index are priced and at which it was simulated.
    closed_day_weight: float = CLOSED_DAY_WEIGHT

    def __post_init__(self) -> None:
        freeze = object.__setattr__
        freeze(self, "dates", readonly(np.asarray(self.dates).astype("datetime64[D]")))
        for name in ("open", "high", "low", "close", "volume", "implied_vol"):
            freeze(self, name, readonly(np.atleast_2d(np.array(getattr(self, name), np.float64))))
        for name in ("rate", "dividend_yield"):
            freeze(self, name, readonly(np.array(getattr(self, name), np.float64)))
        freeze(self, "implied_vol_source", readonly(np.array(self.implied_vol_source, np.int8)))
        extras = {
            name: readonly(np.atleast_2d(np.array(values, np.float64)))
            for name, values in sorted(self.extras.items())
        }
        freeze(self, "extras", MappingProxyType(extras))
        self._check()

    def __reduce__(self) -> tuple[Callable[..., MarketHistory], tuple[object, ...]]:
        """For pickle and deepcopy, which know no read-only mapping: built anew and read-only."""
        values = {column.name: getattr(self, column.name) for column in fields(self)}
        values["extras"] = dict(self.extras)
        return MarketHistory, tuple(values.values())

    @cached_property
    def clock(self) -> VarianceClock:
        """The clock of its variance."""
        return VarianceClock(self.closed_day_weight, self.sessions_per_year)

    @cached_property
    def units_to_next(self) -> FloatArray:
        """Units of the clock from each session to the next, (T,); 0 at the last."""
        return readonly(np.append(self.clock.units(self.dates[:-1], self.dates[1:]), 0.0))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over every array of the content (not over the name or the clock)."""
        names = ("implied_vol_source", *_PATH_COLUMNS, *_SESSION_COLUMNS)
        columns = {name: getattr(self, name) for name in names}
        columns |= {f"extra:{name}": values for name, values in self.extras.items()}
        return fingerprint_of({"dates": self.dates.astype(np.int64), **columns})

    def sessions(self, start: int, stop: int) -> MarketHistory:
        """The same history cut to sessions start .. stop-1."""
        cut = slice(start, stop)
        return replace(
            self,
            dates=self.dates[cut],
            implied_vol_source=self.implied_vol_source[cut],
            extras={name: values[:, cut] for name, values in self.extras.items()},
            **{name: getattr(self, name)[:, cut] for name in _PATH_COLUMNS},
            **{name: getattr(self, name)[cut] for name in _SESSION_COLUMNS},
        )

    def first_paths(self, count: int) -> MarketHistory:
        """The same on so many of its paths, or all."""
        return replace(
            self,
            extras={name: values[:count] for name, values in self.extras.items()},
            **{name: getattr(self, name)[:count] for name in _PATH_COLUMNS},
        )

    def _check(self) -> None:
        paths, sessions = self.close.shape
        if sessions == 0 or paths == 0:
            raise InputError(f"{self.name}: the history is empty", "Give at least one session")
        for name in ("dates", "implied_vol_source", *_SESSION_COLUMNS):
            check_shape(self.name, name, getattr(self, name), (sessions,))
        by_path = {name: getattr(self, name) for name in _PATH_COLUMNS}
        by_path |= {f"extra {name}": values for name, values in self.extras.items()}
        for name, values in by_path.items():
            check_shape(self.name, name, values, (paths, sessions))
        check_dates(self.name, self.dates)
        by_session = {name: getattr(self, name) for name in _SESSION_COLUMNS}
        for name, values in (by_path | by_session).items():
            self._refuse(~np.isfinite(values), name, values, "is not a finite number")
        for name in ("open", "high", "low", "close", "implied_vol"):
            self._refuse(by_path[name] <= 0, name, by_path[name], "is not positive")
        if not 0.0 <= self.closed_day_weight <= 1.0:
            raise InputError(
                f"{self.name}: closed_day_weight is {self.closed_day_weight}",
                "Give a share of a session's variance from 0 to 1",
            )
        self._refuse(self.volume < 0, "volume", self.volume, "is negative")
        self._refuse(self.high < self.low, "high", self.high, "is below the low of the session")

    def _refuse(self, bad: BoolArray, name: str, values: FloatArray, complaint: str) -> None:
        if bad.any():
            where = tuple(int(i) for i in np.argwhere(bad)[0])
            raise InputError(
                f"{self.name}: {name} of {self.dates[where[-1]]} (session {where[-1]}) "
                f"{complaint}: {values[where]}",
                "Correct or remove that session",
            )
