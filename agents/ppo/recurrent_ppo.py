"""Recurrent PPO of sb3-contrib with the same loss, at a fraction of the time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.buffers import RecurrentRolloutBuffer
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import explained_variance
from torch.nn.utils import clip_grad_norm_

from agents.ppo.parallel import RunPair, parallel_pairs
from agents.ppo.policies import MaskedMlpLstmPolicy
from agents.ppo.short_lstm import LstmState
from conf.errors import InputError


@dataclass(frozen=True)
class Minibatch:
    """B sequences of L steps, one sequence after the other: every first axis is B * L."""

    observations: torch.Tensor  # (B * L, features)
    actions: torch.Tensor  # (B * L, ...)
    values: torch.Tensor  # (B * L,) of the critic during the rollout
    log_probs: torch.Tensor  # (B * L,) of the actions during the rollout
    advantages: torch.Tensor  # (B * L,) not normalised
    returns: torch.Tensor  # (B * L,)
    episode_starts: torch.Tensor  # (B * L,) 1 where an episode begins, at any step
    actor_state: LstmState  # before the first step of each sequence, each (layers, B, size)
    critic_state: LstmState


# What the rollout buffer has under the same names.
_STEP_FIELDS = [field.name for field in fields(Minibatch) if not field.name.endswith("_state")]


class RolloutSequences:
    """The steps of a full rollout buffer as S sequences of L steps, on the device."""

    def __init__(
        self, buffer: RecurrentRolloutBuffer, length: int, device: torch.device | str
    ) -> None:
        self._length = length
        self._steps = {
            name: _to(device, _split_sequences(getattr(buffer, name), length))
            for name in _STEP_FIELDS
        }
        # (steps, layers, episodes, size) to (sequences, layers, size), where sequences begin.
        self._states = {
            name: tuple(
                _to(device, part[::length].swapaxes(1, 2).reshape(-1, *part.shape[1::2]))
                for part in parts
            )
            for name, parts in (
                ("actor_state", (buffer.hidden_states_pi, buffer.cell_states_pi)),
                ("critic_state", (buffer.hidden_states_vf, buffer.cell_states_vf)),
            )
        }

    def minibatches(self, batch_size: int) -> Iterator[Minibatch]:
        """All sequences once, shuffled by NumPy's generator; the last minibatch may be smaller."""
        count = len(self._steps["returns"])
        order = torch.from_numpy(np.random.permutation(count))
        order = order.to(self._steps["returns"].device)
        for rows in torch.split(order, batch_size // self._length):
            batch: dict[str, Any] = {
                name: steps[rows].flatten(0, 1) for name, steps in self._steps.items()
            }
            for name, states in self._states.items():
                batch[name] = tuple(state[rows].transpose(0, 1).contiguous() for state in states)
            yield Minibatch(**batch)


def _split_sequences(values: NDArray[Any], length: int) -> NDArray[Any]:
    """(steps, episodes, ...) to (sequences, length, ...)."""
    steps, episodes, *rest = values.shape
    blocks = values.reshape(steps // length, length, episodes, *rest)
    return blocks.swapaxes(1, 2).reshape(-1, length, *rest)


def _to(device: torch.device | str, values: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(device)


# Stable-Baselines3 uses this eps only if it is given no optimizer arguments.
FUSED_ADAM: Mapping[str, Any] = {"eps": 1e-5, "fused": True}
FUSED_DEVICES = ("cpu", "cuda")

# What the update logs of each minibatch.
_COLUMNS = ("policy_gradient_loss", "clip_fraction", "approx_kl", "entropy_loss", "value_loss")


class SequenceRecurrentPPO(RecurrentPPO):
    """`RecurrentPPO` whose minibatches are shuffled sequences of `sequence_length` steps.

    Each sequence starts from the LSTM state of the rollout. The loss, the optimiser's steps and
    the logs are those of `RecurrentPPO`, only the composition of the minibatches differs; with
    `sequence_length=None` that, too, is sb3-contrib's. On the CPU, actor and critic are calculated
    in parallel. Raises InputError if the length does not divide the steps of each episode in a
    rollout, or the minibatch, and for dictionaries as observations.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpLstmPolicy": MaskedMlpLstmPolicy}

    def __init__(
        self,
        policy: str | type[MaskedMlpLstmPolicy],
        env: Any,
        *,
        sequence_length: int | None = 8,
        policy_kwargs: dict[str, Any] | None = None,
        **options: Any,  # those of RecurrentPPO
    ) -> None:
        self.sequence_length = sequence_length
        super().__init__(policy, env, policy_kwargs=policy_kwargs, **options)

    def _setup_model(self) -> None:
        self._check_sequences()
        optimizer = self.policy_kwargs.get("optimizer_class", torch.optim.Adam)
        if optimizer is torch.optim.Adam and torch.device(self.device).type in FUSED_DEVICES:
            # A copy: the dictionary is the caller's.
            self.policy_kwargs = {"optimizer_kwargs": dict(FUSED_ADAM), **self.policy_kwargs}
        super()._setup_model()

    def _check_sequences(self) -> None:
        length = self.sequence_length
        if length is None:
            return
        if length < 1:
            raise InputError(f"sequence_length is {length}", "Give a number of steps, 1 or more")
        for total, what in (
            (self.n_steps, "steps of each episode in a rollout"),
            (self.batch_size or 0, "steps of a minibatch"),
        ):
            if total % length or not total:
                raise InputError(
                    f"sequence_length = {length} does not divide the {total} {what}",
                    "Choose one that does, or null for sb3-contrib's own minibatches",
                )
        if isinstance(self.observation_space, spaces.Dict):
            raise InputError("observations are dictionaries", "Use flat ones, or RecurrentPPO")

    def train(self) -> None:
        """Update the policy from the rollout buffer, `n_epochs` times over all sequences."""
        if self.sequence_length is None:
            super().train()
            return
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        buffer: Any = self.rollout_buffer
        rollout = RolloutSequences(buffer, self.sequence_length, self.device)
        losses: list[torch.Tensor] = []
        with parallel_pairs(self._separate_on_cpu()) as run_pair:
            for _ in range(self.n_epochs):
                epoch_start = len(losses)
                completed = self._train_epoch(rollout, run_pair, losses)
                self._n_updates += 1
                if not completed:
                    break
        self._log_update(torch.stack(losses).cpu().numpy(), epoch_start)

    def _train_epoch(
        self, rollout: RolloutSequences, run_pair: RunPair, losses: list[torch.Tensor]
    ) -> bool:
        """One pass; adds a row of `_COLUMNS` a minibatch. False if `target_kl` stopped it."""
        parameters = list(self.policy.parameters())
        for batch in rollout.minibatches(self.batch_size or 0):
            self.policy.optimizer.zero_grad(set_to_none=True)
            actor, critic = run_pair(
                partial(self._actor_backward, batch), partial(self._critic_backward, batch)
            )
            losses.append(torch.cat([actor, critic]))
            # Read only if needed: reading a number from a GPU waits for it.
            if self.target_kl is not None and float(actor[2]) > 1.5 * self.target_kl:
                if self.verbose >= 1:
                    print(f"Early stopping due to reaching max kl: {float(actor[2]):.2f}")
                return False
            clip_grad_norm_(parameters, self.max_grad_norm, foreach=True)
            self.policy.optimizer.step()
        return True

    def _actor_backward(self, batch: Minibatch) -> torch.Tensor:
        """Accumulate the actor's gradients; the first four `_COLUMNS` (4,)."""
        policy: Any = self.policy
        clip_range = self._now(self.clip_range)
        actions = batch.actions
        if isinstance(self.action_space, spaces.Discrete):
            actions = actions.long().flatten()
        distribution, _ = policy.get_distribution(
            batch.observations, batch.actor_state, batch.episode_starts
        )
        log_prob, entropy = distribution.log_prob(actions), distribution.entropy()
        advantages = batch.advantages
        if self.normalize_advantage:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        log_ratio = log_prob - batch.log_probs
        ratio = torch.exp(log_ratio)
        clipped = torch.clamp(ratio, 1 - clip_range, 1 + clip_range)
        policy_loss = -torch.min(advantages * ratio, advantages * clipped).mean()
        entropy_loss = log_prob.mean() if entropy is None else -entropy.mean()
        torch.autograd.backward(policy_loss + self.ent_coef * entropy_loss)
        with torch.no_grad():
            clip_fraction = (torch.abs(ratio - 1) > clip_range).float().mean()
            approx_kl = (ratio - 1 - log_ratio).mean()
            return torch.stack([policy_loss, clip_fraction, approx_kl, entropy_loss])

    def _critic_backward(self, batch: Minibatch) -> torch.Tensor:
        """Accumulate the critic's gradients; its loss (1,)."""
        policy: Any = self.policy
        values = policy.predict_values(
            batch.observations, batch.critic_state, batch.episode_starts
        ).flatten()
        if self.clip_range_vf is not None:
            clip_range = self._now(self.clip_range_vf)
            change = torch.clamp(values - batch.values, -clip_range, clip_range)
            values = batch.values + change
        value_loss: torch.Tensor = ((batch.returns - values) ** 2).mean()
        torch.autograd.backward(self.vf_coef * value_loss)
        return value_loss.detach().reshape(1)

    def _now(self, schedule: Any) -> float:
        return float(schedule(self._current_progress_remaining))

    def _separate_on_cpu(self) -> bool:
        """Whether no weight gets gradients from both actor and critic, and the device is a CPU."""
        on_cpu = torch.device(self.device).type == "cpu"
        return on_cpu and not list(self.policy.features_extractor.parameters())

    def _log_update(self, rows: NDArray[Any], last_epoch: int) -> None:
        """Log as `RecurrentPPO` does; the KL divergence is that of the last epoch."""
        values = dict(zip(_COLUMNS, rows.mean(axis=0), strict=True))
        values["approx_kl"] = rows[last_epoch:, _COLUMNS.index("approx_kl")].mean()
        policy_loss, _, _, entropy_loss, value_loss = rows[-1]
        loss = policy_loss + self.ent_coef * entropy_loss + self.vf_coef * value_loss
        values["loss"] = float(loss)
        buffer = self.rollout_buffer
        values["explained_variance"] = explained_variance(
            buffer.values.flatten(), buffer.returns.flatten()
        )
        if hasattr(self.policy, "log_std"):
            values["std"] = torch.exp(self.policy.log_std).mean().item()
        values["clip_range"] = self._now(self.clip_range)
        if self.clip_range_vf is not None:
            values["clip_range_vf"] = self._now(self.clip_range_vf)
        for name, value in values.items():
            self.logger.record(f"train/{name}", value)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
