"""Hard limits on a book: what may be held of what was asked for.

The rule, for each book:

1. The wish is made smaller, in its own proportions, until it keeps every limit. A position that is
   too large by itself is cut alone, as far as that raises no net exposure of the wish.
2. That book is held, if what it takes to get there is within the month's turnover.
3. Where turnover is short, or nothing may be opened at all, reductions go first and are not
   limited by it: every position that the wish has smaller shrinks to it. What turnover they leave
   opens positions, as one share of the way from there to the book of 1.
4. A reduction is held back where it would raise a net exposure over its limit, or above both what
   is held and what was wanted: closing one leg of a hedge is no reduction. Nothing is opened then.

Where a book breaks a limit already and its reductions do not end that, it first shrinks in its own
proportions. Whatever is held in the end is the book of 1, or lies on the straight way between two
books that keep all limits; every limit is a convex measure, so it keeps them too. Asking again for
the same changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from conf.errors import InputError
from conf.types import BoolArray, FloatArray, IntArray
from risk.book import Book, exposures, reduced
from risk.bounds import (
    POSITION,
    RULES,
    TURNOVER,
    Bounds,
    LimitSettings,
    as_bound,
    share_by_position,
    turnover_left,
    usage_of,
)

__all__ = ["RULES", "Book", "LimitResult", "LimitSettings", "apply_limits", "usage_of"]


@dataclass(frozen=True)
class LimitResult:
    """What the limits left of the wanted books."""

    quantity: FloatArray  # (N, M) allowed
    clipped: FloatArray  # (N, len(RULES)) dollars of wanted value that each rule took away
    bound: BoolArray  # (N, len(RULES)) the rule changed something
    alert: BoolArray  # (N,) an input was not finite or there is no equity: everything is closed
    traded: FloatArray  # (N,) dollars, as they count for the turnover of the month


def apply_limits(
    wanted: FloatArray, book: Book, limits: LimitSettings, may_open: BoolArray | None = None
) -> LimitResult:
    """The wanted quantities (N, M) as far as every limit allows, see the rule above.

    No position ends farther from zero than the larger of what is held and what was wanted, nor on
    the other side of zero from both; no net exposure ends above both. Where `may_open` (N,) is
    False positions only shrink. Where anything is NaN, infinite or too large to be added up, or
    equity is not positive, the book is closed and the alert is set.
    """
    if limits.max_margin is not None and book.scan is None:
        raise InputError(
            f"max_margin is {limits.max_margin}, and the book has no margin scan",
            "Give Book.scan (see risk.margin.scan_gains), or set max_margin to null",
        )
    scanned = limits.max_margin is not None
    with np.errstate(over="ignore", invalid="ignore"):
        held, asked = (exposures(q, book, scanned=scanned) for q in (book.quantity, wanted))
        sound = _sound(wanted, book, held, asked)
    if not sound.all():
        book, wanted = _cleaned(book, wanted, sound)
        held, asked = (np.where(sound[:, None], x, 0.0) for x in (held, asked))
    bounds = Bounds(book, limits, held, asked)
    tally = _Tally.empty(len(wanted))

    fitted, fitted_exposure = _fit_positions(wanted, bounds)
    if fitted is not wanted:
        tally.count(np.full(len(wanted), POSITION), wanted, fitted, book)
    share, rule = bounds.share_of(fitted_exposure)
    allowed = fitted * share[:, None]
    tally.count(rule, fitted, allowed, book)

    traded = book.value(allowed - book.quantity)
    at_once = traded <= turnover_left(book, limits)
    slow = np.flatnonzero(~(at_once if may_open is None else at_once & may_open))
    if slow.size:
        opening = np.ones(slow.size, np.bool_) if may_open is None else may_open[slow]
        some = bounds.rows(slow)
        paced, traded[slow], rule = _reduced_first(wanted[slow], allowed[slow], some, opening)
        # Where nothing may be opened, openings were not the limits' to take.
        reductions = reduced(some.book.quantity, wanted[slow])
        before = np.where(opening[:, None], allowed[slow], reductions)
        tally.forget(slow[~opening])
        tally.count(np.where(opening, TURNOVER, rule), before, paced, some.book, slow)
        allowed[slow] = paced
    return LimitResult(allowed, tally.clipped, tally.bound, ~sound, traded)


@dataclass(frozen=True)
class _Tally:
    """What each rule took of each book."""

    clipped: FloatArray
    bound: BoolArray

    @classmethod
    def empty(cls, books: int) -> _Tally:
        return cls(np.zeros((books, len(RULES))), np.zeros((books, len(RULES)), np.bool_))

    def count(
        self,
        rule: IntArray,
        before: FloatArray,
        after: FloatArray,
        book: Book,
        rows: IntArray | None = None,
    ) -> None:
        change = before - after
        if not change.any():
            return
        index = np.arange(len(rule)) if rows is None else rows
        self.clipped[index, rule] += book.value(change)
        self.bound[index, rule] |= (change != 0.0).any(axis=-1)

    def forget(self, rows: IntArray) -> None:
        self.clipped[rows], self.bound[rows] = 0.0, False


def _fit_positions(wanted: FloatArray, bounds: Bounds) -> tuple[FloatArray, FloatArray]:
    """The wish with no position above its own limit, and the exposure of that."""
    book, limits = bounds.book, bounds.limits
    share = share_by_position(wanted, book, limits)[:, None]
    if (share == 1.0).all() or limits.max_position is None:
        return wanted, bounds.asked
    scaled, scaled_exposure = wanted * share, bounds.asked * share
    room = limits.max_position * bounds.equity
    most = np.divide(room, book.price, out=np.full_like(book.price, np.inf), where=book.price > 0)
    cut = np.where(share == 1.0, wanted, np.minimum(np.maximum(wanted, -most), most))
    cut_exposure = exposures(cut, book, scanned=limits.max_margin is not None)
    way = bounds.share_between(scaled_exposure, cut_exposure, as_bound(bounds.asked))[0][:, None]
    fitted = np.where(way == 1.0, cut, scaled + way * (cut - scaled))
    return fitted, scaled_exposure + way * (cut_exposure - scaled_exposure)


def _reduced_first(
    wanted: FloatArray, allowed: FloatArray, bounds: Bounds, opening: BoolArray
) -> tuple[FloatArray, FloatArray, IntArray]:
    """Steps 3 and 4 of the rule: quantities, dollars traded, and what bound the reductions."""
    book = bounds.book
    shrunk, whole, rule = _reductions(wanted, bounds)
    closed = book.value(shrunk - book.quantity)
    left = np.maximum(turnover_left(book, bounds.limits) - closed, 0.0)
    needed = book.value(allowed - shrunk)
    pace = np.divide(left, needed, out=np.ones_like(left), where=left < needed)
    pace = np.where(opening & whole, pace, 0.0)
    opened = np.where((pace == 1.0)[:, None], allowed, shrunk + pace[:, None] * (allowed - shrunk))
    return opened, closed + pace * needed, rule


def _reductions(wanted: FloatArray, bounds: Bounds) -> tuple[FloatArray, BoolArray, IntArray]:
    """What the wish leaves of the books, as far as it may; whether that is all; and the rule."""
    book, limits, cap = bounds.book, bounds.limits, bounds.not_raised()
    within, rule = bounds.share_of(bounds.held)
    by_position = share_by_position(book.quantity, book, limits)
    rule = np.where(by_position < within, POSITION, rule)
    within = np.minimum(within, by_position)[:, None]
    base, base_exposure = book.quantity * within, bounds.held * within

    shrunk = reduced(book.quantity, wanted)
    fits = share_by_position(shrunk, book, limits) == 1.0
    exposure = exposures(shrunk, book, scanned=limits.max_margin is not None)
    way, held_back_by = bounds.share_between(base_exposure, exposure, cap)
    # A breach that the reductions do not end is ended first.
    breach = (within[:, 0] < 1.0) & ~(fits & (way == 1.0))
    if breach.any():
        shrunk = np.where(breach[:, None], reduced(base, wanted), shrunk)
        exposure = exposures(shrunk, book, scanned=limits.max_margin is not None)
        way, held_back_by = bounds.share_between(base_exposure, exposure, cap)
    whole = way == 1.0
    shrunk = np.where(whole[:, None], shrunk, base + way[:, None] * (shrunk - base))
    return shrunk, whole, np.where(whole, rule, held_back_by)


# Beyond this, differences of numbers need no longer be numbers.
_LARGEST = 1e300


def _sound(wanted: FloatArray, book: Book, held: FloatArray, asked: FloatArray) -> BoolArray:
    """Books in which everything is a number; all inputs enter the exposures."""
    trade = (wanted - book.quantity).sum(axis=-1)
    finite = np.ones(len(wanted), np.bool_)
    for values in (held, asked, trade[:, None], book.traded[:, None]):
        finite &= (np.abs(values) < _LARGEST).all(axis=-1)  # False for NaN
    known = (book.equity > 0.0) & (book.equity < _LARGEST)
    return np.asarray(finite & known & (book.price >= 0.0).all(axis=-1))


def _cleaned(book: Book, wanted: FloatArray, sound: BoolArray) -> tuple[Book, FloatArray]:
    """Books and wishes with harmless numbers where they are not sound."""
    changes: dict[str, Any] = {"equity": np.where(sound, book.equity, 1.0)}
    changes["traded"] = np.where(sound, book.traded, 0.0)
    names = ("quantity", "price", "delta", "gamma", "vega", "scan")
    for name, given in ((name, getattr(book, name)) for name in names):
        if given is not None:
            changes[name] = np.where(sound.reshape(-1, *[1] * (given.ndim - 1)), given, 0.0)
    return replace(book, **changes), np.where(sound[:, None], wanted, 0.0)
