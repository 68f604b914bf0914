"""A market made ready to train in: data, splits, priced options, and the agent that meets them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from agents.factory import build_agent
from agents.managed import RiskManagedPolicy
from agents.policy import Policy
from callbacks.validation import Score
from conf.errors import InputError
from envs.allocation.market import PanelMarket, build_panel_market
from envs.core.batch import Window
from envs.kernels import open_kernel
from envs.market.panel import PanelHistory
from envs.market.sources.index import LoadedMarket, load_market
from envs.market.sources.panel import LoadedPanel, load_panel
from envs.market.splits import Split
from envs.option_portfolio.market import OptionMarket, build_option_market
from envs.sb3_vec_env import KernelVecEnv
from experiments.backtests.backtest import Backtest, run_backtest
from experiments.runs.settings import (
    MarketSettings,
    OptionMarketSettings,
    PanelMarketSettings,
    RunSettings,
)
from risk.overlay import RiskSettings

log = logging.getLogger(__name__)

SCORES = ("sharpe", "annual_return", "max_drawdown", "turnover", "cost_drag")


@dataclass(frozen=True)
class MarketSetup:
    """The history that was loaded and the market built on it."""

    loaded: LoadedMarket | LoadedPanel
    market: OptionMarket | PanelMarket
    settings: MarketSettings

    def window(self, split: str) -> Window:
        """The sessions of a split, by its name."""
        stretch = self.loaded.split(split)
        return Window(max(stretch.start, self.market.first_usable), stretch.stop)

    @property
    def splits(self) -> tuple[Split, ...]:
        """Train, validation and test; none where the data is too short for them."""
        try:
            splits = self.loaded.splits
        except InputError:
            return ()
        return (splits.train, splits.validation, splits.test)

    @property
    def training_window(self) -> Window | None:
        """None where the data is too short to be split: nothing can be fitted then."""
        return self.window("train") if self.splits else None

    @property
    def training_risk(self) -> RiskSettings | None:
        """The risk module inside the environment that the agent learns in, if it is there."""
        risk = self.settings.risk
        return risk if risk.enabled and risk.in_training else None

    def judge(self, policy: Policy, split: str) -> Backtest:
        """The policy over a whole split under the rules that it learns under."""
        if self.training_risk is not None:
            policy = RiskManagedPolicy(policy, self.training_risk)
        return run_backtest(policy, self.market, self.settings.env, self.window(split))

    def scorer(self, split: str) -> Score:
        """A function that gives a policy's metrics over a whole split, averaged over paths.

        `ruined` is the share of paths on which the policy lost nearly everything.
        """

        def score(policy: Policy) -> Mapping[str, float]:
            backtest = self.judge(policy, split)
            measured = backtest.performance()
            means = {name: float(np.mean(getattr(measured, name))) for name in SCORES}
            return {**means, "ruined": float(backtest.ruined.mean())}

        return score

    def describe_data(self) -> dict[str, Any]:
        """What the data is, for the manifest and beside the weights."""
        history = self.loaded.history
        return {
            "source": history.name,
            "fingerprint": history.fingerprint,
            "first": str(history.dates[0]),
            "last": str(history.dates[-1]),
            "notices": list(self.loaded.notices),
            **({"assets": list(history.assets)} if isinstance(history, PanelHistory) else {}),
            "splits": {
                split.name: [str(history.dates[split.start]), str(history.dates[split.stop - 1])]
                for split in self.splits
            },
        }


@dataclass(frozen=True)
class OptionSetup:
    """What a session of the option book has and one of assets has not."""

    loaded: LoadedMarket
    market: OptionMarket
    settings: OptionMarketSettings


def option_setup(setup: MarketSetup) -> OptionSetup:
    """InputError where the session is no option book's."""
    loaded, market, wanted = setup.loaded, setup.market, setup.settings
    if (
        not isinstance(loaded, LoadedMarket)
        or not isinstance(market, OptionMarket)
        or not isinstance(wanted, OptionMarketSettings)
    ):
        raise InputError(
            f"{setup.loaded.history.name} is a market of assets, and this is about options",
            "Choose a run of the option book",
        )
    return OptionSetup(loaded, market, wanted)


def open_market(settings: MarketSettings) -> MarketSetup:
    """Load the data, build the market and say loudly what was loaded."""
    loaded: LoadedMarket | LoadedPanel
    if isinstance(settings, PanelMarketSettings):
        loaded = load_panel(settings.data)
    else:
        loaded = load_market(settings.data, embargo_days=settings.env.chain.longest_life_days)
    for notice in loaded.notices:
        log.warning(notice)
    history = loaded.history
    first, last = history.dates[0], history.dates[-1]
    log.info("data: %s, %d sessions %s to %s", history.name, history.num_sessions, first, last)
    return MarketSetup(loaded, build_market(loaded, settings), settings)


def build_market(
    loaded: LoadedMarket | LoadedPanel, settings: MarketSettings
) -> OptionMarket | PanelMarket:
    """What episodes read: priced options, or assets with their features."""
    if isinstance(settings, PanelMarketSettings) and isinstance(loaded, LoadedPanel):
        return build_panel_market(loaded.history, settings.env)
    if isinstance(settings, OptionMarketSettings) and isinstance(loaded, LoadedMarket):
        return build_option_market(loaded.history, settings.surface, settings.env)
    raise InputError(f"{loaded.history.name} does not suit the environment", "Choose other data")


def build_model(setup: MarketSetup, settings: RunSettings) -> OnPolicyAlgorithm:
    """A fresh agent in `num_envs` episodes of the training split."""
    top = settings.top
    kernel = open_kernel(
        setup.market,
        setup.settings.env,
        setup.window("train"),
        top.num_envs,
        top.seed,
        risk=setup.training_risk,
    )
    env = KernelVecEnv(kernel, settings.agent.reward_scale)
    return build_agent(settings.agent, env, top.seed, top.device)
