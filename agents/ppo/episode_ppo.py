"""PPO for an objective of what whole episodes cost: their mean plus a multiple of their deviation.

An episode costs C, minus the sum of its rewards. The objective mean(C) + c SD(C) is no sum over
steps, but at the policy's own mean m and deviation s it has the slope of the mean of

    U(C) = -(C + c ((C - m)² / (2 s) + s / 2)),

whose increments along an episode are paid instead of the environment's rewards; C so far must be
in the observation. m and s are moving averages that stay fixed within an episode: where they
settle, the optimum is that of the objective. From every increment that of the policy's
deterministic actions on the same market path is subtracted. No action changes it, so it takes away
nothing but noise; that needs `gae_lambda` near 1, or the critic would have to know the path.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from agents.ppo.recurrent_ppo import SequenceRecurrentPPO
from conf.errors import InputError
from conf.types import FloatArray, IntArray
from envs.core.batch import Window
from envs.core.kernel import BookKernel
from envs.kernels import open_kernel
from envs.sb3_vec_env import KernelVecEnv

AVERAGE = 0.8  # weight of the past in the moving averages
_LEAST_DEVIATION = 1e-6


class PaidByEpisode(OnPolicyAlgorithm):
    """Mixed into a PPO: its rollouts are whole episodes, all of which begin together.

    `multiple` is c; the standard deviation of the actions falls from `std_start` to `std_end` over
    the training instead of being learned. The log has mean and objective of what the deterministic
    policy costs. InputError for an environment of no books, or a rollout that is no whole episode.
    """

    def __init__(
        self,
        policy: Any,
        env: Any,
        *,
        multiple: float = 1.5,
        std_start: float = 0.7,
        std_end: float = 0.1,
        **options: Any,  # those of PPO
    ) -> None:
        self.multiple, self.std_start, self.std_end = multiple, std_start, std_end
        self.cost_mean: float | None = None  # m; None before the first rollout
        self.cost_deviation = 0.0  # s
        super().__init__(policy, env, **options)

    def _setup_model(self) -> None:
        super()._setup_model()
        sessions = _kernel_of(self.env).options.episode.sessions
        if self.n_steps != sessions:
            raise InputError(
                f"a rollout has {self.n_steps} steps of each episode, which has {sessions}",
                "Set n_steps to that",
            )
        self.policy.log_std.requires_grad_(False)

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """As in PPO, and the rewards are replaced by increments of the objective."""
        kernel = _kernel_of(env)
        with torch.no_grad():
            self.policy.log_std.fill_(float(np.log(self._spread())))
        start, path = kernel.start.copy(), kernel.path.copy()
        if not super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps):
            return False
        cost = -np.cumsum(rollout_buffer.rewards, axis=0, dtype=np.float64)
        own = -np.cumsum(self._deterministic(kernel, start, path), axis=0)
        self._take_in(cost[-1])
        rollout_buffer.rewards[:] = self._increments(cost) - self._increments(own)
        last = torch.zeros(env.num_envs)
        rollout_buffer.compute_returns_and_advantage(last, np.ones(env.num_envs, np.bool_))
        self.logger.record("rollout/cost_mean_percent", 100.0 * float(own[-1].mean()))
        objective = float(own[-1].mean() + self.multiple * own[-1].std())
        self.logger.record("rollout/cost_objective_percent", 100.0 * objective)
        return True

    def own_state(self) -> dict[str, Any]:
        """What a checkpoint has to hold besides what it holds of any PPO."""
        return {"cost_mean": self.cost_mean, "cost_deviation": self.cost_deviation}

    def load_own_state(self, state: dict[str, Any]) -> None:
        """Take back what `own_state` gave."""
        self.cost_mean, self.cost_deviation = state["cost_mean"], state["cost_deviation"]

    def _spread(self) -> float:
        """Standard deviation of the actions now: it falls geometrically."""
        done = 1.0 - self._current_progress_remaining
        return float(self.std_start * (self.std_end / self.std_start) ** done)

    def _deterministic(self, kernel: BookKernel, start: IntArray, path: IntArray) -> FloatArray:
        """Rewards (L, N) of the deterministic policy in the same episodes."""
        sessions = self.n_steps
        window = Window(0, kernel.market.history.num_sessions)
        twin = open_kernel(kernel.market, kernel.options, window, len(start), random_start=False)
        observation, rewards = twin.place(start, path, start + sessions), []
        state, begins = None, np.ones(len(start), np.bool_)
        for _ in range(sessions):
            action, state = self.policy.predict(observation, state, begins, deterministic=True)
            result = twin.step(action)
            observation, begins = result.observation, np.zeros_like(begins)
            rewards.append(result.reward)
        return np.stack(rewards)

    def _take_in(self, cost: FloatArray) -> None:
        mean, deviation = float(cost.mean()), float(cost.std())
        if self.cost_mean is None:
            self.cost_mean, self.cost_deviation = mean, deviation
        else:
            self.cost_mean += (1.0 - AVERAGE) * (mean - self.cost_mean)
            self.cost_deviation += (1.0 - AVERAGE) * (deviation - self.cost_deviation)

    def _increments(self, cost: FloatArray) -> FloatArray:
        """Those of U along the costs so far (L, N)."""
        m, s = self.cost_mean or 0.0, max(self.cost_deviation, _LEAST_DEVIATION)
        cost = np.concatenate([np.zeros((1, cost.shape[1])), cost])
        utility = -(cost + self.multiple * np.square(cost - m) / (2.0 * s))
        return np.diff(utility, axis=0)


class EpisodePPO(PaidByEpisode, PPO):
    """`PPO` of whole episodes."""


class EpisodeRecurrentPPO(PaidByEpisode, SequenceRecurrentPPO):
    """Recurrent PPO of whole episodes; gradients reach back by its `sequence_length`."""


def _kernel_of(env: Any) -> BookKernel:
    if not isinstance(env, KernelVecEnv) or not isinstance(env.kernel, BookKernel):
        raise InputError(
            f"a {type(env).__name__} has no episodes that can be gone through again",
            "Train in a hedging environment, or choose agent=ppo",
        )
    return env.kernel
