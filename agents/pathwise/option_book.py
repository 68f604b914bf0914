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


class Choice(NamedTuple):
    """What becomes of each position, as 0 or 1 (B, M); where neither holds it is closed.

    None: all is traded.
    """

    traded: Tensor | None  # to what is wanted
    kept: Tensor | None  # as it is

    def of(self, target: Tensor, current: Tensor) -> Tensor:
        """The quantities (B, M) that this leads to."""
        if self.traded is None or self.kept is None:
            return target
        return target * self.traded + current * self.kept


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
        choice = self.choose(target.detach(), current.detach(), budget.detach(), day)
        quantity = choice.of(target, current)
        size = (quantity - current).abs()
        beyond = (size - self._impact_from).clamp_min(0.0)
        return quantity, (size * day.unit_cost + self._impact * beyond * day.mark).sum(dim=-1)

    def earn(self, wanted: Tensor, days: Days) -> Earned:
        """As `Twin.earn`, with a gradient that is written out: a fraction of the time."""
        return Earned(*_Earn.apply(wanted, days, self))  # type: ignore[no-untyped-call]

    def choose(self, target: Tensor, current: Tensor, budget: Tensor, day: Days) -> Choice:
        """Which positions the tick, the band and a closed market leave alone."""
        sizing = self.sizing
        # None as long as everything is traded.
        traded: Tensor | None = None
        kept: Tensor | None = None
        cheap = day.mark < sizing.min_tick_usd
        if bool(cheap.any()):
            low, high = current.clamp_max(0.0), current.clamp_min(0.0)
            kept = cheap & torch.where(current > 0.0, target >= high, target <= low)
            traded = ~cheap | ((low < target) & (target < high))
            target = torch.where(traded, target, torch.where(kept, current, 0.0))
        left = day.closed[:, None].expand_as(target) if bool(day.closed.any()) else None
        if sizing.no_trade_band > 0.0:
            in_spot = sizing.unit == "notional"
            spot = day.spot[:, None]
            small = (target - current).abs() * (spot if in_spot else day.mark)
            small = small < sizing.no_trade_band * budget
            # Closing is never left undone, nor is a position that has outgrown its limit.
            small &= (target != 0.0) & (current.abs() * spot <= sizing.max_notional * budget)
            left = small if left is None else left | small
        if left is not None:
            kept = left if kept is None else kept | left
            traded = ~left if traded is None else traded & ~left
        if traded is None or kept is None:
            return Choice(None, None)
        return Choice(traded.to(target.dtype), kept.to(target.dtype))

    def cost_slope(self, trade: Tensor, day: Days) -> tuple[Tensor, Tensor]:
        """What trades (B, M) cost (B,), and what one more unit of each would (B, M)."""
        side = torch.sign(trade)
        slope = side * day.unit_cost
        cost = (trade * slope).sum(dim=-1)
        if self._impact:
            beyond = (trade.abs() - self._impact_from).clamp_min(0.0)
            if bool(beyond.any()):
                rate = self._impact * day.mark
                cost = cost + (rate * beyond).sum(dim=-1)
                slope = slope + side * rate * (beyond > 0.0)
        return cost, slope

    def _own_features(self, books: Books, day: Days) -> Tensor:
        worth = self.worth(books.equity)
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


class _Earn(torch.autograd.Function):
    """`Twin.earn` of option books with its gradient: every day has the same graph.

    Forwards it keeps what a day's derivatives need, backwards it runs the recursion of quantities
    and equity in reverse.
    """

    @staticmethod
    def forward(
        ctx: Any, wanted: Tensor, days: Days, twin: OptionTwin
    ) -> tuple[Tensor, Tensor, Tensor]:
        quantity, equity, *_ = twin.open(days)
        change = days.aged - days.cash[..., None] * days.mark
        steps: list[tuple[Tensor, ...]] = []
        choices: list[Choice] = []
        for t in range(len(days)):
            day = days.day(t)
            budget = twin.budget(equity)
            target, current = wanted[t] * budget, quantity
            choice = twin.choose(target, current, budget, day)
            held = choice.of(target, current)
            cost, slope = twin.cost_slope(held - current, day)
            closing_slope = torch.sign(held) * day.closing_cost
            closing = (held * closing_slope).sum(dim=-1)
            earned = (held * change[t]).sum(dim=-1) - day.cash * cost - closing
            worth = twin.worth(equity)
            steps.append((earned / worth, equity, (cost + closing) / worth, slope, closing_slope))
            choices.append(choice)
            equity = equity * day.cash + earned
            quantity = held * day.stays
        excess, before, costs, slopes, closing_slopes = (
            torch.stack(column) for column in zip(*steps, strict=True)
        )
        ctx.days, ctx.twin, ctx.choices = days, twin, choices
        ctx.save_for_backward(wanted, excess, before, change - closing_slopes, slopes)
        ctx.mark_non_differentiable(costs)
        return excess, torch.cat([before[1:], equity[None]]), costs

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_excess: Tensor, d_equity: Tensor, _: Tensor
    ) -> tuple[Tensor, None, None]:
        wanted, excess, before, change, slopes = ctx.saved_tensors
        days, twin = ctx.days, ctx.twin
        cash, budget = days.cash, twin.budget(before)
        worth = twin.worth(before)
        d_earned_now = d_excess / worth
        # Of the equity a return is measured on, and of the budget: none where they are floors.
        d_worth = torch.where(before == worth, -d_earned_now * excess, 0.0)
        is_budget = (budget[..., 0] == before).to(before.dtype)
        d_wanted = torch.empty_like(wanted)
        d_after = torch.zeros_like(before[0])  # of the equity after the day
        d_stays = torch.zeros_like(wanted[0])  # of the quantity after it
        for t in range(len(wanted) - 1, -1, -1):
            d_after = d_after + d_equity[t]
            d_earned = d_after + d_earned_now[t]
            d_trade = slopes[t] * (-d_earned * cash[t])[:, None]
            d_held = d_stays * days.stays[t] + d_earned[:, None] * change[t] + d_trade
            choice = ctx.choices[t]
            if choice.traded is None:
                d_target, d_stays = d_held, -d_trade
            else:
                d_target, d_stays = d_held * choice.traded, d_held * choice.kept - d_trade
            torch.mul(d_target, budget[t], out=d_wanted[t])
            d_budget = (d_target * wanted[t]).sum(dim=-1)
            d_after = d_after * cash[t] + d_worth[t] + d_budget * is_budget[t]
        return d_wanted, None, None
