"""Option markets of simulated worlds: every path priced at its world's surface, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np

from envs.market.history import MarketHistory, stack_paths
from envs.market.models.worlds import WorldHistories, WorldSettings, simulate_worlds
from envs.option_portfolio.market import OptionMarket, OptionMarketSettings, build_option_market
from envs.options.surface import FlatSurface

Part = TypeVar("Part")


def build_worlds(
    settings: OptionMarketSettings,
    worlds: WorldSettings,
    past: MarketHistory,
    *,
    unseen: bool = False,
    draw: int = 0,
) -> OptionMarket:
    """The market whose paths are those of all worlds; `past` is the training years."""
    histories = simulate_worlds(worlds, past, unseen=unseen, draw=draw)
    return price_worlds(settings, histories)


def price_worlds(settings: OptionMarketSettings, histories: WorldHistories) -> OptionMarket:
    """Both groups of histories, priced and joined; the fair ones without a smile."""
    priced = [
        build_option_market(history, surface, settings.env)
        for history, surface in (
            (histories.smiling, settings.surface),
            (histories.flat, FlatSurface(vol_annual=None)),
        )
        if history is not None
    ]
    return join_markets(priced)


def join_markets(markets: Sequence[OptionMarket]) -> OptionMarket:
    """One market with the paths of all, which share dates, chain and rates."""
    if len(markets) == 1:
        return markets[0]
    first = markets[0]
    history = stack_paths(first.history.name, [market.history for market in markets])
    observed = _joined([market.observed for market in markets], ("before", "after", "log_price"))
    usable = max(market.first_usable for market in markets)
    by_path = [f.name for f in fields(first.tape) if getattr(first.tape, f.name) is not None]
    by_path = [name for name in by_path if np.ndim(getattr(first.tape, name)) == 3]
    costs = ["unit_cost", *(["closing_unit_cost"] if first.closing_unit_cost is not None else [])]
    return replace(
        _joined(markets, costs),
        history=history,
        tape=_joined([market.tape for market in markets], by_path),
        observed=replace(observed, first_usable=usable),
    )


def _joined(parts: Sequence[Part], names: Sequence[str]) -> Part:
    """The first part with the named arrays of all, along the axis of paths."""
    first: Any = parts[0]
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    joined: Part = replace(first, **arrays)
    return joined
