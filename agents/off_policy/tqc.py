"""TQC (Kuznetsov et al. 2020, arXiv:2005.04269) of sb3-contrib, on many parallel episodes.

A rollout takes a few steps of every episode; after each a number of updates follow. Between them
everything that is to be resumed agrees, as for PPO.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib import TQC
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.type_aliases import RolloutReturn
from stable_baselines3.common.utils import polyak_update

from agents.off_policy.policies import SquashedPolicy
from agents.off_policy.replay import (
    PrioritisedReplay,
    load_replay_state,
    replay_bytes,
    replay_state,
)

log = logging.getLogger(__name__)


class BookTQC(TQC):
    """TQC that explores with its own small noise from the first step on.

    Uniform actions, with which sb3-contrib begins, ruin a book. The temperature holds the entropy
    that exploration started with. With a `PrioritisedReplay` the importance weights' exponent rises
    from `beta` to 1 over the training.
    """

    # What a resumed run must have alike.
    HYPERPARAMETERS: ClassVar[tuple[str, ...]] = (
        *("batch_size", "gamma", "tau", "gradient_steps", "learning_starts", "rollout_steps"),
        *("top_quantiles_to_drop_per_net", "target_entropy", "replay", "beta"),
    )
    policy: SquashedPolicy
    replay_buffer: ReplayBuffer
    log_ent_coef: torch.Tensor
    ent_coef_optimizer: torch.optim.Adam

    def __init__(
        self,
        *args: Any,
        critic_learning_rate: float | None = None,
        beta: float = 1.0,
        replay: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """`critic_learning_rate`: None: that of the others; `replay`: its settings, as data."""
        self.critic_learning_rate, self.beta, self.replay = critic_learning_rate, beta, replay
        super().__init__(*args, **options)

    def _setup_model(self) -> None:
        super()._setup_model()
        self.target_entropy = self.policy.actor.start_entropy
        if self.critic_learning_rate is not None:
            for group in self.critic.optimizer.param_groups:
                group["lr"] = self.critic_learning_rate

    @property
    def rollout_steps(self) -> int:
        """Steps of a rollout, over all episodes."""
        frequency: Any = self.train_freq
        return int(frequency.frequency) * self.n_envs

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """All of them by name."""
        return {
            "actor": self.actor.optimizer,
            "critic": self.critic.optimizer,
            "temperature": self.ent_coef_optimizer,
        }

    def collect_rollouts(self, *args: Any, **options: Any) -> RolloutReturn:
        """As in Stable-Baselines3, and logged after each rollout rather than after episodes."""
        rollout = super().collect_rollouts(*args, **{**options, "log_interval": None})
        if rollout.continue_training:
            self.dump_logs()
        return rollout

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        return super()._sample_action(0, action_noise, n_envs)

    def _update_learning_rate(self, optimizers: Any) -> None:
        """Rates are constant, and the critics have their own."""

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Updates; with a `PrioritisedReplay` those of sb3-contrib, weighted."""
        replay = self.replay_buffer
        if not isinstance(replay, PrioritisedReplay):
            return super().train(gradient_steps, batch_size)
        self.policy.set_training_mode(True)
        beta = 1.0 - (1.0 - self.beta) * max(self._current_progress_remaining, 0.0)
        logged = [self._update(replay, batch_size, beta) for _ in range(gradient_steps)]
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/beta", beta)
        for name in logged[0] if logged else ():
            self.logger.record(f"train/{name}", np.mean([values[name] for values in logged]))
        return None

    def _update(self, replay: PrioritisedReplay, batch_size: int, beta: float) -> dict[str, float]:
        data, weights, items = replay.draw(batch_size, beta)
        actions, log_prob = self.actor.action_log_prob(data.observations)
        temperature = self.log_ent_coef.detach().exp()
        surplus = (log_prob + self.target_entropy).detach()  # type: ignore[operator]
        temperature_loss = -(self.log_ent_coef * surplus).mean()
        _descend(self.ent_coef_optimizer, temperature_loss)

        target = self._target_quantiles(data, temperature)
        current = self.critic(data.observations, data.actions)  # (B, critics, quantiles)
        errors = (target.mean(dim=1) - current.detach().mean(dim=(1, 2))).cpu().numpy()
        critic_loss = (weights * quantile_huber(current, target)).mean()
        _descend(self.critic.optimizer, critic_loss)
        replay.learned(items, errors.astype(np.float64))

        value = self.critic(data.observations, actions).mean(dim=(1, 2))
        actor_loss = (temperature * log_prob - value).mean()
        _descend(self.actor.optimizer, actor_loss)
        polyak_update(self.critic.parameters(), self.critic_target.parameters(), self.tau)
        return {
            "actor_loss": actor_loss.item(),
            "critic_loss": critic_loss.item(),
            "ent_coef": temperature.item(),
            "ent_coef_loss": temperature_loss.item(),
        }

    @torch.no_grad()
    def _target_quantiles(self, data: Any, temperature: torch.Tensor) -> torch.Tensor:
        """Quantiles (B, Q) of what follows, without the largest ones of each critic."""
        actions, log_prob = self.actor.action_log_prob(data.next_observations)
        quantiles = self.critic_target(data.next_observations, actions).flatten(start_dim=1)
        dropped = self.top_quantiles_to_drop_per_net * self.critic.n_critics
        kept = quantiles.sort().values[:, : quantiles.shape[1] - dropped]
        future = kept - temperature * log_prob.reshape(-1, 1)
        target: torch.Tensor = data.rewards + (1.0 - data.dones) * self.gamma * future
        return target

    def own_state(self) -> dict[str, Any]:
        """Temperature and replay buffer, for checkpoints."""
        return {
            "log_temperature": self.log_ent_coef.detach(),
            "replay": replay_state(self.replay_buffer),
        }

    def load_own_state(self, state: dict[str, Any]) -> None:
        """Restore what `own_state` returned."""
        load_replay_state(self.replay_buffer, state["replay"])
        with torch.no_grad():
            self.log_ent_coef.copy_(torch.from_numpy(state["log_temperature"]))

    def announce(self) -> None:
        """Say how large the replay buffer becomes."""
        buffer = self.replay_buffer
        log.info(
            "replay buffer: %d transitions, up to %.0f MB, and about half of that in a checkpoint",
            buffer.buffer_size * buffer.n_envs,
            replay_bytes(buffer) / 1e6,
        )


def quantile_huber(current: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Quantile Huber loss of each transition (B,): current (B, critics, K), target (B, Q).

    The mean over critics and pairs of |tau - 1(d < 0)| huber(d), d = target - current, where the
    k-th quantile has tau = (k + 1/2) / K (Dabney et al. 2018, arXiv:1710.10044).
    """
    count = current.shape[-1]
    tau = (torch.arange(count, device=current.device, dtype=torch.float32) + 0.5) / count
    gap = target[:, None, None, :] - current[..., None]
    size = gap.abs()
    huber = torch.where(size > 1.0, size - 0.5, 0.5 * gap * gap)
    below = (gap.detach() < 0.0).float()
    return ((tau[:, None] - below).abs() * huber).mean(dim=(1, 2, 3))


def _descend(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
