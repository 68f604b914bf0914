"""A market made ready to train in: data, splits, priced options, and the agent that meets them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sb3_contrib import RecurrentPPO

from agents.factory import build_agent
from agents.managed import RiskManagedPolicy
from agents.policy import Policy
from callbacks.validation import Score
from envs.adapters import KernelVecEnv
from envs.batch import Window
from envs.market.sources import LoadedMarket, load_market
from envs.market.splits import Split
from envs.option_market import OptionMarket, build_option_market
from envs.option_portfolio import OptionPortfolioKernel
from experiments.backtest import Backtest, run_backtest
from experiments.settings import MarketSettings, RunSettings
from risk.errors import InputError
from risk.overlay import RiskSettings

log = logging.getLogger(__name__)

SCORES = ("sharpe", "annual_return", "max_drawdown", "turnover", "cost_drag")


@dataclass(frozen=True)
class Session:
    """The history that was loaded and the option market built on it."""

    loaded: LoadedMarket
    market: OptionMarket
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
            done = self.judge(policy, split)
            measured = done.performance()
            means = {name: float(np.mean(getattr(measured, name))) for name in SCORES}
            return {**means, "ruined": float(done.ruined.mean())}

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
            "splits": {
                split.name: [str(history.dates[split.start]), str(history.dates[split.stop - 1])]
                for split in self.splits
            },
        }


def open_session(settings: MarketSettings) -> Session:
    """Load the data, price the options and say loudly what was loaded."""
    loaded = load_market(settings.data, embargo_days=settings.env.chain.longest_life_days)
    for notice in loaded.notices:
        log.warning(notice)
    history = loaded.history
    first, last = history.dates[0], history.dates[-1]
    log.info("data: %s, %d sessions %s to %s", history.name, history.num_sessions, first, last)
    market = build_option_market(history, settings.surface, settings.env)
    return Session(loaded, market, settings)


def build_model(session: Session, settings: RunSettings) -> RecurrentPPO:
    """A fresh agent in `num_envs` episodes of the training split."""
    top = settings.top
    kernel = OptionPortfolioKernel(
        session.market,
        session.settings.env,
        session.window("train"),
        top.num_envs,
        top.seed,
        risk=session.training_risk,
    )
    return build_agent(settings.agent, KernelVecEnv(kernel), top.seed, top.device)
