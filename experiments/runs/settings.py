"""The settings of a training run, built from a composed configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from agents.factory import AgentSettings
from conf.settings import build_settings, settings
from envs.core.market import MarketSettings
from experiments.environments.opening import MARKET_SECTIONS, market_settings, section
from experiments.runs.folder import check_run_name


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
    """The settings outside every section."""

    experiment: str = "default"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    total_timesteps: Annotated[int, Field(ge=1)] = 300_000
    num_envs: Annotated[int, Field(ge=1, le=65536)] = 16
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "cpu"
    threads: Annotated[int, Field(ge=1, le=1024)] = 2


@dataclass(frozen=True)
class RunSettings:
    """Everything that defines a training run."""

    top: TopLevel
    market: MarketSettings
    agent: AgentSettings
    callbacks: CallbackSettings


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
