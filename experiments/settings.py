"""A composed configuration, checked section by section and made into settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from agents.factory import RecurrentPPOSettings
from envs.costs import CostSettings
from envs.market.sources import DataSettings
from envs.option_market import OptionPortfolioSettings
from envs.options.surface import FlatSurface, SurfaceSettings, VixSurface
from envs.reward import RewardSettings
from experiments.run_folder import check_run_name
from risk.errors import InputError
from risk.overlay import RiskSettings
from risk.settings import build_settings, settings


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
class MarketSettings:
    """Which market, at which volatility, which book in it, and what guards the book."""

    data: DataSettings
    surface: FlatSurface | VixSurface
    env: OptionPortfolioSettings
    risk: RiskSettings


@dataclass(frozen=True)
class RunSettings:
    """Everything that defines a training run."""

    top: TopLevel
    market: MarketSettings
    agent: RecurrentPPOSettings
    callbacks: CallbackSettings


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
        agent=build_settings(RecurrentPPOSettings, section(config, "agent"), "agent"),
        callbacks=build_settings(CallbackSettings, section(config, "callbacks"), "callbacks"),
    )


def market_settings(config: Mapping[str, Any]) -> MarketSettings:
    """The sections of a configuration that define the market and the book."""
    env = {
        **section(config, "env"),
        "costs": build_settings(CostSettings, section(config, "costs"), "costs"),
        "reward": build_settings(RewardSettings, section(config, "reward"), "reward"),
    }
    return MarketSettings(
        data=build_settings(DataSettings, section(config, "data"), "data"),
        surface=build_settings(SurfaceSettings, section(config, "surface"), "surface"),
        env=build_settings(OptionPortfolioSettings, env, "env"),
        risk=build_settings(RiskSettings, section(config, "risk"), "risk"),
    )


def section(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One section of a configuration; InputError if it is missing or no mapping."""
    value = config.get(name)
    if not isinstance(value, Mapping):
        raise InputError(
            f"section {name!r} of the configuration is {value!r}", f"Choose one: {name}=<name>"
        )
    return dict(value)
