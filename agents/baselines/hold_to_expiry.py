"""A book that is set when contracts are listed and then left alone until they expire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from conf.errors import InputError
from conf.types import FloatArray, IntArray
from envs.core.kernel import BookState
from envs.option_portfolio.market import OptionMarket
from envs.option_portfolio.sizing import largest_quantity


@dataclass(frozen=True)
class HoldToExpiry:
    """Opens the same book each time contracts are listed, and holds each contract to its expiry.

    `weight` (M,) is what is opened in each slot, as a share of equity: quantity x spot for
    `unit: notional`, quantity x price for `unit: premium`. Slots with the same number in `group`
    (M,) are opened together or, while one of them trades below the tick, not at all. Where the
    sizing does not allow a position, the whole book shrinks `alike`, or that position alone.

    A book begins with the contracts that it finds at the start of its episode. What the risk
    module or the sizing takes away is not bought back before the next listing.
    """

    market: OptionMarket
    weight: FloatArray
    group: IntArray
    unit: Literal["notional", "premium"] = "notional"
    alike: bool = True

    def __post_init__(self) -> None:
        if self.weight.shape != self.group.shape or not np.isfinite(self.weight).all():
            raise InputError(
                f"held book: weight {self.weight} and group {self.group} do not fit",
                "Give every slot one finite weight and one group",
            )

    def quantities(self, books: BookState) -> FloatArray:
        """Units (N, M): fresh contracts at their weight, the others as they are held."""
        tape, at, sizing = self.market.tape, (books.path, books.session), books.options.sizing
        price, spot = tape.mark[at], self.market.history.close[at]
        listed = tape.rolled[books.session] | (books.session == books.start)[:, None]
        quantity = np.where(listed, self._opened(price, spot, books), books.quantity)
        limit = largest_quantity(price, spot, books.equity, sizing)
        fitting = shrunk_alike(quantity, limit) if self.alike else quantity.clip(-limit, limit)
        lot = sizing.contract_multiplier
        return fitting if sizing.fractional else np.trunc(fitting / lot) * lot

    def _opened(self, price: FloatArray, spot: FloatArray, books: BookState) -> FloatArray:
        """Units (N, M) of a fresh book."""
        tick = books.options.sizing.min_tick_usd
        untradable = (price < tick) & (self.weight != 0.0)
        together = self.group[:, None] == self.group
        left_out = (untradable[:, None, :] & together).any(axis=-1)
        unit_usd = spot[:, None] if self.unit == "notional" else np.maximum(price, tick)
        return np.where(left_out, 0.0, self.weight * books.equity[:, None] / unit_usd)


def shrunk_alike(quantity: FloatArray, limit: FloatArray) -> FloatArray:
    """Books (N, M) made smaller in their own proportions until no position exceeds its limit."""
    allowed = np.where(limit > 0.0, limit, np.inf)  # a book without equity is closed anyway
    excess = np.maximum((np.abs(quantity) / allowed).max(axis=-1, keepdims=True), 1.0)
    shrunk: FloatArray = quantity / excess
    return shrunk
