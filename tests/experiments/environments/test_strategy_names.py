import collections
import math

import numpy as np
import pytest

from conf.errors import InputError
from envs.options.black_scholes import price_and_greeks
from envs.options.chain import ChainSettings, slots
from experiments.environments.strategy_names import CASH, MIXED, Leg, name_strategy

VIEWS = {"bullish", "bearish", "long volatility", "short volatility"}


def leg(kind, strike, weight, days=30.0, vol=0.18):
    greeks = price_and_greeks(1.0, strike, days / 365, vol, 0.025, 0.015, kind == "C")
    return Leg(kind == "C", strike, days, weight, float(greeks.delta), float(greeks.vega))


def book(text, days=30.0, size=0.4):
    """A book as "+C0.95 -2C1.00 +C1.05", in units of `size`."""
    legs = []
    for word in text.split():
        sign = 1.0 if word[0] == "+" else -1.0
        count = 2.0 if word[1] == "2" else 1.0
        kind, strike = word.lstrip("+-2")[0], float(word.lstrip("+-2")[1:])
        legs.append(leg(kind, strike, sign * count * size, days))
    return legs


def other_side(text):
    return text.translate(str.maketrans("+-", "-+"))


TEXTBOOK = {
    "+C1.00": "long call",
    "-C1.05": "short call",
    "+P0.95": "long put",
    "-P0.95": "short put",
    "+C1.00 +P1.00": "long straddle",
    "-C1.00 -P1.00": "short straddle",
    "+P0.95 +C1.05": "long strangle",
    "-P0.90 -C1.10": "short strangle",
    "-C0.95 -P1.05": "short strangle",
    "+C1.00 -C1.05": "bull call spread",
    "-C1.00 +C1.05": "bear call spread",
    "+P0.95 -P1.00": "bull put spread",
    "-P0.95 +P1.00": "bear put spread",
    "+P0.90 -P0.95 -C1.05 +C1.10": "iron condor",
    "-P0.90 +P0.95 +C1.05 -C1.10": "reverse iron condor",
    "+P0.95 -P1.00 -C1.00 +C1.05": "iron butterfly",
    "-P0.95 +P1.00 +C1.00 -C1.05": "reverse iron butterfly",
    "+C0.95 -2C1.00 +C1.05": "long call butterfly",
    "-P0.95 +2P1.00 -P1.05": "short put butterfly",
    "-P0.95 +C1.05": "risk reversal",
    "+P0.95 -C1.05": "bearish risk reversal",
    "+C1.00 -P1.00": "synthetic long forward",
    "-C1.00 +P1.00": "synthetic short forward",
    "+C1.00 -P1.00 -C1.05": "covered call",
    "+C1.00 -P1.00 -C0.95": "covered call",
    "+C1.00 -P1.00 +P0.95": "protective put",
    "+C1.00 -P1.00 +P1.05": "protective put",
    "+C1.00 -P1.00 +P0.95 -C1.05": "collar",
    "+C0.90 -P0.90 +P0.95 -C1.05": "collar",
    "+C1.10 -P1.10 +P0.95 -C1.05": "collar",
    "+C0.95 -C1.05 +P1.05 -P0.95": "long box",
    "-C0.95 +C1.05 -P1.05 +P0.95": "short box",
}


@pytest.mark.parametrize(("text", "name"), TEXTBOOK.items())
def test_textbook_structures(text, name):
    legs = book(text)
    assert name_strategy(legs) == name
    assert name_strategy(legs[::-1]) == name
    # Whatever the size, the tenor and the unit of strikes.
    assert name_strategy(book(text, days=60.0, size=0.01)) == name
    in_points = [Leg(x.is_call, 4000 * x.strike, 30, x.weight, x.delta, x.vega) for x in legs]
    assert name_strategy(in_points) == name
    assert name_strategy(book(other_side(text))) != name


def test_structures_over_two_maturities():
    def near_far(near, far):
        return name_strategy([*book(near, 30.0), *book(far, 60.0)])

    assert near_far("-C1.00", "+C1.00") == "calendar spread"
    assert near_far("+P1.00", "-P1.00") == "short calendar spread"
    assert near_far("-C1.05", "+C1.00") == "diagonal spread"
    assert near_far("-C1.05", "+C1.00 -P1.00") == "covered call"
    assert near_far("+C1.00 -P1.00", "+P0.95") == "protective put"
    assert near_far("+P0.95 -C1.05", "+C1.00 -P1.00") == "collar"
    assert near_far("-C1.00 -P1.00", "-C1.05 -P1.05") == "short straddle"
    assert near_far("-C1.00 -P1.00", "+P0.95") not in TEXTBOOK.values()
    half_covered = [*book("-C1.05", 30.0, 0.2), *book("+C1.00 -P1.00", 60.0, 0.4)]
    assert name_strategy(half_covered) != "covered call"
    uneven = [*book("-C1.00", 30.0, 0.2), *book("+C1.00", 60.0, 0.4)]
    assert name_strategy(uneven) != "calendar spread"


def test_an_empty_book_and_dust_are_cash():
    assert name_strategy([]) == CASH
    assert name_strategy(book("+C1.00 -P1.00", size=0.0)) == CASH
    assert name_strategy(book("+C1.00", size=0.9e-3)) == CASH
    assert name_strategy(book("+C1.00", size=1.1e-3)) == "long call"
    crumbs = book("+P0.90 -C1.10 +P1.05", size=0.019)
    assert name_strategy([*book("-C1.00 -P1.00", size=0.4), *crumbs]) == "short straddle"
    assert name_strategy([*book("-C1.00 -P1.00", size=0.3), *crumbs]) != "short straddle"


def test_legs_in_the_same_option_are_one():
    assert name_strategy(book("+C1.00 +C1.00 -P1.00")) != "synthetic long forward"
    assert name_strategy(book("+C1.00 +C1.00 -2P1.00")) == "synthetic long forward"
    assert name_strategy(book("+C1.00 -C1.00")) == CASH


@pytest.mark.parametrize(("ratio", "is_one"), [(1.09, True), (0.92, True), (1.15, False)])
def test_sizes_have_to_match(ratio, is_one):
    legs = [leg("C", 1.0, 0.4), leg("C", 1.05, -0.4 * ratio)]
    assert (name_strategy(legs) == "bull call spread") == is_one
    legs = [leg("C", 0.95, 0.4), leg("C", 1.0, -0.8 * ratio), leg("C", 1.05, 0.4)]
    assert (name_strategy(legs) == "long call butterfly") == is_one


def test_a_butterfly_has_equal_wings():
    assert name_strategy(book("+C0.90 -2C0.95 +C1.05")) == MIXED
    assert name_strategy(book("+P0.90 -P0.95 -C0.95 +C1.05")) != "iron butterfly"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("+C0.90 +C1.00 +C1.05 -P0.90 -P0.95 -P1.10", "bullish"),
        ("-C0.90 -C0.95 -C1.00 +P1.05 +P1.10 +P1.00", "bearish"),
        ("-C1.00 -P1.00 -C1.05 -P0.95", "short volatility"),
        ("+C1.00 +P1.00 +C1.05 +P0.95", "long volatility"),
        ("-C0.95 -C1.00 -C1.05", "bearish, short volatility"),
        ("+C0.95 +C1.00 +C1.05", "bullish, long volatility"),
        ("+P0.95 +P1.00 +P1.05", "bearish, long volatility"),
        ("+C1.00 +C1.05 -C0.95 -P1.00 +P0.95", MIXED),
    ],
)
def test_books_without_a_textbook_name_are_named_by_their_greeks(text, name):
    assert name_strategy(book(text)) == name


@pytest.mark.parametrize("vol", [0.10, 0.18, 0.30])
def test_random_books_are_mixed(vol):
    rng = np.random.default_rng(1)
    counts: collections.Counter[str] = collections.Counter()
    chain = slots(ChainSettings())
    units = [leg("C" if s.is_call else "P", s.moneyness, 1, s.maturity_days, vol) for s in chain]
    for weights in rng.standard_normal((1000, 20)):
        legs = [
            Leg(u.is_call, u.strike, u.maturity_days, w, u.delta, u.vega)
            for u, w in zip(units, weights, strict=True)
        ]
        counts[name_strategy(legs)] += 1
    assert counts[MIXED] >= 950
    assert all(set(name.split(", ")) <= VIEWS for name in counts if name != MIXED)


def test_options_without_greeks_are_mixed():
    far = Leg(True, 3.0, 1.0, 0.5, 0.0, 0.0)
    assert name_strategy([far, Leg(True, 2.0, 1.0, 0.2, 0.0, 0.0)]) == MIXED


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_nan_and_infinity_are_refused(wrong):
    with pytest.raises(InputError, match="not all numbers"):
        name_strategy([Leg(True, 1.0, 30.0, wrong, 0.5, 0.1)])
