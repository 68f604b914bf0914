"""The allocation to assets: market, baselines, causes of P&L, holdings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from agents.baselines.allocation import build_allocation_baselines
from agents.baselines.reference import Baseline
from envs.allocation.market import AllocationMarketSettings, PanelMarket
from envs.core.batch import Window
from envs.market.sources.panel import LoadedPanel
from experiments.backtests.backtest import Backtest
from experiments.environments.attribution import Attribution, attribute_allocation
from experiments.environments.holdings import portfolio_report
from experiments.environments.setup import MarketSetup


@dataclass(frozen=True)
class AllocationSetup(MarketSetup):
    """Assets and cash."""

    loaded: LoadedPanel
    market: PanelMarket
    settings: AllocationMarketSettings

    index_title: ClassVar[str] = "equally weighted assets"
    trades_options: ClassVar[bool] = False
    conditions: ClassVar[tuple[str, ...]] = ("initial_equity_usd", "rebalance_threshold")

    def baselines(self, evaluated: Window) -> tuple[tuple[Baseline, ...], tuple[str, ...]]:
        """Constant mixes, portfolios fitted to the past and walked forward, cash and noise."""
        return build_allocation_baselines(self.market, evaluated)

    def attribute(self, backtest: Backtest) -> Attribution:
        """By market and choice of assets."""
        return attribute_allocation(backtest, self.market)

    def holdings(self, backtest: Backtest) -> dict[str, Any]:
        """Mean weights, and the portfolio after the last trade."""
        return portfolio_report(backtest, self.market)

    @property
    def assets(self) -> tuple[str, ...]:
        """The assets' names."""
        return self.market.instruments
