"""What decides: a policy acts on observations, a strategy states quantities from the book."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from conf.types import BoolArray, FloatArray, ObsArray
from envs.core.kernel import BookState

PolicyState = tuple[NDArray[Any], ...] | None


class Policy(Protocol):
    """A trained model or an ensemble: anything with SB3's `predict`, batched and recurrent."""

    def predict(
        self,
        observation: ObsArray,  # (N, D)
        state: PolicyState = None,
        episode_start: BoolArray | None = None,  # (N,)
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], PolicyState]:
        """Actions (N, A) and the state to hand in with the next observation."""


@runtime_checkable
class Strategy(Protocol):
    """A rule without memory, made for one market, as the classical baselines are."""

    def quantities(self, books: BookState) -> FloatArray:
        """Units (N, M) to hold from this close on."""


Trader = Policy | Strategy
