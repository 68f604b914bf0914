"""A policy and everything that it is measured against, over one split of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agents.baselines.options import Baseline
from agents.managed import RiskManagedPolicy
from agents.policy import Policy
from conf.types import FloatArray
from envs.core.batch import Window
from experiments.backtests.backtest import Backtest, index_equity, run_backtests
from experiments.backtests.episodes import Episodes, index_episodes, run_episodes
from experiments.evaluation.attribution import Attribution
from experiments.evaluation.environments import Problem, problem_of
from experiments.evaluation.scorecard import ScoreLine, scorecard
from experiments.runs.market_setup import Session
from experiments.runs.trials import TrialCount
from experiments.statistics.comparison import Verdict, compare
from experiments.statistics.performance import Performance, summarise
from risk.metrics import simple_returns

AGENT, INDEX = "policy", "buy_and_hold"


@dataclass(frozen=True)
class Contest:
    """The agent and its opponents on the same paths and days, under the same rules.

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
class SplitResult:
    """One stretch of market: the book as the agent wants it, and the same under the risk module."""

    name: str
    baselines: tuple[Baseline, ...]
    notices: tuple[str, ...]  # what a person should be told of the baselines
    raw: Contest
    managed: Contest | None  # where the risk module is on

    @property
    def headline(self) -> Contest:
        """What would be run: the managed book where there is one."""
        return self.managed or self.raw


def contests(result: SplitResult) -> list[tuple[str, Contest]]:
    """The contests of a split with what sets them apart."""
    found = [("without the risk module", result.raw)]
    return [*found, ("under the risk module", result.managed)] if result.managed else found


def evaluate_split(
    name: str,
    policy: Policy,
    session: Session,
    count_trials: Callable[[Backtest], TrialCount],
    resamples: int,
) -> SplitResult:
    """The policy and every baseline over a whole split, without and with the risk module.

    `count_trials` is given the policy's raw book and says how many trials it was one of.
    """
    window, risk, env = session.window(name), session.settings.risk, session.settings.env
    problem = problem_of(session)
    baselines, notices = problem.opponents(window)
    policies: dict[str, Policy] = {AGENT: policy, **{b.name: b.policy for b in baselines}}
    done = run_backtests(policies, session.market, env, window)
    judge = _Judge(session, problem, window, count_trials(done[AGENT]), resamples)
    raw = judge.contest(done, policy)
    managed = None
    if risk.enabled:
        guarded = run_backtests(policies, session.market, env, window, risk)
        managed = judge.contest(guarded, RiskManagedPolicy(policy, risk))
    return SplitResult(name, baselines, notices, raw, managed)


def performances(
    done: Mapping[str, Backtest], session: Session, window: Window
) -> dict[str, Performance]:
    """Everybody's measures, those of buy-and-hold of the index among them."""
    market, initial = session.market, session.settings.env.initial_equity_usd
    index = summarise(
        index_equity(market, window, initial),
        market.history.dates[window.start : window.stop],
        market.growth[window.start : window.stop - 1],
        market_returns=market.index_returns(window),
    )
    return {**{name: book.performance() for name, book in done.items()}, INDEX: index}


@dataclass(frozen=True)
class _Judge:
    """What is the same for the raw and the managed contest of a split."""

    session: Session
    problem: Problem
    window: Window
    trials: TrialCount
    resamples: int

    def contest(self, done: Mapping[str, Backtest], policy: Policy) -> Contest:
        """`policy`: the agent's, with its risk module where `done` was run under it."""
        market, env = self.session.market, self.session.settings.env
        agent = done[AGENT]
        equity = {name: book.equity for name, book in done.items()}
        equity[INDEX] = index_equity(market, self.window, env.initial_equity_usd)
        episodes = {
            AGENT: run_episodes(policy, market, env, self.window),
            INDEX: index_episodes(market, env, self.window),
        }
        return Contest(
            agent,
            equity,
            performances(done, self.session, self.window),
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
