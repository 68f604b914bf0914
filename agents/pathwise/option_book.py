"""The option book's twin: sizing, bands and costs of `envs.option_portfolio` in torch."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from agents.pathwise.twin import Books, Days, Earned, Twin, scaled
from conf.errors import InputError
from conf.types import BoolArray, FloatArray, IntArray, ObsArray
from envs.core.costs import BPS, RealisticCosts
from envs.option_portfolio.market import OptionMarket, OptionPortfolioSettings
from envs.option_portfolio.observation import MARKET
from envs.option_portfolio.sizing import at_price_level


class _Choice(NamedTuple):
    """What becomes of each position, as 0 or 1 (B, M); where neither holds it is closed."""

    traded: Tensor  # to what is wanted
    kept: Tensor  # as it is


class OptionTwin(Twin):
    """Books of options: actions (B, M) in [-1, 1], see `envs.option_portfolio.sizing`."""

    market: OptionMarket
    options: OptionPortfolioSettings

    def __init__(
        self, market: OptionMarket, options: OptionPortfolioSettings, cost_multiple: float = 1.0
    ) -> None:
        if not options.sizing.fractional:
            raise InputError(
                "env.sizing.fractional is false, and whole contracts have no gradient",
                "Train with fractional contracts, or by PPO",
            )
        super().__init__(market, options, cost_multiple)
        self.sizing = at_price_level(options.sizing, float(market.history.close[0, 0]))
        self._rows, block = market.rows, market.observed.portfolio
        self._block, self._features = block, market.features[block]
        self._rolled = market.tape.rolled
        costs = options.costs
        self._impact, self._impact_from = 0.0, np.inf  # share of premium, units
        if isinstance(costs, RealisticCosts):
            self._impact = cost_multiple * costs.multiplier * costs.impact_bps * BPS
            self._impact_from = costs.impact_threshold_units

    def _costs(self, now: IntArray, mark: FloatArray) -> tuple[FloatArray, FloatArray | None]:
        closing = self._rows.closing_cost
        at_close = None if closing is None else closing.take(now + 1, axis=0)
        return self._rows.unit_cost.take(now, axis=0), at_close

    def _leaves(self, session: IntArray) -> BoolArray:
        return self._rolled.take(session, axis=0)

    def _spot(self, now: IntArray) -> FloatArray:
        return self._rows.spot.take(now)

    def _observed(self, now: IntArray) -> ObsArray:
        rows, block = self._rows, self._block
        seen = np.zeros((*now.shape, len(self.market.features)), np.float32)
        seen[..., : block.start] = rows.before.take(now, axis=0)
        seen[..., block.stop :] = rows.after.take(now, axis=0)
        price, first = rows.log_price.take(now), MARKET[0]
        seen[..., 0] = np.clip((price - price[0]) / first.scale, first.low, first.high)
        return seen

    def wanted(self, action: Tensor, days: Days) -> Tensor:
        """Units for a dollar of equity that actions ask for, within the largest notional."""
        sizing, spot = self.sizing, days.spot[..., None]
        action = action.to(spot.dtype).clamp(-1.0, 1.0)
        limit = sizing.max_notional / spot
        if sizing.unit == "notional":
            return action * limit
        asked = action * sizing.max_premium / days.mark.clamp_min(sizing.min_tick_usd)
        return torch.minimum(torch.maximum(asked, -limit), limit)

    def trade(self, wanted: Tensor, books: Books, day: Days) -> tuple[Tensor, Tensor]:
        """See `envs.option_portfolio.sizing.target_quantity`; costs, with impact beyond a size."""
        budget, current = self.budget(books.equity), books.quantity
        target = wanted * budget
        choice = self._choose(target.detach(), current.detach(), budget.detach(), day)
        quantity = target if choice is None else target * choice.traded + current * choice.kept
        size = (quantity - current).abs()
        beyond = (size - self._impact_from).clamp_min(0.0)
        return quantity, (size * day.unit_cost + self._impact * beyond * day.mark).sum(dim=-1)

    def _choose(self, target: Tensor, current: Tensor, budget: Tensor, day: Days) -> _Choice | None:
        """Which positions the tick, the band and closed markets leave alone; None for none."""
        sizing, traded, kept = self.sizing, None, None
        cheap = day.mark < sizing.min_tick_usd
        if bool(cheap.any()):
            low, high = current.clamp_max(0.0), current.clamp_min(0.0)
            kept = cheap & torch.where(current > 0.0, target >= high, target <= low)
            traded = ~cheap | ((low < target) & (target < high))
            target = torch.where(traded, target, torch.where(kept, current, 0.0))
        if sizing.no_trade_band > 0.0:
            dollars = day.spot[:, None] if sizing.unit == "notional" else day.mark
            small = (target - current).abs() * dollars < sizing.no_trade_band * budget
            within = current.abs() * day.spot[:, None] <= sizing.max_notional * budget
            kept_here = small & (target != 0.0) & within
            kept = kept_here if kept is None else kept | kept_here
            traded = ~kept if traded is None else traded & ~kept
        if bool(day.closed.any()):
            shut = day.closed[:, None].expand_as(target)
            kept = shut if kept is None else kept | shut
            traded = ~shut if traded is None else traded & ~shut
        if kept is None or traded is None:
            return None
        return _Choice(traded.to(target.dtype), kept.to(target.dtype))

    def _own_features(self, books: Books, day: Days) -> Tensor:
        worth = books.equity.clamp_min(1e-3 * self.initial)
        value = books.quantity * day.mark
        gross = value.abs().sum(dim=-1)
        share = value / torch.where(gross > 0.0, gross, 1.0)[:, None]
        spread = torch.where(gross > 0.0, 1.0 - (share * share).sum(dim=-1), 0.0)
        columns = [
            (books.cash / worth)[:, None],
            (books.equity / self.initial - 1.0)[:, None],
            books.quantity * (day.spot / worth)[:, None],
            value / worth[:, None],
            torch.stack(
                [
                    gross / worth,
                    spread,
                    (books.peak - books.equity) / books.peak,
                    self.rolling_sharpe(books),
                ],
                dim=-1,
            ),
        ]
        return scaled(torch.cat(columns, dim=-1), self._features)
