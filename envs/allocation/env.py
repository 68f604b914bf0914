"""The allocation: weights of assets and cash, rebalanced at each close."""

from __future__ import annotations

from typing import Any

import numpy as np

from conf.errors import InputError
from conf.types import BoolArray, FloatArray, IntArray, ObsArray
from envs.allocation.market import AllocationSettings, PanelMarket
from envs.allocation.simplex import Simplex
from envs.core.episode_statistics import ALL
from envs.core.features import Scaling
from envs.core.kernel import BookKernel
from envs.core.market import as_rows
from risk.book import Book

# The last bits of a trade may not overdraw the account, so this share stays behind as cash.
ROUNDING_SHARE = 64 * float(np.finfo(np.float64).eps)


def value_after_costs(
    value: FloatArray, held: FloatArray, weights: FloatArray, cost_share: float
) -> FloatArray:
    """Value V' (N,) of portfolios once `weights` (N, A) of it are held in each asset.

    value (N,) dollars before the trade, held (N, A) dollars in each asset before it; the rest is
    cash, and the rest of the weights stays cash. Trading costs `cost_share` < 1 of every dollar
    bought or sold and is paid from the portfolio:

        V' = V - cost_share x sum |weights V' - held|

    the transaction remainder factor of Z. Jiang, D. Xu and J. Liang, A deep reinforcement learning
    framework for the financial portfolio management problem (2017), arXiv:1706.10059, times V.
    V' less the right-hand side is convex, rises, and is linear between the V' at which an asset
    turns from bought to sold. So Newton's method from V falls to the root in as many steps as
    there are such turns, and is exact.
    """
    after = value
    for _ in range(weights.shape[1] + 1):
        side = np.sign(weights * after[:, None] - held)
        bought = (side * weights).sum(axis=-1)
        root = (value + cost_share * (side * held).sum(axis=-1)) / (1.0 + cost_share * bought)
        lower = np.minimum(root, after)
        if np.array_equal(lower, after):
            break
        after = lower
    return after


def rebalanced_quantity(
    weights: FloatArray,
    quantity: FloatArray,
    cash: FloatArray,
    equity: FloatArray,
    price: FloatArray,
    options: AllocationSettings,
) -> FloatArray:
    """Units (N, A) that bring portfolios to weights (N, A + 1), cash last, after costs.

    Held before: quantity (N, A), price (N, A) dollars a unit, cash and equity (N,) dollars. What
    is nearer to its weights than the rebalancing threshold stays as it is.
    """
    held, assets = quantity * price, weights[:, :-1]
    after = value_after_costs(equity, held, assets, options.costs.share)
    after = after * (1.0 - ROUNDING_SHARE)
    target: FloatArray = assets * after[:, None] / price
    threshold = options.rebalance_threshold
    if threshold > 0.0:
        apart = np.abs(assets - held / equity[:, None]).sum(axis=-1)
        apart = 0.5 * (apart + np.abs(weights[:, -1] - cash / equity))
        target = np.where((apart < threshold)[:, None], quantity, target)
    return target


class AllocationKernel(BookKernel):
    """N portfolios of A assets and cash over one panel; see `BookKernel` for episodes and steps.

    Action (N, A + 1): weights of the assets, then of cash, 0 or more; they are divided by their
    sum, and all zeros ask for cash. Observation (N, 3 A + 2): `market.allocation_features`. Nothing
    is borrowed or sold short. What is bought or sold costs a share of its dollars, once, paid from
    the portfolio, so that the weights after the trade are the requested ones.
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
        self.action_space = Simplex(assets + 1)
        self._observed, self._index = as_rows(market.observed), as_rows(market.index_return)
        own = (*market.features[:assets], *market.features[3 * assets :])
        self._scaling = Scaling(own)
        self._nothing_leaves = np.zeros(1, np.bool_)

    def checked_action(self, action: Any) -> FloatArray:
        """The weights (N, A + 1), summing to 1; a wrong shape, a NaN or a minus is refused."""
        weights = self.finite_action(action)
        if weights.min() < 0.0:
            where = tuple(int(i) for i in np.argwhere(weights < 0.0)[0])
            raise InputError(
                f"weight {where[1]} of episode {where[0]} is {weights[where]}",
                "Give weights of 0 or more: nothing is sold short",
            )
        largest = weights.max(axis=-1, keepdims=True)
        share = weights / np.where(largest > 0.0, largest, 1.0)  # or their sum might overflow
        total = share.sum(axis=-1, keepdims=True)
        normalised: FloatArray = share / np.where(total > 0.0, total, 1.0)
        normalised[total[:, 0] == 0.0, -1] = 1.0
        return normalised

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
