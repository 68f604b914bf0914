"""The error that a user can correct, and checks of single numbers that a user hands in."""

from __future__ import annotations

import math
from numbers import Real


class InputError(ValueError):
    """An input is wrong: data, configuration, a file, an argument.

    `problem` is one line that says what was wrong and its value; `remedy` says what to do.
    Commands print it without a traceback and leave with exit code 2.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem}. {remedy}" if remedy else problem)

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str]]:
        return (type(self), (self.problem, self.remedy))


class Unavailable(InputError):
    """A source or a broker gives nothing now; asked again later it may."""


class Diverged(InputError):
    """A training whose numbers are not finite any more: a result of its settings."""


def checked_number(name: str, value: object) -> float:
    """A finite number of any numeric type, NumPy's included, as float; InputError otherwise."""
    try:
        number = float(value) if isinstance(value, Real) else math.nan
    except OverflowError:  # an integer or a fraction beyond the largest float
        raise InputError(f"{name} is too large a number", "Give a finite number") from None
    if not math.isfinite(number):
        raise InputError(f"{name} is {value!r}", "Give a finite number")
    return number


def checked_positive(name: str, value: object) -> float:
    """A finite number above zero as float; InputError otherwise."""
    number = checked_number(name, value)
    if number <= 0.0:
        raise InputError(f"{name} is {value}", "Give a positive number")
    return number
