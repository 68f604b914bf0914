"""Goals of episodes: a return over the last sessions, and a drawdown that is not to be exceeded.

Both are part of the observation, what was reached and what is desired, and what a step is paid for
them is a function of these alone: a learner may ask what other goals would have paid.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from conf.settings import settings
from conf.types import BoolArray, FloatArray, IntArray, ObsArray
from envs.core.batch import SavedArrays
from envs.core.episode_statistics import ROLLING_SESSIONS, EpisodeStatistics
from envs.core.features import CLIP, Feature, Scaling
from envs.core.ledger import Ledger
from envs.core.reward import RewardWeights

_RETURN, _DRAWDOWN = 0.02, 0.1  # scales
Return = Annotated[float, Field(ge=-CLIP * _RETURN, le=CLIP * _RETURN)]
Drawdown = Annotated[float, Field(ge=0.0, le=1.0)]


@settings
class GoalSettings:
    """What is to be reached; in training another goal for each episode, uniform in the ranges."""

    sessions: Annotated[int, Field(ge=1, le=ROLLING_SESSIONS)] = 21  # that the return is over
    excess_return: Return = 0.01  # over cash, summed over these sessions
    drawdown: Drawdown = 0.05  # from the episode's peak
    excess_return_range: tuple[Return, Return] = (0.0, 0.02)
    drawdown_range: tuple[Drawdown, Drawdown] = (0.02, 0.1)

    @model_validator(mode="after")
    def _check_ranges(self) -> GoalSettings:
        for name in ("excess_return_range", "drawdown_range"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} goes from {low:g} down to {high:g}")
        return self


def _pair(name: str, raw: str) -> tuple[Feature, Feature]:
    return (
        Feature(f"{name}.return", "goal", _RETURN, -CLIP, CLIP, raw=f"excess return {raw}"),
        Feature(f"{name}.drawdown", "goal", _DRAWDOWN, 0, CLIP, raw=f"drawdown {raw}"),
    )


REACHED, DESIRED = _pair("reached", "so far"), _pair("goal", "desired")
GOAL = (*REACHED, *DESIRED)  # the last entries of an observation
_SCALING, _SCALE = Scaling(GOAL), np.array([_RETURN, _DRAWDOWN])


def goal_gaps(reached: FloatArray, desired: FloatArray) -> FloatArray:
    """Shortfall of return and excess of drawdown (..., 2), where (..., 2) was reached."""
    sign = np.array([1.0, -1.0])
    gaps: FloatArray = np.maximum(sign * (desired - reached), 0.0)
    return gaps


def goal_reward(reached: ObsArray, desired: ObsArray, weights: RewardWeights) -> FloatArray:
    """What of a reward (...,) depends on the goal, where goals (..., 2) are as observed."""
    gaps = goal_gaps(reached * _SCALE, desired * _SCALE)
    paid: FloatArray = -weights.goal_return * gaps[..., 0] - weights.goal_drawdown * gaps[..., 1]
    return paid


class Goals(SavedArrays):
    """The goals of N episodes."""

    FIELDS = ("desired",)

    def __init__(self, num_envs: int, options: GoalSettings) -> None:
        self.options = options
        goal = [options.excess_return, options.drawdown]
        self.desired: FloatArray = np.tile(goal, (num_envs, 1))  # (N, 2) return, drawdown
        self._low, self._high = np.transpose([options.excess_return_range, options.drawdown_range])

    def draw(self, mask: BoolArray, rng: np.random.Generator) -> None:
        """New goals for the masked episodes."""
        self.desired[mask] = rng.uniform(self._low, self._high, size=(int(mask.sum()), 2))

    def reached(
        self, ledger: Ledger, statistics: EpisodeStatistics, env_indices: slice | IntArray
    ) -> FloatArray:
        """Return and drawdown (K, 2) of these episodes at this close."""
        returned = statistics.recent_return(self.options.sessions, env_indices)
        return np.stack([returned, ledger.drawdown[env_indices]], axis=-1)

    def observe(
        self, ledger: Ledger, statistics: EpisodeStatistics, env_indices: slice | IntArray
    ) -> ObsArray:
        """The entries `GOAL` (K, 4) of the observation."""
        reached = self.reached(ledger, statistics, env_indices)
        return _SCALING.apply(np.concatenate([reached, self.desired[env_indices]], axis=-1))
