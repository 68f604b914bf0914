"""Saves the run's whole state at regular intervals."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from agents.off_policy.tqc import BookTQC
from agents.persistence.checkpoint import save_checkpoint, write_checkpoint
from agents.persistence.resume_state import ResumeState, StatefulCallback, capture
from conf.errors import InputError

log = logging.getLogger(__name__)


class Checkpointing(BaseCallback):
    """A checkpoint at the start of training and after each rollout that crosses `every` steps.

    After an interruption, `interrupted` saves the state at the start of the last rollout.

    Saved when a rollout begins: then the step count, the environment, the networks and the
    optimiser agree. Must be the last in the list of callbacks, so that the others' states are of
    the same moment.
    """

    def __init__(
        self,
        folder: Path,
        every: int,
        stateful: Mapping[str, StatefulCallback],
        keep_last: int | None = None,
        on_saved: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__()
        self._folder, self._every, self._keep_last = folder, every, keep_last
        self._stateful = {**stateful, "checkpointing": self}
        self._on_saved = on_saved
        self._saved_at: int | None = None
        self._rollout_start: ResumeState | None = None  # not saved; for an interruption

    def _on_rollout_start(self) -> None:
        step = self.model.num_timesteps
        due = self._saved_at is None or step // self._every > self._saved_at // self._every
        if due and step != self._saved_at:
            self._save(step)
            self._rollout_start = None
        elif step != self._saved_at:
            self._rollout_start = capture(self._resumable_model(), self._stateful)

    def _on_step(self) -> bool:
        return True

    def finish(self) -> None:
        """Save the last state, once training has ended between two rollouts."""
        if self.model.num_timesteps != self._saved_at:
            self._save(self.model.num_timesteps)

    def interrupted(self) -> None:
        """Save the state at the start of the rollout that was interrupted."""
        state, self._rollout_start = self._rollout_start, None
        if state is not None:
            write_checkpoint(state, self._folder, self._keep_last)
            if self._on_saved is not None:
                self._on_saved(state.step)

    def _resumable_model(self) -> BaseAlgorithm:
        if not isinstance(self.model, RecurrentPPO | PPO | BookTQC):
            raise InputError(
                f"a {type(self.model).__name__} cannot be resumed",
                "Use PPO, RecurrentPPO, BookTQC",
            )
        return self.model

    def _save(self, step: int) -> None:
        self._saved_at = step
        model = self._resumable_model()
        path = save_checkpoint(model, self._stateful, self._folder, self._keep_last)
        log.info("step %d: checkpoint %s", step, path.name)
        if self._on_saved is not None:
            self._on_saved(step)

    def state_dict(self) -> dict[str, int | None]:
        """The step of the last checkpoint."""
        return {"saved_at": self._saved_at}

    def load_state_dict(self, state: dict[str, int | None]) -> None:
        """Restore what `state_dict` returned."""
        self._saved_at = state["saved_at"]
