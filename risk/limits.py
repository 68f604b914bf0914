"""Hard limits on a book: how much of a requested book may be held.

The rule, for each book:

1. The request is scaled down, in its own proportions, until it keeps every limit. A position that
   is too large by itself is cut alone, as far as that raises no net exposure of the request.
2. The result is held if the trade to it is within the month's turnover.
3. Where turnover is short, or nothing may be opened at all, reductions go first and are not
   limited by it: every position that is smaller in the request shrinks to its size there. The
   turnover they leave opens positions: one share of the way from the reduced book to that of 1.
4. A reduction is held back where it would raise a net exposure over its limit, or above both the
   one held and the one requested: closing one leg of a hedge is no reduction. Nothing is opened
   then.

Where a book breaks a limit already and its reductions do not end that, it first shrinks in its own
proportions. The final book is the book of 1, or lies on the straight line between two books that
keep all limits; every limit is a convex measure, so it keeps them too. The same request, made again
at the same prices, changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from conf.errors import InputError
from conf.types import BoolArray, FloatArray, IntArray
from risk.book import Book, reduced
from risk.bounds import POSITION, RULES, TURNOVER, Bounds, LimitSettings, as_cap, exposures


@dataclass(frozen=True)
class LimitResult:
    """The allowed books, and what each rule took from the requested ones."""

    quantity: FloatArray  # (N, M) allowed
    clipped: FloatArray  # (N, len(RULES)) dollars of requested value that each rule took away
    bound: BoolArray  # (N, len(RULES)) the rule changed something
    alert: BoolArray  # (N,) an input was not finite or there is no equity: everything is closed
    traded: FloatArray  # (N,) dollars, as they count for the turnover of the month


def apply_limits(
    requested: FloatArray, book: Book, limits: LimitSettings, may_open: BoolArray | None = None
) -> LimitResult:
    """The requested quantities (N, M) as far as every limit allows, see the rule above.

    No position ends farther from zero than the larger of the held and the requested one, nor on
    the other side of zero from both; no net exposure ends above both. Where `may_open` (N,) is
    False positions only shrink. Where anything is NaN, infinite or too large to be added up, or
    equity is not positive, the book is closed and the alert is set.

    Examples:
        >>> nothing = np.zeros((1, 2))
        >>> price = np.array([[100.0, 50.0]])
        >>> book = Book(nothing, price, np.array([1000.0]), price, nothing, nothing, np.zeros(1))
        >>> limits = LimitSettings(max_position=0.25, max_margin=None)
        >>> apply_limits(np.array([[5.0, 1.0]]), book, limits).quantity
        array([[2.5, 1. ]])
    """
    if limits.max_margin is not None and book.scan is None:
        raise InputError(
            f"max_margin is {limits.max_margin}, and the book has no margin scan",
            "Give Book.scan (see risk.margin.scan_gains), or set max_margin to null",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        held_exposure = exposures(book.quantity, book, limits)
        requested_exposure = exposures(requested, book, limits)
        sound = _sound(requested, book, held_exposure, requested_exposure)
    if not sound.all():
        book, requested = _zeroed(book, requested, sound)
        held_exposure = np.where(sound[:, None], held_exposure, 0.0)
        requested_exposure = np.where(sound[:, None], requested_exposure, 0.0)
    bounds = Bounds(book, limits, held_exposure, requested_exposure)
    every = np.arange(len(requested))
    clipped = np.zeros((len(requested), len(RULES)))
    bound = np.zeros_like(clipped, np.bool_)

    def count(rows: IntArray, rule: IntArray, taken: FloatArray, book: Book) -> None:
        if taken.any():
            clipped[rows, rule] += book.value(taken)
            bound[rows, rule] |= (taken != 0.0).any(axis=-1)

    fitted, fitted_exposure = _fit_positions(requested, bounds)
    if fitted is not requested:
        count(every, np.full(len(requested), POSITION), requested - fitted, book)
    share, rule = bounds.share_of(fitted_exposure)
    allowed = fitted * share[:, None]
    count(every, rule, fitted - allowed, book)

    traded = book.value(allowed - book.quantity)
    at_once = traded <= bounds.turnover_left()
    slow = np.flatnonzero(~(at_once if may_open is None else at_once & may_open))
    if slow.size:
        opening = np.ones(slow.size, np.bool_) if may_open is None else may_open[slow]
        slow_bounds, slow_request = bounds.rows(slow), requested[slow]
        paced, traded[slow], rule = _reduce_first(slow_request, allowed[slow], slow_bounds, opening)
        # Where nothing may be opened, it is not the limits that took the openings.
        clipped[slow[~opening]], bound[slow[~opening]] = 0.0, False
        reductions = reduced(slow_bounds.book.quantity, slow_request)
        before = np.where(opening[:, None], allowed[slow], reductions)
        count(slow, np.where(opening, TURNOVER, rule), before - paced, slow_bounds.book)
        allowed[slow] = paced
    return LimitResult(allowed, clipped, bound, ~sound, traded)


def _fit_positions(requested: FloatArray, bounds: Bounds) -> tuple[FloatArray, FloatArray]:
    """The request with no position above its own limit, and the exposure of that."""
    book, limits = bounds.book, bounds.limits
    share = bounds.share_by_position(requested)[:, None]
    if (share == 1.0).all() or limits.max_position is None:
        return requested, bounds.requested
    scaled, scaled_exposure = requested * share, bounds.requested * share
    room = limits.max_position * bounds.equity
    most = np.divide(room, book.price, out=np.full_like(book.price, np.inf), where=book.price > 0)
    cut = np.where(share == 1.0, requested, np.minimum(np.maximum(requested, -most), most))
    cut_exposure = exposures(cut, book, limits)
    cap = as_cap(bounds.requested)
    way = bounds.share_between(scaled_exposure, cut_exposure, cap)[0][:, None]
    fitted = np.where(way == 1.0, cut, scaled + way * (cut - scaled))
    return fitted, scaled_exposure + way * (cut_exposure - scaled_exposure)


def _reduce_first(
    requested: FloatArray, allowed: FloatArray, bounds: Bounds, opening: BoolArray
) -> tuple[FloatArray, FloatArray, IntArray]:
    """Steps 3 and 4 of the rule: quantities, dollars traded, and what bound the reductions."""
    book = bounds.book
    shrunk, whole, rule = _reductions(requested, bounds)
    closed = book.value(shrunk - book.quantity)
    left = np.maximum(bounds.turnover_left() - closed, 0.0)
    needed = book.value(allowed - shrunk)
    pace = np.divide(left, needed, out=np.ones_like(left), where=left < needed)
    pace = np.where(opening & whole, pace, 0.0)
    opened = np.where((pace == 1.0)[:, None], allowed, shrunk + pace[:, None] * (allowed - shrunk))
    return opened, closed + pace * needed, rule


def _reductions(requested: FloatArray, bounds: Bounds) -> tuple[FloatArray, BoolArray, IntArray]:
    """The books (N, M) after all reductions that may pass, whether those are all, and the rule."""
    book, cap = bounds.book, bounds.cap_without_increase()
    within, rule = bounds.share_of(bounds.held)
    by_position = bounds.share_by_position(book.quantity)
    rule = np.where(by_position < within, POSITION, rule)
    within = np.minimum(within, by_position)[:, None]
    base, base_exposure = book.quantity * within, bounds.held * within

    shrunk = reduced(book.quantity, requested)
    fits = bounds.share_by_position(shrunk) == 1.0
    exposure = exposures(shrunk, book, bounds.limits)
    way, held_back_by = bounds.share_between(base_exposure, exposure, cap)
    # A breach that the reductions do not end is ended first.
    breach = (within[:, 0] < 1.0) & ~(fits & (way == 1.0))
    if breach.any():
        shrunk = np.where(breach[:, None], reduced(base, requested), shrunk)
        exposure = exposures(shrunk, book, bounds.limits)
        way, held_back_by = bounds.share_between(base_exposure, exposure, cap)
    whole = way == 1.0
    shrunk = np.where(whole[:, None], shrunk, base + way[:, None] * (shrunk - base))
    return shrunk, whole, np.where(whole, rule, held_back_by)


# Differences of numbers beyond this may overflow.
_LARGEST = 1e300


def _sound(
    requested: FloatArray, book: Book, held_exposure: FloatArray, requested_exposure: FloatArray
) -> BoolArray:
    """Books whose inputs are finite and of a size to be added up; exposures contain them all."""
    trade = (requested - book.quantity).sum(axis=-1)
    finite = np.ones(len(requested), np.bool_)
    for values in (held_exposure, requested_exposure, trade[:, None], book.traded[:, None]):
        finite &= (np.abs(values) < _LARGEST).all(axis=-1)  # False for NaN
    known = (book.equity > 0.0) & (book.equity < _LARGEST)
    return np.asarray(finite & known & (book.price >= 0.0).all(axis=-1))


def _zeroed(book: Book, requested: FloatArray, sound: BoolArray) -> tuple[Book, FloatArray]:
    """Books and requests with zeros, and an equity of 1, where they are not sound."""

    def zeroed(values: FloatArray) -> FloatArray:
        return np.where(sound.reshape(-1, *[1] * (values.ndim - 1)), values, 0.0)

    clean = Book(**{name: zeroed(values) for name, values in book.arrays().items()})
    return replace(clean, equity=np.where(sound, book.equity, 1.0)), zeroed(requested)
