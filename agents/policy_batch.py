"""Several policies in one batch: each decides for its own books."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.policy import Policy
from conf.errors import InputError
from conf.types import BoolArray, ObsArray


@dataclass(frozen=True)
class PolicyBatch:
    """Policy k decides for books k·n .. (k + 1)·n - 1 of a batch of K·n books."""

    policies: Sequence[Policy]

    def predict(
        self,
        observation: ObsArray,
        state: Any = None,
        episode_start: BoolArray | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], Any]:
        """Actions of all books; the state is that of every policy, in order."""
        count = len(self.policies)
        each, rest = divmod(len(observation), count)
        if rest:
            raise InputError(
                f"{len(observation)} books do not divide among {count} policies",
                "Give every policy the same number of books",
            )
        actions, states = [], []
        for k, policy in enumerate(self.policies):
            own = slice(k * each, (k + 1) * each)
            action, after = policy.predict(
                observation[own],
                state=None if state is None else state[k],
                episode_start=None if episode_start is None else episode_start[own],
                deterministic=deterministic,
            )
            actions.append(np.asarray(action))
            states.append(after)
        return np.concatenate(actions), tuple(states)
