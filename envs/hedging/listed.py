"""Listed options that a hedger may trade beside the underlying.

Each is struck and listed when a liability is sold, outlives it, and is sold when it ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from conf.settings import settings
from conf.types import FloatArray, IntArray
from envs.core.costs import AnyCosts
from envs.core.features import CLIP, Feature
from envs.hedging.liability import Calendar, Contract, Quotes
from envs.market.history import MarketHistory

_LEAST_GAMMA = 1e-12
MOST_NEUTRAL = 3.0  # options a unit: gamma at the money has no limit as an option expires


@settings
class ListedOption(Contract):
    """One option on one share."""

    sessions: Annotated[int, Field(ge=3)] = 63  # to its expiry, from the sale of the liability

    @property
    def name(self) -> str:
        """As listed_call_1.00_63: kind, moneyness, sessions."""
        return f"listed_{self.kind}_{self.moneyness:.2f}_{self.sessions}"


def listed_features(
    options: tuple[ListedOption, ...],
) -> tuple[tuple[Feature, ...], tuple[Feature, ...]]:
    """What is seen of the options: two entries each of the market, and one each of the hedger."""
    of_market = (
        (
            Feature(f"delta.{option.name}", "market", 1.0, -CLIP, CLIP, raw="shares an option"),
            Feature(f"neutral.{option.name}", "market", 1.0, -CLIP, CLIP, raw="options a unit"),
        )
        for option in options
    )
    own = (
        Feature(f"holding.{option.name}", "portfolio", 1.0, -CLIP, CLIP, raw="options a unit")
        for option in options
    )
    return tuple(feature for pair in of_market for feature in pair), tuple(own)


@dataclass(frozen=True)
class PricedOptions:
    """H options along P paths of T sessions; all of one option on one share."""

    mark: FloatArray  # (P, T, H) dollars
    aged: FloatArray  # (P, T, H) of what was held into the close
    unit_cost: FloatArray  # (P, T, H) dollars of trading one at `mark`
    closing_cost: FloatArray  # (P, T, H) likewise at `aged`; 0 where it is not sold for good
    delta: FloatArray  # (P, T, H)
    neutral: FloatArray  # (P, T, H) options a unit of the liability; together they have its gamma


def price_listed(
    history: MarketHistory,
    quotes: Quotes,
    options: tuple[ListedOption, ...],
    costs: AnyCosts,
    gamma: FloatArray,
    life: int,
    calendar: Calendar,
) -> PricedOptions:
    """Every option at each close; `gamma` (P, T) is that of a unit of the liability's hedge."""
    spot, vol, sold = history.close, history.implied_vol, calendar.sold
    now, ended = np.arange(history.num_sessions), calendar.closes(life)
    shape = (*spot.shape, len(options))
    mark, aged, unit, closing, delta, neutral = np.zeros((6, *shape))
    for number, option in enumerate(options):

        def cost(
            price: FloatArray, at: IntArray, struck: IntArray, own: Contract = option
        ) -> FloatArray:
            intrinsic = own.payoff(spot[:, at], spot[:, struck])
            return costs.per_unit(price, spot[:, at], intrinsic, vol[:, at])

        value = quotes.of(option, now, sold, calendar.dates[sold + option.sessions])
        begun = ended - life
        old = quotes.of(option, ended, begun, calendar.dates[begun + option.sessions]).price
        mark[..., number] = aged[..., number] = value.price
        aged[:, ended, number] = old
        unit[..., number] = cost(value.price, now, sold)
        closing[:, ended, number] = cost(old, ended, begun)
        delta[..., number] = value.delta
        share = gamma / (np.maximum(value.gamma, _LEAST_GAMMA) * len(options))
        neutral[..., number] = np.clip(share, -MOST_NEUTRAL, MOST_NEUTRAL)
    return PricedOptions(mark, aged, unit, closing, delta, neutral)
