"""A policy and everything that it is measured against, over one split of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.baselines import Baseline, build_baselines
from agents.policy import Policy
from envs.batch import Window
from experiments.attribution import Attribution, attribute
from experiments.backtest import Backtest, index_equity, index_returns, run_backtests
from experiments.scorecard import ScoreLine, scorecard
from experiments.session import Session
from experiments.trials import TrialCount
from risk.comparison import Verdict, compare
from risk.metrics import simple_returns
from risk.performance import Performance, summarise

FloatArray = NDArray[np.float64]

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


@dataclass(frozen=True)
class SplitResult:
    """One stretch of market: the book as the agent wants it, and the same under the risk module."""

    name: str
    baselines: tuple[Baseline, ...]
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
    window, risk = session.window(name), session.settings.risk
    baselines = build_baselines(
        session.market, session.settings.env, session.training_window, window
    )
    policies: dict[str, Policy] = {AGENT: policy, **{b.name: b.policy for b in baselines}}
    market, env = session.market, session.settings.env
    done = run_backtests(policies, market, env, window)
    trials = count_trials(done[AGENT])
    raw = _contest(done, session, window, trials, resamples)
    managed = None
    if risk.enabled:
        guarded = run_backtests(policies, market, env, window, risk)
        managed = _contest(guarded, session, window, trials, resamples)
    return SplitResult(name, baselines, raw, managed)


def performances(
    done: Mapping[str, Backtest], session: Session, window: Window
) -> dict[str, Performance]:
    """Everybody's measures, those of buy-and-hold of the index among them."""
    history = session.loaded.history
    index = summarise(
        index_equity(history, window, session.settings.env.initial_equity_usd),
        history.dates[window.start : window.stop],
        session.market.growth[window.start : window.stop - 1],
        market_returns=index_returns(history, window),
    )
    return {**{name: book.performance() for name, book in done.items()}, INDEX: index}


def _contest(
    done: Mapping[str, Backtest],
    session: Session,
    window: Window,
    trials: TrialCount,
    resamples: int,
) -> Contest:
    agent = done[AGENT]
    initial = session.settings.env.initial_equity_usd
    equity = {name: book.equity for name, book in done.items()}
    equity[INDEX] = index_equity(session.loaded.history, window, initial)
    returns = {name: simple_returns(curve) for name, curve in equity.items()}
    verdict = compare(
        returns.pop(AGENT),
        returns,
        agent.risk_free,
        num_trials=max(trials.num_trials, 1),
        trial_variance_annual=trials.variance_annual,
        reps=resamples,
        ruined=bool(agent.ruined.any()),
    )
    return Contest(
        agent,
        equity,
        performances(done, session, window),
        verdict,
        attribute(agent, session.market),
        scorecard(agent, reps=resamples),
    )
