"""The option book's twin: sizing, bands and costs of `envs.option_portfolio` in torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from agents.pathwise.twin import Books, Days, Earned, Twin, scaled
from agents.ppo.short_lstm import scripted
from conf.errors import InputError
from conf.types import BoolArray, FloatArray, IntArray, ObsArray
from envs.core.costs import BPS, RealisticCosts
from envs.option_portfolio.market import OptionMarket, OptionPortfolioSettings
from envs.option_portfolio.observation import MARKET
from envs.option_portfolio.sizing import at_price_level


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
        if options.goal is not None:
            raise InputError(
                "env.observation.goal is set, and pathwise training knows no goals",
                "Train with pretrain=none and agent=ppo, recurrent_ppo or tqc",
            )
        super().__init__(market, options, cost_multiple)
        self.sizing = at_price_level(options.sizing, float(market.history.close[0, 0]))
        self._rows, block = market.rows, market.observed.portfolio
        self._block, self._features = block, market.features[block]
        self._rolled = market.tape.rolled
        costs = options.costs
        self.impact, self.impact_from = 0.0, np.inf  # share of premium, units
        if isinstance(costs, RealisticCosts):
            self.impact = cost_multiple * costs.multiplier * costs.impact_bps * BPS
            self.impact_from = costs.impact_threshold_units

    @property
    def rules(self) -> tuple[Any, ...]:
        """Sizing, costs and capital."""
        return self.sizing, self.options.costs, self.initial, self.market.features

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
        traded, kept = choose(
            target.detach(), current.detach(), budget.detach(), *self.limits(day), self.choices(day)
        )
        quantity = torch.where(traded, target, torch.where(kept, current, 0.0))
        size = (quantity - current).abs()
        beyond = (size - self.impact_from).clamp_min(0.0)
        return quantity, (size * day.unit_cost + self.impact * beyond * day.mark).sum(dim=-1)

    def earn(self, wanted: Tensor, days: Days) -> Earned:
        """As `Twin.earn`, with a gradient that is written out: a tenth of the time."""
        return Earned(*_Earn.apply(wanted, days, self))  # type: ignore[no-untyped-call]

    def limits(self, days: Days) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What `choose` needs to know: band and largest quantity for a dollar, cheap, closed."""
        sizing, spot = self.sizing, days.spot[..., None]
        dollars = spot if sizing.unit == "notional" else days.mark
        band = sizing.no_trade_band / dollars
        cheap = days.mark < sizing.min_tick_usd
        return band, sizing.max_notional / spot, cheap, days.closed[..., None]

    def choices(self, days: Days) -> list[bool]:
        """Whether there is a band, any cheap contract, any closed market."""
        cheap, closed = days.mark < self.sizing.min_tick_usd, days.closed
        return [self.sizing.no_trade_band > 0.0, bool(cheap.any()), bool(closed.any())]

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


@scripted
def _left_alone(
    target: Tensor, current: Tensor, budget: Tensor, band: Tensor, limit: Tensor
) -> Tensor:
    """Which changes (B, M) are too small to trade.

    Closing is never left undone, nor is a position that has outgrown its limit.
    """
    small = ((target - current).abs_() < band * budget) & (target != 0.0)
    return small & (current.abs() <= limit * budget)


@scripted
def choose(
    target: Tensor,
    current: Tensor,
    budget: Tensor,
    band: Tensor,
    limit: Tensor,
    cheap: Tensor,
    closed: Tensor,
    choices: list[bool],
) -> tuple[Tensor, Tensor]:
    """Which positions (B, M) trade to their target and which stay; what does neither is closed."""
    has_band, has_cheap, has_closed = choices
    kept = torch.zeros_like(target, dtype=torch.bool)
    traded = torch.logical_not(kept)
    if has_cheap:
        low, high = current.clamp_max(0.0), current.clamp_min(0.0)
        kept = cheap & torch.where(current > 0.0, target >= high, target <= low)
        traded = torch.logical_not(cheap) | ((low < target) & (target < high))
        target = torch.where(traded, target, torch.where(kept, current, 0.0))
    if has_band:
        small = _left_alone(target, current, budget, band, limit)
        kept, traded = kept | small, traded & torch.logical_not(small)
    if has_closed:
        kept, traded = kept | closed, traded & torch.logical_not(closed)
    return traded, kept


@scripted
def _forward(
    wanted: Tensor,  # (L, B, M), as are all without a comment
    change: Tensor,
    stays: Tensor,
    unit_cost: Tensor,
    closing_cost: Tensor | None,
    impact: Tensor,  # dollars a unit beyond `impact_from`
    cash: Tensor,  # (L, B)
    limits: tuple[Tensor, Tensor, Tensor, Tensor],
    choices: list[bool],
    impact_from: float,  # units
    initial: float,
    ruin: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Dollars earned and paid (L, B), equity (L + 1, B); held, traded and kept (L, B, M)."""
    equity = torch.full_like(cash[0], initial)
    current = torch.zeros_like(wanted[0])
    holdings = torch.empty_like(wanted)
    traded = torch.ones_like(wanted, dtype=torch.bool)
    kept = torch.zeros_like(traded)
    earnings, equities, costs = torch.empty_like(cash), [equity], torch.empty_like(cash)
    band, limit, cheap, closed = limits
    has_band, has_cheap, has_closed = choices
    for t in range(len(wanted)):
        budget = (equity.clamp_min(0.0).mul_(equity >= ruin)).unsqueeze(1)
        held = torch.mul(wanted[t], budget, out=holdings[t])
        if has_cheap or has_closed:
            do, keep = choose(
                held, current, budget, band[t], limit[t], cheap[t], closed[t], choices
            )
            held.copy_(torch.where(do, held, torch.where(keep, current, 0.0)))
            traded[t], kept[t] = do, keep
        elif has_band:
            keep = _left_alone(held, current, budget, band[t], limit[t])
            kept[t] = keep
            held.copy_(torch.where(keep, current, held))
        size = (held - current).abs_()
        cost = (size * unit_cost[t]).sum(-1)
        if bool(size.max() > impact_from):
            cost.add_(((size - impact_from).clamp_min_(0.0) * impact[t]).sum(-1))
        earned = (held * change[t]).sum(-1).addcmul_(cash[t], cost, value=-1.0)
        if closing_cost is not None:
            closing = (held.abs() * closing_cost[t]).sum(-1)
            earned.sub_(closing)
            cost.add_(closing)
        earnings[t], costs[t] = earned, cost
        equity = torch.addcmul(earned, equity, cash[t])
        equities.append(equity)
        current = held * stays[t]
    if not (has_cheap or has_closed):
        traded = torch.logical_not(kept)
    return earnings, torch.stack(equities), costs, holdings, traded, kept


@scripted
def _backward(
    d_earned_now: Tensor,  # (L, B) through the day's return
    d_equity: Tensor,  # (L, B) of the equity after each day
    d_before: Tensor,  # (L, B) of the equity before it, as what the return is measured on
    wanted: Tensor,
    budget: Tensor,  # (L, B, 1)
    is_budget: Tensor,  # (L, B) 1 where all equity is budget
    slopes: Tensor,  # of the day's cost in the quantity traded
    change: Tensor,  # of earnings in the quantity held
    stays: Tensor,
    cash: Tensor,
    traded: Tensor,  # 1 or 0
    kept: Tensor,
) -> Tensor:
    """The gradient of `wanted`."""
    d_wanted = torch.empty_like(wanted)
    d_after, d_stays = torch.zeros_like(cash[0]), torch.zeros_like(wanted[0])
    paid = -slopes * cash.unsqueeze(-1)
    for back in range(len(wanted)):
        t = len(wanted) - 1 - back
        d_after = d_after + d_equity[t]
        d_earned = (d_after + d_earned_now[t]).unsqueeze(1)
        d_trade = paid[t] * d_earned
        d_held = d_stays * stays[t] + d_earned * change[t] + d_trade
        d_target = d_held * traded[t]
        d_stays = d_held * kept[t] - d_trade
        d_wanted[t] = d_target * budget[t]
        d_budget = (d_target * wanted[t]).sum(-1)
        d_after = d_after * cash[t] + d_before[t] + d_budget * is_budget[t]
    return d_wanted


class _Earn(torch.autograd.Function):
    """`Twin.earn` of option books with its gradient: every day has the same graph.

    Forwards it keeps what a day's derivatives need; backwards it runs the recursion of quantities
    and equity in reverse.
    """

    @staticmethod
    def forward(
        ctx: Any, wanted: Tensor, days: Days, twin: OptionTwin
    ) -> tuple[Tensor, Tensor, Tensor]:
        change = days.aged - days.cash[..., None] * days.mark
        impact = twin.impact * days.mark
        closing = days.closing_cost if twin.market.closing_unit_cost is not None else None
        given = (wanted, change, days.stays, days.unit_cost, closing, impact, days.cash)
        market = (twin.limits(days), twin.choices(days))
        result = _forward(*given, *market, twin.impact_from, twin.initial, twin.ruin)
        earned, equity, costs, holdings, traded, kept = result
        before = torch.cat([torch.zeros_like(holdings[:1]), (holdings * days.stays)[:-1]])
        trades = holdings - before
        worth = twin.worth(equity[:-1])
        excess, costs = earned / worth, costs / worth
        slopes = torch.sign(trades) * (days.unit_cost + impact * (trades.abs() > twin.impact_from))
        change = change - torch.sign(holdings) * days.closing_cost
        ctx.days, ctx.twin = days, twin
        ctx.save_for_backward(wanted, excess, equity[:-1], slopes, change, traded, kept)
        ctx.mark_non_differentiable(costs)
        return excess, equity[1:].clone(), costs

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_excess: Tensor, d_equity: Tensor, _: Tensor
    ) -> tuple[Tensor, None, None]:
        wanted, excess, before, slopes, change, traded, kept = ctx.saved_tensors
        days, twin = ctx.days, ctx.twin
        budget, worth = twin.budget(before), twin.worth(before)
        d_earned = d_excess / worth
        d_wanted = _backward(
            d_earned,
            d_equity,
            # No slope where a floor is what counts instead of the equity.
            torch.where(before == worth, -d_earned * excess, 0.0),
            wanted,
            budget,
            (budget[..., 0] == before).to(before.dtype),
            slopes,
            change,
            days.stays,
            days.cash,
            traded.to(wanted.dtype),
            kept.to(wanted.dtype),
        )
        return d_wanted, None, None
