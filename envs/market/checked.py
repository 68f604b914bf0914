"""What every kind of history checks and does with its arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from risk.errors import InputError

FloatArray = NDArray[np.float64]
Scalar = TypeVar("Scalar", bound=np.generic)

MAX_GAP_SESSIONS = 10


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


def days_to_next(dates: NDArray[np.datetime64]) -> FloatArray:
    """Calendar days from each session to the next, (T,); 0 at the last."""
    days = np.zeros(len(dates))
    days[:-1] = np.diff(dates).astype(np.float64)
    return readonly(days)


def check_shape(
    history: str, name: str, values: NDArray[np.generic], shape: tuple[int, ...]
) -> None:
    """InputError unless the column has that shape."""
    if values.shape != shape:
        raise InputError(
            f"{history}: {name} has shape {values.shape}, expected {shape}",
            "Give every column one value a session",
        )


def check_dates(history: str, dates: NDArray[np.datetime64]) -> None:
    """InputError unless dates rise strictly and leave no long gap."""
    steps = np.diff(dates).astype(int)
    if steps.size and steps.min() <= 0:
        where = int(np.argmax(steps <= 0)) + 1
        raise InputError(
            f"{history}: date {dates[where]} (session {where}) does not come after "
            f"{dates[where - 1]}",
            "Sort the rows by date and remove duplicates",
        )
    missing = np.busday_count(dates[:-1], dates[1:]) - 1
    if missing.size and missing.max() > MAX_GAP_SESSIONS:
        where = int(np.argmax(missing))
        raise InputError(
            f"{history}: {missing[where]} weekdays are missing between "
            f"{dates[where]} and {dates[where + 1]}",
            f"Fill the gap (at most {MAX_GAP_SESSIONS} are allowed) or start after it",
        )
