"""The limits on a book, and how far on the way between two books they allow to go."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from conf.settings import settings
from conf.types import BoolArray, FloatArray, IntArray
from risk.book import COLUMNS, Book, exposures

Limit = Annotated[float, Field(ge=0.0)] | None

RULES = ("position", "gross", "cash", "delta", "gamma", "vega", "margin", "turnover")
POSITION, MARGIN, TURNOVER = RULES.index("position"), RULES.index("margin"), len(RULES) - 1

# A book counts as within a limit up to this share of it, and of equity: else its own rounding
# would put a book that was cut to a limit beyond it at the next look.
TOLERANCE, TOLERANCE_OF_EQUITY = 1e-10, 1e-12


@settings
class LimitSettings:
    """Limits as shares of equity before the trade's costs; null switches one off."""

    max_position: Limit = 0.20  # |value| of one position
    max_gross: Limit = 1.50  # sum of |value|
    min_cash: Annotated[float, Field(ge=0.0, le=1.0)] | None = 0.10
    max_delta: Limit = 0.50  # |sum of q x delta x S|
    max_gamma: Limit = 1.00  # |change of that delta for a 1 % move|
    max_vega: Limit = 0.10  # |dollars a volatility point|: $10,000 at $100,000
    max_margin: Limit = None  # worst loss over the scan, see risk/margin.py
    max_monthly_turnover: Limit = 2.00  # |value| traded in 21 sessions; reductions always pass


class Bounds:
    """Books, what they and the wishes for them are exposed to, and how far that may go."""

    def __init__(
        self, book: Book, limits: LimitSettings, held: FloatArray, asked: FloatArray
    ) -> None:
        self.book, self.limits, self.held, self.asked = book, limits, held, asked
        scenarios = held.shape[1] - len(COLUMNS)
        self.rules = np.array([RULES.index(name) for name in COLUMNS] + [MARGIN] * scenarios)
        cash = None if limits.min_cash is None else 1.0 - limits.min_cash
        greeks = [limits.max_delta] * 2 + [limits.max_gamma] * 2 + [limits.max_vega] * 2
        shares = [limits.max_gross, cash, *greeks, *[limits.max_margin] * scenarios]
        share = np.array([np.inf if bound is None else bound for bound in shares])
        self.equity = book.equity[:, None]
        self.cap = share * self.equity  # (N, K)

    def rows(self, index: IntArray) -> Bounds:
        """The same for some of the books."""
        return Bounds(self.book.rows(index), self.limits, self.held[index], self.asked[index])

    def share_of(self, exposure: FloatArray) -> tuple[FloatArray, IntArray]:
        """Share (N,) of books with this exposure that keeps the limits, and the rule that binds."""
        return self.share_between(np.zeros_like(exposure), exposure, self.cap)

    def share_between(
        self, start: FloatArray, end: FloatArray, cap: FloatArray
    ) -> tuple[FloatArray, IntArray]:
        """How far one can go from exposure `start`, within `cap`, to `end`; and what binds."""
        over = end > cap * (1.0 + TOLERANCE) + TOLERANCE_OF_EQUITY * self.equity
        if not over.any():
            return np.ones(len(end)), np.full(len(end), POSITION)
        share = np.ones_like(end)
        np.divide(cap - start, end - start, out=share, where=over)
        return np.clip(share.min(axis=-1), 0.0, 1.0), self.rules[share.argmin(axis=-1)]

    def not_raised(self) -> FloatArray:
        """The limits, and no exposure above both what is held and what is asked for: (N, K)."""
        return np.minimum(self.cap, np.maximum(as_bound(self.held), as_bound(self.asked)))


def as_bound(exposure: FloatArray) -> FloatArray:
    """The bound that an exposure (N, K) is on others: either sign, and any scenario, alike."""
    net, scenarios = slice(COLUMNS.index("delta"), len(COLUMNS)), slice(len(COLUMNS), None)
    bound = np.maximum(exposure, 0.0)
    bound[:, net] = np.abs(exposure[:, net])
    bound[:, scenarios] = bound[:, scenarios].max(axis=-1, initial=0.0, keepdims=True)
    return bound


def share_by_position(quantity: FloatArray, book: Book, limits: LimitSettings) -> FloatArray:
    """Share (N,) of a book at which its largest position keeps the limit."""
    if limits.max_position is None:
        return np.ones(len(quantity))
    value = np.abs(quantity) * book.price
    room = limits.max_position * book.equity
    share = np.ones(len(quantity))
    most = room * (1.0 + TOLERANCE)
    if (value > most[:, None]).any():
        largest = value.max(axis=-1)
        np.divide(room, largest, out=share, where=largest > most)
    return share


def turnover_left(book: Book, limits: LimitSettings) -> FloatArray:
    """Dollars that may still be traded this month, (N,)."""
    if limits.max_monthly_turnover is None:
        return np.full(len(book.equity), np.inf)
    return np.maximum(limits.max_monthly_turnover * book.equity - book.traded, 0.0)


def usage_of(quantity: FloatArray, book: Book, limits: LimitSettings) -> dict[str, FloatArray]:
    """Each limit's measure for a book (N, M), as a share of equity, (N,) by rule.

    The margin is there where it is limited.
    """
    shares = exposures(quantity, book, scanned=limits.max_margin is not None)
    shares = shares / book.equity[:, None]
    usage = {rule: shares[:, COLUMNS.index(rule)] for rule in ("gross", "cash")}
    for rule in ("delta", "gamma", "vega"):
        usage[rule] = np.abs(shares[:, COLUMNS.index(rule)])
    if limits.max_margin is not None:
        usage["margin"] = np.maximum(shares[:, len(COLUMNS) :].max(axis=-1), 0.0)
    usage["position"] = (np.abs(quantity) * book.price).max(axis=-1) / book.equity
    return usage


def keeps_limits(quantity: FloatArray, book: Book, limits: LimitSettings) -> BoolArray:
    """Whether quantities (N, M) keep every limit but that of turnover, (N,)."""
    found = exposures(quantity, book, scanned=limits.max_margin is not None)
    bounds = Bounds(book, limits, found, found)
    positions = share_by_position(quantity, book, limits) >= 1.0
    return np.asarray(positions & (bounds.share_of(found)[0] >= 1.0))
