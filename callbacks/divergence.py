"""Stops training as soon as a value is NaN or infinite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from agents.persistence.checkpoint import newest_checkpoint
from agents.persistence.resume_checks import optimizers_of
from conf.errors import Diverged, InputError


class DivergenceCallback(BaseCallback):
    """Raises Diverged when an observation, a reward, an action or a gradient is not finite.

    A loss that is not finite has such a gradient. Gradients are checked before each step of the
    optimiser, so the weights, and with them every checkpoint, stay finite.
    """

    def __init__(self, checkpoints: Path) -> None:
        super().__init__()
        self._checkpoints = checkpoints

    def _on_training_start(self) -> None:
        self._hooks = [
            optimizer.register_step_pre_hook(self._check_gradients)
            for optimizer in optimizers_of(self.model).values()
        ]

    def _on_training_end(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def _on_step(self) -> bool:
        actions = "clipped_actions" if "clipped_actions" in self.locals else "actions"
        for name in ("new_obs", "rewards", actions):
            values = np.asarray(self.locals[name])
            if not np.isfinite(values).all():
                what = name.removeprefix("new_").removeprefix("clipped_")
                raise divergence(self.model, self._checkpoints, f"{what} are not all finite")
        return True

    def _check_gradients(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        gradients = [
            weight.grad
            for group in optimizer.param_groups
            for weight in group["params"]
            if weight.grad is not None
        ]
        norm = torch.stack(torch._foreach_norm(gradients)).sum()
        if not bool(torch.isfinite(norm)):
            raise divergence(self.model, self._checkpoints, "a gradient is not finite")


@contextmanager
def explained_divergence(model: BaseAlgorithm, checkpoints: Path) -> Iterator[None]:
    """Explain torch's error for a distribution with NaN parameters as a divergence."""
    try:
        yield
    except ValueError as error:
        if isinstance(error, InputError) or "Expected parameter" not in str(error):
            raise
        raise divergence(model, checkpoints, "the policy's output is not finite") from error


def divergence(model: BaseAlgorithm, checkpoints: Path, what: str) -> Diverged:
    """The error that names what went wrong and the last good checkpoint."""
    newest = newest_checkpoint(checkpoints)
    last = f"The last good checkpoint is {newest.name}" if newest else "No checkpoint was saved yet"
    return Diverged(
        f"training diverged after step {model.num_timesteps}: {what}",
        f"{last}; lower agent.learning_rate or agent.max_grad_norm and start again",
    )
