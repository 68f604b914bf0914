"""A market setup: the data, the market built on it, and all that differs between environments.

`option_book.py`, `allocation.py` and `hedging.py` are the three, `worlds.py` is what the first and
the last share; `opening.py` chooses by the configuration.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

from agents.baselines.reference import Baseline
from agents.policy import Policy, RiskManagedPolicy
from callbacks.criterion import SHARPE, Criterion
from callbacks.validation import Score
from conf.errors import InputError
from conf.files import without_places
from envs.core.batch import Window
from envs.core.kernel import BookKernel
from envs.core.market import BookHistory, BookMarket, MarketSettings
from envs.kernels import open_kernel
from envs.market.splits import Loaded, Split
from experiments.backtests.backtest import Backtest, run_backtest
from experiments.environments.attribution import Attribution
from risk.overlay import RiskSettings

SCORES = ("sharpe", "annual_return", "max_drawdown", "turnover", "cost_drag")


def open_books(
    settings: MarketSettings, market: BookMarket, window: Window, num_books: int
) -> BookKernel:
    """Books that begin with the window and go through it, under the risk module if it is on."""
    return open_kernel(
        market, settings.env, window, num_books, random_start=False, risk=settings.risk
    )


@dataclass(frozen=True)
class MarketSetup(ABC):
    """The history that was loaded, the market built on it, and the settings of both."""

    loaded: Loaded[Any, Any]
    market: BookMarket
    settings: MarketSettings

    index_title: ClassVar[str]  # what buy-and-hold of the index holds
    trades_options: ClassVar[bool]
    conditions: ClassVar[tuple[str, ...]]  # keys of `env` that results depend on

    # --- what another environment answers differently --------------------------------------------

    @abstractmethod
    def baselines(self, evaluated: Window) -> tuple[tuple[Baseline, ...], tuple[str, ...]]:
        """The classical strategies for a window, and notices about them for people."""

    @abstractmethod
    def attribute(self, backtest: Backtest) -> Attribution:
        """Every day's P&L by cause."""

    @abstractmethod
    def holdings(self, backtest: Backtest) -> dict[str, Any]:
        """What was held, as JSON can hold it."""

    def at_flat_volatility(self) -> MarketSetup | None:
        """The same at constant volatility (at the other surface if it is); None without options."""
        return None

    @property
    def rolls_daily(self) -> bool:
        """Whether every position is closed at the next close."""
        return False

    @property
    def criterion(self) -> Criterion:
        """The metric of `scorer` that policies are chosen by."""
        return SHARPE

    @property
    def assets(self) -> tuple[str, ...] | None:
        """The assets that a policy is trained for, in order; None for an option book."""
        return None

    # --- what is the same for all ----------------------------------------------------------------

    @property
    def history(self) -> BookHistory:
        """Dates, prices and rates."""
        return self.market.history

    @property
    def closed_day_weight(self) -> float | None:
        """Of the variance of the index (`envs.market.clock`); None where there is none."""
        return getattr(self.history, "closed_day_weight", None)

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
        """The risk module inside the training environment; None without one."""
        risk = self.settings.risk
        return risk if risk.enabled and risk.in_training else None

    @property
    def draws(self) -> int:
        """How many different markets a pathwise training learns in, one after another."""
        return 1

    def drawn(self, draw: int) -> tuple[BookMarket, Window]:
        """The market of that number and the sessions of it that episodes lie in."""
        return self.market, self.window("train")

    @cached_property
    def learning(self) -> tuple[BookMarket, Window]:
        """Where an agent learns, and PPO all the time: the first of them."""
        return self.drawn(0)

    def with_costs(self, factor: float) -> Self:
        """The same where everything that is traded costs `factor` times."""
        env: Any = self.settings.env
        settings: Any = self.settings
        return replace(
            self,
            market=self.market.with_costs(factor),
            settings=replace(settings, env=replace(env, costs=env.costs.times(factor))),
        )

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
            means = {name: measured.mean(name) for name in SCORES}
            return {**means, "ruined": float(backtest.ruined.mean())}

        return score

    def describe_data(self) -> dict[str, Any]:
        """What the data is, for the manifest and beside the weights."""
        history, weight = self.history, self.closed_day_weight
        return {
            "source": history.name,
            "fingerprint": history.fingerprint,
            **({} if weight is None else {"closed_day_weight": weight}),
            "first": str(history.dates[0]),
            "last": str(history.dates[-1]),
            "notices": [without_places(notice) for notice in self.loaded.notices],
            **({} if self.assets is None else {"assets": list(self.assets)}),
            "splits": {
                split.name: [str(history.dates[split.start]), str(history.dates[split.stop - 1])]
                for split in self.splits
            },
        }
