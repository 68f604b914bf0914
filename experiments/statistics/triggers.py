"""The documented triggers of promotion and retraining, and how often each rule errs.

The triggers are functions of the record of daily excess returns, as they were written down: a
Sharpe ratio above 1.0 in three to six months of paper trading, and one below .8 for 30 days.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from conf.types import BoolArray, FloatArray
from experiments.statistics.sequential import DEMOTION, PROMOTION, first
from risk.metrics import (
    NEGLIGIBLE,
    SESSIONS_PER_YEAR,
    checked_series,
    divide,
    max_drawdown,
    sharpe_ratio,
)

Draw = Callable[[np.random.Generator, int, int], FloatArray]  # (paths, T) of mean 0, deviation 1

_AT_ONCE = 500  # paths


def recent_sharpe(
    excess: ArrayLike, window: int, sessions_per_year: float = SESSIONS_PER_YEAR
) -> FloatArray:
    """Annual Sharpe ratio of the last `window` of the sessions (..., T), (..., T − window + 1).

    0 where nothing was earned without risk, as cash.
    """
    days = checked_series("excess", excess)
    zero = np.zeros((*days.shape[:-1], 1))

    def means(values: FloatArray) -> FloatArray:
        sums = np.concatenate([zero, np.cumsum(values, axis=-1)], axis=-1)
        return np.asarray((sums[..., window:] - sums[..., :-window]) / window)

    mean = means(days)
    variance = (means(np.square(days)) - np.square(mean)) * window / (window - 1)
    deviation = np.sqrt(np.maximum(variance, 0.0))
    varied = deviation > NEGLIGIBLE
    return np.where(varied, divide(mean, deviation, varied), 0.0) * math.sqrt(sessions_per_year)


def sharpe_above(
    excess: ArrayLike, target: float, sessions_per_year: float = SESSIONS_PER_YEAR
) -> BoolArray:
    """Whether the Sharpe ratio of the whole record (..., T) exceeds the target."""
    return np.asarray(sharpe_ratio(excess, 0.0, sessions_per_year) > target)


def drawdown_below(excess: ArrayLike, limit: float) -> BoolArray:
    """Whether the curve of the record (..., T) never fell by `limit` from a peak."""
    growth = np.cumprod(1.0 + np.asarray(excess, np.float64), axis=-1)
    return np.asarray(
        max_drawdown(np.concatenate([np.ones_like(growth[..., :1]), growth], -1)) < limit
    )


@dataclass(frozen=True)
class AlarmRate:
    """How soon a rule acts on agents of one true Sharpe ratio."""

    rule: str
    sharpe: float
    half_a_year: float  # share of paths on which it has acted by then
    year: float
    horizon: float
    median_years: float  # infinite where it acts on fewer than half


def alarm_rates(
    sharpes: ArrayLike, paths: int, years: int, seed: int, draw: Draw | None = None
) -> list[AlarmRate]:
    """Every rule on simulated records: `paths` of so many `years` at each true Sharpe ratio.

    draw(rng, paths, T): daily returns of mean 0 and deviation 1; None: independent normal ones.
    """
    sessions, rows = years * SESSIONS_PER_YEAR, []
    for sharpe in np.atleast_1d(np.asarray(sharpes, np.float64)).tolist():
        rng = np.random.default_rng(seed)
        found: dict[str, list[FloatArray]] = {name: [] for name in RULES}
        for begin in range(0, paths, _AT_ONCE):
            size = min(_AT_ONCE, paths - begin)
            noise = (
                rng.standard_normal((size, sessions)) if draw is None else draw(rng, size, sessions)
            )
            record = noise + sharpe / math.sqrt(SESSIONS_PER_YEAR)
            for name, rule in RULES.items():
                found[name].append(rule(record))
        for name, parts in found.items():
            at = np.concatenate(parts)
            shares = [float((at <= limit).mean()) for limit in (126, 252, sessions)]
            # The lower median: the mean of the middle two would be NaN between two infinities.
            median = float(np.sort(at)[(paths - 1) // 2]) / SESSIONS_PER_YEAR
            rows.append(AlarmRate(name, sharpe, *shares, median))
    return rows


def _passed(record: FloatArray, begin: int, stop: int) -> FloatArray:
    """The first session from `begin` to `stop` at which the Sharpe ratio so far exceeds 1."""
    passed = [sharpe_above(record[..., :t], 1.0) for t in range(begin, stop + 1)]
    return first(np.stack(passed, axis=-1)) + begin - 1


RULES: dict[str, Callable[[FloatArray], FloatArray]] = {
    "promotion: e-process": PROMOTION.first_alarm,
    "promotion: > 1 at six months": lambda record: _passed(record, 126, 126),
    "promotion: > 1 on a day of months 3 to 6": lambda record: _passed(record, 63, 126),
    "demotion: e-process": DEMOTION.first_alarm,
    "demotion: < .8 for 30 days": lambda record: first(recent_sharpe(record, 30) < 0.8) + 29,
}
