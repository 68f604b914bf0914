"""Is a Sharpe ratio more than luck, given the shape of its record and the number of trials?

The functions of single numbers take Sharpe ratios *per period* (daily: the annual one over √252),
as the papers do. The standard error is the estimated Sharpe ratio's own, √((1 − skewness·SR +
(kurtosis − 1)/4·SR²)/(T − 1)), as in the papers of 2012 and 2014; taking it at the benchmark
instead, as some later texts do, gives other numbers. Kurtosis is 3 for a normal distribution.

Undefined values are NaN: for a series without variation, for a standard error whose square is not
positive (no real sample has such moments), and for a minimum track record where the Sharpe ratio
does not exceed its benchmark, since then no record is long enough.
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from conf.errors import InputError
from conf.types import FloatArray
from risk.metrics import (
    NEGLIGIBLE,
    SESSIONS_PER_YEAR,
    check_level,
    checked_series,
    sharpe_ratio,
)

_MAX_BLOCKS = 18  # 48,620 splits; 20 would be 184,756


class SharpeEvidence(NamedTuple):
    """Statistics of one track record; Sharpe ratios are annual, probabilities lie in 0..1."""

    sharpe: float
    skewness: float  # of the daily excess returns
    kurtosis: float  # 3 for a normal distribution
    psr: float  # probability that the true Sharpe ratio exceeds 0
    dsr: float  # ... that it exceeds benchmark_sharpe
    benchmark_sharpe: float  # SR0, the expected best of `num_trials` without skill
    num_trials: int
    trial_variance_annual: float  # of annual Sharpe ratios across trials; NaN for a single trial
    min_track_record_years: float  # to be 95 % sure that the true Sharpe ratio exceeds 0


def probabilistic_sharpe_ratio(
    sharpe: float, benchmark: float, sessions: float, skewness: float, kurtosis: float
) -> float:
    """PSR: probability that the true Sharpe ratio exceeds `benchmark`; both per period.

    `sessions` is the number of returns behind `sharpe`. Reference: D. Bailey and M. López de
    Prado, The Sharpe ratio efficient frontier, Journal of Risk 15 (2012).

    Examples:
        >>> round(probabilistic_sharpe_ratio(0.06, 0.0, 756, skewness=0.0, kurtosis=3.0), 2)
        0.95
    """
    if sessions <= 1:
        raise InputError(f"{sessions} returns have no Sharpe ratio", "Give two returns or more")
    variance = _unit_variance(sharpe, skewness, kurtosis)
    if not variance > 0.0:
        return math.nan
    return float(ndtr((sharpe - benchmark) * math.sqrt((sessions - 1) / variance)))


def expected_maximum_sharpe(num_trials: int, variance: float) -> float:
    """Expected best of `num_trials` estimates without skill: √variance·E[max of N normals].

    The false strategy theorem's approximation with the Euler–Mascheroni constant, in the root
    unit of `variance`; 0 for one trial. Reference: D. Bailey and M. López de Prado, The deflated
    Sharpe ratio, Journal of Portfolio Management 40 (2014).
    """
    if num_trials < 1 or not 0.0 <= variance < math.inf:
        raise InputError(
            f"{num_trials} trials with variance {variance}",
            "Give one trial or more, and a finite variance of 0 or more",
        )
    if num_trials == 1:
        return 0.0
    first = float(ndtri(1.0 - 1.0 / num_trials))
    second = float(ndtri(1.0 - 1.0 / (num_trials * math.e)))
    return math.sqrt(variance) * ((1.0 - np.euler_gamma) * first + np.euler_gamma * second)


def deflated_sharpe_ratio(
    sharpe: float,
    num_trials: int,
    trial_variance: float,
    sessions: float,
    skewness: float,
    kurtosis: float,
) -> float:
    """DSR: PSR against the expected best of `num_trials` trials without skill.

    `sharpe` is per period, `trial_variance` the variance of such Sharpe ratios across trials. The
    record must exceed the expected best of N by the error of a single estimate, so that of trials
    without skill far fewer than 1 − level pass. Reference: as above (2014).
    """
    benchmark = expected_maximum_sharpe(num_trials, trial_variance)
    return probabilistic_sharpe_ratio(sharpe, benchmark, sessions, skewness, kurtosis)


def minimum_track_record_years(
    sharpe: float,
    benchmark: float,
    skewness: float,
    kurtosis: float,
    level: float = 0.95,
    periods_per_year: float = SESSIONS_PER_YEAR,
) -> float:
    """Years until PSR against `benchmark` reaches `level`; Sharpe ratios per period.

    NaN unless `sharpe` exceeds `benchmark`. Reference: as for PSR (2012).
    """
    check_level(level)
    variance = _unit_variance(sharpe, skewness, kurtosis)
    if not (sharpe > benchmark and variance > 0.0):
        return math.nan
    periods = 1.0 + variance * (float(ndtri(level)) / (sharpe - benchmark)) ** 2
    return periods / periods_per_year


def sharpe_evidence(
    returns: ArrayLike,
    risk_free: ArrayLike,
    num_trials: int = 1,
    trial_variance_annual: float | None = None,
    sessions_per_year: float = SESSIONS_PER_YEAR,
) -> SharpeEvidence:
    """Judge daily simple returns (T,) that were picked from `num_trials` trials.

    risk_free (T,) or a number is the return of cash on the same days. `trial_variance_annual` is
    the variance of the trials' annual Sharpe ratios; None takes that of an estimate without skill,
    sessions a year / T. With one trial DSR is PSR. Skewness and kurtosis are moments of the sample,
    without a correction for its size, as in the papers.
    """
    days = checked_series("returns", returns)
    if days.ndim != 1 or days.size < 2:
        raise InputError(f"returns have shape {days.shape}", "Give one series of two days or more")
    sessions = days.size
    annual = float(sharpe_ratio(days, risk_free, sessions_per_year))
    skewness, kurtosis = _shape(days - np.asarray(risk_free, dtype=np.float64))
    if trial_variance_annual is None and num_trials > 1:
        trial_variance_annual = sessions_per_year / sessions
    variance = 0.0 if trial_variance_annual is None else trial_variance_annual
    sharpe = annual / math.sqrt(sessions_per_year)
    record = (sessions, skewness, kurtosis)
    return SharpeEvidence(
        sharpe=annual,
        skewness=skewness,
        kurtosis=kurtosis,
        psr=probabilistic_sharpe_ratio(sharpe, 0.0, *record),
        dsr=deflated_sharpe_ratio(sharpe, num_trials, variance / sessions_per_year, *record),
        benchmark_sharpe=expected_maximum_sharpe(num_trials, variance),
        num_trials=num_trials,
        trial_variance_annual=math.nan if trial_variance_annual is None else variance,
        min_track_record_years=minimum_track_record_years(
            sharpe, 0.0, skewness, kurtosis, periods_per_year=sessions_per_year
        ),
    )


def probability_of_backtest_overfitting(returns: ArrayLike, num_blocks: int = 16) -> float:
    """PBO: how often the best of S strategies on half of the days is below the median on the rest.

    Combinatorially symmetric cross-validation: excess returns (T, S) are cut into `num_blocks`
    blocks of days; each half of the blocks is once the sample on which the highest Sharpe ratio is
    picked, and on the other half the pick is ranked. The median itself counts as overfitted, and
    ties share their mean rank. Noise gives about .5, one truly good strategy about 0. A column
    without variation has Sharpe ratio 0.
    Reference: D. Bailey, J. Borwein, M. López de Prado and Q. Zhu, The probability of backtest
    overfitting, Journal of Computational Finance 20 (2017).
    """
    days = checked_series("returns", returns)
    if days.ndim != 2 or days.shape[1] < 2:
        raise InputError(
            f"returns have shape {days.shape}", "Give (T, S) with two strategies or more"
        )
    if num_blocks % 2 or not 2 <= num_blocks <= _MAX_BLOCKS or len(days) < 2 * num_blocks:
        raise InputError(
            f"{len(days)} days cannot be cut into {num_blocks} blocks",
            f"Give an even number up to {_MAX_BLOCKS}, with two days or more in each",
        )
    scaled = days - days.mean(axis=0)  # sums of squares of centred days do not cancel
    starts = np.arange(num_blocks) * len(days) // num_blocks
    counts = np.diff(np.append(starts, len(days)))
    sums = np.add.reduceat(scaled, starts, axis=0)
    squares = np.add.reduceat(np.square(scaled), starts, axis=0)
    chosen = np.array(list(combinations(range(num_blocks), num_blocks // 2)))
    picked = np.zeros((len(chosen), num_blocks))
    np.put_along_axis(picked, chosen, 1.0, axis=1)
    mean = days.mean(axis=0)

    def ratios(blocks: FloatArray) -> FloatArray:
        size = (blocks @ counts)[:, None]
        shift = blocks @ sums / size
        risk = np.sqrt(np.maximum(blocks @ squares / size - np.square(shift), 0.0))
        undefined = np.zeros_like(risk)
        return np.asarray(np.divide(mean + shift, risk, out=undefined, where=risk > NEGLIGIBLE))

    best = ratios(picked).argmax(axis=1)[:, None]
    outside = ratios(1.0 - picked)
    score = np.take_along_axis(outside, best, axis=1)
    rank = 0.5 + (outside < score).sum(axis=1) + 0.5 * (outside == score).sum(axis=1)
    return float((rank <= (days.shape[1] + 1) / 2.0).mean())


def _unit_variance(sharpe: float, skewness: float, kurtosis: float) -> float:
    """Variance of an estimated Sharpe ratio per period, times (T − 1)."""
    return 1.0 - skewness * sharpe + (kurtosis - 1.0) / 4.0 * sharpe**2


def _shape(excess: FloatArray) -> tuple[float, float]:
    """Skewness and kurtosis (normal: 3); NaN without variation."""
    centred = excess - excess.mean()
    deviation = math.sqrt(float(np.square(centred).mean()))
    if deviation <= NEGLIGIBLE:
        return math.nan, math.nan
    unit = centred / deviation
    return float((unit**3).mean()), float((unit**4).mean())
