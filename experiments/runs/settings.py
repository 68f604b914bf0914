"""The settings of a training run, built from a composed configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from agents.factory import AgentSettings, PathwiseAgentSettings, RecurrentPPOSettings
from agents.off_policy.settings import TQCSettings
from agents.pathwise.trainer import PathwiseSettings
from callbacks.curriculum import Curriculum, CurriculumSettings, NoCurriculum, Stage
from conf.errors import InputError
from conf.settings import build_settings, in_one_message, settings
from envs.core.market import MarketSettings
from envs.hedging.market import HedgingMarketSettings
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


Device = Annotated[
    str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$"), in_one_message("cpu, cuda or auto")
]


@settings
class TopLevel:
    """The settings outside every section."""

    experiment: str = "default"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    total_timesteps: Annotated[int, Field(ge=1)] = 300_000
    num_envs: Annotated[int, Field(ge=1, le=65536)] = 16
    device: Device = "cpu"
    threads: Annotated[int, Field(ge=1, le=1024)] = 2


@settings
class NoPretraining:
    """The agent begins with random weights."""

    kind: Literal["none"] = "none"


@settings
class PathwisePretraining(PathwiseSettings):
    """The agent begins with the weights of a pathwise training."""

    kind: Literal["pathwise"] = "pathwise"


Pretraining = Annotated[NoPretraining | PathwisePretraining, Field(discriminator="kind")]


@dataclass(frozen=True)
class RunSettings:
    """Everything that defines a training run."""

    top: TopLevel
    market: MarketSettings
    agent: AgentSettings
    callbacks: CallbackSettings
    pretrain: NoPretraining | PathwisePretraining = field(default_factory=NoPretraining)
    curriculum: NoCurriculum | CurriculumSettings = field(default_factory=NoCurriculum)

    @property
    def pathwise(self) -> PathwiseSettings | None:
        """The run's pathwise training, which is a stage before PPO or all of it; None for none."""
        for options in (self.agent, self.pretrain):
            if isinstance(options, PathwiseSettings):
                return options
        return None

    @property
    def steps(self) -> int:
        """Environment steps of PPO."""
        alone = isinstance(self.agent, PathwiseAgentSettings)
        return 0 if alone else self.top.total_timesteps


# Settings of PPO that TQC does not have, as an experiment may give them.
OF_PPO_ALONE = frozenset(
    set(RecurrentPPOSettings.__dataclass_fields__) - set(TQCSettings.__dataclass_fields__)
)
SECTIONS = (*MARKET_SECTIONS, "agent", "pretrain", "curriculum", "callbacks")


def run_settings(config: Mapping[str, Any]) -> RunSettings:
    """Check a plain configuration and build its settings.

    Raises InputError for the first unknown key, wrong type or value out of range.
    """
    top = {name: value for name, value in config.items() if name not in SECTIONS}
    checked: TopLevel = build_settings(TopLevel, top)
    check_run_name(checked.experiment)
    # Runs of earlier versions have no such section.
    pretrain = section(config, "pretrain") if "pretrain" in config else {"kind": "none"}
    if pretrain.get("kind") == "none":  # what an experiment says of its own pretraining is left out
        pretrain = {"kind": "none"}
    curriculum = section(config, "curriculum") if "curriculum" in config else {"kind": "none"}
    agent = section(config, "agent")
    if agent.get("kind") == "tqc":  # so is what it says of PPO
        agent = {name: value for name, value in agent.items() if name not in OF_PPO_ALONE}
    result = RunSettings(
        top=checked,
        market=market_settings(config),
        agent=build_settings(AgentSettings, agent, "agent"),
        callbacks=build_settings(CallbackSettings, section(config, "callbacks"), "callbacks"),
        pretrain=build_settings(Pretraining, pretrain, "pretrain"),
        curriculum=build_settings(Curriculum, curriculum, "curriculum"),
    )
    if isinstance(result.agent, PathwiseAgentSettings) and result.pretrain.kind != "none":
        raise InputError(
            f"pretrain={result.pretrain.kind} precedes PPO, and agent=pathwise makes no step of it",
            "Leave pretrain=none, or choose agent=recurrent_ppo",
        )
    if isinstance(result.agent, TQCSettings) and result.pretrain.kind != "none":
        raise InputError(
            f"pretrain={result.pretrain.kind} precedes PPO, and agent=tqc begins without it",
            "Choose pretrain=none",
        )
    if isinstance(result.curriculum, CurriculumSettings):
        _check_curriculum(result, result.curriculum.stages)
    return result


def _check_curriculum(result: RunSettings, stages: Sequence[Stage]) -> None:
    """InputError where no step of PPO draws episodes, or their days are made up."""
    if isinstance(result.agent, PathwiseAgentSettings):
        raise InputError(
            "a curriculum is of PPO, and agent=pathwise makes no step of it",
            "Leave curriculum=none, or choose agent=recurrent_ppo",
        )
    if isinstance(result.market, HedgingMarketSettings):
        raise InputError(
            "a curriculum narrows where episodes begin, and a liability's are given",
            "Leave curriculum=none",
        )
    dated = any(stage.first or stage.last for stage in stages)
    if dated and getattr(result.market, "data_worlds", None) is not None:
        raise InputError(
            "a curriculum of years was given for simulated worlds, whose days are made up",
            "Choose curriculum=worlds, or data=sp500",
        )
