"""SPAN-like margin: the worst loss of a book over 16 moves of price and volatility.

The grid is that of the exchanges' SPAN: the price moves by 0, a third, two thirds and the whole of
its scan range up and down, each with volatility up and down; of two extreme price moves a part of
the loss counts. `risk.bounds` takes the worst scenario of a book and limits it.
Reference: CME Group, SPAN methodology (1988 and later).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from conf.settings import settings
from conf.types import FloatArray

# Prices of the contracts at (spot, volatility); the last axis of each array is the scenario.
Reprice = Callable[[FloatArray, FloatArray], FloatArray]


@settings
class ScanSettings:
    """Size of the moves that are scanned."""

    price_range: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.08  # share of spot
    vol_range: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.05  # volatility, absolute
    extreme_multiple: Annotated[float, Field(ge=1.0)] = 3.0  # of price_range
    extreme_cover: Annotated[float, Field(gt=0.0, le=1.0)] = 0.35  # share of the extreme loss
    vol_floor: Annotated[float, Field(gt=0.0)] = 0.01  # lowest volatility of a scenario


class Scenarios(NamedTuple):
    """The 16 moves, each (16,)."""

    price_move: FloatArray  # share of spot
    vol_move: FloatArray  # absolute
    cover: FloatArray  # share of the gain or loss that counts


def scenarios(options: ScanSettings) -> Scenarios:
    """The grid of moves."""
    thirds = np.array([0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0]) / 3.0
    price = np.repeat(thirds, 2) * options.price_range
    vol = np.tile([1.0, -1.0], 7) * options.vol_range
    extreme = np.array([1.0, -1.0]) * options.extreme_multiple * options.price_range
    cover = np.concatenate([np.ones(14), np.full(2, options.extreme_cover)])
    move = np.maximum(np.concatenate([price, extreme]), -0.99)
    return Scenarios(move, np.concatenate([vol, np.zeros(2)]), cover)


def scan_gains(
    reprice: Reprice,
    spot: FloatArray,
    vol: FloatArray,
    price: FloatArray,
    options: ScanSettings | None = None,
) -> FloatArray:
    """Gain of one unit of each contract in each scenario, (..., 16) dollars.

    vol and price have the shape (...) of the contracts; spot broadcasts to it.
    """
    options = options or ScanSettings()
    grid = scenarios(options)
    moved_spot = np.asarray(spot)[..., None] * (1.0 + grid.price_move)
    moved_vol = np.maximum(np.asarray(vol)[..., None] + grid.vol_move, options.vol_floor)
    return (reprice(moved_spot, moved_vol) - np.asarray(price)[..., None]) * grid.cover
