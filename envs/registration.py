"""The environments by name: `gymnasium.make("PolyHedge/OptionPortfolio-v0")` and `make_vec`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import gymnasium as gym

from envs.adapters import KernelEnv, KernelVectorEnv
from envs.batch import Window
from envs.market.sources import DataSettings, LoadedMarket, load_market
from envs.option_market import OptionMarket, OptionPortfolioSettings, build_option_market
from envs.option_portfolio import OptionPortfolioKernel
from envs.options.surface import FlatSurface, SurfaceSettings, VixSurface
from risk.settings import build_settings

OPTION_PORTFOLIO = "PolyHedge/OptionPortfolio-v0"


def register_environments() -> None:
    """Make the environments known to gymnasium; harmless when done twice."""
    if OPTION_PORTFOLIO not in gym.registry:
        gym.register(
            id=OPTION_PORTFOLIO,
            entry_point="envs.registration:make_option_portfolio",
            vector_entry_point="envs.registration:make_option_portfolio_vector",
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
    return KernelEnv(_kernel(1, split, data, surface, env))


def make_option_portfolio_vector(
    num_envs: int = 1,
    split: str = "train",
    data: Mapping[str, Any] | None = None,
    surface: Mapping[str, Any] | None = None,
    env: Mapping[str, Any] | None = None,
    render_mode: None = None,
) -> KernelVectorEnv:
    """Many option books stepped together, as a gymnasium vector environment."""
    return KernelVectorEnv(_kernel(num_envs, split, data, surface, env))


def _kernel(
    num_envs: int,
    split: str,
    data: Mapping[str, Any] | None,
    surface: Mapping[str, Any] | None,
    env: Mapping[str, Any] | None,
) -> OptionPortfolioKernel:
    options: OptionPortfolioSettings = build_settings(OptionPortfolioSettings, env or {}, "env")
    loaded, market = _market(
        build_settings(DataSettings, {"source": "sp500", **(data or {})}, "data"),
        build_settings(SurfaceSettings, {"kind": "vix", **(surface or {})}, "surface"),
        options,
    )
    stretch = loaded.split(split)
    return OptionPortfolioKernel(
        market, options, Window(stretch.start, stretch.stop), num_envs, random_start=True
    )


@lru_cache(maxsize=4)
def _market(
    data: DataSettings, surface: FlatSurface | VixSurface, options: OptionPortfolioSettings
) -> tuple[LoadedMarket, OptionMarket]:
    """A market is immutable, so environments with the same settings share it."""
    loaded = load_market(data, embargo_days=options.chain.longest_life_days)
    return loaded, build_option_market(loaded.history, surface, options)
