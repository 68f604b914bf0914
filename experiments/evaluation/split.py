"""A policy and everything that it is measured against, over one split of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agents.baselines.options import Baseline
from agents.managed import RiskManagedPolicy
from agents.policy import Policy, Trader
from conf.types import FloatArray
from envs.core.batch import Window
from experiments.backtests.backtest import Backtest, index_equity, run_backtests
from experiments.backtests.episodes import Episodes, index_episodes, run_episodes
from experiments.evaluation.attribution import Attribution
from experiments.evaluation.environments import Environment, environment_of
from experiments.evaluation.scorecard import ScoreLine, scorecard
from experiments.runs.market_setup import MarketSetup
from experiments.runs.trials import TrialCount
from experiments.statistics.comparison import Verdict, compare
from experiments.statistics.performance import Performance, summarise
from risk.metrics import simple_returns

AGENT, INDEX = "policy", "buy_and_hold"


@dataclass(frozen=True)
class BenchmarkComparison:
    """The agent and its baselines on the same paths and days, under the same rules.

    Buy-and-hold of the index alone has neither costs nor a risk module.

    Every name in `equity` has its measures in `performance`; the agent's is `AGENT`.
    """

    agent: Backtest
    equity: Mapping[str, FloatArray]  # name -> (P, T + 1) dollars
    performance: Mapping[str, Performance]  # name -> arrays of P
    verdict: Verdict
    attribution: Attribution
    scorecard: tuple[ScoreLine, ...]
    held: Mapping[str, Any]  # what the agent held, as JSON can hold it
    episodes: Mapping[str, Episodes]  # agent and index; empty where not one fits into the stretch


@dataclass(frozen=True)
class SplitEvaluation:
    """One stretch of market: the book as the agent wants it, and the same under the risk module."""

    name: str
    baselines: tuple[Baseline, ...]
    notices: tuple[str, ...]  # what a person should be told of the baselines
    raw: BenchmarkComparison
    managed: BenchmarkComparison | None  # where the risk module is on

    @property
    def headline(self) -> BenchmarkComparison:
        """What would be run: the managed book where there is one."""
        return self.managed or self.raw


def comparisons(result: SplitEvaluation) -> list[tuple[str, BenchmarkComparison]]:
    """The comparisons of a split with what sets them apart."""
    found = [("without the risk module", result.raw)]
    return [*found, ("under the risk module", result.managed)] if result.managed else found


def evaluate_split(
    name: str,
    policy: Policy,
    setup: MarketSetup,
    count_trials: Callable[[Backtest], TrialCount],
    resamples: int,
) -> SplitEvaluation:
    """The policy and every baseline over a whole split, without and with the risk module.

    `count_trials` is given the policy's raw book and says how many trials it was one of.
    """
    window, risk, env = setup.window(name), setup.settings.risk, setup.settings.env
    problem = environment_of(setup)
    baselines, notices = problem.baselines(window)
    policies: dict[str, Trader] = {AGENT: policy, **{b.name: b.policy for b in baselines}}
    backtests = run_backtests(policies, setup.market, env, window)
    judge = _Judge(setup, problem, window, count_trials(backtests[AGENT]), resamples)
    raw = judge.comparison(backtests, policy)
    managed = None
    if risk.enabled:
        guarded = run_backtests(policies, setup.market, env, window, risk)
        managed = judge.comparison(guarded, RiskManagedPolicy(policy, risk))
    return SplitEvaluation(name, baselines, notices, raw, managed)


def performances(
    backtests: Mapping[str, Backtest], setup: MarketSetup, window: Window
) -> dict[str, Performance]:
    """Everybody's measures, those of buy-and-hold of the index among them."""
    market, initial = setup.market, setup.settings.env.initial_equity_usd
    index = summarise(
        index_equity(market, window, initial),
        market.history.dates[window.start : window.stop],
        market.cash_return[window.start : window.stop - 1],
        market_returns=market.index_returns(window),
    )
    return {**{name: book.performance() for name, book in backtests.items()}, INDEX: index}


@dataclass(frozen=True)
class _Judge:
    """What is the same for the raw and the managed comparison of a split."""

    setup: MarketSetup
    problem: Environment
    window: Window
    trials: TrialCount
    resamples: int

    def comparison(self, backtests: Mapping[str, Backtest], policy: Policy) -> BenchmarkComparison:
        """`policy`: the agent's, with its risk module where `done` was run under it."""
        market, env = self.setup.market, self.setup.settings.env
        agent = backtests[AGENT]
        equity = {name: book.equity for name, book in backtests.items()}
        equity[INDEX] = index_equity(market, self.window, env.initial_equity_usd)
        episodes = {
            AGENT: run_episodes(policy, market, env, self.window),
            INDEX: index_episodes(market, env, self.window),
        }
        return BenchmarkComparison(
            agent,
            equity,
            performances(backtests, self.setup, self.window),
            self._verdict(agent, equity),
            self.problem.attribute(agent),
            scorecard(
                agent,
                reps=self.resamples,
                index_title=self.problem.index_title,
                option_requirements=self.problem.has_option_requirements,
            ),
            self.problem.book_numbers(agent),
            {name: found for name, found in episodes.items() if found is not None},
        )

    def _verdict(self, agent: Backtest, equity: Mapping[str, FloatArray]) -> Verdict:
        returns = {name: simple_returns(curve) for name, curve in equity.items()}
        return compare(
            returns.pop(AGENT),
            returns,
            agent.risk_free,
            num_trials=max(self.trials.num_trials, 1),
            trial_variance_annual=self.trials.variance_annual,
            reps=self.resamples,
            ruined=bool(agent.ruined.any()),
        )
