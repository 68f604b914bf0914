"""Logs of each rollout's books: Sharpe ratio, drawdown, reward terms, exposures, turnover."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from agents.ppo.curiosity import CuriousVecEnv
from conf.errors import InputError
from envs.core.kernel import BookKernel
from envs.sb3_vec_env import KernelVecEnv

EPISODE_SCALARS = {
    "sharpe": "episode/sharpe",
    "max_drawdown": "episode/max_drawdown",
    "total_return": "episode/total_return",
    "costs_share": "episode/costs_share",
    "traded_share": "episode/traded_share",
    "r": "episode/reward",
    "l": "episode/sessions",
    "hedging_cost": "episode/hedging_cost",  # in prices of the liability
}


class PerformanceCallback(BaseCallback):
    """Logs means over the rollout at its end; it does not influence training."""

    def __init__(self) -> None:
        super().__init__()
        self._on_rollout_start()

    def _on_rollout_start(self) -> None:
        self._values: defaultdict[str, list[float]] = defaultdict(list)
        self._finished: list[dict[str, float]] = []

    def _on_step(self) -> bool:
        env: Any = self.training_env.unwrapped
        kernel = env.kernel if isinstance(env, KernelVecEnv) else None
        if not isinstance(kernel, BookKernel):
            raise InputError("PerformanceCallback needs an environment of books", "Leave it out")
        terms = kernel.reward_terms.mean(axis=0)
        for name, term in zip(kernel.reward.term_names, terms, strict=True):
            self._values[f"reward/{name}"].append(float(term))
        reward = float(np.mean(self.locals["rewards"]))
        if isinstance(self.training_env, CuriousVecEnv):
            bonus = float(self.training_env.bonus.mean())
            reward -= bonus
            self._values["curiosity/bonus"].append(bonus / env.reward_scale)
        self._values["reward/total"].append(reward / env.reward_scale)
        # Finished episodes have already been reset: their books are gone.
        running = ~np.asarray(self.locals["dones"])
        if running.any():
            for name, values in kernel.book_scalars().items():
                self._values[f"book/{name}"].append(float(values[running].mean()))
        self._finished += [info["episode"] for info in self.locals["infos"] if "episode" in info]
        return True

    def _on_rollout_end(self) -> None:
        for name, values in self._values.items():
            self.logger.record(name, sum(values) / len(values))
        for key, name in EPISODE_SCALARS.items():
            if self._finished and key in self._finished[0]:
                self.logger.record(name, float(np.mean([e[key] for e in self._finished])))
