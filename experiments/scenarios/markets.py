"""Histories with a shock in them, and the markets that are built on those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any

import numpy as np

from conf.types import FloatArray
from envs.core.batch import Window
from envs.core.market import BookMarket
from envs.market.history import MarketHistory
from envs.market.panel import PanelHistory
from experiments.environments.setup import MarketSetup
from experiments.scenarios.shocks import Shock

# Kept of the past: ten half-lives of the slowest average that prices depend on.
LEAD_SESSIONS = 1260


@dataclass(frozen=True)
class ShockedMarket:
    """Shock k strikes on path k; sessions are numbered anew from the first that is kept."""

    market: BookMarket
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
    history: Any = setup.history
    kept = history.sessions(first, window.stop)
    moved = Window(window.start - first, window.stop - first)
    markets = []
    for shift in dict.fromkeys(shock.rate_shift for shock in shocks):
        alike = tuple(shock for shock in shocks if shock.rate_shift == shift)
        market = _build(setup, kept, alike, at - first)
        begin = max(moved.start, market.first_usable)
        markets.append(ShockedMarket(market, Window(begin, moved.stop), alike, at - first))
    return markets


@singledispatch
def shocked_history(history: Any, shocks: Sequence[Shock], at: int) -> Any:
    """The first path of a history with shock k at session `at` on path k; earlier rows untouched.

    All must have the same shift of the rate. Assets all move alike, as their index does.
    """
    raise TypeError(f"no shock is known of a {type(history).__name__}")


@shocked_history.register
def _(history: MarketHistory, shocks: Sequence[Shock], at: int) -> MarketHistory:
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


@shocked_history.register
def _(history: PanelHistory, shocks: Sequence[Shock], at: int) -> PanelHistory:
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


def _build(setup: MarketSetup, history: Any, shocks: tuple[Shock, ...], at: int) -> BookMarket:
    shape = (len(shocks), history.num_sessions)
    market_closed, cost_multiple = np.zeros(shape, np.bool_), np.ones((*shape, 1))
    for path, shock in enumerate(shocks):
        market_closed[path, at : at + shock.closed_sessions] = True
        cost_multiple[path, at : at + shock.cost_sessions] *= shock.cost_multiple
    market: Any = setup.settings.build(shocked_history(history, shocks, at))
    shocked: BookMarket = replace(market.with_costs(cost_multiple), market_closed=market_closed)
    return shocked
