"""Evaluates the policy on unseen years during training, and saves the best one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from agents.persistence.policy_file import save_policy
from agents.policy import Policy
from callbacks.criterion import SHARPE, Criterion
from callbacks.dashboard import write_scalars
from conf.files import new_folder, write_json

log = logging.getLogger(__name__)

Score = Callable[[Policy], Mapping[str, float]]

_STATE = ("best_score", "best_value", "best_step", "scored", "scored_at", "since_best")


class Validation(BaseCallback):
    """Every `every` steps: score the deterministic policy on the validation and training splits.

    `score_validation` and `score_train` run the policy through a whole split and give its metrics,
    the criterion's among them. The best policy by its validation score, which is that metric unless
    there is a `score`, is kept in `best/`; TensorBoard shows the metric of both splits and their
    gap. A policy that is ruined on the validation split is never the best. With `patience`,
    training stops after that many scores without improvement.
    """

    def __init__(
        self,
        every: int,
        best: Path,
        score_validation: Score,
        score_train: Score,
        metadata: Mapping[str, Any],
        patience: int | None = None,
        criterion: Criterion = SHARPE,
    ) -> None:
        super().__init__()
        self.criterion = criterion
        self._every, self._best, self._patience = every, best, patience
        self._score_validation, self._score_train = score_validation, score_train
        self._metadata = metadata
        self.best_score: float | None = None
        self.best_value: float | None = None  # of the criterion, with the best score
        self.best_step: int | None = None
        self.scored = 0  # policies from which the best was chosen
        self.scored_at = -1  # step of the last score
        self.since_best = 0  # scores

    def _on_rollout_start(self) -> None:
        step = self.model.num_timesteps
        if step > 0 and step // self._every > max(self.scored_at, 0) // self._every:
            self.evaluate(step)

    def _on_step(self) -> bool:
        if self._patience is None or self.since_best < self._patience:
            return True
        log.info("stopping: no better validation score in %d evaluations", self.since_best)
        return False

    def finish(self) -> None:
        """Score the last policy too."""
        self.evaluate(self.model.num_timesteps)

    def evaluate(self, step: int) -> None:
        """Score the current policy and save it if it is the best so far."""
        if step == self.scored_at:
            return
        self.scored_at = step
        self.scored += 1
        policy: Any = self.model.policy
        validation, train = self._score_validation(policy), self._score_train(policy)
        judged, metric = self.criterion, self.criterion.metric
        value, gap = validation[metric], judged.merit(train[metric] - validation[metric])
        values = {f"validation/{name}": value for name, value in validation.items()}
        values |= {f"train_split/{name}": value for name, value in train.items()}
        write_scalars(self.logger, {**values, "validation/gap": gap}, step)
        score = validation.get("score", judged.merit(value))
        # A book may have a good Sharpe ratio until the day of its ruin.
        eligible = bool(np.isfinite(score)) and validation.get("ruined", 0.0) == 0.0
        better = eligible and (self.best_score is None or score > self.best_score)
        shown = self._shown(validation, judged.shown(train[metric]))
        note = ", best so far" if better else "" if eligible else ", ruined"
        log.info("step %d: %s%s", step, shown, note)
        if not better:
            self.since_best += 1
            return
        self.best_score, self.best_value = float(score), float(value)
        self.best_step, self.since_best = step, 0
        with new_folder(self._best) as folder:
            save_policy(policy, folder, {**self._metadata, "step": step})
            finite = {name: float(x) if np.isfinite(x) else None for name, x in validation.items()}
            content = {"step": step, "score": self.best_score, "metrics": finite}
            write_json(folder / "validation.json", content)

    def best_shown(self) -> str:
        """What the best policy was chosen by; empty as long as there is none."""
        if self.best_score is None or self.best_value is None:
            return ""
        value = f"validation {self.criterion.title} {self.criterion.shown(self.best_value)}"
        if self.best_score == self.criterion.merit(self.best_value):
            return value
        return f"score {self.best_score:.2f} ({value})"

    def _shown(self, validation: Mapping[str, float], in_training: str) -> str:
        """The score, if it is more than the criterion, and its parts."""
        judged = self.criterion
        value = f"{judged.title} {judged.shown(validation[judged.metric])} on validation"
        learned = f"{in_training} on the training years"
        if "score" not in validation:
            return f"{value}, {learned}"
        worlds = f"{validation['worlds_sharpe']:.2f} in unseen worlds"
        return f"score {validation['score']:.2f} ({value}, {worlds}; {learned})"

    def state_dict(self) -> dict[str, Any]:
        """What later evaluations depend on."""
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name in _STATE:
            setattr(self, name, state[name])
