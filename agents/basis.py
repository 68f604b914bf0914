"""Textbook books by name, as the basis of an agent's actions in the slots of a chain.

A book is one signed unit of each of its legs: an amount of 1 asks every leg for an action of 1 or
-1, which of `env.sizing.unit: notional` is the same number of contracts for each. Every name
stands for one book at each maturity of the chain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from conf.errors import InputError
from conf.types import FloatArray
from envs.options.chain import Slot

BookName = Literal["short_straddle", "short_strangle", "long_wings"]


@dataclass(frozen=True)
class Pair:
    """A call and a put in the same number: sign +1 long, -1 short; strikes over spot."""

    sign: float
    put: float
    call: float


BOOKS: dict[BookName, Pair] = {
    "short_straddle": Pair(-1.0, put=1.0, call=1.0),
    "short_strangle": Pair(-1.0, put=0.95, call=1.05),
    "long_wings": Pair(1.0, put=0.90, call=1.10),
}


def basis_of(names: Sequence[BookName], slots: Sequence[Slot]) -> FloatArray:
    """Books (K, M) over M slots: by name, then by maturity.

    Raises InputError for a book whose strikes the chain does not list.
    """
    maturities = sorted({slot.maturity_days for slot in slots})
    books = np.zeros((len(names), len(maturities), len(slots)))
    for row, name in enumerate(names):
        pair = BOOKS[name]
        for column, days in enumerate(maturities):
            for is_call, strike in ((False, pair.put), (True, pair.call)):
                books[row, column, _slot_at(slots, days, is_call, strike, name)] = pair.sign
    return books.reshape(-1, len(slots))


def _slot_at(slots: Sequence[Slot], days: int, is_call: bool, strike: float, name: BookName) -> int:
    for index, slot in enumerate(slots):
        same_strike = math.isclose(slot.moneyness, strike, abs_tol=1e-6)
        if same_strike and (slot.maturity_days, slot.is_call) == (days, is_call):
            return index
    at_hand = ", ".join(f"{moneyness:g}" for moneyness in sorted({s.moneyness for s in slots}))
    raise InputError(
        f"agent.basis: {name} needs a strike of {strike:g} times the spot, and the chain has "
        f"{at_hand}",
        "Add it to env.chain.moneyness, or leave the book out",
    )
