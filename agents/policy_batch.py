"""Several policies and strategies in one batch of books: each decides for its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.policy import Strategy, Trader
from conf.errors import InputError
from conf.types import BoolArray, FloatArray, ObsArray
from envs.core.kernel import BookKernel


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
