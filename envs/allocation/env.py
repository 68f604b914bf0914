"""The allocation: weights of assets and cash, rebalanced at each close."""

from __future__ import annotations

from typing import Any

import numpy as np

from conf.errors import InputError
from conf.types import BoolArray, FloatArray, IntArray, ObsArray
from envs.allocation.market import AllocationSettings, PanelMarket
from envs.allocation.rebalance import (
    banded_quantity,
    edges,
    normalised,
    rebalanced_quantity,
)
from envs.allocation.simplex import Simplex
from envs.core.episode_statistics import ALL
from envs.core.features import Scaling
from envs.core.kernel import BookKernel
from envs.core.market import as_rows
from risk.book import Book


class AllocationKernel(BookKernel):
    """N portfolios of A assets and cash over one panel; see `BookKernel` for episodes and steps.

    Action (N, A + 1): weights of the assets, then of cash, 0 or more; they are divided by their
    sum, and all zeros ask for cash. With `env.action=band` (N, 2 A + 1): A widths follow, and an
    asset is traded only if it is further from its weight than its width, and only to there, see
    `envs.allocation.rebalance.edges`. That is the form of the best policy with proportional costs
    (M. H. A. Davis and A. R. Norman, Portfolio selection with transaction costs, 1990).

    Observation (N, 3 A + 2): `market.allocation_features`. Nothing is borrowed or sold short. What
    is bought or sold costs a share of its dollars, once, paid from the portfolio, so that the
    weights after the trade are the requested ones.
    """

    market: PanelMarket
    options: AllocationSettings

    def _prepare(self) -> None:
        market = self.market
        if self.overlay is not None and self.overlay.options.limits.max_margin is not None:
            raise InputError(
                f"risk.limits.max_margin is {self.overlay.options.limits.max_margin}, but assets "
                "that are paid in full have no margin",
                "Set risk.limits.max_margin to null, or take risk=allocation",
            )
        assets = len(market.instruments)
        self._bands = self.options.action == "band"
        self.action_space = Simplex(2 * assets + 1 if self._bands else assets + 1)
        self._observed, self._index = as_rows(market.observed), as_rows(market.index_return)
        own = (*market.features[:assets], *market.features[3 * assets :])
        self._scaling = Scaling(own)
        self._nothing_leaves = np.zeros(1, np.bool_)

    def checked_action(self, action: Any) -> FloatArray:
        """The weights (N, A + 1) summing to 1, and widths, if any, in units of that sum.

        A wrong shape, a NaN or a minus is refused.
        """
        weights = self.finite_action(action)
        if weights.min() < 0.0:
            where = tuple(int(i) for i in np.argwhere(weights < 0.0)[0])
            raise InputError(
                f"weight {where[1]} of episode {where[0]} is {weights[where]}",
                "Give weights of 0 or more: nothing is sold short",
            )
        return normalised(weights, len(self.market.instruments))

    def exposures(self) -> dict[str, FloatArray]:
        """The portfolio held into the last close, right after the trade at the close before it.

        invested: share of it in assets; largest_weight; effective_assets: one over the sum of
        squared shares of what is invested (the inverse of Herfindahl's index), 0 if all is cash.
        """
        value = self.held_quantity * self._mark.take(self._row() - 1, axis=0)
        cash = self.ledger.cash / (1.0 + self.market.cash_return.take(self.session - 1))
        invested = value.sum(axis=-1)
        share = value / np.where(invested > 0.0, invested, 1.0)[:, None]
        squares = (share * share).sum(axis=-1)
        return {
            "invested": invested / (invested + cash),
            "largest_weight": value.max(axis=-1) / (invested + cash),
            "effective_assets": np.where(squares > 0.0, 1.0 / np.maximum(squares, 1e-9), 0.0),
        }

    def _target(self, action: FloatArray, mark: FloatArray, row: IntArray) -> FloatArray:
        ledger = self.ledger
        if self._bands:
            return banded_quantity(
                *edges(action), ledger.quantity, ledger.equity, mark, self.options.costs.share
            )
        return rebalanced_quantity(
            action, ledger.quantity, ledger.cash, ledger.equity, mark, self.options
        )

    def _cost(self, trade: FloatArray, mark: FloatArray, row: IntArray) -> FloatArray:
        cost: FloatArray = self.options.costs.share * (np.abs(trade) * mark).sum(axis=-1)
        return cost

    def _leaving(self, held: FloatArray, next_row: IntArray) -> tuple[BoolArray, FloatArray | None]:
        return self._nothing_leaves, None

    def _risk_book(self, mark: FloatArray, row: IntArray) -> Book:
        nothing = np.zeros_like(mark)
        return Book(
            quantity=self.ledger.quantity,
            price=mark,
            equity=self.ledger.equity,
            delta=mark,
            gamma=nothing,
            vega=nothing,
            traded=np.zeros(self.num_envs),  # the overlay keeps count of that itself
        )

    def _market_return(self, row: IntArray) -> FloatArray:
        return self._index.take(row + 1)

    def _observe(self, row: IntArray, env_indices: slice | IntArray = ALL) -> ObsArray:
        ledger, initial = self.ledger, self.options.initial_equity_usd
        quantity, equity = ledger.quantity[env_indices], ledger.equity[env_indices]
        assets = quantity.shape[1]
        worth = np.maximum(equity, 1e-3 * initial)
        own = np.empty((len(row), assets + 2))
        own[:, :assets] = quantity * self._mark.take(row, axis=0) / worth[:, None]
        own[:, -2] = ledger.cash[env_indices] / worth
        own[:, -1] = equity / initial
        scaled = self._scaling.apply(own)
        obs = np.empty((len(row), 3 * assets + 2), np.float32)
        obs[:, :assets] = scaled[:, :assets]
        obs[:, assets : 3 * assets] = self._observed.take(row, axis=0)
        obs[:, 3 * assets :] = scaled[:, assets:]
        return obs
