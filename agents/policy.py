"""What decides: a policy acts on observations, a strategy states quantities from the book.

Several of them decide for one batch of books, and a policy can be put under the risk module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from conf.errors import InputError
from conf.types import BoolArray, FloatArray, ObsArray
from envs.core.kernel import BookKernel, BookState
from risk.overlay import RiskSettings

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


@dataclass(frozen=True)
class PolicyBatch:
    """Trader k decides for books k·n .. (k + 1)·n - 1 of a batch of K·n books."""

    traders: Sequence[Trader]

    def quantities(
        self, kernel: BookKernel, observation: ObsArray, state: Any, episode_start: BoolArray
    ) -> tuple[FloatArray, Any]:
        """Units (N, M) that all books ask for, deterministically; the state is each trader's."""
        each, rest = divmod(len(observation), len(self.traders))
        if rest:
            raise InputError(
                f"{len(observation)} books do not divide among {len(self.traders)} policies",
                "Give every policy the same number of books",
            )
        books = kernel.books()
        stated: list[tuple[slice, FloatArray]] = []
        action = np.zeros((len(observation), *kernel.action_space.shape))
        states: list[Any] = []
        for k, trader in enumerate(self.traders):
            own = slice(k * each, (k + 1) * each)
            if isinstance(trader, Strategy):
                stated.append((own, trader.quantities(books.rows(own))))
                states.append(None)
                continue
            action[own], after = trader.predict(
                observation[own],
                state=None if state is None else state[k],
                episode_start=episode_start[own],
                deterministic=True,
            )
            states.append(after)
        if len(stated) == len(self.traders):
            return np.concatenate([quantity for _, quantity in stated]), tuple(states)
        quantity = kernel.quantity_of(action)
        for own, units in stated:
            quantity[own] = units
        return quantity, tuple(states)


@dataclass(frozen=True)
class RiskManagedPolicy:
    """Any policy, together with the risk module that its trades have to go through.

    The module needs the exact book, not the scaled and clipped numbers of an observation, so the
    code that executes the policy (a backtest, paper trading) takes `policy` and `risk` apart.
    `predict` is refused: an ensemble that called it would trade without the module.
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
            "a risk-managed policy gives no actions: its risk module would not see them",
            "Execute it with experiments.backtests.backtest.run_backtest, or with a kernel that is "
            "given its `risk`; put the wrapper outermost, around an ensemble too",
        )
