"""What everything that decides has in common: SB3's `predict`, batched and recurrent."""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

from conf.types import BoolArray, ObsArray

PolicyState = tuple[NDArray[Any], ...] | None


class Policy(Protocol):
    """A trained model, a classical strategy, an ensemble: anything with this one method."""

    def predict(
        self,
        observation: ObsArray,  # (N, D)
        state: PolicyState = None,
        episode_start: BoolArray | None = None,  # (N,)
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], PolicyState]:
        """Actions (N, A) and the state to hand in with the next observation."""
