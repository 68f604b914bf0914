"""The limits on a book: what they measure, and how far between two books they allow to go."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from conf.settings import settings
from conf.types import BoolArray, FloatArray, IntArray
from risk.book import Book, sum_products

Limit = Annotated[float, Field(ge=0.0)] | None

RULES = ("position", "gross", "cash", "delta", "gamma", "vega", "margin", "turnover")
POSITION, MARGIN, TURNOVER = RULES.index("position"), RULES.index("margin"), len(RULES) - 1

# What each column of `exposures` measures. Each net exposure has a column for either sign, so that
# one upper bound a column says everything; the scenarios of the margin scan follow behind.
COLUMNS = ("gross", "cash", "delta", "delta", "gamma", "gamma", "vega", "vega")

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


def exposures(quantity: FloatArray, book: Book, limits: LimitSettings) -> FloatArray:
    """Exposures (N, K) in dollars of quantities (N, M) at the book's prices.

    Columns are COLUMNS: gross value, invested premium, and the three net exposures with both signs.
    Where the margin is limited, the loss in each scenario of the scan follows.
    """
    scan = book.scan if limits.max_margin is not None else None
    first = len(COLUMNS)
    columns = np.empty((len(quantity), first + (0 if scan is None else scan.shape[-1])))
    columns[:, 0] = book.value(quantity)
    for column, per_unit in ((1, book.price), (2, book.delta), (4, book.gamma), (6, book.vega)):
        columns[:, column] = sum_products(quantity, per_unit)
    columns[:, 3:first:2] = -columns[:, 2:first:2]
    if scan is not None:
        columns[:, first:] = -(quantity[:, None, :] @ scan)[:, 0]
    return columns


class Bounds:
    """The limits on N books in dollars, and the exposures (N, K) that are held and requested."""

    def __init__(
        self, book: Book, limits: LimitSettings, held: FloatArray, requested: FloatArray
    ) -> None:
        self.book, self.limits, self.held, self.requested = book, limits, held, requested
        scenarios = held.shape[1] - len(COLUMNS)
        self.rules = np.array([RULES.index(name) for name in COLUMNS] + [MARGIN] * scenarios)
        cash = None if limits.min_cash is None else 1.0 - limits.min_cash
        greeks = [limits.max_delta] * 2 + [limits.max_gamma] * 2 + [limits.max_vega] * 2
        shares = [limits.max_gross, cash, *greeks, *[limits.max_margin] * scenarios]
        share = np.array([np.inf if bound is None else bound for bound in shares])
        self.equity = book.equity[:, None]
        self.cap = share * self.equity  # (N, K)

    def rows(self, index: IntArray) -> Bounds:
        """The same for the books with these indices."""
        return Bounds(self.book.rows(index), self.limits, self.held[index], self.requested[index])

    def share_of(self, exposure: FloatArray) -> tuple[FloatArray, IntArray]:
        """Share (N,) of books with this exposure that keeps the limits, and the rule that binds."""
        return self.share_between(np.zeros_like(exposure), exposure, self.cap)

    def share_between(
        self, start: FloatArray, end: FloatArray, cap: FloatArray
    ) -> tuple[FloatArray, IntArray]:
        """Share (N,) of the way from exposure `start` to `end` within `cap`; the rule that binds.

        Exposures and cap are (N, K). The rule is POSITION where nothing binds.
        """
        over = end > cap * (1.0 + TOLERANCE) + TOLERANCE_OF_EQUITY * self.equity
        if not over.any():
            return np.ones(len(end)), np.full(len(end), POSITION)
        share = np.ones_like(end)
        np.divide(cap - start, end - start, out=share, where=over)
        return np.clip(share.min(axis=-1), 0.0, 1.0), self.rules[share.argmin(axis=-1)]

    def cap_without_increase(self) -> FloatArray:
        """The limits, lowered to the larger of the exposures held and requested: (N, K)."""
        return np.minimum(self.cap, np.maximum(as_cap(self.held), as_cap(self.requested)))

    def share_by_position(self, quantity: FloatArray) -> FloatArray:
        """Share (N,) of quantities (N, M) at which the largest position keeps its limit."""
        share = np.ones(len(quantity))
        if self.limits.max_position is None:
            return share
        value = np.abs(quantity) * self.book.price
        room = self.limits.max_position * self.book.equity
        most = room * (1.0 + TOLERANCE)
        if (value > most[:, None]).any():
            largest = value.max(axis=-1)
            np.divide(room, largest, out=share, where=largest > most)
        return share

    def turnover_left(self) -> FloatArray:
        """Dollars that may still be traded this month, (N,)."""
        book, limit = self.book, self.limits.max_monthly_turnover
        if limit is None:
            return np.full(len(book.equity), np.inf)
        return np.maximum(limit * book.equity - book.traded, 0.0)


def as_cap(exposure: FloatArray) -> FloatArray:
    """An exposure (N, K) as a cap on others: the same for either sign and for every scenario."""
    net, scenarios = slice(COLUMNS.index("delta"), len(COLUMNS)), slice(len(COLUMNS), None)
    cap = np.maximum(exposure, 0.0)
    cap[:, net] = np.abs(exposure[:, net])
    cap[:, scenarios] = cap[:, scenarios].max(axis=-1, initial=0.0, keepdims=True)
    return cap


def usage_of(quantity: FloatArray, book: Book, limits: LimitSettings) -> dict[str, FloatArray]:
    """Each limit's measure for quantities (N, M), as a share of equity, (N,) by rule.

    Margin is included where it is limited; turnover is not.
    """
    shares = exposures(quantity, book, limits) / book.equity[:, None]
    usage = {rule: shares[:, COLUMNS.index(rule)] for rule in ("gross", "cash")}
    for rule in ("delta", "gamma", "vega"):
        usage[rule] = np.abs(shares[:, COLUMNS.index(rule)])
    if limits.max_margin is not None:
        usage["margin"] = np.maximum(shares[:, len(COLUMNS) :].max(axis=-1), 0.0)
    usage["position"] = (np.abs(quantity) * book.price).max(axis=-1) / book.equity
    return usage


def keeps_limits(quantity: FloatArray, book: Book, limits: LimitSettings) -> BoolArray:
    """Whether quantities (N, M) keep every limit but that of turnover, (N,)."""
    exposure = exposures(quantity, book, limits)
    bounds = Bounds(book, limits, exposure, exposure)
    positions = bounds.share_by_position(quantity) >= 1.0
    return np.asarray(positions & (bounds.share_of(exposure)[0] >= 1.0))
