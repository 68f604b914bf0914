"""Every array of a market, session by session, and the first number in which two of them differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.book_market import BookMarket

Array = NDArray[Any]


@dataclass(frozen=True)
class Difference:
    """One number that is not what it was."""

    where: str  # dotted name of the array
    item: str  # which column of it: a feature, an instrument; empty where there is but one
    session: int
    date: str

    def __str__(self) -> str:
        which = f" ({self.item})" if self.item else ""
        return f"{self.where}{which} of {self.date}"


def session_arrays(item: Any, sessions: int, prefix: str = "") -> Iterator[tuple[str, Array]]:
    """Every array with a session axis inside a market, by its dotted name, sessions first.

    What is added to a market later is among them without being named here.
    """
    if is_dataclass(item):
        for field in fields(item):
            yield from session_arrays(getattr(item, field.name), sessions, f"{prefix}.{field.name}")
    elif isinstance(item, Mapping):
        for name, value in item.items():
            yield from session_arrays(value, sessions, f"{prefix}.{name}")
    elif isinstance(item, np.ndarray):
        axes = [axis for axis in (1, 0) if axis < item.ndim and item.shape[axis] == sessions]
        # (P, T, ...) before (T, ...): no market here has as many instruments as sessions.
        if axes:
            yield prefix.lstrip("."), np.moveaxis(item, axes[0], 0)


def first_difference(
    market: BookMarket, other: BookMarket, session: int, *, same_length: bool
) -> Difference | None:
    """Where two markets differ in anything up to `session`; None where they are bit-identical.

    Interest from `session` to the next is left out where there is no next: how long it runs is
    settled by the calendar, but is read off the dates here.
    """
    length, other_length = market.history.num_sessions, other.history.num_sessions
    theirs = dict(session_arrays(other, other_length))
    for name, values in session_arrays(market, length):
        until = session + (1 if same_length or name != "growth" else 0)
        if name not in theirs:
            return Difference(name, "missing", 0, str(market.history.dates[0]))
        where = first_unequal(values[:until], theirs[name][:until])
        if where is not None:
            date = str(market.history.dates[where[0]])
            return Difference(name, _item(market, name, values.shape, where), where[0], date)
    if market.first_usable != other.first_usable:
        first = min(market.first_usable, other.first_usable)
        return Difference("first_usable", "", first, str(market.history.dates[first]))
    return None


def first_unequal(one: Array, two: Array) -> tuple[int, ...] | None:
    """Index of the first entry whose bits differ; None where all are the same."""
    if one.shape != two.shape or one.dtype != two.dtype:
        return (0,) * max(one.ndim, 1)
    bits = f"u{one.dtype.itemsize}"
    unequal = np.ascontiguousarray(one).view(bits) != np.ascontiguousarray(two).view(bits)
    if not unequal.any():
        return None
    return tuple(int(i) for i in np.argwhere(unequal)[0])


def _item(market: BookMarket, name: str, shape: tuple[int, ...], where: tuple[int, ...]) -> str:
    """The last index by its name, where it counts features or instruments."""
    names = [feature.name for feature in market.features]
    if name.startswith("observed.after"):
        names = names[len(names) - shape[-1] :]
    elif not name.startswith("observed."):
        names = list(market.instruments)
    counts_them = len(where) > 2 or (len(where) == 2 and shape[-1] == len(names))
    return names[where[-1]] if counts_them and where[-1] < len(names) else ""
