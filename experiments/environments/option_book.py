"""The option book: settings, market, baselines, causes of P&L, holdings."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from agents.baselines.options import Baseline, build_baselines
from conf.errors import InputError
from envs.core.batch import Window
from envs.market.history import MarketHistory
from envs.market.sources.index import DataSettings, LoadedMarket, Sp500Data, load_market
from envs.option_portfolio.market import (
    OptionMarket,
    OptionPortfolioSettings,
    build_option_market,
)
from envs.options.surface import FlatSurface, VixSurface
from experiments.backtests.backtest import Backtest
from experiments.environments.attribution import Attribution, attribute
from experiments.environments.holdings import position_report, strategy_by_day
from experiments.environments.setup import MarketSetup
from risk.overlay import RiskSettings


@dataclass(frozen=True)
class OptionMarketSettings:
    """Which index, at which volatility, which option book on it, and what guards the book."""

    data: DataSettings = field(default_factory=Sp500Data)
    surface: FlatSurface | VixSurface = field(default_factory=VixSurface)
    env: OptionPortfolioSettings = field(default_factory=OptionPortfolioSettings)
    risk: RiskSettings = field(default_factory=RiskSettings)

    @property
    def surface_kind(self) -> str:
        """vix or flat."""
        return self.surface.kind

    def load(self) -> LoadedMarket:
        """The index, its splits apart by the longest contract's life."""
        return load_market(self.data, embargo_days=self.env.chain.longest_life_days)

    def build(self, history: MarketHistory) -> OptionMarket:
        """The priced chain; InputError for a history that is no index."""
        if not hasattr(history, "implied_vol"):
            raise InputError(f"{history.name} has no implied volatility", "Choose an index")
        return build_option_market(history, self.surface, self.env)


@dataclass(frozen=True)
class OptionSetup(MarketSetup):
    """Twenty contracts on one index."""

    loaded: LoadedMarket
    market: OptionMarket
    settings: OptionMarketSettings

    index_title: ClassVar[str] = "S&P 500"
    trades_options: ClassVar[bool] = True
    conditions: ClassVar[tuple[str, ...]] = ("chain", "sizing", "initial_equity_usd")

    def baselines(self, evaluated: Window) -> tuple[tuple[Baseline, ...], tuple[str, ...]]:
        """Option strategies, the forward on the index, a fitted book, cash and chance."""
        return build_baselines(self.market, self.settings.env, self.training_window), ()

    def attribute(self, backtest: Backtest) -> Attribution:
        """By Greek."""
        return attribute(backtest, self.market)

    def holdings(self, backtest: Backtest) -> dict[str, Any]:
        """How often which strategy was held, and the book after the last trade."""
        days = dict(Counter(strategy_by_day(backtest, self.market)).most_common())
        return {
            "strategies": days,
            "strategy_share": {name: count / sum(days.values()) for name, count in days.items()},
            "last_book": position_report(backtest, self.market),
        }

    def at_flat_volatility(self) -> OptionSetup:
        """At one constant volatility; where that is the rule, at the surface that follows VIX."""
        is_flat = self.settings.surface_kind == "flat"
        settings = replace(self.settings, surface=VixSurface() if is_flat else FlatSurface())
        return OptionSetup(self.loaded, settings.build(self.loaded.history), settings)

    @property
    def rolls_daily(self) -> bool:
        """Whether contracts are re-struck at every close."""
        return self.settings.env.chain.roll == "daily"
