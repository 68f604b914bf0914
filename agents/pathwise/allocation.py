"""The allocation's twin: rebalancing to weights after costs, as in `envs.allocation`, in torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.pathwise.twin import Books, Days, Twin, scaled
from conf.types import BoolArray, FloatArray, IntArray, ObsArray
from envs.allocation.env import ROUNDING_SHARE
from envs.allocation.market import AllocationSettings, PanelMarket
from envs.core.market import as_rows


class AllocationTwin(Twin):
    """Portfolios of A assets and cash; actions (B, A + 1) are weights, cash last."""

    market: PanelMarket
    options: AllocationSettings

    def __init__(
        self, market: PanelMarket, options: AllocationSettings, cost_multiple: float = 1.0
    ) -> None:
        super().__init__(market, options, cost_multiple)
        self._share = cost_multiple * options.costs.share
        self._rows = as_rows(market.observed)
        self._features = [item for item in market.features if item.block == "portfolio"]

    @property
    def rules(self) -> tuple[Any, ...]:
        """Costs, threshold and capital."""
        return self.options.costs, self.options.rebalance_threshold, self.initial

    def _costs(self, now: IntArray, mark: FloatArray) -> tuple[FloatArray, FloatArray | None]:
        # Before the multiple, which `days` puts on.
        return self.options.costs.share * mark, None

    def _leaves(self, session: IntArray) -> BoolArray:
        return np.zeros((1, 1, 1), np.bool_)

    def _spot(self, now: IntArray) -> FloatArray:
        return np.ones(now.shape)

    def _observed(self, now: IntArray) -> ObsArray:
        assets = len(self.market.instruments)
        seen = np.zeros((*now.shape, 3 * assets + 2), np.float32)
        seen[..., assets : 3 * assets] = self._rows.take(now, axis=0)
        return seen

    def wanted(self, action: Tensor, days: Days) -> Tensor:
        """Units for a dollar of the portfolio after costs: the assets' weights over prices."""
        weights = action.to(days.mark.dtype)
        return (weights / weights.sum(dim=-1, keepdim=True))[..., :-1] / days.mark

    def trade(self, wanted: Tensor, books: Books, day: Days) -> tuple[Tensor, Tensor]:
        """See `envs.allocation.env.rebalanced_quantity`; a share of the dollars traded is paid."""
        weights, held = wanted * day.mark, books.quantity * day.mark
        after = self._value_after_costs(books.equity, held, weights)
        quantity = wanted * (after * (1.0 - ROUNDING_SHARE))[:, None]
        kept = day.closed
        threshold = self.options.rebalance_threshold
        if threshold > 0.0:
            now = held / books.equity[:, None]
            apart = (weights - now).abs().sum(dim=-1)
            in_cash = 1.0 - weights.sum(dim=-1)
            apart = 0.5 * (apart + (in_cash - books.cash / books.equity).abs())
            kept = kept | (apart < threshold)
        quantity = torch.where(kept[:, None], books.quantity, quantity)
        cost = ((quantity - books.quantity).abs() * day.unit_cost).sum(dim=-1)
        return quantity, cost

    def _value_after_costs(self, value: Tensor, held: Tensor, weights: Tensor) -> Tensor:
        """`envs.allocation.env.value_after_costs`; its last Newton step carries the gradient."""

        def root(side: Tensor) -> Tensor:
            bought, paid = (side * weights).sum(dim=-1), (side * held).sum(dim=-1)
            return (value + self._share * paid) / (1.0 + self._share * bought)

        with torch.no_grad():
            after = value
            for _ in range(weights.shape[1] + 1):
                side = torch.sign(weights * after[:, None] - held)
                lower = torch.minimum(root(side), after)
                if torch.equal(lower, after):
                    break
                after = lower
            side = torch.sign(weights * after[:, None] - held)
        return root(side)

    def _own_features(self, books: Books, day: Days) -> Tensor:
        worth = self.worth(books.equity)
        columns = [
            books.quantity * day.mark / worth[:, None],
            (books.cash / worth)[:, None],
            (books.equity / self.initial)[:, None],
        ]
        return scaled(torch.cat(columns, dim=-1), self._features)
