"""What a hedger sees: the liability, blocks on request (`env.extra_blocks`), its own book."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from conf.types import BoolArray, FloatArray, ObsArray
from envs.core.features import CLIP, Feature, Scaling
from envs.hedging.liability import Leg, PricedLiability
from envs.hedging.listed import ListedOption, PricedOptions, listed_features
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


def hedging_features(
    legs: tuple[Leg, ...],
    life: int,
    extra_blocks: tuple[BlockName, ...] = (),
    hedges: tuple[ListedOption, ...] = (),
) -> tuple[Feature, ...]:
    """The observation: two entries a leg, four of the liability, blocks, two of the hedger.

    For each listed option two more, and one of the hedger.
    """
    own = "portfolio"
    of_options, holdings = listed_features(hedges)
    by_leg = (
        (
            Feature(
                f"moneyness.{leg.name(life)}",
                "market",
                1.0,
                -CLIP,
                CLIP,
                raw="log of forward over strike, in standard deviations left",
            ),
            Feature(f"time_left.{leg.name(life)}", "market", 1.0, 0, 1, raw="share of its life"),
        )
        for leg in legs
    )
    return (
        *(feature for pair in by_leg for feature in pair),
        Feature("delta", "market", 1.0, -CLIP, CLIP, raw="shares a unit that are neutral"),
        Feature("gamma", "market", 0.1, -CLIP, CLIP, raw="change of delta for a usual session"),
        Feature("vega", "market", 1.0, -CLIP, CLIP, raw="prices, for all of the volatility"),
        Feature("volatility", "market", 0.2, 0, CLIP, raw="of the liability's model, annual"),
        *block_features(extra_blocks),
        *of_options,
        Feature("holding", own, 1.0, -CLIP, CLIP, raw="shares a unit"),
        *holdings,
        Feature("cost", own, 1.0, -CLIP, CLIP, raw="lost since the sale, in prices"),
    )


def observed_market(
    history: MarketHistory,
    priced: PricedLiability,
    listed: PricedOptions,
    per_price: FloatArray,
    blocks: list[FloatArray],
    features: tuple[Feature, ...],
) -> ObsArray:
    """The market's entries (P, T, F), scaled; `per_price` (P, T): units that one price buys."""
    vol = history.implied_vol
    session_vol = vol / np.sqrt(history.clock.units_per_year)
    whole = [
        priced.delta,
        priced.gamma * history.close * session_vol,
        priced.vega * vol * per_price,
    ]
    of_options = np.stack([listed.delta, listed.neutral], axis=-1).reshape(*vol.shape, -1)
    raw = [priced.seen, np.stack([*whole, vol, *blocks], axis=-1), of_options]
    return Scaling(features).apply(np.concatenate(raw, axis=-1))
