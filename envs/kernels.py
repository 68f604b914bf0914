"""The kernel of a market: the one place that knows which environment belongs to what."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from conf.errors import InputError
from conf.settings import build_settings
from envs.allocation.env import AllocationKernel
from envs.allocation.market import AllocationMarketSettings, AllocationSettings, PanelMarket
from envs.core.batch import Window
from envs.core.kernel import BookKernel
from envs.core.market import BookMarket, BookOptions, MarketSettings
from envs.gymnasium_adapters import KernelEnv, KernelVectorEnv
from envs.hedging.env import HedgingKernel
from envs.hedging.market import HedgingMarket, HedgingMarketSettings, HedgingSettings
from envs.market.sources.index import DataSettings
from envs.market.sources.panel import PanelSettings
from envs.market.splits import Loaded
from envs.option_portfolio.env import OptionPortfolioKernel
from envs.option_portfolio.market import (
    OptionMarket,
    OptionMarketSettings,
    OptionPortfolioSettings,
)
from envs.options.surface import SurfaceSettings
from risk.overlay import RiskSettings

Plain = Mapping[str, Any] | None  # settings as in conf/

_KERNELS: Mapping[tuple[type, type], type[BookKernel]] = {
    (OptionMarket, OptionPortfolioSettings): OptionPortfolioKernel,
    (PanelMarket, AllocationSettings): AllocationKernel,
    (HedgingMarket, HedgingSettings): HedgingKernel,
}


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
    """Books of the kind that the market is for; InputError where the settings are of another.

    Examples:
        >>> own = make_option_portfolio().kernel
        >>> open_kernel(own.market, own.options, own.window, num_envs=64).reset().shape
        (64, 213)
    """
    kernel = _KERNELS.get((type(market), type(options)))
    if kernel is None:
        raise InputError(
            f"a {type(market).__name__} cannot be traded with {type(options).__name__}",
            "Take env=option_portfolio for options on an index, env=portfolio_allocation for a "
            "panel, env=option_hedging for a liability",
        )
    return kernel(market, options, window, num_envs, seed, random_start=random_start, risk=risk)


def make_option_portfolio(
    num_envs: int | None = None,
    split: str = "train",
    data: Plain = None,
    surface: Plain = None,
    env: Plain = None,
    render_mode: str | None = None,
) -> KernelEnv | KernelVectorEnv:
    """The option book as a gymnasium environment, or as a vector environment of `num_envs`.

    `data`, `surface` and `env` are plain settings as in conf/; each defaults to its class's
    defaults (embedded S&P 500, volatility driven by VIX, realistic costs). Raises InputError for
    settings that are not valid.

    Examples:
        >>> env = make_option_portfolio(split="test")
        >>> observation, _ = env.reset(seed=0)
        >>> observation.shape, env.action_space.shape
        ((213,), (20,))
    """
    return _make(_option_settings(data, surface, env), split, num_envs, render_mode)


def make_portfolio_allocation(
    num_envs: int | None = None,
    split: str = "train",
    data: Plain = None,
    env: Plain = None,
    render_mode: str | None = None,
) -> KernelEnv | KernelVectorEnv:
    """The allocation as a gymnasium environment, or as a vector environment of `num_envs`.

    `data` and `env` are plain settings as in conf/; each defaults to its class's defaults (ten
    simulated assets, costs of 10 bp). Raises InputError for settings that are not valid.

    Examples:
        >>> many = make_portfolio_allocation(num_envs=8, env={"action": "band"})
        >>> many.single_action_space.shape
        (21,)
    """
    return _make(_allocation_settings(data, env), split, num_envs, render_mode)


def make_option_hedging(
    num_envs: int | None = None,
    split: str = "train",
    data: Plain = None,
    env: Plain = None,
    render_mode: str | None = None,
) -> KernelEnv | KernelVectorEnv:
    """Hedging as a gymnasium environment, or as a vector environment of `num_envs`.

    `data` and `env` are plain settings as in conf/; each defaults to its class's defaults (one
    simulated path, a call of 20 sessions, costs of 1 %). Raises InputError for settings that are
    not valid.

    Examples:
        >>> make_option_hedging(env={"episode": {"sessions": 10}}).observation_space.shape
        (8,)
    """
    return _make(_hedging_settings(data, env), split, num_envs, render_mode)


def make_option_market(
    data: Plain = None, surface: Plain = None, env: Plain = None
) -> OptionMarket:
    """The market of `make_option_portfolio` alone: history, priced chain, unit costs. Shared.

    Examples:
        >>> market = make_option_market()
        >>> market.instruments[:2], market.mark.shape
        (('30D_Call_0.90', '30D_Call_0.95'), (1, 5031, 20))
    """
    market: OptionMarket = _load(_option_settings(data, surface, env))[1]
    return market


def make_allocation_market(data: Plain = None, env: Plain = None) -> PanelMarket:
    """The market of `make_portfolio_allocation` alone. Shared.

    Examples:
        >>> make_allocation_market().instruments[:2]
        ('asset_01', 'asset_02')
    """
    market: PanelMarket = _load(_allocation_settings(data, env))[1]
    return market


def make_hedging_market(data: Plain = None, env: Plain = None) -> HedgingMarket:
    """The market of `make_option_hedging` alone: liabilities, listed options, costs. Shared.

    Examples:
        >>> make_hedging_market().instruments
        ('underlying', 'call_1.00_20')
    """
    market: HedgingMarket = _load(_hedging_settings(data, env))[1]
    return market


def _option_settings(data: Plain, surface: Plain, env: Plain) -> OptionMarketSettings:
    return OptionMarketSettings(
        data=build_settings(DataSettings, {"source": "sp500", **(data or {})}, "data"),
        surface=build_settings(SurfaceSettings, {"kind": "vix", **(surface or {})}, "surface"),
        env=build_settings(OptionPortfolioSettings, env or {}, "env"),
    )


def _allocation_settings(data: Plain, env: Plain) -> AllocationMarketSettings:
    return AllocationMarketSettings(
        data=build_settings(PanelSettings, {"source": "panel_simulated", **(data or {})}, "data"),
        env=build_settings(AllocationSettings, env or {}, "env"),
    )


def _hedging_settings(data: Plain, env: Plain) -> HedgingMarketSettings:
    return HedgingMarketSettings(
        data=build_settings(DataSettings, {"source": "synthetic", **(data or {})}, "data"),
        env=build_settings(HedgingSettings, env or {}, "env"),
    )


def _make(
    settings: MarketSettings, split: str, num_envs: int | None, render_mode: str | None
) -> KernelEnv | KernelVectorEnv:
    if num_envs is not None and render_mode is not None:
        raise InputError(
            f"render_mode={render_mode} was asked of {num_envs} environments at once",
            "Render one environment of gymnasium.make",
        )
    loaded, market = _load(settings)
    stretch = loaded.split(split)
    kernel = open_kernel(market, settings.env, Window(stretch.start, stretch.stop), num_envs or 1)
    return KernelEnv(kernel, render_mode) if num_envs is None else KernelVectorEnv(kernel)


@lru_cache(maxsize=4)
def _load(settings: MarketSettings) -> tuple[Loaded[Any, Any], Any]:
    """A market is immutable, so environments with the same settings share it."""
    loaded = settings.load()
    return loaded, settings.build(loaded.history)
