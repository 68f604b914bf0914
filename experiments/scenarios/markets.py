"""Histories with a shock in them, and the markets that are built on those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from conf.errors import InputError
from conf.types import FloatArray
from envs.allocation.market import PanelMarket, build_panel_market
from envs.core.batch import Window
from envs.market.history import MarketHistory
from envs.market.panel import PanelHistory
from envs.option_portfolio.market import OptionMarket, build_option_market
from experiments.runs.market_setup import MarketSetup, option_setup
from experiments.runs.settings import PanelMarketSettings
from experiments.scenarios.shocks import Shock

# Kept of the past: ten half-lives of the slowest average that prices depend on.
LEAD_SESSIONS = 1260


@dataclass(frozen=True)
class ShockedMarket:
    """Shock k strikes on path k; sessions are numbered anew from the first that is kept."""

    market: OptionMarket | PanelMarket
    window: Window
    shocks: tuple[Shock, ...]
    at: int  # the first session that a shock changes


def shocked_markets(
    setup: MarketSetup, shocks: Sequence[Shock], at: int, window: Window
) -> list[ShockedMarket]:
    """The run's market with shocks at session `at`, to be traded over a window of its sessions.

    One for each shift of the rate, which all paths of a history share. InputError where the moved
    prices or volatilities allow no market.
    """
    first = max(0, window.start - LEAD_SESSIONS)
    history = _cut(setup.market.history, first, window.stop)
    moved = Window(window.start - first, window.stop - first)
    found = []
    for shift in dict.fromkeys(shock.rate_shift for shock in shocks):
        some = tuple(shock for shock in shocks if shock.rate_shift == shift)
        market = _build(setup, history, some, at - first)
        begin = max(moved.start, market.first_usable)
        found.append(ShockedMarket(market, Window(begin, moved.stop), some, at - first))
    return found


def shocked_history(history: MarketHistory, shocks: Sequence[Shock], at: int) -> MarketHistory:
    """The first path of a history with shock k at session `at` on path k; earlier rows untouched.

    All must have the same shift of the rate.
    """
    close, vol = history.close[0], history.implied_vol[0]
    factors, vols = zip(*(shock.move(close, vol, at) for shock in shocks), strict=True)
    factor, count = np.stack(factors), len(shocks)
    bars = {name: getattr(history, name)[:1] * factor for name in ("open", "high", "low", "close")}
    return replace(
        history,
        name=f"{history.name}, shocked",
        volume=np.repeat(history.volume[:1], count, axis=0),
        implied_vol=np.stack(vols),
        rate=shifted_rate(history.rate, at, shocks[0].rate_shift),
        extras={n: np.repeat(v[:1], count, axis=0) for n, v in history.extras.items()},
        **bars,
    )


def shocked_panel(history: PanelHistory, shocks: Sequence[Shock], at: int) -> PanelHistory:
    """Likewise for assets: each shock moves all of them alike, as it moves their index."""
    close = history.close[0]
    returns = (close[1:] / close[:-1] - 1.0).mean(axis=-1)
    index = np.concatenate([[1.0], np.cumprod(1.0 + returns)])
    factor = np.stack([shock.move(index, np.full_like(index, 0.2), at)[0] for shock in shocks])
    return replace(
        history,
        name=f"{history.name}, shocked",
        close=close * factor[:, :, None],
        rate=shifted_rate(history.rate, at, shocks[0].rate_shift),
    )


def shifted_rate(rate: FloatArray, at: int, shift: float) -> FloatArray:
    """The rate from the close of session `at` on; what is earned before is what it was."""
    moved = rate.copy()
    moved[at:] += shift
    return moved


def _build(
    setup: MarketSetup, history: MarketHistory | PanelHistory, shocks: tuple[Shock, ...], at: int
) -> OptionMarket | PanelMarket:
    market_closed = np.zeros((len(shocks), history.num_sessions), np.bool_)
    for path, shock in enumerate(shocks):
        market_closed[path, at : at + shock.closed_sessions] = True
    wanted = setup.settings
    if isinstance(history, PanelHistory) and isinstance(wanted, PanelMarketSettings):
        panel = build_panel_market(shocked_panel(history, shocks, at), wanted.env)
        return replace(panel, market_closed=market_closed)
    if isinstance(history, PanelHistory):
        raise InputError(f"{history.name} holds assets, and the settings are about options")
    options = option_setup(setup).settings
    moved = shocked_history(history, shocks, at)
    market = build_option_market(moved, options.surface, options.env)
    closing = market.closing_unit_cost
    return replace(
        market,
        market_closed=market_closed,
        unit_cost=_dearer(market.unit_cost, shocks, at),
        closing_unit_cost=None if closing is None else _dearer(closing, shocks, at),
    )


def _dearer(unit_cost: FloatArray, shocks: tuple[Shock, ...], at: int) -> FloatArray:
    """Costs a unit (P, T, M), multiplied while a shock makes them so.

    Just what the multiplier in the settings of costs does, but only from the shock on.
    """
    cost = unit_cost.copy()
    for path, shock in enumerate(shocks):
        cost[path, at : at + shock.cost_sessions] *= shock.cost_multiple
    return cost


def _cut(
    history: MarketHistory | PanelHistory, first: int, stop: int
) -> MarketHistory | PanelHistory:
    if isinstance(history, MarketHistory):
        return history.sessions(first, stop)
    kept = slice(first, stop)
    return replace(
        history,
        dates=history.dates[kept],
        close=history.close[:, kept],
        rate=history.rate[kept],
    )
