"""A policy under the risk module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.policy import Policy, PolicyState
from risk.overlay import RiskSettings


@dataclass(frozen=True)
class RiskManagedPolicy:
    """Any policy, with the risk module put between what it wants and what is traded.

    `predict` gives what the policy wants. Whoever executes it (a backtest, paper trading) takes
    `risk` and sends every trade through the module, which sees the exact book and not the scaled
    and cut numbers of an observation.
    """

    policy: Policy
    risk: RiskSettings

    def predict(
        self,
        observation: NDArray[np.float32],
        state: PolicyState = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], PolicyState]:
        """What the policy itself wants."""
        return self.policy.predict(
            observation, state=state, episode_start=episode_start, deterministic=deterministic
        )
