"""A curriculum: episodes come from few years or calm paths first, and from all of them in the end.

Each stage narrows where new episodes begin; those under way are played to their end. A stage ends
after its share of the training's steps or once the validation score reaches a value, whichever
comes first; what is validated on is the same in all stages.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator
from stable_baselines3.common.callbacks import BaseCallback

from callbacks.validation import Validation
from conf.errors import InputError
from conf.settings import settings
from conf.types import IntArray
from envs.core.batch import Window
from envs.core.market import BookMarket
from envs.market.splits import Day

log = logging.getLogger(__name__)


@settings
class Stage:
    """Where episodes may begin, and when that ends; the last stage of a curriculum never does."""

    first: Day | None = None  # of the training days, both inclusive; null: from their start
    last: Day | None = None  # null: to their end
    calmest: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0  # share of paths, by volatility
    until: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None  # share of total_timesteps
    until_score: float | None = None  # of a validation

    @model_validator(mode="after")
    def _check_days(self) -> Stage:
        if self.first is not None and self.last is not None and self.first >= self.last:
            raise ValueError(f"first {self.first} must come before last {self.last}")
        return self


@settings
class NoCurriculum:
    """All that is trained on, all the time."""

    kind: Literal["none"] = "none"


@settings
class CurriculumSettings:
    """Stages, one after another."""

    kind: Literal["stages"] = "stages"
    stages: Annotated[tuple[Stage, ...], Field(min_length=2)]

    @model_validator(mode="after")
    def _check_ends(self) -> CurriculumSettings:
        *before, last = self.stages
        if any(stage.until is None and stage.until_score is None for stage in before):
            raise ValueError("a stage before the last one has no end: give until or until_score")
        if last.until is not None or last.until_score is not None:
            raise ValueError("the last stage goes on to the end: leave out until and until_score")
        shares = [stage.until for stage in before if stage.until is not None]
        if sorted(set(shares)) != shares:
            raise ValueError(f"the ends {shares} do not rise from stage to stage")
        return self


Curriculum = Annotated[NoCurriculum | CurriculumSettings, Field(discriminator="kind")]


@dataclass(frozen=True)
class Places:
    """Where the episodes of a stage begin."""

    window: Window
    paths: IntArray | None  # None: all


def places_of(
    stages: Sequence[Stage], market: BookMarket, window: Window, sessions: int
) -> list[Places]:
    """The places of each stage in the training window, for episodes of that many sessions.

    InputError for a stage whose days the training days do not cover for an episode, and for calm
    paths where there is only one.
    """
    history = market.history
    dates = history.dates.astype("datetime64[D]")
    trained = f"{dates[window.start]} to {dates[window.stop - 1]}"
    found = []
    for number, stage in enumerate(stages, start=1):
        start, stop = window.start, window.stop
        if stage.first is not None:
            start = max(start, int(np.searchsorted(dates, np.datetime64(stage.first))))
        if stage.last is not None:
            stop = min(stop, int(np.searchsorted(dates, np.datetime64(stage.last), side="right")))
        if stop - start < sessions + 1:
            raise InputError(
                f"stage {number} of the curriculum has {max(stop - start, 0)} of the training "
                f"sessions ({trained}), and an episode needs {sessions + 1}",
                "Move first and last, or train on other data",
            )
        paths = None
        if stage.calmest < 1.0:
            if history.num_paths == 1:
                raise InputError(
                    f"stage {number} of the curriculum takes the calmest paths, and {history.name} "
                    "has one path",
                    "Choose curriculum=years, or train in worlds (data=worlds)",
                )
            order = np.argsort(volatility_of(history.close), kind="stable")
            paths = np.sort(order[: max(round(stage.calmest * len(order)), 1)])
        found.append(Places(Window(start, stop), paths))
    return found


def volatility_of(close: Any) -> Any:
    """Standard deviation of each path's daily log returns, (P,); of assets (P, T, A) the mean."""
    deviation = np.diff(np.log(close), axis=1).std(axis=1)
    return deviation if deviation.ndim == 1 else deviation.mean(axis=-1)


class StagedEpisodes(BaseCallback):
    """Lets new episodes begin where the current stage says.

    total: steps of the training; validation: whose best score ends a stage. Call it after that and
    before what writes checkpoints, and `init_callback` before the first episodes begin.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        places: Sequence[Places],
        total: int,
        validation: Validation,
    ) -> None:
        super().__init__()
        self._stages, self._places = list(stages), list(places)
        self._total, self._validation = total, validation
        self.stage = 0

    def _init_callback(self) -> None:
        self._restrict()

    def _on_rollout_start(self) -> None:
        step = self.model.num_timesteps
        while self._has_ended(self._stages[self.stage], step):
            self.stage += 1
            self._restrict()
            log.info("step %d: stage %d of the curriculum begins", step, self.stage + 1)
        self.logger.record("curriculum/stage", self.stage + 1)

    def _on_step(self) -> bool:
        return True

    def _has_ended(self, stage: Stage, step: int) -> bool:
        best = self._validation.best_score
        by_score = stage.until_score is not None and best is not None and best >= stage.until_score
        return by_score or (stage.until is not None and step >= stage.until * self._total)

    def _restrict(self) -> None:
        places = self._places[self.stage]
        self.training_env.env_method("restrict", places.window, places.paths)

    def state_dict(self) -> dict[str, Any]:
        """The stage, which later episodes depend on."""
        return {"stage": self.stage}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        if state["stage"] not in range(len(self._stages)):
            raise InputError(f"the checkpoint is at stage {state['stage']!r} of the curriculum")
        self.stage = state["stage"]
