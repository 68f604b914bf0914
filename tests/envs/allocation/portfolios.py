"""Allocations among a few assets that the tests here drive."""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.allocation.env import AllocationKernel
from envs.allocation.market import AllocationSettings
from envs.core.batch import Window
from envs.core.reward import TERMS
from envs.market.indicators import panel_warmup
from envs.market.panel import PanelHistory
from risk.overlay import RiskSettings
from tests.panels import allocation_of, panel_market_of, panel_of

FIRST = panel_warmup() - 1  # the first session at which an episode can begin
ONLY_RETURN = {"weights": {**dict.fromkeys(TERMS, 0.0), "portfolio_return": 1.0}}


def wandering_panel(
    sessions: int = 120, assets: int = 4, paths: int = 1, vol: float = 0.02, seed: int = 0
) -> PanelHistory:
    """Prices that move by `vol` a day, each from another level."""
    rng = np.random.default_rng(seed)
    steps = vol * rng.standard_normal((paths, sessions, assets))
    return panel_of(rng.uniform(5, 500, assets) * np.exp(np.cumsum(steps, axis=1)))


def paid_by_return(**changes: Any) -> AllocationSettings:
    """Settings without costs, paid by the return alone, unless changed."""
    return allocation_of(**{"reward": ONLY_RETURN, **changes})


def kernel_of(
    history: PanelHistory,
    num_envs: int = 1,
    *,
    random_start: bool = False,
    seed: int = 0,
    risk: RiskSettings | None = None,
    **changes: Any,
) -> AllocationKernel:
    """Portfolios over everything after the warm-up."""
    options = paid_by_return(**changes)
    market = panel_market_of(history, options)
    window = Window(market.first_usable, history.num_sessions)
    return AllocationKernel(
        market, options, window, num_envs, seed, random_start=random_start, risk=risk
    )


def simplex_points(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Points of the simplex, some of them on its faces."""
    drawn = rng.standard_exponential(shape) * (rng.random(shape) < 0.7)
    drawn[..., 0] += 1e-3
    points: np.ndarray = drawn / drawn.sum(axis=-1, keepdims=True)
    return points
