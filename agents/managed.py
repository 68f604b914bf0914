"""A policy that is to be executed under the risk module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from agents.policy import PolicyState, Trader
from agents.policy_batch import PolicyBatch
from conf.errors import InputError
from conf.types import BoolArray, ObsArray
from risk.overlay import RiskSettings


@dataclass(frozen=True)
class RiskManagedPolicy:
    """Any policy, together with the risk module that its trades have to go through.

    The module needs the exact book, not the scaled and cut numbers of an observation, so whoever
    executes the policy (a backtest, paper trading) takes `policy` and `risk` apart. What would call
    `predict` instead, as an ensemble does, would trade without the module: that is refused.
    """

    policy: Trader | PolicyBatch
    risk: RiskSettings

    def predict(
        self,
        observation: ObsArray,
        state: PolicyState = None,
        episode_start: BoolArray | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], PolicyState]:
        """InputError: an action alone cannot be managed."""
        raise InputError(
            "a risk-managed policy was asked for an action, which its risk module would not see",
            "Execute it with experiments.backtests.backtest.run_backtest, or with a kernel that is "
            "given its `risk`; put the wrapper outermost, around an ensemble too",
        )
