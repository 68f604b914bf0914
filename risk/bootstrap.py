"""Resampling: how much would a measure have differed on other days like these, or other runs?

Days of a market are not independent, so they are drawn in blocks of random length (the stationary
bootstrap: D. Politis and J. Romano, The stationary bootstrap, Journal of the American Statistical
Association 89, 1994). Runs of a training are independent and are drawn one by one.
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
from risk.metrics import NEGLIGIBLE, checked_series

# Values held at once while a statistic is computed: bounds memory, changes no result.
_CELLS_AT_ONCE = 4_000_000
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

    A sample is as long as the series itself unless `length` says otherwise.

    Blocks start on any day with equal chance, have geometric lengths with mean `mean_block`
    sessions (1: single days) and run on from the last day into the first. Use one matrix for all
    series that must stay in step with one another.
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
    """Mean block length in sessions, estimated from series (..., T): the longest that one needs.

    Politis and White's rule with Patton's correction, at least 1 and at most √T so that enough
    blocks remain. A series without variation, or too short for an estimate, asks for 1. The rule
    looks at levels: for a measure that depends on volatility pass squares (or the measure's
    influence function) as well.
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

    Values that are NaN (a measure undefined on some resample) are left out; where most are, so is
    the interval.
    """
    check_level(level)
    draws = np.asarray(values, dtype=np.float64)
    if draws.ndim == 0 or draws.shape[0] == 0:
        raise InputError("there are no bootstrap values", "Draw at least one sample")
    undefined = np.isnan(draws)
    if not undefined.any():  # the common case, many times faster
        low, high = np.quantile(draws, _tails(level), axis=0)
        return np.asarray(low), np.asarray(high)
    mostly = undefined.mean(axis=0) > 0.5
    low, high = np.nanquantile(np.where(mostly, 0.0, draws), _tails(level), axis=0)
    return np.where(mostly, np.nan, low), np.where(mostly, np.nan, high)


def metric_interval(
    returns: ArrayLike,
    statistic: Callable[[FloatArray], FloatArray],
    *,
    level: float = 0.95,
    reps: int = 2000,
    seed: int | np.random.Generator = 0,
    mean_block: float | None = None,
) -> Interval:
    """Stationary-bootstrap interval of any vectorised measure of daily returns.

    returns (T,) is one series, and `statistic` takes (B, T) to (B,): `lambda r:
    sharpe_ratio(r, rate)`, or `lambda r: max_drawdown(equity_curve(r))`. Returns (..., T) are
    several series of the same days; all are resampled by the same days, and `statistic` takes
    (B, ..., T) to (B,): a difference between two books, or returns together with the risk-free
    rate. `mean_block` in sessions is estimated from the series and their squares unless given.
    Raises InputError for missing values.
    """
    series = checked_series("returns", returns)
    check_level(level)
    if mean_block is None:
        squares = np.square(series - series.mean(axis=-1, keepdims=True))
        mean_block = mean_block_length(np.stack([series, squares]))
    rng = np.random.default_rng(seed)
    index = stationary_indices(series.shape[-1], mean_block, reps, rng)
    at_once = max(1, _CELLS_AT_ONCE // series.size)
    draws = [
        _measured(statistic, np.moveaxis(series[..., index[i : i + at_once]], -2, 0))
        for i in range(0, reps, at_once)
    ]
    low, high = percentile_interval(np.concatenate(draws), level)
    return Interval(float(_measured(statistic, series[None])[0]), float(low), float(high))


def equity_curve(returns: ArrayLike) -> FloatArray:
    """Equity (..., T + 1) that starts at 1 and compounds simple returns (..., T)."""
    growth = np.cumprod(1.0 + checked_series("returns", returns), axis=-1)
    return np.concatenate([np.ones((*growth.shape[:-1], 1)), growth], axis=-1)


def interquartile_mean(scores: ArrayLike) -> FloatArray:
    """Mean of the middle half of scores (..., runs, tasks), all runs and tasks together.

    A quarter of the scores, rounded down, is cut at each end. Scores (runs,) are one task's.
    Reference: R. Agarwal et al., Deep reinforcement learning at the edge of the statistical
    precipice, NeurIPS (2021).
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
    check_level(level)
    if values.ndim != 2 or reps < 1:
        raise InputError(
            f"scores have shape {values.shape} and are to be resampled {reps} times",
            "Give (runs, tasks), with one column for a single task, and at least one sample",
        )
    rng = np.random.default_rng(seed)
    runs, tasks = values.shape
    rows = rng.integers(runs, size=(reps, runs, tasks))
    low, high = percentile_interval(_measured(statistic, values[rows, np.arange(tasks)]), level)
    return Interval(float(_measured(statistic, values[None])[0]), float(low), float(high))


def check_level(level: float) -> None:
    """InputError unless a confidence level lies between 0 and 1."""
    if not 0.0 < level < 1.0:
        raise InputError(f"confidence level is {level}", "Give a number between 0 and 1, as 0.95")


def _tails(level: float) -> tuple[float, float]:
    return (1.0 - level) / 2.0, (1.0 + level) / 2.0


def _measured(statistic: Callable[[FloatArray], FloatArray], batch: FloatArray) -> FloatArray:
    # Rows as they lie in memory decide how sums round: the same for a sample and the original.
    found = np.asarray(statistic(np.ascontiguousarray(batch)), dtype=np.float64)
    if found.shape != batch.shape[:1]:
        raise InputError(
            f"the statistic turned {batch.shape} into {found.shape}",
            f"Let it give one number a sample, shape {batch.shape[:1]}",
        )
    return found
