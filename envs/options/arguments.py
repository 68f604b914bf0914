"""Check what option formulas are given, once, before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from risk.errors import InputError


class _Range(NamedTuple):
    least: float
    open: bool  # `least` itself is excluded


_RANGES = {
    "spot": _Range(0.0, open=True),
    "strike": _Range(0.0, open=True),
    "tau_years": _Range(0.0, open=False),
    "vol_annual": _Range(0.0, open=False),
    "rate": _Range(-np.inf, open=True),
    "dividend_yield": _Range(-np.inf, open=True),
}


def checked_arguments(arguments: Mapping[str, ArrayLike]) -> list[NDArray[Any]]:
    """The arguments as arrays, in the order given: `is_call` boolean, all others float64.

    Raises InputError that names the first value that is missing, infinite or out of range
    (spot, strike > 0; tau_years, vol_annual ≥ 0), or the shapes where they do not broadcast.
    `price` may be anything: whether it is possible depends on the rest.
    """
    arrays = [_checked(name, values) for name, values in arguments.items()]
    try:
        np.broadcast_shapes(*(values.shape for values in arrays))
    except ValueError:
        shapes = (f"{name} {array.shape}" for name, array in zip(arguments, arrays, strict=True))
        raise InputError(
            f"option arguments do not broadcast: {', '.join(shapes)}",
            "Give arrays of equal shape, or with axes of length 1",
        ) from None
    return arrays


def _checked(name: str, values: ArrayLike) -> NDArray[Any]:
    if name == "is_call":
        flags = np.asarray(values)
        if flags.dtype != np.bool_:
            raise InputError(
                f"option argument is_call has type {flags.dtype}, expected booleans",
                "Pass True for calls and False for puts",
            )
        return flags
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"option argument {name} is not an array of numbers") from None
    if name in _RANGES and numbers.size:
        _check_range(name, numbers, _RANGES[name])
    return numbers


def _check_range(name: str, numbers: NDArray[np.float64], allowed: _Range) -> None:
    low, high = float(numbers.min()), float(numbers.max())
    # A NaN anywhere makes both extremes NaN, and no comparison with NaN holds.
    if high < np.inf and (low > allowed.least if allowed.open else low >= allowed.least):
        return
    good = np.isfinite(numbers)
    good &= (numbers > allowed.least) if allowed.open else (numbers >= allowed.least)
    where = tuple(int(i) for i in np.argwhere(~good)[0])
    bound = (
        "" if allowed.least == -np.inf else f" {'>' if allowed.open else '>='} {allowed.least:g}"
    )
    raise InputError(
        f"option argument {name}{list(where) if where else ''} is {numbers[where]}",
        f"Give a finite number{bound}",
    )
