"""Hard limits on a book: what may be held of what was asked for.

Every limit is a convex measure of the book that is 0 for no book at all. If a base book keeps every
limit, so does every book on the way from it towards the wanted one, up to the point where the chord
of a measure meets its limit; that is where the trade is cut. The base is the current book where it
keeps the limits, and no book at all where it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from risk.errors import InputError
from risk.margin import scan_margin
from risk.settings import settings

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

Measures = Sequence[tuple[str, float | None]]

Limit = Annotated[float, Field(ge=0.0)] | None

RULES = ("position", "gross", "cash", "delta", "gamma", "vega", "margin", "turnover")


@settings
class LimitSettings:
    """Limits as shares of equity; null switches one off."""

    max_position: Limit = 0.20  # |value| of one position
    max_gross: Limit = 1.50  # sum of |value|
    min_cash: Annotated[float, Field(ge=0.0, le=1.0)] | None = 0.10
    max_delta: Limit = 0.50  # |sum of q x delta x S|
    max_gamma: Limit = 1.00  # |change of that delta for a 1 % move|
    max_vega: Limit = 0.10  # |dollars a volatility point|: $10,000 at $100,000
    max_margin: Limit = None  # worst loss over the scan, see risk/margin.py
    max_monthly_turnover: Limit = 2.00  # |value| traded in 21 sessions


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


@dataclass(frozen=True)
class LimitResult:
    """What the limits left of the wanted books."""

    quantity: FloatArray  # (N, M) allowed
    taken: FloatArray  # (N, len(RULES)) dollars of wanted value that each rule took away
    bound: BoolArray  # (N, len(RULES)) the rule cut something
    alert: BoolArray  # (N,) an input was not finite or there is no equity: everything is closed


def apply_limits(wanted: FloatArray, book: Book, limits: LimitSettings) -> LimitResult:
    """The wanted quantities (N, M) as far as every limit allows.

    No position ends farther from zero than the larger of what is held and what was wanted, nor on
    the other side of zero from both. A trade that keeps all limits passes unchanged; one that only
    shrinks positions needs no turnover. Where anything is NaN or infinite, or equity is not
    positive, the book is closed and the alert is set.
    """
    sound = _sound(wanted, book)
    clean, target = _cleaned(book, wanted, sound)
    taken = np.zeros((len(target), len(RULES)))
    clipped = _clip_positions(target, clean, limits)
    taken[:, RULES.index("position")] = _value_between(target, clipped, clean)

    measures = [(rule, limit) for rule, limit in _measured(limits) if limit is not None]
    now = _usage(clean.quantity, clean, measures)
    held_ok = _keeps(now, measures) & _positions_ok(clean, limits)
    base = np.where(held_ok[:, None], clean.quantity, 0.0)
    base_usage = np.where(held_ok[:, None], now, 0.0)
    allowed, share, rule_index = _towards(base, clipped, base_usage, clean, measures)
    for column, (rule, _) in enumerate(measures):
        here = (rule_index == column) & (share < 1.0)
        taken[:, RULES.index(rule)] = np.where(here, _value_between(clipped, allowed, clean), 0.0)

    if limits.max_monthly_turnover is not None:
        paced = _within_turnover(allowed, clean, now, held_ok, measures, limits)
        taken[:, RULES.index("turnover")] = _value_between(allowed, paced, clean)
        allowed = paced
    allowed = np.where(sound[:, None], allowed, 0.0)
    return LimitResult(allowed, taken, taken > 0.0, ~sound)


def usage_of(quantity: FloatArray, book: Book, limits: LimitSettings) -> dict[str, FloatArray]:
    """Each limit's measure for a book (N, M), as a share of equity, (N,) by rule."""
    measured = list(_measured(limits))
    values = _usage(quantity, book, measured)
    usage = {rule: values[:, i] for i, (rule, _) in enumerate(measured)}
    usage["position"] = (np.abs(quantity) * book.price).max(axis=-1) / book.equity
    return usage


def _measured(limits: LimitSettings) -> Measures:
    """The limits on the whole book, as upper bounds of a measure that is 0 for no book."""
    most_invested = None if limits.min_cash is None else 1.0 - limits.min_cash
    return [
        ("gross", limits.max_gross),
        ("cash", most_invested),
        ("delta", limits.max_delta),
        ("gamma", limits.max_gamma),
        ("vega", limits.max_vega),
        ("margin", limits.max_margin),
    ]


def _usage(quantity: FloatArray, book: Book, measures: Measures) -> FloatArray:
    """The measures of a book, (N, number of measures), as shares of equity."""
    columns = []
    for rule, _ in measures:
        if rule == "gross":
            values = (np.abs(quantity) * book.price).sum(axis=-1)
        elif rule == "cash":
            values = (quantity * book.price).sum(axis=-1)
        elif rule == "margin":
            values = 0.0 if book.scan is None else scan_margin(quantity, book.scan)
        else:
            values = np.abs((quantity * getattr(book, rule)).sum(axis=-1))
        columns.append(np.broadcast_to(values / book.equity, book.equity.shape))
    return np.stack(columns, axis=-1) if columns else np.zeros((len(quantity), 0))


def _towards(
    base: FloatArray,
    wanted: FloatArray,
    base_usage: FloatArray,
    book: Book,
    measures: Measures,
) -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
    """As far from base to wanted as every measure allows; the share, and the rule that bound."""
    count = len(base)
    if not measures:
        return wanted, np.ones(count), np.full(count, -1)
    limit = np.array([bound for _, bound in measures], dtype=np.float64)
    there = _usage(wanted, book, measures)
    rise = there - base_usage
    over = there > limit
    shares = np.where(over, (limit - base_usage) / np.where(over, rise, 1.0), 1.0)
    share = np.clip(shares.min(axis=-1), 0.0, 1.0)
    moved = base + share[:, None] * (wanted - base)
    return np.where((share < 1.0)[:, None], moved, wanted), share, shares.argmin(axis=-1)


def _within_turnover(
    allowed: FloatArray,
    book: Book,
    now: FloatArray,
    held_ok: BoolArray,
    measures: Measures,
    limits: LimitSettings,
) -> FloatArray:
    """Cut the trade to what is left of the month's turnover; shrinking positions is always free."""
    budget = (limits.max_monthly_turnover or 0.0) * book.equity
    left = np.maximum(budget - book.traded, 0.0)
    current = book.quantity
    smaller = (allowed * current >= 0.0) & (np.abs(allowed) <= np.abs(current))
    shrinks = np.asarray(smaller.all(axis=-1))
    forced = current
    if not held_ok.all():
        shrunk = _shrunk(current, now, book, measures, limits)
        forced = np.where(held_ok[:, None], current, shrunk)
    needed = _value_between(forced, allowed, book)
    share = np.where(needed > left, left / np.where(needed > 0.0, needed, 1.0), 1.0)
    paced = np.where((share < 1.0)[:, None], forced + share[:, None] * (allowed - forced), allowed)
    return np.where(shrinks[:, None], allowed, paced)


def _shrunk(
    current: FloatArray,
    now: FloatArray,
    book: Book,
    measures: Measures,
    limits: LimitSettings,
) -> FloatArray:
    """The current book in its own proportions, small enough for every limit."""
    clipped = _clip_positions(current, book, limits)
    zero = np.zeros_like(now)
    return _towards(np.zeros_like(current), clipped, zero, book, measures)[0]


def _clip_positions(quantity: FloatArray, book: Book, limits: LimitSettings) -> FloatArray:
    if limits.max_position is None:
        return quantity
    room = limits.max_position * book.equity[:, None]
    most = np.divide(room, book.price, out=np.full_like(book.price, np.inf), where=book.price > 0)
    clipped: FloatArray = np.clip(quantity, -most, most)
    return clipped


def _positions_ok(book: Book, limits: LimitSettings) -> BoolArray:
    if limits.max_position is None:
        return np.ones(len(book.equity), np.bool_)
    value = np.abs(book.quantity) * book.price
    return np.asarray((value <= limits.max_position * book.equity[:, None]).all(axis=-1))


def _keeps(usage: FloatArray, measures: Measures) -> BoolArray:
    limit = np.array([bound for _, bound in measures], dtype=np.float64)
    return np.asarray((usage <= limit).all(axis=-1))


def _value_between(a: FloatArray, b: FloatArray, book: Book) -> FloatArray:
    value: FloatArray = (np.abs(a - b) * book.price).sum(axis=-1)
    return value


def _sound(wanted: FloatArray, book: Book) -> BoolArray:
    checks: list[Any] = [
        np.isfinite(wanted).all(axis=-1),
        book.equity > 0.0,
        (book.price >= 0.0).all(axis=-1),
    ]
    for item in fields(book):
        values = getattr(book, item.name)
        if values is not None:
            checks.append(np.isfinite(values).reshape(len(book.equity), -1).all(axis=-1))
    return np.asarray(np.logical_and.reduce(checks))


def _cleaned(book: Book, wanted: FloatArray, sound: BoolArray) -> tuple[Book, FloatArray]:
    """Books and wishes with harmless numbers where they are not sound."""
    if sound.all():
        return book, wanted
    values: dict[str, Any] = {}
    for item in fields(book):
        given = getattr(book, item.name)
        if given is not None:
            harmless = 1.0 if item.name == "equity" else 0.0
            mask = sound.reshape(-1, *[1] * (given.ndim - 1))
            given = np.where(mask, given, harmless)
        values[item.name] = given
    return Book(**values), np.where(sound[:, None], wanted, 0.0)
