"""Does a hedge cost less than every benchmark? The verdict on a named objective.

All hedges run on the same unseen paths; the paths are resampled, all hedges together, and the
objective of each is computed anew. Liabilities that overlap in time are drawn in blocks (the
stationary bootstrap of `risk.bootstrap`). By a rule fixed before any result was seen:

- Against one benchmark the agent OUTPERFORMS if the interval of the difference of objectives lies
  below 0 (it costs less), UNDERPERFORMS if it lies above, and is INCONCLUSIVE otherwise.
- Overall it OUTPERFORMS if it outperforms every single benchmark (an intersection-union test: none
  needs a correction), UNDERPERFORMS if some benchmark is better at the level divided by their
  number (Bonferroni), and is INCONCLUSIVE otherwise.

A difference below `NEGLIGIBLE` prices counts as none. Where trading is free, the hedge of least
variance between two trades is not exactly delta, and so many paths would show it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from conf.errors import InputError
from conf.types import FloatArray
from envs.hedging.objective import HedgingObjective
from experiments.statistics.verdict import Outcome
from risk.bootstrap import stationary_indices
from risk.metrics import check_level

NEGLIGIBLE = 0.002  # prices of the liability
_FEWEST_PATHS = 100
# Of overlapping liabilities: a true null is rejected in a fifth of cases with 4, in 7 % with 20.
FEWEST_BLOCKS = 15


@dataclass(frozen=True)
class HedgeDifference:
    """The agent's objective less one benchmark's, in prices of the liability."""

    benchmark: str
    objective_agent: float
    objective_benchmark: float
    difference: float  # negative: the agent costs less
    low: float
    high: float
    outcome: Outcome


@dataclass(frozen=True)
class HedgeVerdict:
    """The overall outcome, the sentence that explains it, and what it rests on."""

    outcome: Outcome
    reason: str
    differences: tuple[HedgeDifference, ...]  # in the order of the benchmarks
    paths: int
    level: float
    mean_block: float = 1.0  # liabilities that are drawn together


def compare_hedges(
    agent: FloatArray,
    benchmarks: Mapping[str, FloatArray],
    objective: HedgingObjective,
    *,
    level: float = 0.95,
    reps: int = 400,
    seed: int = 0,
    mean_block: float = 1.0,
) -> HedgeVerdict:
    """Judge what liabilities lost from session to session, (L, N) each on the same N paths.

    With a `mean_block` above 1 they are of one path, in the order of their sale, and are drawn in
    blocks of so many on average; fewer than FEWEST_BLOCKS of these are INCONCLUSIVE.

    Intervals are symmetric: the estimate ± the level's quantile of the resampled distance from it.
    The same seed gives the same numbers. InputError for no benchmark, other shapes or few paths.
    """
    check_level(level)
    names, series = ["the agent", *benchmarks], [agent, *benchmarks.values()]
    if not benchmarks or reps < 100:
        raise InputError(
            f"{len(benchmarks)} benchmarks and {reps} resamples give no verdict",
            "Give at least one benchmark and 100 resamples",
        )
    for name, lost in zip(names, series, strict=True):
        if lost.shape != agent.shape or not np.isfinite(lost).all():
            raise InputError(
                f"{name} has shape {lost.shape} where the agent has {agent.shape}, or values that "
                "are not finite",
                "Give all hedges on the same paths",
            )
    paths = agent.shape[1]
    if paths < _FEWEST_PATHS:
        raise InputError(f"{paths} paths are too few to compare on", f"Give {_FEWEST_PATHS}")
    values = [objective.of_each(lost) for lost in series]
    estimate = np.array([objective.over(each) for each in values])
    rng, draws = np.random.default_rng(seed), np.empty((reps, len(series)))
    for rep in range(reps):
        if mean_block == 1.0:
            chosen = rng.integers(paths, size=paths)
        else:
            chosen = stationary_indices(paths, mean_block, 1, rng)[0]
        draws[rep] = [objective.over(each[chosen]) for each in values]
    distance = np.abs((draws[:, :1] - draws[:, 1:]) - (estimate[0] - estimate[1:]))
    half = np.quantile(distance, level, axis=0)
    strict = np.quantile(distance, 1.0 - (1.0 - level) / len(benchmarks), axis=0)
    differences = tuple(
        _difference(name, estimate[0], estimate[k + 1], half[k])
        for k, name in enumerate(benchmarks)
    )
    worse = [
        difference
        for difference, width in zip(differences, strict, strict=True)
        if difference.difference - width > NEGLIGIBLE
    ]
    kind = "unseen paths" if mean_block == 1.0 else "overlapping liabilities"
    outcome, reason = _judge(differences, worse, f"{paths:,} {kind}", level)
    if mean_block > 1.0 and paths < FEWEST_BLOCKS * mean_block:
        differences = tuple(replace(each, outcome=Outcome.INCONCLUSIVE) for each in differences)
        outcome = Outcome.INCONCLUSIVE
        reason = (
            f"{paths:,} {kind} are {paths / mean_block:.1f} blocks of {mean_block:g}: intervals of "
            f"fewer than {FEWEST_BLOCKS} are too narrow to judge by."
        )
    return HedgeVerdict(outcome, reason, differences, paths, level, mean_block)


def _difference(name: str, agent: float, benchmark: float, half: float) -> HedgeDifference:
    difference = float(agent - benchmark)
    low, high = difference - float(half), difference + float(half)
    outcome = Outcome.INCONCLUSIVE
    if high < 0.0 and difference < -NEGLIGIBLE:
        outcome = Outcome.OUTPERFORMS
    elif low > 0.0 and difference > NEGLIGIBLE:
        outcome = Outcome.UNDERPERFORMS
    return HedgeDifference(name, float(agent), float(benchmark), difference, low, high, outcome)


def _judge(
    differences: tuple[HedgeDifference, ...],
    worse: list[HedgeDifference],
    where: str,
    level: float,
) -> tuple[Outcome, str]:
    closest = max(differences, key=lambda d: d.difference)
    agent = f"The agent's objective is {100 * closest.objective_agent:.1f} % of the price"
    on = f"on {where}, with {100 * level:g} % confidence"
    shown = (
        f"{_named(closest)}'s {100 * closest.objective_benchmark:.1f} %: the difference is "
        f"{100 * closest.difference:+.2f} ({100 * closest.low:+.2f} to {100 * closest.high:+.2f})"
    )
    if worse:
        return Outcome.UNDERPERFORMS, f"{agent}, above {shown} {on}."
    if all(d.outcome is Outcome.OUTPERFORMS for d in differences):
        count = len(differences)
        return Outcome.OUTPERFORMS, (
            f"{agent}, below that of all {count} benchmarks, the closest being {shown} {on}."
        )
    return Outcome.INCONCLUSIVE, f"{agent}, not shown to be below {shown} {on}."


def _named(difference: HedgeDifference) -> str:
    return difference.benchmark.replace("_", " ")
