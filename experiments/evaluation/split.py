"""A policy and its baselines over one split of the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from agents.baselines.reference import Baseline
from agents.policy import Policy, RiskManagedPolicy, Trader
from conf.types import FloatArray
from envs.core.batch import Window
from experiments.backtests.backtest import Backtest, index_equity, run_backtests
from experiments.backtests.episodes import Episodes, index_episodes, run_episodes
from experiments.environments.attribution import Attribution
from experiments.environments.setup import MarketSetup
from experiments.evaluation.scorecard import ScoreLine, scorecard
from experiments.runs.trials import TrialCount
from experiments.statistics.performance import Performance, summarise
from experiments.statistics.verdict import Verdict, compare
from risk.guard import GuardState
from risk.metrics import simple_returns

AGENT, INDEX = "policy", "buy_and_hold"


@dataclass(frozen=True)
class BenchmarkComparison:
    """The agent and its baselines on the same paths and days, under the same rules.

    Buy-and-hold of the index has neither costs nor a risk module.
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
    """One split: the book as the agent requests it, and the same under the risk module."""

    name: str
    baselines: tuple[Baseline, ...]
    notices: tuple[str, ...]  # about the baselines, for people
    raw: BenchmarkComparison
    managed: BenchmarkComparison | None  # where the risk module is on
    overlay: Mapping[str, Any] | None  # what it did to the agent's book, see `risk_report`
    caution: str = ""  # what has to be said with the result

    @property
    def headline(self) -> BenchmarkComparison:
        """The book that would be traded: the managed one where there is one."""
        return self.managed or self.raw


def comparisons(result: SplitEvaluation) -> list[tuple[str, BenchmarkComparison]]:
    """The comparisons of a split with what sets them apart."""
    raw = [("without the risk module", result.raw)]
    return [*raw, ("under the risk module", result.managed)] if result.managed else raw


def policies_of(policy: Policy, baselines: Iterable[Baseline]) -> dict[str, Trader]:
    """The agent and its baselines by name."""
    return {AGENT: policy, **{baseline.name: baseline.policy for baseline in baselines}}


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
    baselines, notices = setup.baselines(window)
    policies = policies_of(policy, baselines)
    backtests = run_backtests(policies, setup.market, env, window)
    trials = count_trials(backtests[AGENT])
    raw = _comparison(setup, window, backtests, policy, trials, resamples)
    if not risk.enabled:
        return SplitEvaluation(name, baselines, notices, raw, None, None)
    backtests = run_backtests(policies, setup.market, env, window, risk)
    guarded = RiskManagedPolicy(policy, risk)
    managed = _comparison(setup, window, backtests, guarded, trials, resamples)
    return SplitEvaluation(name, baselines, notices, raw, managed, risk_report(managed.agent))


def performances(
    backtests: Mapping[str, Backtest], setup: MarketSetup, window: Window
) -> dict[str, Performance]:
    """Every book's measures, those of buy-and-hold of the index among them."""
    market = setup.market
    index = summarise(
        index_equity(market, window, setup.settings.env.initial_equity_usd),
        market.history.dates[window.start : window.stop],
        market.cash_return[window.start : window.stop - 1],
        market_returns=market.index_returns(window),
    )
    return {**{name: book.performance() for name, book in backtests.items()}, INDEX: index}


def risk_report(managed: Backtest) -> dict[str, Any]:
    """By rule: share of days on which it bound, and value it took a year over equity.

    `guard_days` gives the share of days spent in each state of the guard. `blocked_pnl_a_year` is
    what everything that the module took away would have earned by the next close, a year over
    equity, before costs and interest: above zero the module cost that, below it saved it. A ruined
    book counts up to its ruin.
    """
    alive, equity = managed.alive, managed.equity[:, :-1]

    def a_year(dollars: FloatArray) -> float:
        return float((dollars / equity)[alive].mean() * managed.sessions_per_year)

    rules = {
        rule: {
            "days_bound": float((clipped > 0.0)[alive].mean()),
            "clipped_a_year": a_year(clipped),
        }
        for rule, clipped in managed.rules.items()
    }
    states = {state.name: float((managed.guard == state)[alive].mean()) for state in GuardState}
    return {"rules": rules, "guard_days": states, "blocked_pnl_a_year": a_year(managed.blocked_pnl)}


def _comparison(
    setup: MarketSetup,
    window: Window,
    backtests: Mapping[str, Backtest],
    policy: Policy,
    trials: TrialCount,
    resamples: int,
) -> BenchmarkComparison:
    """`policy`: the agent's, with its risk module where the backtests were run under it."""
    market, env, agent = setup.market, setup.settings.env, backtests[AGENT]
    equity = {name: book.equity for name, book in backtests.items()}
    equity[INDEX] = index_equity(market, window, env.initial_equity_usd)
    episodes = {
        AGENT: run_episodes(policy, market, env, window),
        INDEX: index_episodes(market, env, window),
    }
    returns = {name: simple_returns(curve) for name, curve in equity.items()}
    verdict = compare(
        returns.pop(AGENT),
        returns,
        agent.risk_free,
        num_trials=max(trials.num_trials, 1),
        trial_variance_annual=trials.variance_annual,
        reps=resamples,
        ruined=bool(agent.ruined.any()),
        sessions_per_year=agent.sessions_per_year,
    )
    return BenchmarkComparison(
        agent,
        equity,
        performances(backtests, setup, window),
        replace(verdict, overfitting_probability=trials.overfitting_probability),
        setup.attribute(agent),
        scorecard(
            agent,
            reps=resamples,
            index_title=setup.index_title,
            option_requirements=setup.trades_options,
        ),
        setup.holdings(agent),
        {name: result for name, result in episodes.items() if result is not None},
    )
