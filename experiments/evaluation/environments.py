"""What an evaluation has to know of the environment: baselines, causes of P&L, what was held."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Protocol

from agents.baselines.allocation import build_allocation_baselines
from agents.baselines.options import Baseline, build_baselines
from envs.allocation.market import AllocationSettings, PanelMarket
from envs.core.batch import Window
from experiments.backtests.backtest import Backtest
from experiments.evaluation.attribution import Attribution, attribute, attribute_allocation
from experiments.evaluation.holdings import portfolio_report, position_report, strategy_by_day
from experiments.runs.market_setup import MarketSetup, OptionSetup, option_setup
from experiments.runs.settings import PanelMarketSettings


class Environment(Protocol):
    """One of the environments as an evaluation sees it."""

    @property
    def index_title(self) -> str:
        """What buy-and-hold holds."""

    @property
    def has_option_requirements(self) -> bool:
        """Whether the risk requirements of an option book apply."""

    def baselines(self, evaluated: Window) -> tuple[tuple[Baseline, ...], tuple[str, ...]]:
        """The classical strategies for a stretch, and what a person should be told of them."""

    def attribute(self, backtest: Backtest) -> Attribution:
        """Every day's P&L by cause."""

    def book_numbers(self, backtest: Backtest) -> dict[str, Any]:
        """What was held, as JSON can hold it."""


@dataclass(frozen=True)
class OptionEnvironment:
    """The option book."""

    setup: MarketSetup
    options: OptionSetup
    index_title: str = "S&P 500"
    has_option_requirements: bool = True

    def baselines(self, evaluated: Window) -> tuple[tuple[Baseline, ...], tuple[str, ...]]:
        """Option strategies, the forward on the index, a fitted book, cash and chance."""
        market, env = self.options.market, self.options.settings.env
        return build_baselines(market, env, self.setup.training_window), ()

    def attribute(self, backtest: Backtest) -> Attribution:
        """By Greek."""
        return attribute(backtest, self.options.market)

    def book_numbers(self, backtest: Backtest) -> dict[str, Any]:
        """How often which strategy was held, and the book after the last trade."""
        market = self.options.market
        return {
            "strategies": dict(Counter(strategy_by_day(backtest, market)).most_common()),
            "last_book": position_report(backtest, market),
        }


@dataclass(frozen=True)
class AllocationEnvironment:
    """The allocation to assets."""

    setup: MarketSetup
    market: PanelMarket
    env: AllocationSettings
    index_title: str = "equally weighted assets"
    has_option_requirements: bool = False

    def baselines(self, evaluated: Window) -> tuple[tuple[Baseline, ...], tuple[str, ...]]:
        """Constant mixes, portfolios fitted to the past and walked forward, cash and chance."""
        return build_allocation_baselines(self.market, evaluated)

    def attribute(self, backtest: Backtest) -> Attribution:
        """By market and choice of assets."""
        return attribute_allocation(backtest, self.market)

    def book_numbers(self, backtest: Backtest) -> dict[str, Any]:
        """Mean weights, and the portfolio after the last trade."""
        return portfolio_report(backtest, self.market)


def environment_of(setup: MarketSetup) -> Environment:
    """The environment that a session is of."""
    market, wanted = setup.market, setup.settings
    if isinstance(market, PanelMarket) and isinstance(wanted, PanelMarketSettings):
        return AllocationEnvironment(setup, market, wanted.env)
    return OptionEnvironment(setup, option_setup(setup))
