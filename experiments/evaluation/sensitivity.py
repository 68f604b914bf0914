"""The same books where trading costs less or more than was assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from agents.policy import Trader
from envs.allocation.market import AllocationSettings, PanelMarket
from envs.core.costs import FlatCosts, RealisticCosts
from envs.option_portfolio.market import OptionMarket, OptionPortfolioSettings
from experiments.backtests.backtest import run_backtests
from experiments.runs.market_setup import MarketSetup
from experiments.statistics.performance import Performance
from risk.overlay import RiskSettings

FACTORS = (0.0, 1.0, 2.0, 5.0)


@dataclass(frozen=True)
class CostRow:
    """One book under costs times a factor; means over paths."""

    factor: float
    book: str
    performance: Performance


def cost_sensitivity(
    setup: MarketSetup,
    policies: Mapping[str, Trader],
    split: str,
    risk: RiskSettings | None,
    factors: tuple[float, ...] = FACTORS,
) -> list[CostRow]:
    """Every policy over a split under each factor, with the risk module where `risk` is given."""
    rows = []
    for factor in factors:
        market, env = with_costs(setup, factor)
        backtests = run_backtests(policies, market, env, setup.window(split), risk)
        rows += [CostRow(factor, name, book.performance()) for name, book in backtests.items()]
    return rows


def with_costs(
    setup: MarketSetup, factor: float
) -> tuple[OptionMarket | PanelMarket, OptionPortfolioSettings | AllocationSettings]:
    """The session's market and settings where everything that is traded costs `factor` times."""
    market, env = setup.market, setup.settings.env
    if isinstance(env, AllocationSettings):
        return market, replace(env, costs=_flat(env.costs, factor))
    if isinstance(market, OptionMarket):
        closing = market.closing_unit_cost
        market = replace(
            market,
            unit_cost=factor * market.unit_cost,
            closing_unit_cost=None if closing is None else factor * closing,
        )
    costs = env.costs
    if isinstance(costs, RealisticCosts):
        return market, replace(env, costs=replace(costs, multiplier=factor * costs.multiplier))
    return market, replace(env, costs=_flat(costs, factor))


def _flat(costs: FlatCosts, factor: float) -> FlatCosts:
    return replace(costs, rate_bps=factor * costs.rate_bps)


def mean_of(performance: Performance, measure: str) -> float:
    """A measure's mean over paths."""
    return float(np.mean(getattr(performance, measure)))
