"""Blocks that can be added to what a hedger sees: `env.extra_blocks`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from conf.types import BoolArray, FloatArray
from envs.core.features import CLIP, Feature
from envs.market.history import MarketHistory

BlockName = Literal["last_return", "quoted_volatility"]

_FEATURES: dict[BlockName, Feature] = {
    "last_return": Feature(
        *("last_return", "market", 1.0, -CLIP, CLIP),
        raw="log return since the close before, in standard deviations; 0 at the sale",
    ),
    "quoted_volatility": Feature(
        "quoted_volatility", "market", 0.2, 0, CLIP, raw="implied by the data, annual"
    ),
}


def block_features(names: Sequence[BlockName]) -> tuple[Feature, ...]:
    """Their entries in the observation, in the order of the names."""
    return tuple(_FEATURES[name] for name in names)


def block_values(
    names: Sequence[BlockName], history: MarketHistory, vol_annual: FloatArray, sold: BoolArray
) -> list[FloatArray]:
    """The entries before they are scaled, (P, T) each.

    vol_annual (P, T) is the volatility of the liability's model, sold (T,) says when one is sold.
    """
    raw: dict[BlockName, FloatArray] = {"quoted_volatility": history.implied_vol}
    if "last_return" in names:
        years = history.units_to_next[:-1] / history.clock.units_per_year
        moved = np.zeros(history.close.shape)
        moved[:, 1:] = np.diff(np.log(history.close), axis=1)
        moved[:, 1:] /= vol_annual[:, :-1] * np.sqrt(years)
        raw["last_return"] = np.where(sold, 0.0, moved)
    return [raw[name] for name in names]
