"""What the books did during each rollout: Sharpe, drawdown, reward terms, exposures, turnover."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

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
}


class PerformanceCallback(BaseCallback):
    """Means over the rollout, logged once at its end; nothing here influences training."""

    def __init__(self) -> None:
        super().__init__()
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._finished: list[dict[str, float]] = []

    def _on_rollout_start(self) -> None:
        self._sums, self._counts, self._finished = {}, {}, []

    def _on_step(self) -> bool:
        kernel = self._kernel()
        terms = kernel.reward_terms.mean(axis=0)
        day: dict[str, float] = {
            f"reward/{name}": float(terms[i]) for i, name in enumerate(kernel.reward.term_names)
        }
        env: Any = self.training_env
        day["reward/total"] = float(np.mean(self.locals["rewards"])) / env.reward_scale
        book = kernel.book_scalars()
        # Finished episodes have begun anew already: their books are gone.
        going_on = ~np.asarray(self.locals["dones"])
        if going_on.any():
            day |= {f"book/{name}": float(x[going_on].mean()) for name, x in book.items()}
        for name, value in day.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1
        self._finished += [info["episode"] for info in self.locals["infos"] if "episode" in info]
        return True

    def _on_rollout_end(self) -> None:
        for name, total in self._sums.items():
            self.logger.record(name, total / self._counts[name])
        for key, name in EPISODE_SCALARS.items():
            if self._finished:
                self.logger.record(name, float(np.mean([e[key] for e in self._finished])))

    def _kernel(self) -> BookKernel:
        env: Any = self.training_env
        kernel = env.kernel if isinstance(env, KernelVecEnv) else None
        if not isinstance(kernel, BookKernel):
            raise InputError("PerformanceCallback needs an environment of books", "Leave it out")
        return kernel
