"""An ablation: the same trainings with a technique and without it, seed by seed.

`ablation.json` holds what is compared and never changes. Each run is an ordinary run folder,
`<technique>-<seed>`, and `without-<seed>` is what all are compared with. In a cumulative one each
technique comes on top of those before it and is compared with them; in the end the seeds of the
last are merged into one policy, in the run folder `ensemble`.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from agents.persistence.strict_json import read_json
from conf.errors import InputError
from conf.files import write_json
from conf.settings import build_settings, settings, settings_to_json
from experiments.environments.opening import open_market, section
from experiments.environments.setup import MarketSetup
from experiments.runs.folder import ABLATION, check_run_name, run_lock, shown_path
from experiments.runs.merging import merge_runs
from experiments.runs.parallel import Workers, run_tasks
from experiments.runs.record import load_manifest, load_run_config
from experiments.runs.settings import RunSettings, run_settings
from experiments.runs.training import episode_places, validation_scores
from experiments.statistics.paired_effects import PairedEffect, paired_effects
from experiments.sweeps.arguments import portable_override
from experiments.sweeps.search import train_one
from experiments.sweeps.space import configuration
from risk.bootstrap import interquartile_mean

log = logging.getLogger(__name__)

ABLATION_FORMAT = 1
WITHOUT, ENSEMBLE = "without", "ensemble"
# By what a policy is judged, of `env` all but what is observed: a technique that changed it, or how
# many policies a run chooses among, would be judged otherwise than without it.
_CONDITIONS = ("data", "surface", "costs", "risk", "callbacks", "threads", "experiment", "env")
# Of a validation: what the verdict is about, and its parts where there are worlds.
SCORE = "score"
PARTS = ("sharpe", "worlds_sharpe")


@settings
class Technique:
    """Something that may make the agent better: overrides of its training."""

    description: Annotated[str, Field(min_length=1)]
    overrides: Annotated[tuple[str, ...], Field(min_length=1)]
    agent: str | None = None  # the kind of agent that it is of; null: any


@settings
class AblationSettings:
    """What is compared, and on how many seeds."""

    techniques: Annotated[dict[str, Technique], Field(min_length=1)]
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Field(min_length=2)]
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95  # of intervals and verdicts
    cumulative: bool = False  # each technique on top of those before it

    @model_validator(mode="after")
    def _check_names(self) -> AblationSettings:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed is named twice")
        for name in self.techniques:
            check_run_name(name)
        for taken in (WITHOUT, ENSEMBLE):
            if taken in self.techniques:
                raise ValueError(f"a technique cannot be named {taken}, which every ablation has")
        return self


@dataclass(frozen=True)
class Ablation:
    """A comparison in its folder."""

    folder: Path
    overrides: tuple[str, ...]  # of every run
    settings: AblationSettings

    @property
    def arms(self) -> tuple[str, ...]:
        """The techniques, and before them doing without."""
        return (WITHOUT, *self.settings.techniques)

    def before(self, arm: str) -> str:
        """What a technique is compared with."""
        arms = self.arms
        return arms[arms.index(arm) - 1] if self.settings.cumulative else WITHOUT

    def run_folder(self, arm: str, seed: int) -> Path:
        """Where a run lives."""
        return self.folder / f"{arm}-{seed}"

    def arguments(self, arm: str, seed: int) -> list[str]:
        """What `experiments.train` has to be given to do that run by hand."""
        own: tuple[str, ...] = ()
        while arm != WITHOUT:
            own = (*self.settings.techniques[arm].overrides, *own)
            arm = self.before(arm)
        return [*self.overrides, *own, f"seed={seed}", "callbacks.progress_bar=false"]


@dataclass(frozen=True)
class AblationResult:
    """What came out, of each measure that the validations have."""

    scores: Mapping[str, Mapping[str, tuple[float | None, ...]]]  # measure, arm: by seed
    effects: Mapping[str, tuple[PairedEffect, ...]]  # by measure
    cpu_seconds: Mapping[str, float]  # of a run, by arm; mean over seeds
    ensemble: Mapping[str, float | None] | None  # of the last arm's seeds, by measure; None: none

    def summary(self, arm: str, measure: str = SCORE) -> float | None:
        """Interquartile mean over the seeds; None where one has no score."""
        scores = [score for score in self.scores[measure][arm] if score is not None]
        missing = len(scores) < len(self.scores[measure][arm])
        return None if missing else float(interquartile_mean(scores))


def begin_ablation(folder: Path, overrides: Sequence[str], chosen: AblationSettings) -> Ablation:
    """A new comparison in `folder`, from a cold start of PPO; everything is checked first.

    InputError where the folder holds one already, and for a technique that cannot be trained,
    changes nothing, or changes what policies are judged by.
    """
    if (folder / ABLATION).exists():
        raise InputError(
            f"{shown_path(folder)} already holds an ablation",
            f"Go on with resume={shown_path(folder)}",
        )
    # After pretraining PPO has little left to do, and so has whatever should help it.
    cold = () if any(text.startswith("pretrain") for text in overrides) else ("pretrain=none",)
    portable = tuple(portable_override(text) for text in (*overrides, *cold))
    ablation = Ablation(folder, portable, chosen)
    _check(ablation)
    content = {"overrides": list(portable), "ablation": settings_to_json(chosen)}
    write_json(folder / ABLATION, {"format": ABLATION_FORMAT, **content})
    return ablation


def reopen_ablation(folder: Path) -> Ablation:
    """The comparison in `folder`, to go on with."""
    record = read_json(folder / ABLATION)
    if record.get("format") != ABLATION_FORMAT or not isinstance(record.get("overrides"), list):
        raise InputError(
            f"{folder / ABLATION} is no ablation of this version", "Start a new ablation"
        )
    chosen: AblationSettings = build_settings(
        AblationSettings, record.get("ablation") or {}, "ablation"
    )
    return Ablation(folder, tuple(record["overrides"]), chosen)


def train_arms(
    ablation: Ablation, workers: Workers, on_run: Callable[[], object] = lambda: None
) -> AblationResult:
    """Do all runs that are not done, and compare; `on_run` is called after each."""
    runs = [(arm, seed) for seed in ablation.settings.seeds for arm in ablation.arms]
    tasks = [
        (str(ablation.run_folder(*run).absolute()), configuration(ablation.arguments(*run)))
        for run in runs
    ]
    run_tasks(train_one, tasks, workers, on_run)
    if ablation.settings.cumulative:
        _merge_seeds(ablation)
    return read_result(ablation)


def _merge_seeds(ablation: Ablation) -> None:
    """One policy of the last arm's seeds, where they can be merged."""
    folder = ablation.folder / ENSEMBLE
    if validation_scores(folder):
        return
    shutil.rmtree(folder, ignore_errors=True)  # one that was killed holds nothing
    runs = [ablation.run_folder(ablation.arms[-1], seed) for seed in ablation.settings.seeds]
    try:
        with run_lock(folder):
            merge_runs(runs, folder, load_run_config(runs[0])["experiment"])
    except InputError as error:
        log.warning("there is no ensemble: %s", error.problem)


def read_result(ablation: Ablation) -> AblationResult:
    """The comparison of runs that are all done."""
    seeds = ablation.settings.seeds
    validations = {
        arm: [validation_scores(ablation.run_folder(arm, seed)) for seed in seeds]
        for arm in ablation.arms
    }
    in_worlds = any(PARTS[-1] in row for rows in validations.values() for row in rows)
    scores = {
        name: {arm: tuple(row.get(name) for row in rows) for arm, rows in validations.items()}
        for name in (SCORE, *(PARTS if in_worlds else ()))
    }
    effects = {
        name: paired_effects(
            {
                arm: (by_arm[ablation.before(arm)], by_arm[arm])
                for arm in ablation.settings.techniques
            },
            ablation.settings.level,
        )
        for name, by_arm in scores.items()
    }
    seconds = {
        arm: float(np.mean([_cpu_seconds(ablation.run_folder(arm, seed)) for seed in seeds]))
        for arm in ablation.arms
    }
    merged = validation_scores(ablation.folder / ENSEMBLE)
    ensemble = {name: merged.get(name) for name in scores} if merged else None
    return AblationResult(scores, effects, seconds, ensemble)


def ablation_numbers(ablation: Ablation, result: AblationResult) -> dict[str, Any]:
    """The result as JSON holds it: undefined is null."""

    def finite(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    return {
        "format": ABLATION_FORMAT,
        "ablation": shown_path(ablation.folder),
        "overrides": list(ablation.overrides),
        "seeds": list(ablation.settings.seeds),
        "level": ablation.settings.level,
        "cumulative": ablation.settings.cumulative,
        "ensemble": result.ensemble,
        "cpu_seconds_a_run": dict(result.cpu_seconds),
        "scores": {
            name: {arm: list(values) for arm, values in by_arm.items()}
            for name, by_arm in result.scores.items()
        },
        "effects": {
            name: [
                {
                    "technique": effect.name,
                    "difference": finite(effect.mean),
                    "low": finite(effect.low),
                    "high": finite(effect.high),
                    "p_value": effect.p_value,
                    "p_adjusted": effect.p_adjusted,
                    "verdict": str(effect.effect),
                    "seeds_without_a_score": effect.missing,
                }
                for effect in effects
            ]
            for name, effects in result.effects.items()
        },
    }


def _check(ablation: Ablation) -> None:
    first = ablation.settings.seeds[0]
    plain = configuration(ablation.arguments(WITHOUT, first))
    settings = run_settings(plain)
    setup = cache(lambda: open_market(settings.market))  # of all runs
    _check_curriculum(settings, setup)
    composed = {WITHOUT: plain}
    for name, technique in ablation.settings.techniques.items():
        kind = section(plain, "agent").get("kind")
        if technique.agent not in (None, kind):
            raise InputError(
                f"technique {name} is of agent={technique.agent}, and these runs have agent={kind}",
                f"Compare with and without it: agent={technique.agent}",
            )
        try:
            own = composed[name] = configuration(ablation.arguments(name, first))
            _check_curriculum(run_settings(own), setup)
        except InputError as error:
            raise InputError(f"technique {name}: {error.problem}", error.remedy) from None
        if own == composed[ablation.before(name)]:
            raise InputError(
                f"technique {name} changes nothing: {' '.join(technique.overrides)}",
                "Leave it out, or compare with other settings",
            )
        changed = [key for key in _CONDITIONS if _judging(own, key) != _judging(plain, key)]
        if changed:
            raise InputError(
                f"technique {name} changes {changed[0]}, by which policies are judged",
                "Compare techniques of learning; to compare markets use experiments.compare",
            )


def _check_curriculum(settings: RunSettings, setup: Callable[[], MarketSetup]) -> None:
    """InputError where the market has no room for a stage; it is only opened if there are any."""
    if settings.curriculum.kind != "none":
        episode_places(settings, setup())


def _judging(config: Mapping[str, Any], key: str) -> Any:
    part = config.get(key)
    return {**part, "observation": None} if key == "env" and isinstance(part, dict) else part


def _cpu_seconds(run: Path) -> float:
    return float(load_manifest(run).get("cpu_seconds", np.nan))
