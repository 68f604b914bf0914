"""The hedger's twin: a liability and the shares against it, as in `envs.hedging`, in torch.

Excess returns are in prices of the liability here, as the environment's rewards are: minus their
sum is what a liability costs. A stretch is the life of one, and its days are `HedgingDays`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from agents.pathwise.twin import Books, Days, Twin, scaled
from conf.errors import InputError
from conf.types import BoolArray, FloatArray, IntArray, ObsArray
from envs.core.batch import Window
from envs.core.market import as_rows
from envs.hedging.env import ACTION_LIMIT, BAND_SHIFT, CENTRE_STEP, holding_limit
from envs.hedging.market import HedgingMarket, HedgingSettings


@dataclass(frozen=True)
class HedgingDays(Days):
    """Days of B liabilities."""

    delta: Tensor  # (L, B) shares a unit
    shares: Tensor  # (L, B) of the underlying's units that are a share a unit
    premium: Tensor  # (L, B) dollars
    liability: Tensor  # (L, B, legs) options held
    units: Tensor  # (L, B) of the liability
    option_delta: Tensor  # (L, B, H) of the underlying's units that one option moves like
    neutral: Tensor  # (L, B, H) options a unit


class HedgingTwin(Twin):
    """Hedgers of one liability; actions are (B, 2), a band, or (B, 1), a holding."""

    market: HedgingMarket
    options: HedgingSettings

    def __init__(
        self, market: HedgingMarket, options: HedgingSettings, cost_multiple: float = 1.0
    ) -> None:
        super().__init__(market, options, cost_multiple)
        self._features, self._traded = market.own_features, market.num_traded
        names = ("delta", "shares", "premium", "liability", "units", "option_delta", "neutral")
        self._rows = {name: as_rows(getattr(market, name)) for name in names}
        self._seen = as_rows(market.observed)
        self._unit_cost = as_rows(market.unit_cost)
        self._closing_cost = as_rows(market.closing_cost)

    @property
    def rules(self) -> tuple[Any, ...]:
        """Liability, action, days of trading, costs and capital."""
        options = self.options
        kept = (options.liability, options.action, options.rebalance_every)
        costs = (options.costs, options.hedges, options.hedge_costs)
        return (*kept, *costs, options.episode.sessions, options.notional_share, self.initial)

    @property
    def reported(self) -> tuple[float, str]:
        """An objective is minus what a liability costs, which is shown in percent of its price."""
        return -100.0 * self.options.episode.sessions, "% of the price"

    def starts(self, window: Window, length: int) -> IntArray:
        """Sessions at which a liability is sold; InputError where a stretch is not its life."""
        life = self.options.episode.sessions
        if length != life:
            raise InputError(
                f"a stretch of the pathwise training has {length} sessions, a liability {life}",
                "Set sessions of the pathwise training and env.episode.sessions alike",
            )
        starts = self.market.starts(window, life)
        if not len(starts):
            raise InputError(
                f"no liability of {life} sessions begins and ends within the training window",
                "Widen it or set env.episode.sessions lower",
            )
        return starts

    def days(
        self,
        path: IntArray,
        session: IntArray,
        length: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> HedgingDays:
        """`length` days of B liabilities that are sold at these sessions (B,)."""
        days = super().days(path, session, length, device, dtype)
        now = path * self.market.history.num_sessions + session + np.arange(length)[:, None]
        own = {
            name: torch.tensor(rows.take(now, axis=0), dtype=dtype, device=device)
            for name, rows in self._rows.items()
        }
        return HedgingDays(**vars(days), **own)

    def wanted(self, action: Tensor, days: Any) -> Tensor:
        """Units of what is traded: lower and upper edge (..., K, 2), or the holding twice.

        Edges of the underlying are those without listed options.
        """
        of_options = days.units[..., None].expand(days.neutral.shape)
        per_unit = torch.cat([days.shares[..., None], of_options], dim=-1)
        if self.options.action == "holding":
            most = holding_limit(self.options)
            held = action.to(per_unit.dtype).clamp(-most, most) * per_unit
            return torch.stack([held, held], dim=-1)
        limited = action.to(per_unit.dtype).clamp(-ACTION_LIMIT, ACTION_LIMIT)
        limited = limited.reshape(*limited.shape[:-1], self._traded, -1)
        width = softplus(limited[..., :2] - BAND_SHIFT)
        centre = torch.cat([days.delta[..., None], days.neutral], dim=-1)
        if self.options.action == "shifted_band":
            centre = centre + CENTRE_STEP * limited[..., 2]
        edges = torch.stack([centre - width[..., 0], centre + width[..., 1]], dim=-1)
        wanted: Tensor = edges * per_unit[..., None]
        return wanted

    def trade(self, wanted: Tensor, books: Books, day: Any) -> tuple[Tensor, Tensor]:
        """What is held is moved to the edge of the band; a share of the dollars is paid."""
        held, (low, high) = books.quantity[:, : self._traded], wanted.unbind(dim=-1)
        moved = torch.minimum(torch.maximum(held, low), high)
        if self._traded > 1 and self.options.action != "holding":
            theirs = (moved[:, 1:] * day.option_delta).sum(dim=-1)
            shares = torch.maximum(held[:, 0], low[:, 0] - theirs)
            shares = torch.minimum(shares, high[:, 0] - theirs)
            moved = torch.cat([shares[:, None], moved[:, 1:]], dim=-1)
        moved = torch.where(day.closed[:, None], held, moved)
        cost = ((moved - held).abs() * day.unit_cost[:, : self._traded]).sum(dim=-1)
        return torch.cat([moved, day.liability], dim=-1), cost

    def advance(self, wanted: Tensor, books: Books, day: Any) -> tuple[Books, Tensor, Tensor]:
        """As `Twin.advance`, in prices; the books remember what they have earned so far."""
        after, excess, cost = super().advance(wanted, books, day)
        prices = self.initial / day.premium
        excess, cost = excess * prices, cost * prices
        so_far = books.excess[0] + excess if books.excess else excess
        return after._replace(excess=(so_far,)), excess, cost

    def worth(self, equity: Tensor) -> Tensor:
        """The initial equity: prices of the liability do not depend on the account."""
        return torch.full_like(equity, self.initial)

    def _costs(self, now: IntArray, mark: FloatArray) -> tuple[FloatArray, FloatArray | None]:
        unit, closing = np.zeros((2, *mark.shape))
        unit[..., : self._traded] = self._unit_cost.take(now, axis=0)
        closing[..., : self._traded] = self._closing_cost.take(now + 1, axis=0)
        return unit, closing

    def _leaves(self, session: IntArray) -> BoolArray:
        leaves: BoolArray = self.market.leaves[session]
        return leaves

    def _spot(self, now: IntArray) -> FloatArray:
        return np.ones(now.shape)

    def _observed(self, now: IntArray) -> ObsArray:
        seen = self._seen.take(now, axis=0)
        own = np.zeros((*now.shape, len(self._features)), np.float32)
        return np.concatenate([seen, own], axis=-1)

    def _own_features(self, books: Books, day: Any) -> Tensor:
        held = books.quantity[:, : self._traded]
        lost = -books.excess[0] if books.excess else torch.zeros_like(held[:, 0])
        own = [held[:, :1] / day.shares[:, None], held[:, 1:] / day.units[:, None], lost[:, None]]
        return scaled(torch.cat(own, dim=-1), self._features)
