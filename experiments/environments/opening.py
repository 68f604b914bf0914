"""Which environment a configuration asks for: checked, built and opened."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from conf.errors import InputError
from conf.settings import build_settings
from envs.allocation.market import AllocationMarketSettings, AllocationSettings
from envs.core.costs import CostSettings
from envs.core.market import MarketSettings
from envs.core.reward import RewardSettings
from envs.hedging.liability import DATA_VOLATILITY
from envs.hedging.market import HedgingMarketSettings, HedgingSettings
from envs.market.sources.index import DataSettings
from envs.market.sources.panel import PanelSettings
from envs.option_portfolio.market import OptionMarketSettings, OptionPortfolioSettings
from envs.options.surface import SurfaceSettings
from experiments.environments.allocation import AllocationSetup
from experiments.environments.hedging import HedgingSetup
from experiments.environments.option_book import OptionSetup
from experiments.environments.setup import MarketSetup
from risk.overlay import RiskSettings

log = logging.getLogger(__name__)

OPTIONS, ALLOCATION, HEDGING = "options", "allocation", "hedging"  # env.kind
MARKET_SECTIONS = ("data", "surface", "env", "costs", "reward", "risk")
_SETUPS: Mapping[type, type[MarketSetup]] = {
    OptionMarketSettings: OptionSetup,
    AllocationMarketSettings: AllocationSetup,
    HedgingMarketSettings: HedgingSetup,
}


def open_market(settings: MarketSettings) -> MarketSetup:
    """Load the data, build the market and say loudly what was loaded."""
    loaded = settings.load()
    for notice in loaded.notices:
        log.warning(notice)
    history = loaded.history
    first, last = history.dates[0], history.dates[-1]
    log.info("data: %s, %d sessions %s to %s", history.name, history.num_sessions, first, last)
    return _SETUPS[type(settings)](loaded, settings.build(history), settings)


def option_setup(setup: MarketSetup) -> OptionSetup:
    """InputError where the setup is of another environment."""
    if not isinstance(setup, OptionSetup):
        raise InputError(
            f"{setup.history.name} is a market of assets, and this is about options",
            "Choose a run of the option book",
        )
    return setup


def market_settings(config: Mapping[str, Any]) -> MarketSettings:
    """The sections of a configuration that define the market and the book.

    `env.kind` says of which environment; that of assets has no volatility surface.
    """
    kind = section(config, "env").get("kind", OPTIONS)
    _check_sections_suit(config, kind)
    env = {
        **section(config, "env"),
        "costs": build_settings(CostSettings, section(config, "costs"), "costs"),
        "reward": build_settings(RewardSettings, section(config, "reward"), "reward"),
    }
    data = section(config, "data")
    risk: RiskSettings = build_settings(RiskSettings, section(config, "risk"), "risk")
    if kind == ALLOCATION:
        _check_limits_suit(risk)
        return AllocationMarketSettings(
            data=build_settings(PanelSettings, data, "data"),
            env=build_settings(AllocationSettings, env, "env"),
            risk=risk,
        )
    if kind == HEDGING:
        return HedgingMarketSettings(
            data=build_settings(DataSettings, data, "data"),
            surface=_liability_surface(config),
            env=build_settings(HedgingSettings, env, "env"),
            risk=risk,
        )
    return OptionMarketSettings(
        data=build_settings(DataSettings, data, "data"),
        surface=build_settings(SurfaceSettings, section(config, "surface"), "surface"),
        env=build_settings(OptionPortfolioSettings, env, "env"),
        risk=risk,
    )


def _check_limits_suit(risk: RiskSettings) -> None:
    """Limits on options would cut a portfolio of assets to pieces."""
    of_options = ("max_delta", "max_gamma", "max_vega", "max_margin")
    for name in of_options if risk.enabled else ():
        if getattr(risk.limits, name) is not None:
            raise InputError(
                f"risk.limits.{name} = {getattr(risk.limits, name)} is a limit for options",
                "Choose risk=allocation, or set it to null",
            )


def _check_sections_suit(config: Mapping[str, Any], kind: Any) -> None:
    """Sections of the other environment are refused by name, before their keys are."""
    data = section(config, "data")
    priced = config.get("surface")  # null where there are no options
    surface = "none" if priced is None else section(config, "surface").get("kind", "none")
    costs = section(config, "costs").get("kind")
    if kind == ALLOCATION and surface != "none":
        raise InputError(
            f"surface={surface} prices options, and an allocation has none",
            "Choose surface=none (+exp=allocation does)",
        )
    if kind == ALLOCATION and costs in ("realistic", "spread"):
        raise InputError(
            f"costs={costs} are those of options or an index",
            "Choose costs=proportional, or costs=flat costs.rate_bps=...",
        )
    if kind == OPTIONS and surface == "none":
        raise InputError(
            "an option book needs a volatility surface, and surface is none",
            "Choose surface=vix or surface=flat",
        )
    if kind == HEDGING:
        _check_sections_suit_hedging(costs)
    is_panel = str(data.get("source", "")).startswith("panel_")
    if is_panel and kind != ALLOCATION:
        raise InputError(
            f"data={data['source']} holds many assets, and options are on one index",
            "Choose env=portfolio_allocation (+exp=allocation), or data=sp500",
        )
    if not is_panel and kind == ALLOCATION:
        raise InputError(
            f"data={data.get('source')} holds one index, which nothing can be allocated in",
            "Choose data=panel_simulated, panel_stocks, panel_csv or panel_yahoo",
        )


def _liability_surface(config: Mapping[str, Any]) -> SurfaceSettings:
    plain = config.get("surface")
    if plain is None or section(config, "surface").get("kind", "none") == "none":
        return DATA_VOLATILITY
    surface: SurfaceSettings = build_settings(SurfaceSettings, plain, "surface")
    return surface


def _check_sections_suit_hedging(costs: Any) -> None:
    if costs == "realistic":
        raise InputError(
            "costs=realistic are those of options, and a hedger trades the underlying",
            "Choose costs=spread, or costs=proportional costs.rate_bps=100",
        )


def section(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One section of a configuration; InputError if it is missing or no mapping."""
    value = config.get(name)
    if not isinstance(value, Mapping):
        raise InputError(
            f"section {name!r} of the configuration is {value!r}", f"Choose one: {name}=<name>"
        )
    return dict(value)
