"""From fractions of a contract to whole lots, without leaving the limits."""

from __future__ import annotations

import numpy as np

from conf.types import FloatArray
from risk.book import Book
from risk.bounds import LimitSettings, keeps_limits

# A quantity this close to a whole number of lots, in lots, is one.
_ROUNDING = 1e-9
_SMALLER = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


def whole_lots(allowed: FloatArray, book: Book, limits: LimitSettings, lot: float) -> FloatArray:
    """Allowed quantities (N, M) in whole lots that keep the limits, if `allowed` does.

    The first that does of: each trade rounded down, each position rounded down, no trade at all,
    nine tenths of the positions rounded down, and so on to nothing. No position is farther from
    zero than the larger of what is held and what is allowed.
    """
    held = book.quantity
    down = _rounded_down(allowed, lot)
    nearest_held = np.where(allowed >= held, _floor(allowed, lot), -_floor(-allowed, lot))
    farther = np.abs(nearest_held) > np.maximum(np.abs(allowed), np.abs(held)) + _ROUNDING * lot
    quantity = np.where(farther, down, nearest_held)
    wrong = np.flatnonzero(~keeps_limits(quantity, book, limits))
    for candidate in (down, _rounded_down(held, lot), *(share * allowed for share in _SMALLER)):
        if not wrong.size:
            return quantity
        quantity[wrong] = _rounded_down(candidate[wrong], lot)
        wrong = wrong[~keeps_limits(quantity[wrong], book.rows(wrong), limits)]
    quantity[wrong] = 0.0
    return quantity


def _floor(quantity: FloatArray, lot: float) -> FloatArray:
    lots: FloatArray = np.floor(quantity / lot + _ROUNDING) * lot
    return lots


def _rounded_down(quantity: FloatArray, lot: float) -> FloatArray:
    """Towards zero."""
    return np.copysign(_floor(np.abs(quantity), lot), quantity)
