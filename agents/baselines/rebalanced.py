"""Strategies that bring a portfolio to given weights at given dates and let it drift in between."""

from __future__ import annotations

import numpy as np

from conf.errors import InputError
from conf.types import FloatArray
from envs.allocation.market import PanelMarket
from envs.allocation.rebalance import rebalanced_quantity
from envs.core.kernel import BookState


class Rebalanced:
    """Target weights every `step` sessions from session `start` on, and no trade in between.

    targets: (P, R, A + 1), or (R, A + 1) and (A + 1,) for all paths and dates alike, cash last;
    the last row holds from there on. `step` None: never again after the start. InputError for
    weights of another number of assets, below 0 or that do not sum to 1.
    """

    def __init__(
        self,
        market: PanelMarket,
        start: int,
        targets: FloatArray,
        step: int | None,
    ) -> None:
        history = market.history
        weights = np.asarray(targets, dtype=np.float64)
        weights = weights.reshape((1,) * (3 - weights.ndim) + weights.shape)
        if weights.shape[-1] != history.num_assets + 1 or len(weights) not in (
            1,
            history.num_paths,
        ):
            raise InputError(
                f"weights of shape {np.shape(targets)} do not fit {history.num_assets} assets on "
                f"{history.num_paths} paths",
                "Give the weight of each asset and of cash, in this order",
            )
        if not (weights >= 0.0).all() or not np.allclose(weights.sum(axis=-1), 1.0, atol=1e-9):
            raise InputError("target weights are below 0 or do not sum to 1", "Correct them")
        self._market, self.targets, self._start, self._step = market, weights, start, step

    def quantities(self, books: BookState) -> FloatArray:
        """Units (N, A); InputError for an episode that does not begin at `start`."""
        history = self._market.history
        if (books.start != self._start).any():
            raise InputError(
                f"book {int((books.start != self._start).argmax())} does not begin at session "
                f"{self._start} ({history.dates[self._start]}) of {history.name}",
                "Build the baselines for the window that they run in",
            )
        sessions = books.session - self._start
        rank = sessions // self._step if self._step else np.zeros_like(sessions)
        due = sessions % self._step == 0 if self._step else sessions == 0
        last = self.targets.shape[1] - 1
        weights = self.targets[books.path % len(self.targets), np.minimum(rank, last)]
        price = history.close[books.path, books.session]
        target = rebalanced_quantity(
            weights, books.quantity, books.cash, books.equity, price, books.options
        )
        return np.where(due[:, None], target, books.quantity)
