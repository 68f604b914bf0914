"""The name of an option book: a textbook strategy, or the view of its net Greeks, or mixed.

A name is read off the legs: which options, which strikes in which order, which sizes. Where no name
fits, the net Greeks say whether the book has a view on direction or volatility; a book whose legs
mostly undo each other has none and is called mixed. Names as in J. Hull, Options, Futures, and
Other Derivatives, chapter 12 (trading strategies involving options).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from conf.errors import InputError

CASH, MIXED = "cash", "mixed"

# Legs that are not looked at: below this share of the largest, or of notional over equity.
DUST_SHARE, DUST_WEIGHT = 0.05, 1e-3
# Legs of one size differ by no more than this share of it, strikes by no more than that of theirs.
SIZE_TOLERANCE, STRIKE_TOLERANCE = 0.10, 0.005
# |net| over gross Greek from which a book has a view. Legs that are noise reach it by chance, the
# more often the fewer of them carry the Greek: of books with 20 Gaussian weights in the default
# chain 1.5 % at a volatility of 18 %, 4.3 % at 10 %, where only strikes near the money have vega.
VIEW_RATIO = 0.80


@dataclass(frozen=True)
class Leg:
    """A position in one option. Strikes share a unit among the legs, and so do the vegas."""

    is_call: bool
    strike: float  # index points, or a share of spot
    maturity_days: float  # calendar days to expiry
    weight: float  # quantity x spot / equity, signed
    delta: float  # of one option, per point of the index
    vega: float  # of one option, >= 0; only ratios between legs are read


# Legs in the order of their strikes, call before put, as "+2C1": bought twice, a call at the second
# lowest strike. The other side of each is derived.
_BOUGHT_AND_SOLD = {
    "+C0": ("long call", "short call"),
    "+P0": ("long put", "short put"),
    "+C0 +P0": ("long straddle", "short straddle"),
    "+P0 +C1": ("long strangle", "short strangle"),
    "+C0 +P1": ("long strangle", "short strangle"),  # in the money: a strangle and a bond
    "+C0 -C1": ("bull call spread", "bear call spread"),
    "-P0 +P1": ("bear put spread", "bull put spread"),
    "+C0 -P0": ("synthetic long forward", "synthetic short forward"),
    "-P0 +C1": ("risk reversal", "bearish risk reversal"),
    "+C0 -2C1 +C2": ("long call butterfly", "short call butterfly"),
    "+P0 -2P1 +P2": ("long put butterfly", "short put butterfly"),
    "+P0 -P1 -C2 +C3": ("iron condor", "reverse iron condor"),
    "+P0 -C1 -P1 +C2": ("iron butterfly", "reverse iron butterfly"),
    "+C0 -P0 -C1 +P1": ("long box", "short box"),
}
# With the index itself as a forward made of a call and a put.
_WITH_FORWARD = {
    "+C0 -P0 -C1": "covered call",
    "-C0 +C1 -P1": "covered call",
    "+C0 -P0 +P1": "protective put",
    "+P0 +C1 -P1": "protective put",
    "+P0 +C1 -P1 -C2": "collar",
    "+P0 -C1 +C2 -P2": "collar",
    "+C0 -P0 +P1 -C2": "collar",
}
# The forward may expire on another day than the options on it.
_ON_A_FORWARD = {
    "short call": "covered call",
    "long put": "protective put",
    "bearish risk reversal": "collar",
}


def name_strategy(legs: Sequence[Leg]) -> str:
    """The name of a book.

    cash, a textbook name, or any of bullish / bearish and long / short volatility ("bearish, short
    volatility"), or mixed. Legs in the same option are added up first. One name is also given to
    several maturities that each hold the same structure. Raises InputError for numbers that are
    missing or infinite.
    """
    held = _held(legs)
    if not held:
        return CASH
    by_maturity = groupby(held, key=lambda leg: leg.maturity_days)
    names = [_one_maturity(list(legs_held)) for _, legs_held in by_maturity]
    if names[0] and len(set(names)) == 1:
        return names[0]
    return _across_maturities(held, names) or _view(held)


def _held(legs: Sequence[Leg]) -> list[Leg]:
    """Legs worth looking at, one an option, by maturity, strike, calls first."""
    added: list[Leg] = []
    for leg in sorted(legs, key=lambda x: (x.maturity_days, x.is_call, x.strike)):
        if not math.isfinite(leg.strike + leg.maturity_days + leg.weight + leg.delta + leg.vega):
            raise InputError(f"{leg} is not all numbers", "Leave such a leg out, or correct it")
        last = added[-1] if added else None
        if last is not None and _same_option(last, leg):
            added[-1] = replace(last, weight=last.weight + leg.weight)
        else:
            added.append(leg)
    largest = max((abs(leg.weight) for leg in added), default=0.0)
    least = max(DUST_SHARE * largest, DUST_WEIGHT)
    return [leg for leg in added if abs(leg.weight) >= least]


def _same_option(a: Leg, b: Leg) -> bool:
    return (a.maturity_days, a.is_call) == (b.maturity_days, b.is_call) and _same_strike(a, b)


def _same_strike(a: Leg, b: Leg) -> bool:
    return math.isclose(a.strike, b.strike, rel_tol=STRIKE_TOLERANCE)


def _one_maturity(legs: list[Leg]) -> str | None:
    """Textbook name of legs that expire together."""
    if len(legs) > 4:
        return None
    for side in (1, -1):
        signature = _signature(legs, side)
        if signature is None:
            return None
        if side == 1 and signature in _WITH_FORWARD:
            return _WITH_FORWARD[signature]
        if signature in _BOUGHT_AND_SOLD:
            name = _BOUGHT_AND_SOLD[signature][0 if side == 1 else 1]
            return name if _wings_equal(name, legs) else None
    return None


def _signature(legs: list[Leg], side: int) -> str | None:
    """As the keys of the tables; None where the sizes are not once or twice the smallest."""
    unit = min(abs(leg.weight) for leg in legs)
    rank, before = -1, None
    words: list[tuple[int, str, str]] = []
    for leg in sorted(legs, key=lambda x: x.strike):
        if before is None or not _same_strike(before, leg):
            rank, before = rank + 1, leg
        count = round(abs(leg.weight) / unit)
        if count > 2 or abs(abs(leg.weight) / unit - count) > SIZE_TOLERANCE * count:
            return None
        sign = "+" if side * leg.weight > 0 else "-"
        kind = "C" if leg.is_call else "P"
        words.append((rank, kind, f"{sign}{count if count > 1 else ''}{kind}{rank}"))
    return " ".join(word for _, _, word in sorted(words))


def _wings_equal(name: str, legs: list[Leg]) -> bool:
    """Whether the outer strikes of a butterfly lie equally far from its body."""
    if not name.endswith("butterfly"):
        return True
    low, high = min(leg.strike for leg in legs), max(leg.strike for leg in legs)
    body = next(x.strike for x in legs if not math.isclose(x.strike, low) and x.strike < high)
    return abs(low + high - 2.0 * body) <= SIZE_TOLERANCE * (high - low)


def _across_maturities(held: list[Leg], names: list[str | None]) -> str | None:
    """Textbook name of legs of two maturities."""
    if len(names) != 2 or not all(names):
        return None
    if len(held) == 2:
        near, far = sorted(held, key=lambda x: x.maturity_days)
        opposite = near.weight * far.weight < 0 and near.is_call == far.is_call
        if opposite and _equal_size(held):
            kind = "calendar spread" if _same_strike(near, far) else "diagonal spread"
            return kind if far.weight > 0 else f"short {kind}"
        return None
    for forward, other in (names, names[::-1]):
        if forward == "synthetic long forward" and other in _ON_A_FORWARD and _equal_size(held):
            return _ON_A_FORWARD[other]
    return None


def _equal_size(legs: list[Leg]) -> bool:
    sizes = [abs(leg.weight) for leg in legs]
    return max(sizes) <= (1.0 + SIZE_TOLERANCE) * min(sizes)


def _view(held: list[Leg]) -> str:
    """What the net Greeks bet on."""
    direction = _net_over_gross([leg.weight * leg.delta for leg in held])
    volatility = _net_over_gross([leg.weight * leg.vega for leg in held])
    words = []
    if abs(direction) >= VIEW_RATIO:
        words.append("bullish" if direction > 0 else "bearish")
    if abs(volatility) >= VIEW_RATIO:
        words.append("long volatility" if volatility > 0 else "short volatility")
    return ", ".join(words) or MIXED


def _net_over_gross(exposures: list[float]) -> float:
    gross = sum(abs(x) for x in exposures)
    return sum(exposures) / gross if gross > 0 else 0.0
