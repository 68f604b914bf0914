"""The option book: market, baselines, causes of P&L, holdings."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from agents.baselines.options import build_baselines
from agents.baselines.reference import Baseline
from envs.core.batch import Window
from envs.market.sources.index import LoadedMarket
from envs.option_portfolio.market import OptionMarket, OptionMarketSettings
from envs.options.surface import FlatSurface, VixSurface
from experiments.backtests.backtest import Backtest
from experiments.environments.attribution import Attribution, attribute
from experiments.environments.holdings import position_report, strategy_by_day
from experiments.environments.setup import MarketSetup


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
        """Option strategies, the forward on the index, a fitted book, cash and noise."""
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
