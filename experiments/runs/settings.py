"""A composed configuration, checked section by section and made into settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from agents.factory import AgentSettings
from conf.errors import InputError
from conf.settings import build_settings, settings
from envs.allocation.market import AllocationSettings
from envs.core.costs import CostSettings
from envs.core.reward import RewardSettings
from envs.market.sources.index import DataSettings
from envs.market.sources.panel import PanelSettings
from envs.option_portfolio.market import OptionPortfolioSettings
from envs.options.surface import FlatSurface, SurfaceSettings, VixSurface
from experiments.runs.folder import check_run_name
from risk.overlay import RiskSettings


@settings
class CallbackSettings:
    """What happens during training besides learning."""

    checkpoint_every: Annotated[int, Field(ge=1)] = 20_000  # steps
    keep_last: Annotated[int, Field(ge=1)] | None = 5
    validate_every: Annotated[int, Field(ge=1)] = 20_000  # steps
    patience: Annotated[int, Field(ge=1)] | None = None  # validations without improvement
    progress_bar: bool = True


@settings
class TopLevel:
    """The settings that stand in no section."""

    experiment: str = "default"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    total_timesteps: Annotated[int, Field(ge=1)] = 300_000
    num_envs: Annotated[int, Field(ge=1, le=65536)] = 16
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "cpu"
    threads: Annotated[int, Field(ge=1, le=1024)] = 2


@dataclass(frozen=True)
class OptionMarketSettings:
    """Which index, at which volatility, which option book on it, and what guards the book."""

    data: DataSettings
    surface: FlatSurface | VixSurface
    env: OptionPortfolioSettings
    risk: RiskSettings


@dataclass(frozen=True)
class PanelMarketSettings:
    """Which assets, how they are allocated to, and what guards the portfolio."""

    data: PanelSettings
    env: AllocationSettings
    risk: RiskSettings


MarketSettings = OptionMarketSettings | PanelMarketSettings


@dataclass(frozen=True)
class RunSettings:
    """Everything that defines a training run."""

    top: TopLevel
    market: MarketSettings
    agent: AgentSettings
    callbacks: CallbackSettings


OPTIONS, ALLOCATION = "options", "allocation"  # env.kind
MARKET_SECTIONS = ("data", "surface", "env", "costs", "reward", "risk")
SECTIONS = (*MARKET_SECTIONS, "agent", "callbacks")


def run_settings(config: Mapping[str, Any]) -> RunSettings:
    """Check a plain configuration and build its settings.

    Raises InputError for the first unknown key, wrong type or value out of range.
    """
    top = {name: value for name, value in config.items() if name not in SECTIONS}
    checked: TopLevel = build_settings(TopLevel, top, "config")
    check_run_name(checked.experiment)
    return RunSettings(
        top=checked,
        market=market_settings(config),
        agent=build_settings(AgentSettings, section(config, "agent"), "agent"),
        callbacks=build_settings(CallbackSettings, section(config, "callbacks"), "callbacks"),
    )


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
        return PanelMarketSettings(
            data=build_settings(PanelSettings, data, "data"),
            env=build_settings(AllocationSettings, env, "env"),
            risk=risk,
        )
    return OptionMarketSettings(
        data=build_settings(DataSettings, data, "data"),
        surface=build_settings(SurfaceSettings, section(config, "surface"), "surface"),
        env=build_settings(OptionPortfolioSettings, env, "env"),
        risk=risk,
    )


def surface_kind(wanted: MarketSettings) -> str:
    """Which volatility surface; "none" for assets."""
    return wanted.surface.kind if isinstance(wanted, OptionMarketSettings) else "none"


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
    surface = (config.get("surface") or {}).get("kind", "none")
    costs = section(config, "costs").get("kind")
    if kind == ALLOCATION and surface != "none":
        raise InputError(
            f"surface={surface} prices options, and an allocation has none",
            "Choose surface=none (+exp=allocation does)",
        )
    if kind == ALLOCATION and costs == "realistic":
        raise InputError(
            "costs=realistic are those of options",
            "Choose costs=proportional, or costs=flat costs.rate_bps=...",
        )
    if kind == OPTIONS and surface == "none":
        raise InputError(
            "an option book needs a volatility surface, and surface is none",
            "Choose surface=vix or surface=flat",
        )
    is_panel = str(data.get("source", "")).startswith("panel_")
    if is_panel and kind == OPTIONS:
        raise InputError(
            f"data={data['source']} holds many assets, which an option book cannot be on",
            "Choose env=portfolio_allocation (+exp=allocation), or data=sp500",
        )
    if not is_panel and kind == ALLOCATION:
        raise InputError(
            f"data={data.get('source')} holds one index, which nothing can be allocated in",
            "Choose data=panel_simulated, panel_stocks, panel_csv or panel_yahoo",
        )


def section(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One section of a configuration; InputError if it is missing or no mapping."""
    value = config.get(name)
    if not isinstance(value, Mapping):
        raise InputError(
            f"section {name!r} of the configuration is {value!r}", f"Choose one: {name}=<name>"
        )
    return dict(value)
