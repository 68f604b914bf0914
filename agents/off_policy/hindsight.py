"""Hindsight: transitions are learned from again as if another goal had been desired.

The other goal is one that the same episode reached (Andrychowicz et al. 2017, arXiv:1707.01495).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.type_aliases import (
    DictReplayBufferSamples,
    ReplayBufferSamples,
    TensorDict,
)
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from envs.core.goal import DESIRED, GOAL, REACHED

# Where in a flat observation Stable-Baselines3's three parts stand.
_PARTS = {
    "observation": slice(None, -len(GOAL)),
    "achieved_goal": slice(-len(GOAL), -len(REACHED)),
    "desired_goal": slice(-len(DESIRED), None),
}


class HindsightReplay(HerReplayBuffer):
    """Stable-Baselines3's buffer for flat observations that end with the goal's entries.

    Whatever of a reward does not depend on the goal, ruin among it, stays as it was paid.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Box,
        action_space: spaces.Box,
        env: VecEnv,
        **options: Any,
    ) -> None:
        low, high = _split(observation_space.low), _split(observation_space.high)
        parts = spaces.Dict({name: spaces.Box(low[name], high[name]) for name in _PARTS})
        super().__init__(buffer_size, parts, action_space, env, **options)
        episodes: Any = env.unwrapped
        self._reward_scale = float(episodes.reward_scale)
        # The arrays (rows, N, D) that the parts are views of.
        shape = (self.buffer_size, self.n_envs, *observation_space.shape)
        self.flat = {
            name: np.zeros(shape, np.float32) for name in ("observations", "next_observations")
        }
        self.observations, self.next_observations = map(_split, self.flat.values())

    def add(self, obs: Any, next_obs: Any, *transition: Any, **named: Any) -> None:
        """One step of every episode; observations (N, D) are flat."""
        super().add(_split(obs), _split(next_obs), *transition, **named)

    def sample(  # type: ignore[override]  # flat
        self, batch_size: int, env: VecNormalize | None = None
    ) -> ReplayBufferSamples:
        """A minibatch of finished episodes, most of it with other goals."""
        data = super().sample(batch_size, env)
        return ReplayBufferSamples(
            _joined(data.observations),
            data.actions,
            _joined(data.next_observations),
            data.dones,
            data.rewards,
        )

    def _get_virtual_samples(
        self,
        batch_indices: NDArray[Any],
        env_indices: NDArray[Any],
        env: VecNormalize | None = None,
    ) -> DictReplayBufferSamples:
        data = super()._get_virtual_samples(batch_indices, env_indices, env)
        where = batch_indices, env_indices
        goals = (self.next_observations[name][where] for name in ("achieved_goal", "desired_goal"))
        (paid,) = self.env.env_method(  # type: ignore[union-attr]  # has just answered
            "compute_reward", *goals, [], indices=[0]
        )
        other = self.rewards[where] - self._reward_scale * paid
        rewards = self._reward_scale * data.rewards + self.to_torch(other[:, None])
        return data._replace(rewards=rewards.float())


def _split(flat: Any) -> dict[str, Any]:
    return {name: flat[..., part] for name, part in _PARTS.items()}


def _joined(parts: TensorDict) -> torch.Tensor:
    return torch.cat([parts[name] for name in _PARTS], dim=-1)
