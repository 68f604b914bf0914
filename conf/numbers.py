"""Checks of single numbers that a user hands in; the errors name the argument."""

from __future__ import annotations

import math
from numbers import Real

from conf.errors import InputError


def checked_number(name: str, value: object) -> float:
    """A finite number of any numeric type, NumPy's included, as float; InputError otherwise."""
    if not isinstance(value, Real) or not math.isfinite(value):
        raise InputError(f"{name} is {value!r}", "Give a finite number")
    return float(value)


def checked_positive(name: str, value: object) -> float:
    """A finite number above zero as float; InputError otherwise."""
    number = checked_number(name, value)
    if number <= 0.0:
        raise InputError(f"{name} is {value}", "Give a positive number")
    return number
