"""Policies that bring a portfolio to given weights at given dates and let it drift in between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from agents.baselines.book_view import sessions_since, starts
from agents.policy import PolicyState
from conf.errors import InputError
from conf.types import BoolArray, FloatArray, IntArray, ObsArray
from envs.market.panel import PanelHistory


class AllocationMarket(Protocol):
    """What a classical strategy has to know of a market of many assets."""

    @property
    def history(self) -> PanelHistory:
        """Prices of the assets."""

    @property
    def growth(self) -> FloatArray:
        """Simple return of cash from each session to the next, (T,)."""

    @property
    def observed(self) -> ObsArray:
        """The returns and volatilities of an observation, (P, T, 2 A)."""


@dataclass(frozen=True)
class RebalancedPolicy:
    """Target weights every `step` sessions from `start` on, and no trade in between.

    To ask for what is held is not to trade, so between the dates it asks for the targets drifted
    with the prices. It works them out from the prices: those in an observation are rounded, and
    would trade a little every day. Book i runs on path i modulo P.
    """

    close: FloatArray  # (P, T, A) dollars
    cash: FloatArray  # (T,) worth of a dollar of cash laid aside at the first session
    targets: FloatArray  # (P or 1, R, A + 1), cash last
    start: int  # session of the first observation of an episode
    begins: ObsArray  # (P, 2 A) returns and volatilities in that observation
    when: str  # that session, for messages
    step: int | None  # sessions from one rebalancing to the next; None: never again

    @classmethod
    def of(
        cls, market: AllocationMarket, start: int, targets: FloatArray, step: int | None
    ) -> RebalancedPolicy:
        """The policy of a market for episodes from session `start`.

        targets: (P, R, A + 1), or (R, A + 1) and (A + 1,) for all paths and dates alike; the last
        row holds from there on. Raises InputError for weights of another number of assets, below
        0 or that do not sum to 1.
        """
        history = market.history
        cash = np.cumprod(np.concatenate([[1.0], 1.0 + market.growth[:-1]]))
        wanted = np.asarray(targets, dtype=np.float64)
        wanted = wanted.reshape((1,) * (3 - wanted.ndim) + wanted.shape)
        if wanted.shape[-1] != history.num_assets + 1 or len(wanted) not in (1, history.num_paths):
            raise InputError(
                f"weights of shape {np.shape(targets)} do not fit {history.num_assets} assets on "
                f"{history.num_paths} paths",
                "Give the weight of each asset and of cash, in this order",
            )
        if not (wanted >= 0.0).all() or not np.allclose(wanted.sum(axis=-1), 1.0, atol=1e-9):
            raise InputError("target weights are below 0 or do not sum to 1", "Correct them")
        return cls(
            close=history.close,
            cash=cash,
            targets=wanted,
            start=start,
            begins=market.observed[:, start],
            when=f"session {start} ({history.dates[start]}) of {history.name}",
            step=step,
        )

    def weights(self, path: IntArray, sessions: IntArray) -> FloatArray:
        """Weights (N, A + 1) wanted on each path, so many sessions after the start."""
        rank = sessions // self.step if self.step else np.zeros_like(sessions)
        last = self.close.shape[1] - 1
        now = np.minimum(self.start + sessions, last)
        base = np.minimum(self.start + rank * (self.step or 0), last)
        target = self.targets[path % len(self.targets), np.minimum(rank, self.targets.shape[1] - 1)]
        grown = np.empty_like(target)
        grown[:, :-1] = self.close[path, now] / self.close[path, base]
        grown[:, -1] = self.cash[now] / self.cash[base]
        worth = target * grown
        drifted: FloatArray = worth / worth.sum(axis=-1, keepdims=True)
        return drifted

    def predict(
        self,
        observation: ObsArray,
        state: PolicyState = None,
        episode_start: BoolArray | None = None,
        deterministic: bool = False,
    ) -> tuple[FloatArray, PolicyState]:
        """Weights (N, A + 1); the state is the number of sessions since the start, (N,).

        Raises InputError for an episode that does not begin where the weights are for.
        """
        begins = starts(state, episode_start, len(observation))
        count = sessions_since(state, begins)
        path = np.arange(len(observation)) % len(self.close)
        if begins.any():
            self._check_start(observation, path, begins)
        return self.weights(path, count), (count + 1,)

    def _check_start(self, observation: ObsArray, path: IntArray, begins: BoolArray) -> None:
        width = self.begins.shape[1]
        seen = observation[:, width // 2 : width // 2 + width]
        wrong = begins & (seen != self.begins[path]).any(axis=-1)
        if wrong.any():
            raise InputError(
                f"book {int(wrong.argmax())} does not begin at {self.when}",
                "Build the baselines for the market and the window that they run in",
            )
