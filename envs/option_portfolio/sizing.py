"""From an action in [-1, 1] to the quantity of each contract that it asks for."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from conf.settings import settings
from conf.types import FloatArray

_LEAST_LEVEL_USD = 600.0

Share = Annotated[float, Field(gt=0.0, le=100.0)]


@settings
class SizingSettings:
    """How large a position an action of 1 may ask for, and what is not traded at all.

    `unit: notional`: an action is a share of the largest notional, whatever the contract costs.
    """

    unit: Literal["premium", "notional"] = "premium"
    max_premium: Share = 0.20  # premium of one contract, share of equity; of unit premium alone
    max_notional: Share = 1.0  # |quantity| x spot of one contract, share of equity
    # Cheaper contracts only close. Of an index of 600 to 6,000 at its start; see `at_price_level`.
    min_tick_usd: Annotated[float, Field(gt=0.0)] = 0.05
    no_trade_band: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0  # share of equity, in `unit`
    contract_multiplier: Annotated[float, Field(gt=0.0)] = 1.0  # units of the index a contract
    fractional: bool = True  # may a part of a contract be held?


def at_price_level(options: SizingSettings, first_close: float) -> SizingSettings:
    """The settings for an index that begins at `first_close` dollars.

    The tick is scaled by the power of ten that brings the index to 600 to 6,000, so that the same
    returns at a hundredth of the price give the same books.
    """
    decade = math.floor(math.log10(first_close / _LEAST_LEVEL_USD))
    return replace(options, min_tick_usd=options.min_tick_usd * 10.0**decade) if decade else options


def largest_quantity(
    premium: FloatArray, spot: FloatArray, equity: FloatArray, options: SizingSettings
) -> FloatArray:
    """The most units (N, M) that an action of 1 could hold.

    premium (N, M), spot and equity (N,) in dollars.
    """
    budget = np.maximum(equity, 0.0)[:, None]
    by_notional = options.max_notional * budget / spot[:, None]
    if options.unit == "notional":
        return np.broadcast_to(by_notional, premium.shape)
    by_premium = options.max_premium * budget / np.maximum(premium, options.min_tick_usd)
    return np.minimum(by_premium, by_notional)


def target_quantity(
    action: FloatArray,
    current: FloatArray,
    premium: FloatArray,
    spot: FloatArray,
    equity: FloatArray,
    options: SizingSettings,
) -> FloatArray:
    """Quantities (N, M) that an action asks for, in units of the index.

    action, current quantity and premium are (N, M), spot and equity (N,) in dollars. The action
    asks for a premium of action x max_premium x equity, bounded by max_notional; of unit notional,
    for a notional (quantity x spot) of action x max_notional x equity. A contract below the tick
    may only be reduced; a change smaller than the no-trade band, in the same unit, is left alone.
    """
    budget = np.maximum(equity, 0.0)[:, None]
    limit = options.max_notional * budget / spot[:, None]
    unit_usd = premium
    if options.unit == "notional":
        target, unit_usd = action * limit, spot[:, None]
    else:
        tradable = np.maximum(premium, options.min_tick_usd)
        target = action * (options.max_premium * budget) / tradable
    target = np.minimum(np.maximum(target, -limit), limit)
    if not options.fractional:
        lot = options.contract_multiplier
        target = np.trunc(target / lot) * lot
    cheap = premium < options.min_tick_usd
    if np.count_nonzero(cheap):
        towards_zero = np.minimum(
            np.maximum(target, np.minimum(current, 0.0)), np.maximum(current, 0.0)
        )
        target = np.where(cheap, towards_zero, target)
    if options.no_trade_band > 0.0:
        small = np.abs(target - current) * unit_usd < options.no_trade_band * budget
        # Closing is never left undone, nor is a position that has outgrown its limit.
        kept = small & (target != 0.0) & (np.abs(current) <= limit)
        target = np.where(kept, current, target)
    return target
