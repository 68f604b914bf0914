"""The allocation to assets: settings, market, baselines, causes of P&L, holdings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from agents.baselines.allocation import build_allocation_baselines
from agents.baselines.options import Baseline
from conf.errors import InputError
from envs.allocation.market import AllocationSettings, PanelMarket, build_panel_market
from envs.core.batch import Window
from envs.market.panel import PanelHistory
from envs.market.sources.panel import LoadedPanel, PanelSettings, PanelSimulatedData, load_panel
from experiments.backtests.backtest import Backtest
from experiments.environments.attribution import Attribution, attribute_allocation
from experiments.environments.holdings import portfolio_report
from experiments.environments.setup import MarketSetup
from risk.overlay import RiskSettings


@dataclass(frozen=True)
class AllocationMarketSettings:
    """Which assets, how they are allocated to, and what guards the portfolio."""

    data: PanelSettings = field(default_factory=PanelSimulatedData)
    env: AllocationSettings = field(default_factory=AllocationSettings)
    risk: RiskSettings = field(default_factory=RiskSettings)
    surface_kind: ClassVar[str] = "none"

    def load(self) -> LoadedPanel:
        """The panel of assets."""
        return load_panel(self.data)

    def build(self, history: PanelHistory) -> PanelMarket:
        """Observations and index; InputError for a history that is no panel."""
        if not hasattr(history, "assets"):
            raise InputError(f"{history.name} is one index", "Choose a panel of assets")
        return build_panel_market(history, self.env)


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
        """Constant mixes, portfolios fitted to the past and walked forward, cash and chance."""
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
