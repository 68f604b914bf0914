"""Tests each window's policy on years it never saw, and joins the test years to one record.

Every window's test begins in cash, with a fresh book and a policy that remembers nothing; the
same holds for every baseline, and those that are fitted are fitted on the window's training years.
The risk module's guard and the peak that it counts drawdowns from begin anew as well, so the
managed record shows less halting than one unbroken book would.
Growth is multiplied from year to year, so daily returns are those of the windows, unchanged.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agents.persistence.policy_file import load_policy
from agents.persistence.strict_json import read_json
from conf.errors import InputError
from conf.types import DateArray, FloatArray
from experiments.evaluation.scorecard import performance_draws
from experiments.evaluation.split import AGENT, BenchmarkComparison, SplitEvaluation, evaluate_split
from experiments.runs.trials import TrialCount
from experiments.statistics.performance import Performance, summarise
from experiments.statistics.verdict import Verdict, compare
from experiments.windows.folder import WalkForwardRun
from experiments.windows.windows import YearWindow
from risk.bootstrap import Interval, percentile_interval
from risk.metrics import sessions_per_year, simple_returns

# Measures that are given with an interval. The maximum drawdown is not: resampled blocks break the
# path up, so the drawdowns of resamples lie below that of the record.
WITH_INTERVAL = ("sharpe", "annual_return", "annual_volatility", "sortino", "calmar")

# The single years are not judged: the fewest that the comparison takes.
_YEARS_RESAMPLES = 100


@dataclass(frozen=True)
class WindowResult:
    """A window's policy over its test years."""

    window: YearWindow
    result: SplitEvaluation
    spans: Mapping[str, tuple[str, str]]  # split -> first and last session
    policy_step: int
    validation_sharpe: float | None  # None: no score was finite, so the last policy was tested


@dataclass(frozen=True)
class StitchedComparison:
    """The agent and its benchmarks through all test years, on P paths and T days."""

    dates: DateArray  # (T + 1,)
    risk_free: FloatArray  # (T,)
    equity: Mapping[str, FloatArray]  # name -> (P, T + 1) dollars; the agent's is AGENT
    performance: Mapping[str, Performance]  # name -> arrays of P
    intervals: Mapping[str, Interval]  # of the agent, by WITH_INTERVAL, 95 %
    verdict: Verdict
    ruined: bool  # in any year, on any path


@dataclass(frozen=True)
class WalkForwardResult:
    """The tests of all windows, and the record that they make together."""

    windows: tuple[WindowResult, ...]
    raw: StitchedComparison  # without the risk module
    managed: StitchedComparison | None  # under it, where it is on

    @property
    def headline(self) -> StitchedComparison:
        """What would be run: the managed book where there is one."""
        return self.managed or self.raw


def run_test(walk: WalkForwardRun, window: YearWindow) -> WindowResult:
    """Run the window's chosen policy and every baseline through its test years."""
    folder, setup = walk.chosen_policy(window), walk.setup_of(window)
    loaded = load_policy(folder)
    score = folder / "validation.json"
    sharpe = read_json(score)["metrics"].get("sharpe") if score.is_file() else None
    result = evaluate_split(
        "test", loaded.policy, setup, lambda _: TrialCount(1, None), _YEARS_RESAMPLES
    )
    spans = {name: (first, last) for name, (first, last) in setup.describe_data()["splits"].items()}
    return WindowResult(window, result, spans, int(loaded.metadata["step"]), sharpe)


def stitch_windows(
    windows: Sequence[WindowResult], trials: TrialCount, resamples: int
) -> WalkForwardResult:
    """All windows' test years as one record, without and with the risk module."""
    raw = stitch([window.result.raw for window in windows], trials, resamples)
    managed = [window.result.managed for window in windows if window.result.managed is not None]
    return WalkForwardResult(
        tuple(windows), raw, stitch(managed, trials, resamples) if managed else None
    )


def stitch(
    comparisons: Sequence[BenchmarkComparison], trials: TrialCount, resamples: int
) -> StitchedComparison:
    """Comparisons of years that follow one another as one, judged as `evaluate` judges a split."""
    agents = [comparison.agent for comparison in comparisons]
    dates = np.concatenate([agents[0].dates[:1], *[agent.dates[1:] for agent in agents]])
    risk_free = np.concatenate([agent.risk_free for agent in agents])
    index_return = np.concatenate([agent.index_return for agent in agents], axis=1)
    equity = stitched_equity(comparisons)
    ruined = any(bool(agent.ruined.any()) for agent in agents)
    returns = {name: simple_returns(curve) for name, curve in equity.items()}
    verdict = compare(
        returns.pop(AGENT),
        returns,
        risk_free,
        num_trials=max(trials.num_trials, 1),
        trial_variance_annual=trials.variance_annual,
        reps=resamples,
        ruined=ruined,
        sessions_per_year=sessions_per_year(dates),
    )
    agent_usd = {
        f"{name}_usd": _at_stitched_scale(comparisons, equity[AGENT], name)
        for name in ("traded", "cost")
    }
    performance = {
        name: summarise(
            curve,
            dates,
            risk_free,
            market_returns=index_return,
            **(agent_usd if name == AGENT else {}),
        )
        for name, curve in equity.items()
    }
    intervals = measured_intervals(equity[AGENT], dates, risk_free, resamples)
    return StitchedComparison(dates, risk_free, equity, performance, intervals, verdict, ruined)


def stitched_equity(comparisons: Sequence[BenchmarkComparison]) -> dict[str, FloatArray]:
    """Every book's equity through all years; InputError where the years do not join."""
    for earlier, later in itertools.pairwise(comparisons):
        if earlier.agent.dates[-1] != later.agent.dates[0]:
            raise InputError(
                f"a test ends on {earlier.agent.dates[-1]}, the next begins on "
                f"{later.agent.dates[0]}",
                "The windows were made for other data; start a new walk-forward",
            )
    names = [name for name in comparisons[0].equity if all(name in c.equity for c in comparisons)]
    return {name: chained([c.equity[name] for c in comparisons]) for name in names}


def chained(parts: Sequence[FloatArray]) -> FloatArray:
    """Equity (P, T + 1) of curves (P, T_k + 1) that follow one another, the first as it stands."""
    curve = [parts[0]]
    for part in parts[1:]:
        curve.append(curve[-1][:, -1:] * (part[:, 1:] / part[:, :1]))
    return np.concatenate(curve, axis=1)


def measured_intervals(
    equity: FloatArray, dates: DateArray, risk_free: FloatArray, reps: int
) -> dict[str, Interval]:
    """The measures WITH_INTERVAL of equity (P, T + 1), with 95 % intervals.

    One path: the stationary bootstrap of its days. Several: the mean over paths, and the range of
    their central 95 %.
    """
    measured = summarise(equity, dates, risk_free)
    draws = performance_draws(equity, dates, risk_free, reps, seed=0)
    intervals = {}
    for name in WITH_INTERVAL:
        low, high = percentile_interval(getattr(draws, name))
        intervals[name] = Interval(float(np.mean(getattr(measured, name))), float(low), float(high))
    return intervals


def _at_stitched_scale(
    comparisons: Sequence[BenchmarkComparison], equity: FloatArray, name: str
) -> FloatArray:
    """Dollars (P, T) by day of the agent's books, each scaled from its own equity to `equity`."""
    scaled, day = [], 0
    for comparison in comparisons:
        dollars: FloatArray = getattr(comparison.agent, name)
        scaled.append(dollars * (equity[:, day : day + 1] / comparison.agent.equity[:, :1]))
        day += dollars.shape[1]
    return np.concatenate(scaled, axis=1)
