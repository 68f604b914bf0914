"""A batch of books as the risk module sees them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conf.errors import InputError
from conf.types import FloatArray, IntArray


@dataclass(frozen=True)
class Book:
    """N books of M positions as they stand before a trade. Greeks are per unit held."""

    quantity: FloatArray  # (N, M) units
    price: FloatArray  # (N, M) dollars a unit
    equity: FloatArray  # (N,) dollars
    delta: FloatArray  # (N, M) dollars of the underlying a unit: delta x S
    gamma: FloatArray  # (N, M) change of that for a 1 % move, dollars
    vega: FloatArray  # (N, M) dollars a volatility point
    traded: FloatArray  # (N,) dollars traded in the last 20 sessions
    scan: FloatArray | None = None  # (N, M, S) dollars a unit gains in each scan scenario

    def __post_init__(self) -> None:
        shape = self.quantity.shape
        for name, values in self.arrays().items():
            expected = shape[:1] if name in ("equity", "traded") else shape
            if values.shape[: len(expected)] != expected:
                raise InputError(
                    f"book: {name} has shape {values.shape}", f"Give one of shape {expected}"
                )

    def arrays(self) -> dict[str, FloatArray]:
        """The arrays by name, without a scan that is not given."""
        return {name: values for name, values in vars(self).items() if values is not None}

    def rows(self, index: IntArray) -> Book:
        """The books with these indices."""
        return Book(**{name: values[index] for name, values in self.arrays().items()})

    def value(self, quantity: FloatArray) -> FloatArray:
        """Dollars of absolute value of these quantities (N, M), summed over the positions: (N,)."""
        return sum_products(np.abs(quantity), self.price)


def reduced(quantity: FloatArray, target: FloatArray) -> FloatArray:
    """`quantity` (N, M) moved towards `target` where that shrinks it, and kept where it does not.

    A position whose target has the other sign goes to zero.
    """
    low, high = np.minimum(quantity, 0.0), np.maximum(quantity, 0.0)
    kept: FloatArray = np.minimum(np.maximum(target, low), high)
    return kept


def sum_products(left: FloatArray, right: FloatArray) -> FloatArray:
    """Sum of left x right over the last axis, the same for a row alone and in a batch."""
    total: FloatArray = np.einsum("ij,ij->i", left, right)
    return total
