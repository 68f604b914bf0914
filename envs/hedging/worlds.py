"""Liabilities in simulated worlds: every path priced at its world's surface, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from envs.hedging.liability import DATA_VOLATILITY
from envs.hedging.market import HedgingMarket, HedgingMarketSettings
from envs.market.history import MarketHistory, stack_paths
from envs.market.models.worlds import WorldSettings, simulate_worlds

_SHARED = ("cash_return", "listed", "leaves", "years_left")  # by all paths


def build_hedging_worlds(
    settings: HedgingMarketSettings,
    worlds: WorldSettings,
    past: MarketHistory,
    *,
    unseen: bool = False,
    draw: int = 0,
) -> HedgingMarket:
    """The market whose paths are those of all worlds, the fair ones without a smile.

    `past` is the training years; `unseen` gives others of the same kind.
    """
    histories = simulate_worlds(worlds, past, unseen=unseen, draw=draw)
    fair = replace(settings, surface=DATA_VOLATILITY)
    parts = [
        own.build(history)
        for own, history in ((settings, histories.smiling), (fair, histories.flat))
        if history is not None
    ]
    return join_hedging_markets(parts)


def join_hedging_markets(markets: Sequence[HedgingMarket]) -> HedgingMarket:
    """One market with the paths of all, which share dates, rates and liability.

    Its surface is the first one's.
    """
    first = markets[0]
    by_path = [f.name for f in fields(first) if isinstance(getattr(first, f.name), np.ndarray)]
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(market, name) for market in markets])
        for name in by_path
        if name not in _SHARED
    }
    history = stack_paths(first.history.name, [market.history for market in markets])
    return replace(first, history=history, **arrays)
