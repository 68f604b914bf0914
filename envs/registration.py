"""The environments by name: `gymnasium.make("PolyHedge/OptionPortfolio-v0")` and `make_vec`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import gymnasium as gym

from conf.settings import build_settings
from envs.allocation.market import AllocationSettings, PanelMarket, build_panel_market
from envs.core.batch import Window
from envs.core.kernel import BookKernel
from envs.core.market import BookMarket, BookOptions
from envs.gymnasium_adapters import KernelEnv, KernelVectorEnv
from envs.kernels import open_kernel
from envs.market.loaded import Loaded
from envs.market.sources.index import DataSettings, LoadedMarket, load_market
from envs.market.sources.panel import LoadedPanel, PanelSettings, load_panel
from envs.option_portfolio.market import (
    OptionMarket,
    OptionPortfolioSettings,
    build_option_market,
)
from envs.options.surface import FlatSurface, SurfaceSettings, VixSurface

OPTION_PORTFOLIO = "PolyHedge/OptionPortfolio-v0"
PORTFOLIO_ALLOCATION = "PolyHedge/PortfolioAllocation-v0"


def register_environments() -> None:
    """Make the environments known to gymnasium; harmless when done twice."""
    for name, function in (
        (OPTION_PORTFOLIO, "make_option_portfolio"),
        (PORTFOLIO_ALLOCATION, "make_portfolio_allocation"),
    ):
        if name not in gym.registry:
            gym.register(
                id=name,
                entry_point=f"envs.registration:{function}",
                vector_entry_point=f"envs.registration:{function}_vector",
            )


def make_option_portfolio(
    split: str = "train",
    data: Mapping[str, Any] | None = None,
    surface: Mapping[str, Any] | None = None,
    env: Mapping[str, Any] | None = None,
    render_mode: None = None,
) -> KernelEnv:
    """The option book as one gymnasium environment.

    `data`, `surface` and `env` are plain settings as in conf/; each defaults to its class's
    defaults (embedded S&P 500, volatility driven by VIX, realistic costs). Raises InputError for
    settings that are not valid.
    """
    return KernelEnv(_option_kernel(1, split, data, surface, env))


def make_option_portfolio_vector(
    num_envs: int = 1,
    split: str = "train",
    data: Mapping[str, Any] | None = None,
    surface: Mapping[str, Any] | None = None,
    env: Mapping[str, Any] | None = None,
    render_mode: None = None,
) -> KernelVectorEnv:
    """Many option books stepped together, as a gymnasium vector environment."""
    return KernelVectorEnv(_option_kernel(num_envs, split, data, surface, env))


def make_portfolio_allocation(
    split: str = "train",
    data: Mapping[str, Any] | None = None,
    env: Mapping[str, Any] | None = None,
    render_mode: None = None,
) -> KernelEnv:
    """The allocation as one gymnasium environment.

    `data` and `env` are plain settings as in conf/; each defaults to its class's defaults (ten
    simulated assets, costs of 10 bp). Raises InputError for settings that are not valid.
    """
    return KernelEnv(_allocation_kernel(1, split, data, env))


def make_portfolio_allocation_vector(
    num_envs: int = 1,
    split: str = "train",
    data: Mapping[str, Any] | None = None,
    env: Mapping[str, Any] | None = None,
    render_mode: None = None,
) -> KernelVectorEnv:
    """Many portfolios stepped together, as a gymnasium vector environment."""
    return KernelVectorEnv(_allocation_kernel(num_envs, split, data, env))


def _option_kernel(
    num_envs: int,
    split: str,
    data: Mapping[str, Any] | None,
    surface: Mapping[str, Any] | None,
    env: Mapping[str, Any] | None,
) -> BookKernel:
    options: OptionPortfolioSettings = build_settings(OptionPortfolioSettings, env or {}, "env")
    return _books(
        *_option_market(
            build_settings(DataSettings, {"source": "sp500", **(data or {})}, "data"),
            build_settings(SurfaceSettings, {"kind": "vix", **(surface or {})}, "surface"),
            options,
        ),
        options,
        split,
        num_envs,
    )


def _allocation_kernel(
    num_envs: int, split: str, data: Mapping[str, Any] | None, env: Mapping[str, Any] | None
) -> BookKernel:
    options: AllocationSettings = build_settings(AllocationSettings, env or {}, "env")
    wanted = build_settings(PanelSettings, {"source": "panel_simulated", **(data or {})}, "data")
    return _books(*_panel_market(wanted, options), options, split, num_envs)


def _books(
    loaded: Loaded[Any, Any], market: BookMarket, options: BookOptions, split: str, num_envs: int
) -> BookKernel:
    stretch = loaded.split(split)
    return open_kernel(market, options, Window(stretch.start, stretch.stop), num_envs)


@lru_cache(maxsize=4)
def _option_market(
    data: DataSettings, surface: FlatSurface | VixSurface, options: OptionPortfolioSettings
) -> tuple[LoadedMarket, OptionMarket]:
    """A market is immutable, so environments with the same settings share it."""
    loaded = load_market(data, embargo_days=options.chain.longest_life_days)
    return loaded, build_option_market(loaded.history, surface, options)


@lru_cache(maxsize=4)
def _panel_market(
    data: PanelSettings, options: AllocationSettings
) -> tuple[LoadedPanel, PanelMarket]:
    loaded = load_panel(data)
    return loaded, build_panel_market(loaded.history, options)
