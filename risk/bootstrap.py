"""Bootstrap intervals: how far a measure varies over days, or training runs, like those observed.

Days of a market are not independent, so they are drawn in blocks of random length (the stationary
bootstrap: D. Politis and J. Romano, The stationary bootstrap, Journal of the American Statistical
Association 89, 1994). Training runs are independent and are drawn one by one.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from conf.errors import InputError
from conf.types import FloatArray, IntArray
from risk.metrics import NEGLIGIBLE, check_level, checked_series

_SHORTEST_TO_ESTIMATE = 20


class Interval(NamedTuple):
    """A measure and the two-sided interval around it, in the measure's own unit."""

    value: float
    low: float
    high: float


def stationary_indices(
    sessions: int,
    mean_block: float,
    reps: int,
    rng: np.random.Generator,
    *,
    length: int | None = None,
) -> IntArray:
    """Days (reps, length) of the stationary bootstrap, numbered from 0 to sessions - 1.

    Blocks start on any day with equal probability, have geometric lengths with mean `mean_block`
    sessions (1: single days) and run on from the last day into the first. A sample is as long as
    the series unless `length` is given. Use the same days for all series that belong together.
    """
    length = sessions if length is None else length
    if min(sessions, reps, length) < 1 or not 1.0 <= mean_block < math.inf:
        raise InputError(
            f"cannot draw {reps} samples of {length} from {sessions} sessions in blocks of "
            f"{mean_block}",
            "Give at least one of each, and blocks of at least one session",
        )
    day = np.arange(length)
    start = rng.integers(sessions, size=(reps, length))
    begins = rng.random((reps, length)) < 1.0 / mean_block
    since = np.maximum.accumulate(np.where(begins, day, 0), axis=1)
    index = np.take_along_axis(start, since, axis=1)
    index += day
    index -= since
    if length > sessions:
        index %= sessions
    else:
        index[index >= sessions] -= sessions  # several times faster than %
    return index


def mean_block_length(series: ArrayLike) -> float:
    """Mean block length in sessions, estimated from series (..., T): the longest over the series.

    Politis and White's rule with Patton's correction, at least 1 and at most √T so that enough
    blocks remain; 1 for a series without variation or too short for an estimate. The rule looks
    at levels: for a measure that depends on volatility pass squares (or the measure's influence
    function) as well.
    References: D. Politis and H. White, Automatic block-length selection for the dependent
    bootstrap, Econometric Reviews 23 (2004); correction with A. Patton, 28 (2009).
    """
    values = checked_series("series", series)
    rows = values.reshape(-1, values.shape[-1])
    varied = rows[rows.std(axis=1) > NEGLIGIBLE * (1.0 + np.abs(rows).max(axis=1))]
    sessions = rows.shape[1]
    if not len(varied) or sessions < _SHORTEST_TO_ESTIMATE:
        return 1.0
    from arch.bootstrap import optimal_block_length  # takes seconds to import

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        lengths = optimal_block_length(varied.T)["stationary"].to_numpy()
    longest = float(np.nan_to_num(lengths, nan=1.0, posinf=math.inf).max())
    return float(np.clip(longest, 1.0, math.sqrt(sessions)))


def percentile_interval(values: ArrayLike, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """Equal-tailed interval (low, high) of bootstrap values (reps, ...), each of shape (...).

    NaN (a measure undefined on some resample) is left out; where most values are NaN, so is the
    interval.
    """
    check_level(level)
    draws = np.asarray(values, dtype=np.float64)
    if draws.ndim == 0 or draws.shape[0] == 0:
        raise InputError("there are no bootstrap values", "Draw at least one sample")
    tails = (1.0 - level) / 2.0, (1.0 + level) / 2.0
    undefined = np.isnan(draws)
    if not undefined.any():  # the common case, many times faster
        low, high = np.quantile(draws, tails, axis=0)
        return np.asarray(low), np.asarray(high)
    mostly = undefined.mean(axis=0) > 0.5
    low, high = np.nanquantile(np.where(mostly, 0.0, draws), tails, axis=0)
    return np.where(mostly, np.nan, low), np.where(mostly, np.nan, high)


def equity_curve(returns: ArrayLike) -> FloatArray:
    """Equity (..., T + 1) that starts at 1 and compounds simple returns (..., T)."""
    compounded = np.cumprod(1.0 + checked_series("returns", returns), axis=-1)
    return np.concatenate([np.ones((*compounded.shape[:-1], 1)), compounded], axis=-1)


def interquartile_mean(scores: ArrayLike) -> FloatArray:
    """Mean of the middle half of scores (..., runs, tasks), all runs and tasks together.

    A quarter of the scores, rounded down, is cut at each end. Scores (runs,) are one task's.
    Reference: R. Agarwal et al., Deep reinforcement learning at the edge of the statistical
    precipice, NeurIPS (2021).

    Examples:
        >>> print(interquartile_mean([0.1, 0.9, 1.1, 9.0]))
        1.0
    """
    values = checked_series("scores", scores)
    shape = values.shape[:-2] if values.ndim > 1 else ()
    ordered = np.sort(values.reshape(*shape, -1), axis=-1)
    cut = ordered.shape[-1] // 4
    return np.asarray(ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1))


def stratified_bootstrap_interval(
    scores: ArrayLike,
    statistic: Callable[[FloatArray], FloatArray] = interquartile_mean,
    reps: int = 2000,
    level: float = 0.95,
    seed: int | np.random.Generator = 0,
) -> Interval:
    """Percentile interval of a measure over scores (runs, tasks), as in rliable.

    Runs are drawn with replacement within each task, independently of the other tasks.
    `statistic` takes (B, runs, tasks) to (B,). Reference: as for `interquartile_mean`.
    """
    values = checked_series("scores", scores)
    if values.ndim != 2 or reps < 1:
        raise InputError(
            f"scores have shape {values.shape} and are to be resampled {reps} times",
            "Give (runs, tasks), with one column for a single task, and at least one sample",
        )
    runs, tasks = values.shape
    rows = np.random.default_rng(seed).integers(runs, size=(reps, runs, tasks))
    low, high = percentile_interval(statistic(values[rows, np.arange(tasks)]), level)
    return Interval(float(statistic(values[None])[0]), float(low), float(high))
