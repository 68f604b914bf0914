"""The documented triggers of promotion and retraining, and how often each rule errs.

The triggers are functions of the record of daily excess returns, as they were written down: a
Sharpe ratio above 1.0 in three to six months of paper trading, and one below .8 for 30 days.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from conf.types import FloatArray
from experiments.statistics.sequential import DEMOTION, PROMOTION, first
from risk.metrics import SESSIONS_PER_YEAR, max_drawdown, sharpe_ratio

Draw = Callable[[np.random.Generator, int, int], FloatArray]  # (paths, T) of mean 0, deviation 1

_AT_ONCE = 500  # paths


def recent_sharpe(
    excess: FloatArray, window: int, sessions_per_year: float = SESSIONS_PER_YEAR
) -> FloatArray:
    """Annual Sharpe ratio of each `window` of the sessions (..., T), (..., T − window + 1)."""
    return sharpe_ratio(sliding_window_view(excess, window, axis=-1), 0.0, sessions_per_year)


def deepest_fall(returns: FloatArray) -> FloatArray:
    """The maximum drawdown (...) of the curve of returns (..., T)."""
    growth = np.cumprod(1.0 + returns, axis=-1)
    return max_drawdown(np.concatenate([np.ones_like(growth[..., :1]), growth], axis=-1))


def normal(rng: np.random.Generator, paths: int, sessions: int) -> FloatArray:
    """Independent normal returns."""
    return rng.standard_normal((paths, sessions))


@dataclass(frozen=True)
class AlarmRate:
    """How soon a rule acts on agents of one true Sharpe ratio."""

    rule: str
    sharpe: float
    year: float  # share of paths on which it has acted by then
    horizon: float
    median_years: float  # infinite where it acts on fewer than half


def alarm_rates(
    sharpes: Sequence[float], paths: int, years: int, seed: int, draw: Draw = normal
) -> list[AlarmRate]:
    """Every rule on simulated records: `paths` of so many `years` at each true Sharpe ratio.

    draw(rng, paths, T): daily returns of mean 0 and deviation 1.
    """
    sessions, rows = years * SESSIONS_PER_YEAR, []
    for sharpe in sharpes:
        rng = np.random.default_rng(seed)
        found: dict[str, list[FloatArray]] = {name: [] for name in RULES}
        for begin in range(0, paths, _AT_ONCE):
            size = min(_AT_ONCE, paths - begin)
            record = draw(rng, size, sessions) + sharpe / math.sqrt(SESSIONS_PER_YEAR)
            for name, rule in RULES.items():
                found[name].append(rule(record))
        for name, parts in found.items():
            at = np.concatenate(parts)
            year, horizon = (float((at <= last).mean()) for last in (SESSIONS_PER_YEAR, sessions))
            # The lower median: the mean of the middle two would be NaN between two infinities.
            median = float(np.sort(at)[(paths - 1) // 2]) / SESSIONS_PER_YEAR
            rows.append(AlarmRate(name, sharpe, year, horizon, median))
    return rows


def _passed(record: FloatArray, begin: int, stop: int) -> FloatArray:
    """The first session from `begin` to `stop` at which the Sharpe ratio so far exceeds 1."""
    passed = [sharpe_ratio(record[..., :t], 0.0) > 1.0 for t in range(begin, stop + 1)]
    return first(np.stack(passed, axis=-1)) + begin - 1


RULES: dict[str, Callable[[FloatArray], FloatArray]] = {
    "promotion: e-process": PROMOTION.first_alarm,
    "promotion: > 1 at six months": lambda record: _passed(record, 126, 126),
    "promotion: > 1 on a day of months 3 to 6": lambda record: _passed(record, 63, 126),
    "demotion: e-process": DEMOTION.first_alarm,
    # Two years are enough: by then it has acted on all.
    "demotion: < .8 for 30 days": lambda record: (
        first(recent_sharpe(record[:, :504], 30) < 0.8) + 29
    ),
}
