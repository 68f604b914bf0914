"""Small markets of assets that tests compute by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from conf.settings import build_settings
from envs.allocation.market import AllocationSettings, PanelMarket, build_panel_market
from envs.market.panel import PanelHistory
from tests.markets import weekdays


def panel_of(close: Any, rate: float = 0.025) -> PanelHistory:
    """A history of these prices (T, A) or (P, T, A)."""
    prices = np.asarray(close, np.float64)
    prices = prices[None] if prices.ndim == 2 else prices
    sessions, assets = prices.shape[1:]
    names = tuple(f"asset_{i}" for i in range(assets))
    return PanelHistory("toy", names, weekdays(sessions), prices, np.full(sessions, rate))


def random_panel(
    sessions: int, assets: int = 3, paths: int = 1, seed: int = 0, vol: float = 0.01
) -> PanelHistory:
    """Independent random walks, `vol` a day."""
    noise = np.random.default_rng(seed).normal(0.0003, vol, (paths, sessions, assets))
    return panel_of(100.0 * np.exp(np.cumsum(noise, axis=1)))


def allocation_of(**changes: Any) -> AllocationSettings:
    """Environment settings with zero cost unless told otherwise."""
    values = {"costs": {"kind": "flat", "rate_bps": 0.0}, **changes}
    built: AllocationSettings = build_settings(AllocationSettings, values, "env")
    return built


def panel_market_of(
    history: PanelHistory, options: AllocationSettings | None = None
) -> PanelMarket:
    return build_panel_market(history, options or allocation_of())
