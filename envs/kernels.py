"""The kernel of a market: the one place that knows which environment belongs to what."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from conf.errors import InputError
from conf.settings import build_settings
from envs.allocation.env import AllocationKernel
from envs.allocation.market import AllocationSettings, PanelMarket, build_panel_market
from envs.core.batch import Window
from envs.core.kernel import BookKernel
from envs.core.market import BookMarket, BookOptions
from envs.gymnasium_adapters import KernelEnv, KernelVectorEnv
from envs.market.sources.index import DataSettings, LoadedMarket, load_market
from envs.market.sources.panel import LoadedPanel, PanelSettings, load_panel
from envs.market.splits import Loaded
from envs.option_portfolio.env import OptionPortfolioKernel
from envs.option_portfolio.market import (
    OptionMarket,
    OptionPortfolioSettings,
    build_option_market,
)
from envs.options.surface import FlatSurface, SurfaceSettings, VixSurface
from risk.overlay import RiskSettings


def open_kernel(
    market: BookMarket,
    options: BookOptions,
    window: Window,
    num_envs: int = 1,
    seed: int | None = None,
    *,
    random_start: bool = True,
    risk: RiskSettings | None = None,
) -> BookKernel:
    """Books of the kind that the market is for; InputError where the settings are of another."""
    kernel: type[OptionPortfolioKernel] | type[AllocationKernel]
    if isinstance(market, OptionMarket) and isinstance(options, OptionPortfolioSettings):
        kernel = OptionPortfolioKernel
    elif isinstance(market, PanelMarket) and isinstance(options, AllocationSettings):
        kernel = AllocationKernel
    else:
        raise InputError(
            f"a {type(market).__name__} cannot be traded with {type(options).__name__}",
            "Take env=option_portfolio for options on an index, env=portfolio_allocation for a "
            "panel",
        )
    return kernel(market, options, window, num_envs, seed, random_start=random_start, risk=risk)


def make_option_portfolio(
    num_envs: int | None = None,
    split: str = "train",
    data: Mapping[str, Any] | None = None,
    surface: Mapping[str, Any] | None = None,
    env: Mapping[str, Any] | None = None,
    render_mode: None = None,
) -> KernelEnv | KernelVectorEnv:
    """The option book as a gymnasium environment, or as a vector environment of `num_envs`.

    `data`, `surface` and `env` are plain settings as in conf/; each defaults to its class's
    defaults (embedded S&P 500, volatility driven by VIX, realistic costs). Raises InputError for
    settings that are not valid.
    """
    options: OptionPortfolioSettings = build_settings(OptionPortfolioSettings, env or {}, "env")
    loaded, market = _option_market(
        build_settings(DataSettings, {"source": "sp500", **(data or {})}, "data"),
        build_settings(SurfaceSettings, {"kind": "vix", **(surface or {})}, "surface"),
        options,
    )
    return _opened(loaded, market, options, split, num_envs)


def make_portfolio_allocation(
    num_envs: int | None = None,
    split: str = "train",
    data: Mapping[str, Any] | None = None,
    env: Mapping[str, Any] | None = None,
    render_mode: None = None,
) -> KernelEnv | KernelVectorEnv:
    """The allocation as a gymnasium environment, or as a vector environment of `num_envs`.

    `data` and `env` are plain settings as in conf/; each defaults to its class's defaults (ten
    simulated assets, costs of 10 bp). Raises InputError for settings that are not valid.
    """
    options: AllocationSettings = build_settings(AllocationSettings, env or {}, "env")
    panel = build_settings(PanelSettings, {"source": "panel_simulated", **(data or {})}, "data")
    return _opened(*_panel_market(panel, options), options, split, num_envs)


def _opened(
    loaded: Loaded[Any, Any],
    market: BookMarket,
    options: BookOptions,
    split: str,
    num_envs: int | None,
) -> KernelEnv | KernelVectorEnv:
    stretch = loaded.split(split)
    kernel = open_kernel(market, options, Window(stretch.start, stretch.stop), num_envs or 1)
    return KernelEnv(kernel) if num_envs is None else KernelVectorEnv(kernel)


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
