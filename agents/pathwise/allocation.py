"""The allocation's twin: rebalancing to weights after costs, as in `envs.allocation`, in torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.pathwise.twin import Books, Days, Twin, scaled
from conf.types import BoolArray, FloatArray, IntArray, ObsArray
from envs.allocation.market import AllocationSettings, PanelMarket
from envs.allocation.rebalance import BAND_SCALE, ROUNDING_SHARE
from envs.core.market import as_rows


class AllocationTwin(Twin):
    """Portfolios of A assets and cash; actions (B, A + 1) are weights, cash last.

    With `env.action=band` widths (B, A) follow them.
    """

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
        """Action, costs, threshold and capital."""
        options = self.options
        return options.action, options.costs, options.rebalance_threshold, self.initial

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
        """Units for a dollar of the portfolio after costs, (..., A): weights over prices.

        Of bands the lower and the upper edges, (..., 2, A); see `envs.allocation.rebalance.edges`.
        """
        assets = days.mark.shape[-1]
        shares = action.to(days.mark.dtype)
        shares = shares / shares[..., : assets + 1].sum(dim=-1, keepdim=True)
        weights = shares[..., :assets]
        if self.options.action == "weights":
            return weights / days.mark
        width = BAND_SCALE * shares[..., assets + 1 :]
        bands = [(weights - width).clamp_min(0.0), (weights + width).clamp_max(1.0)]
        return torch.stack(bands, dim=-2) / days.mark[..., None, :]

    def trade(self, wanted: Tensor, books: Books, day: Days) -> tuple[Tensor, Tensor]:
        """See `envs.allocation.rebalance`; a share of the dollars traded is paid."""
        held = books.quantity * day.mark
        if self.options.action == "band":
            quantity = self._inside(wanted * day.mark[:, None], held, books, day)
            kept = day.closed
        else:
            weights = wanted * day.mark
            after, _, _ = self._value_after_costs(books.equity, held, weights, weights)
            quantity = wanted * (after * (1.0 - ROUNDING_SHARE))[:, None]
            kept = day.closed | self._near(weights, held, books)
        quantity = torch.where(kept[:, None], books.quantity, quantity)
        cost = ((quantity - books.quantity).abs() * day.unit_cost).sum(dim=-1)
        return quantity, cost

    def _near(self, weights: Tensor, held: Tensor, books: Books) -> Tensor:
        """Whether books (B,) are nearer to their weights than the rebalancing threshold."""
        threshold = self.options.rebalance_threshold
        if threshold == 0.0:
            return torch.zeros_like(books.equity, dtype=torch.bool)
        apart = (weights - held / books.equity[:, None]).abs().sum(dim=-1)
        in_cash = 1.0 - weights.sum(dim=-1)
        return 0.5 * (apart + (in_cash - books.cash / books.equity).abs()) < threshold

    def _inside(self, bands: Tensor, held: Tensor, books: Books, day: Days) -> Tensor:
        """`envs.allocation.rebalance.banded_quantity` of bands (B, 2, A)."""
        lower, upper = bands.unbind(dim=1)
        after, side, edge = self._value_after_costs(books.equity, held, lower, upper)
        kept = 1.0 - ROUNDING_SHARE
        reached = torch.where(side == 0.0, held, edge * after[:, None])
        short = reached.sum(dim=-1) > after * kept
        if short.any():
            share = reached / after[:, None]
            total, least = share.sum(dim=-1, keepdim=True), lower.sum(dim=-1, keepdim=True)
            room = torch.where(total > least, total - least, 1.0)
            part = ((total - 1.0).clamp_min(0.0) / room).clamp_max(1.0)
            paid = (share - part * (share - lower)) * kept
            lower = torch.where(short[:, None], paid, lower)
            upper = torch.where(short[:, None], paid, upper)
            after, side, edge = self._value_after_costs(books.equity, held, lower, upper)
        target = edge * (after * kept)[:, None] / day.mark
        return torch.where(side == 0.0, books.quantity, target)

    def _value_after_costs(
        self, value: Tensor, held: Tensor, lower: Tensor, upper: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`envs.allocation.rebalance.value_after_costs`; its last Newton step has the gradient.

        Also whether an asset is bought (1), sold (-1) or left alone (B, A), and the edge it meets.
        """

        def sides(after: Tensor) -> tuple[Tensor, Tensor]:
            below = lower * after[:, None] - held
            if upper is lower:
                return torch.sign(below), lower
            above = upper * after[:, None] - held
            side = torch.sign(below.clamp_min(0.0) + above.clamp_max(0.0))
            return side, torch.where(side < 0.0, upper, lower)

        def root(side: Tensor, edge: Tensor) -> Tensor:
            bought, paid = (side * edge).sum(dim=-1), (side * held).sum(dim=-1)
            return (value + self._share * paid) / (1.0 + self._share * bought)

        with torch.no_grad():
            after = value
            for _ in range(2 * lower.shape[1] + 1):
                low = torch.minimum(root(*sides(after)), after)
                if torch.equal(low, after):
                    break
                after = low
            side, _ = sides(after)
        edge = lower if upper is lower else torch.where(side < 0.0, upper, lower)
        return root(side, edge), side, edge

    def _own_features(self, books: Books, day: Days) -> Tensor:
        worth = self.worth(books.equity)
        columns = [
            books.quantity * day.mark / worth[:, None],
            (books.cash / worth)[:, None],
            (books.equity / self.initial)[:, None],
        ]
        return scaled(torch.cat(columns, dim=-1), self._features)
