"""Does the agent beat every benchmark, and by more than luck? The verdict and its evidence.

`compare` resamples all books on the same days (`PairedSample`), tests each difference, and judges
by a rule that was fixed before any result was seen. The measure is the difference of annual Sharpe
ratios on the same days, with a two-sided bootstrap interval.

- Against one benchmark the agent OUTPERFORMS if the interval lies above 0, UNDERPERFORMS if it lies
  below, and is INCONCLUSIVE otherwise.
- Overall it OUTPERFORMS if it outperforms every single benchmark and its deflated Sharpe ratio
  reaches the level. As every comparison must succeed, none needs a correction for their number
  (an intersection-union test).
- Overall it UNDERPERFORMS if some benchmark is better with Holm's correction for their number, or
  if the agent was ruined.
- Anything else is INCONCLUSIVE.

Cash has no risk and no excess return; its Sharpe ratio counts as 0.

Error rates, simulated: UNDERPERFORMS is reached by either of two tests, so among equal books it is
the verdict in about 6 % of cases at level .95, and OUTPERFORMS over one of them in about 2.5 %. The
intervals cover about 94 % for 750 days with fat tails and lasting volatility.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from conf.errors import InputError
from conf.types import FloatArray
from experiments.statistics.paired_effects import holm
from experiments.statistics.sharpe_inference import SharpeEvidence, sharpe_evidence
from risk.bootstrap import mean_block_length, stationary_indices
from risk.metrics import NEGLIGIBLE, SESSIONS_PER_YEAR, aligned, check_level, checked_series

_FEWEST_SESSIONS = 30
# From so many on, whole paths are drawn: they are independent, whatever happens within them.
_FEWEST_PATHS = 20
_CELLS_AT_ONCE = 4_000_000
_CASH = 1e-9  # daily excess returns below this are rounding, in every number format in use


class Outcome(StrEnum):
    """The three possible verdicts."""

    OUTPERFORMS = "OUTPERFORMS"
    UNDERPERFORMS = "UNDERPERFORMS"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True)
class Difference:
    """The agent less one benchmark; Sharpe ratios and returns are annual."""

    benchmark: str
    sharpe_agent: float
    sharpe_opponent: float
    difference: float  # of Sharpe ratios
    low: float
    high: float
    p_value: float  # two-sided, of no difference; not corrected for the number of benchmarks
    mean_return_difference: float  # 252 × the mean daily difference, decimal
    mean_return_low: float
    mean_return_high: float
    outcome: Outcome


@dataclass(frozen=True)
class Verdict:
    """The overall outcome, the sentence that explains it, and the statistics behind it."""

    outcome: Outcome
    reason: str
    differences: tuple[Difference, ...]  # in the order of the benchmarks
    spa_p_value: float  # null: no benchmark is better than the agent
    evidence: SharpeEvidence  # of the agent alone
    level: float
    overfitting_probability: float = math.nan  # among the jobs of a multirun, NaN without one


def compare(
    agent: ArrayLike,
    benchmarks: Mapping[str, ArrayLike],
    risk_free: ArrayLike,
    *,
    num_trials: int = 1,
    trial_variance_annual: float | None = None,
    level: float = 0.95,
    reps: int = 2000,
    seed: int = 0,
    mean_block: float | None = None,
    ruined: bool = False,
    sessions_per_year: float = SESSIONS_PER_YEAR,
) -> Verdict:
    """Compare daily simple returns (T,), or (P, T) on P independent paths, over the same days.

    risk_free is (T,), or what broadcasts to the returns. `num_trials` and `trial_variance_annual`
    are the agent's, as for `sharpe_evidence`. All Sharpe ratios are of the days of all paths
    together, resampled as by `PairedSample.draw`. Intervals are symmetric: the estimate ± the
    level's quantile of the resampled distance from it (like O. Ledoit and M. Wolf, Robust
    performance hypothesis testing with the Sharpe ratio, Journal of Empirical Finance 15, 2008,
    without the studentisation).

    `ruined`: the agent lost nearly everything on some path. No interval shows that, because many
    bootstrap samples leave a single day out. The test of superior predictive ability is reported
    and does not enter the verdict: it rejects too often where benchmarks sell insurance (returns
    with rare large losses).

    The same seed gives the same numbers. Raises InputError for missing values, ruin, fewer than
    30 days, different shapes, or a constant excess return that is not 0.
    """
    check_level(level)
    if reps < 100:
        raise InputError(f"{reps} resamples are too few for an interval", "Give 1000 or more")
    excess = _excess(agent, benchmarks, risk_free)
    sample = PairedSample(excess, ["the agent", *benchmarks])
    evidence = sharpe_evidence(
        excess[0].ravel(), 0.0, num_trials, trial_variance_annual, sessions_per_year
    )
    means, sharpes = sample.draw(reps, mean_block, np.random.default_rng(seed))
    differences = tuple(
        _difference(name, sample, k, means, sharpes, level, sessions_per_year)
        for k, name in enumerate(benchmarks, 1)
    )
    # Losses in units of each series' own deviation: mean differences are those of Sharpe ratios.
    losses = sample.scaled(means)
    spa = superior_ability_p_value(
        sample.sharpe[1:] - sample.sharpe[0], losses[:, 1:] - losses[:, :1], sample.units
    )
    outcome, reason = _judge(differences, evidence, level, ruined)
    return Verdict(outcome, reason, differences, spa, evidence, level)


def superior_ability_p_value(advantage: ArrayLike, resampled: ArrayLike, sample_size: int) -> float:
    """Hansen's consistent p-value of the null that none of K models beats the benchmark.

    advantage (K,) is each model's mean advantage over the benchmark (its mean loss differential),
    resampled (reps, K) the same on bootstrap samples in common, `sample_size` the number of
    observations. Studentised by the bootstrap deviation; models far worse than the benchmark are
    left uncentred and so drop out. 1 where no model is better on the sample itself; models
    identical to the benchmark are ignored.
    Reference: P. Hansen, A test for superior predictive ability, Journal of Business and Economic
    Statistics 23 (2005).
    """
    mean, draws = np.asarray(advantage, np.float64), np.asarray(resampled, np.float64)
    if draws.ndim != 2 or mean.shape != draws.shape[1:] or sample_size < 3 or not len(draws):
        raise InputError(
            f"{mean.shape} models, resamples of shape {draws.shape}, {sample_size} observations",
            "Give (K,), (reps, K) and three observations or more",
        )
    deviation = draws.std(axis=0)
    varied = deviation > NEGLIGIBLE
    if not varied.any():
        return 1.0
    mean, draws, deviation = mean[varied], draws[:, varied], deviation[varied]
    relevant = mean >= -deviation * math.sqrt(2.0 * math.log(math.log(sample_size)))
    largest = ((draws - np.where(relevant, mean, 0.0)) / deviation).max(axis=1)
    return float((np.maximum(largest, 0.0) >= (mean / deviation).max()).mean())


class PairedSample:
    """Excess returns (S, P, T) of S series on the same days of P independent paths.

    Daily numbers, one a series: `mean`, `deviation` (ddof=1) and `sharpe`, over the days of all
    paths together; cash, whose excess return is always 0, has Sharpe ratio 0. InputError, with the
    series' name out of `names` (S), for any other constant excess return.
    """

    def __init__(self, excess: FloatArray, names: Sequence[str]) -> None:
        series, self._paths, self._sessions = excess.shape
        self._by_path = self._paths >= _FEWEST_PATHS
        flat = excess.reshape(series, -1)
        self._days = flat.shape[1]
        self.mean = flat.mean(axis=1)
        self.deviation = flat.std(axis=1, ddof=1)
        cash = ~flat.any(axis=1)
        for k in np.flatnonzero((self.deviation <= NEGLIGIBLE) & ~cash).tolist():
            raise InputError(
                f"{names[k]} earns the same {self.mean[k]:.3g} above cash every day",
                "Give the return of cash as risk_free; only cash is without risk",
            )
        self._risky = ~cash
        self.sharpe = self.scaled(self.mean)  # daily
        unit = np.where(cash, 0.0, 1.0 / np.where(cash, 1.0, self.deviation))
        self._standard = (flat - self.mean[:, None]) * unit[:, None]
        moments = np.stack([self._standard, np.square(self._standard)])
        if self._by_path:
            moments = moments.reshape(2, series, self._paths, -1).sum(axis=3)
        self.units = moments.shape[2]  # what is drawn: days, or whole paths
        self._moments = np.ascontiguousarray(moments.transpose(2, 0, 1).reshape(self.units, -1))

    def draw(
        self, reps: int, mean_block: float | None, rng: np.random.Generator
    ) -> tuple[FloatArray, FloatArray]:
        """Daily means and Sharpe ratios, (reps, S) each, on the same resampled days for every book.

        Fewer than 20 paths are resampled by days, in blocks of `mean_block` sessions (estimated
        if None); 20 and more as whole paths, whatever the dependence within them.
        """
        if mean_block is None:
            mean_block = 1.0 if self._by_path else self._block_length()
        drawn = [self._resampled(weights) for weights in self._weights(reps, mean_block, rng)]
        means, sharpes = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
        return means, sharpes

    def scaled(self, means: FloatArray) -> FloatArray:
        """Mean daily excess returns (..., S) over each series' own deviation; 0 for cash."""
        scaled = np.zeros_like(means)
        np.divide(means, self.deviation, out=scaled, where=self._risky)
        return scaled

    def _block_length(self) -> float:
        """Mean block length that the differences of Sharpe ratios need, sessions."""
        # Influence function of a Sharpe ratio: its sum is, to first order, the estimate's error.
        influence = self._standard - 0.5 * self.sharpe[:, None] * (np.square(self._standard) - 1.0)
        return mean_block_length(influence[:1] - influence[1:])

    def _resampled(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Means and Sharpe ratios, daily, (B, S) each, of samples weights (B, units)."""
        first, second = np.split(weights @ self._moments / self._days, 2, axis=1)
        variance = (second - np.square(first)) * (self._days / (self._days - 1))
        # A book that hardly trades is cash in samples that contain none of its trades.
        risk = np.sqrt(np.maximum(variance, 0.0))
        varied = risk > NEGLIGIBLE
        sharpes = np.divide(self.sharpe + first, risk, out=np.zeros_like(risk), where=varied)
        return self.mean + first * self.deviation, sharpes

    def _weights(
        self, reps: int, mean_block: float, rng: np.random.Generator
    ) -> Iterator[FloatArray]:
        """How often each day, or path, is drawn: (B, units) arrays with `reps` rows in all."""
        at_once = max(1, _CELLS_AT_ONCE // self.units)
        for begin in range(0, reps, at_once):
            size = min(at_once, reps - begin)
            if self._by_path:
                drawn = rng.integers(self._paths, size=(size, self._paths))
            else:
                days = stationary_indices(self._sessions, mean_block, size * self._paths, rng)
                first = np.arange(self._paths)[:, None] * self._sessions
                drawn = (days.reshape(size, self._paths, -1) + first).reshape(size, -1)
            cells = drawn + np.arange(size)[:, None] * self.units
            counts = np.bincount(cells.ravel(), minlength=size * self.units)
            yield counts.reshape(size, self.units).astype(np.float64)


def _difference(
    name: str,
    sample: PairedSample,
    k: int,
    means: FloatArray,
    sharpes: FloatArray,
    level: float,
    sessions_per_year: float,
) -> Difference:
    """The agent (series 0) less a benchmark (series k); means and Sharpe ratios are resampled."""
    annual = math.sqrt(sessions_per_year)
    difference = float(sample.sharpe[0] - sample.sharpe[k])
    distance = np.abs(sharpes[:, 0] - sharpes[:, k] - difference)
    half = float(np.quantile(distance, level))
    low, high = annual * (difference - half), annual * (difference + half)
    earned = float(sample.mean[0] - sample.mean[k])
    half_earned = float(np.quantile(np.abs(means[:, 0] - means[:, k] - earned), level))
    outcome = Outcome.OUTPERFORMS if low > 0 else Outcome.INCONCLUSIVE
    return Difference(
        benchmark=name,
        sharpe_agent=annual * float(sample.sharpe[0]),
        sharpe_opponent=annual * float(sample.sharpe[k]),
        difference=annual * difference,
        low=low,
        high=high,
        p_value=float((1 + (distance >= abs(difference)).sum()) / (1 + distance.size)),
        mean_return_difference=sessions_per_year * earned,
        mean_return_low=sessions_per_year * (earned - half_earned),
        mean_return_high=sessions_per_year * (earned + half_earned),
        outcome=Outcome.UNDERPERFORMS if high < 0 else outcome,
    )


def _judge(
    differences: tuple[Difference, ...], evidence: SharpeEvidence, level: float, ruined: bool
) -> tuple[Outcome, str]:
    """The rule at the top of this file, and the sentence that gives its numbers."""
    if ruined:
        reason = "The agent was ruined: it lost nearly everything on these days."
        return Outcome.UNDERPERFORMS, reason
    agent = f"The agent's Sharpe ratio {differences[0].sharpe_agent:.2f}"
    count, confidence = len(differences), f"{100 * level:g} % confidence"
    better = _better_by_holm(differences, 1.0 - level)
    if better:
        surest = min(better, key=lambda d: d.p_value)
        return Outcome.UNDERPERFORMS, (
            f"{agent} is below {_named(surest)}'s {surest.sharpe_opponent:.2f}: the difference is "
            f"{_shown(surest)} with {confidence}, and this holds for {len(better)} of "
            f"{count} benchmarks after Holm's correction."
        )
    worst = min(differences, key=lambda d: d.difference)
    undecided = [d for d in differences if d.outcome is not Outcome.OUTPERFORMS]
    if undecided:
        return Outcome.INCONCLUSIVE, (
            f"{agent} is not shown to exceed that of {len(undecided)} of {count} "
            f"benchmarks: with {confidence} the difference from {_named(worst)} is "
            f"{_shown(worst)}."
        )
    deflated = f"deflated Sharpe ratio over {evidence.num_trials} trials is {evidence.dsr:.3f}"
    closest = f"the smallest difference, from {_named(worst)}, is {_shown(worst)}"
    if not evidence.dsr >= level:
        return Outcome.INCONCLUSIVE, (
            f"{agent} exceeds that of all {count} benchmarks ({closest}), but its "
            f"{deflated}, below {level:g}."
        )
    return Outcome.OUTPERFORMS, (
        f"{agent} exceeds that of all {count} benchmarks with {confidence} "
        f"({closest}), and its {deflated}."
    )


def _better_by_holm(differences: tuple[Difference, ...], alpha: float) -> list[Difference]:
    """Benchmarks that are better than the agent by S. Holm's step-down test (1979)."""
    adjusted = holm([d.p_value for d in differences])
    rejected = [d for d, p_value in zip(differences, adjusted, strict=True) if p_value <= alpha]
    return [d for d in rejected if d.outcome is Outcome.UNDERPERFORMS]


def _named(difference: Difference) -> str:
    return difference.benchmark.replace("_", " ")


def _shown(difference: Difference) -> str:
    return f"{difference.difference:+.2f} ({difference.low:+.2f} to {difference.high:+.2f})"


def _excess(
    agent: ArrayLike, benchmarks: Mapping[str, ArrayLike], risk_free: ArrayLike
) -> FloatArray:
    """Excess returns (1 + K, P, T), checked; the agent first."""
    if not benchmarks:
        raise InputError("there are no benchmarks", "Give at least one, as cash")
    rows = [_checked("agent", agent)]
    for name, returns in benchmarks.items():
        rows.append(_checked(name, returns))
        if rows[-1].shape != rows[0].shape:
            raise InputError(
                f"{name} has shape {rows[-1].shape}, the agent {rows[0].shape}",
                "Give all returns on the same days and paths",
            )
    excess = np.ascontiguousarray(np.stack(rows) - aligned("risk_free", risk_free, rows[0].shape))
    excess[(np.abs(excess) <= _CASH).all(axis=(1, 2))] = 0.0
    return excess


def _checked(name: str, returns: ArrayLike) -> FloatArray:
    days = np.atleast_2d(checked_series(name, returns))
    if days.ndim != 2 or days.shape[1] < 2 or days.size < _FEWEST_SESSIONS:
        raise InputError(
            f"{name} has shape {days.shape}",
            f"Give (T,) or (P, T) with {_FEWEST_SESSIONS} daily returns or more",
        )
    if (days <= -1.0).any():
        raise InputError(
            f"{name} was ruined: it lost {-100 * days.min():.0f} % in a day",
            "Compare on the days before it, or report the ruin itself as the result",
        )
    return days
