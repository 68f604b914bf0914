"""What a baseline is, and the two without a view: cash and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agents.policy import PolicyState, Trader
from conf.types import BoolArray, FloatArray, ObsArray
from envs.core.kernel import BookState


@dataclass(frozen=True)
class Baseline:
    """A strategy to be measured against."""

    name: str  # snake_case
    title: str
    description: str  # one sentence
    policy: Trader


class Cash:
    """Holds nothing; cash earns the risk-free rate."""

    def quantities(self, books: BookState) -> FloatArray:
        """Units (N, M): none."""
        return np.zeros_like(books.quantity)


CASH = Baseline("cash", "Cash", "Holds nothing and earns the risk-free rate.", Cash())


@dataclass(frozen=True)
class RandomPolicy:
    """A fresh Gaussian action at each close.

    The noise of a step depends on the seed and on the step's number in its episode alone, so it
    is the same for every book and for any number of books.
    """

    slots: int  # M
    seed: int = 0
    scale: float = 0.05  # standard deviation of an action

    def predict(
        self,
        observation: ObsArray,
        state: PolicyState = None,
        episode_start: BoolArray | None = None,
        deterministic: bool = False,
    ) -> tuple[FloatArray, PolicyState]:
        """Actions (N, M); the state is the number of the step in its episode, (N,)."""
        count = np.zeros(len(observation), np.int64) if state is None else state[0]
        if episode_start is not None:
            count = np.where(episode_start, 0, count)
        steps, which = np.unique(count, return_inverse=True)
        return np.stack([self._noise(int(step)) for step in steps])[which], (count + 1,)

    def _noise(self, step: int) -> FloatArray:
        rng = np.random.default_rng([self.seed, step])
        return self.scale * rng.standard_normal(self.slots)
