"""A batch of books as the risk module sees them, and what they are exposed to."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from conf.errors import InputError
from conf.types import FloatArray, IntArray

# What each column of `exposures` measures. Net exposures stand there with both signs, so that one
# upper bound a column says everything; the scenarios of the margin scan follow behind.
COLUMNS = ("gross", "cash", "delta", "delta", "gamma", "gamma", "vega", "vega")


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
        books, positions = self.quantity.shape
        for item in fields(self):
            values = getattr(self, item.name)
            if values is None:
                continue
            expected = (books,) if item.name in ("equity", "traded") else (books, positions)
            if values.shape[: len(expected)] != expected:
                raise InputError(
                    f"book: {item.name} has shape {values.shape}",
                    f"Give one of shape {expected}",
                )

    def rows(self, index: IntArray) -> Book:
        """Some of the books."""
        return Book(
            self.quantity[index],
            self.price[index],
            self.equity[index],
            self.delta[index],
            self.gamma[index],
            self.vega[index],
            self.traded[index],
            None if self.scan is None else self.scan[index],
        )

    def value(self, quantity: FloatArray) -> FloatArray:
        """Dollars of absolute value of these quantities (N, M), summed over the positions: (N,)."""
        return sum_products(np.abs(quantity), self.price)


def exposures(quantity: FloatArray, book: Book, *, scanned: bool = False) -> FloatArray:
    """What quantities (N, M) at the book's prices are exposed to, (N, K) dollars.

    Columns are COLUMNS: the value, invested premium, and the three net exposures with both signs.
    With `scanned`, the loss in each scenario of the scan follows.
    """
    scan = book.scan if scanned else None
    first = len(COLUMNS)
    found = np.empty((len(quantity), first + (0 if scan is None else scan.shape[-1])))
    found[:, 0] = book.value(quantity)
    for column, per_unit in ((1, book.price), (2, book.delta), (4, book.gamma), (6, book.vega)):
        found[:, column] = sum_products(quantity, per_unit)
    found[:, 3:first:2] = -found[:, 2:first:2]
    if scan is not None:
        found[:, first:] = -(quantity[:, None, :] @ scan)[:, 0]
    return found


def reduced(quantity: FloatArray, wanted: FloatArray) -> FloatArray:
    """What is left of `quantity` where it may shrink towards `wanted` but not grow: (N, M)."""
    kept: FloatArray = np.minimum(
        np.maximum(wanted, np.minimum(quantity, 0.0)), np.maximum(quantity, 0.0)
    )
    return kept


def sum_products(left: FloatArray, right: FloatArray) -> FloatArray:
    """Sum of left x right over the last axis, the same for a row alone and in a batch."""
    total: FloatArray = np.einsum("ij,ij->i", left, right)
    return total
