"""The pathwise stage of a run: it leaves the policy that PPO, if any follows, begins with."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from agents.pathwise.trainer import PathwiseSettings, PathwiseTrainer, make_twin
from agents.pathwise.twin import Twin
from agents.persistence.checkpoint import newest_checkpoint, read_checkpoint, write_checkpoint
from agents.persistence.packing import Array, pack, unpack
from agents.persistence.policy_file import load_policy, save_policy
from agents.persistence.resume_checks import determinism_fingerprint, refuse_differences
from agents.persistence.resume_state import ResumeState
from callbacks.dashboard import make_logger, write_scalars
from callbacks.progress import Meter
from conf.errors import InputError
from conf.files import new_folder, remove_leftovers
from envs.core.batch import Window
from experiments.environments.setup import MarketSetup

log = logging.getLogger(__name__)

# In the run folder: the stage's checkpoints by number of updates, and the policy that it leaves.
_FOLDER, _CHECKPOINTS, _RESULT = "pathwise", "checkpoints", "policy"
_SHARES = 20  # of the updates, after each of which there is one
_MISFITS = (LookupError, TypeError, AttributeError, ValueError, RuntimeError)


class PathwiseStage:
    """Trains a model's policy pathwise where it learns and writes it to `pathwise/policy`.

    Killed at any moment and run again, it goes on from its newest checkpoint, bit for bit, and
    once it is through it gives the policy that it left.
    """

    def __init__(
        self,
        folder: Path,
        setup: MarketSetup,
        model: BaseAlgorithm,
        options: PathwiseSettings,
        seed: int,
        *,
        show_bar: bool = True,
        allow_inexact: bool = False,
    ) -> None:
        self._folder, self._setup, self._model = folder, setup, model
        policy: Any = model.policy
        self._draw = 0
        self.trainer = PathwiseTrainer(policy, *self._drawn(options), options, seed)
        self._show_bar, self._allow_inexact = show_bar, allow_inexact
        self._checkpoints = folder / _FOLDER / _CHECKPOINTS
        self._result = folder / _FOLDER / _RESULT

    def run(self) -> None:
        """Train to the last update."""
        if not self._result.is_dir():
            self._train()
        trained = load_policy(self._result).policy
        self._model.policy.load_state_dict(trained.state_dict())

    def _train(self) -> None:
        trainer, total = self.trainer, self.trainer.options.updates
        self._restore()
        log.info("pathwise training: %d updates of %d days each", total, trainer.days_per_update)
        if self._setup.training_risk is not None:
            log.warning("pathwise training is without the risk module")
        purge_step = trainer.updates_done + 1 if trainer.updates_done else None
        logger = make_logger(self._folder / "tensorboard" / "pathwise", purge_step)
        meter = Meter(total, "update", self._show_bar)
        every = max(total // _SHARES, 1)
        with closing(meter):
            meter.open(trainer.updates_done)
            while not trainer.finished:
                self._draw_anew()
                result, done = trainer.update(), trainer.updates_done
                values = {f"pathwise/{name}": value for name, value in result._asdict().items()}
                write_scalars(logger, values, done)
                meter.advance(1)
                meter.report(done)
                if done % every == 0 and not trainer.finished:
                    self._save()
        logger.close()
        shown = f"{result.objective:.4g} {trainer.twins[0].reported[1]}"
        log.info("pathwise training: the last update's objective was %s", shown)
        with new_folder(self._result) as temporary:
            save_policy(trainer.policy, temporary, {**self._setup.describe_data(), "step": 0})

    def _drawn(self, options: PathwiseSettings) -> tuple[list[Twin], list[Window]]:
        """The market that the next updates learn in: PPO's own, then others."""
        setup = self._setup
        market, window = setup.drawn(self._draw) if self._draw else setup.learning
        costs, band = options.cost_multiple, options.no_trade_band
        return [make_twin(market, setup.settings.env, costs, band=band)], [window]

    def _draw_anew(self) -> None:
        """Go on to the next market when its share of the updates begins."""
        trainer = self.trainer
        due = trainer.updates_done * self._setup.draws // trainer.options.updates
        if due != self._draw:
            self._draw = due
            trainer.learn_in(*self._drawn(trainer.options))

    def _save(self) -> None:
        parts = {
            **self.trainer.state_dict(),
            "counters": {"num_timesteps": self.trainer.updates_done},
            "fingerprint": determinism_fingerprint(self._model),
        }
        arrays: dict[str, Array] = {}
        values: dict[str, Any] = {}
        for name, part in parts.items():
            values[name], part_arrays = pack(part, name)
            arrays |= part_arrays
        write_checkpoint(ResumeState(values, arrays), self._checkpoints, keep_last=1)

    def _restore(self) -> None:
        for folder in (self._result.parent, self._checkpoints):
            remove_leftovers(folder)
        newest = newest_checkpoint(self._checkpoints)
        if newest is None:
            return
        state = read_checkpoint(newest)
        try:
            parts = {name: unpack(part, state.arrays) for name, part in state.values.items()}
            if not self._allow_inexact:
                refuse_differences(parts["fingerprint"], determinism_fingerprint(self._model))
            self.trainer.load_state_dict(parts)
        except _MISFITS as error:
            if isinstance(error, InputError):
                raise
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"{newest.name} of the pathwise training does not fit this run: {reason}",
                "Resume with the settings that the run was started with",
            ) from error
        log.info("resuming pathwise training after update %d", self.trainer.updates_done)
