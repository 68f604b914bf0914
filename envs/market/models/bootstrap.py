"""A stationary block bootstrap of an index: its past days in another order.

A simulated session is one real session as a whole: its return, its range and the implied volatility
at its close stay together. A session after closed days has their variance too, by the clock of
`envs.market.clock`: what was drawn is scaled by the root of the variance then and now. Sessions
follow each other as they did, in blocks of random length, so clustering and the link between falls
and volatility stay as far as blocks reach. Where one block ends and another begins the volatility
jumps without a return that explains it.

D. Politis and J. Romano, The stationary bootstrap, Journal of the American Statistical Association
89 (1994); block length after D. Politis and H. White (2004), see `risk.bootstrap`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conf.errors import InputError
from conf.types import FloatArray
from envs.market.clock import DAYS_PER_YEAR
from envs.market.history import MarketHistory, readonly
from envs.market.models.gbm import Scenario, growth_of, history_of_paths, shock_scale
from risk.bootstrap import mean_block_length, stationary_indices

MIN_POOL_SESSIONS = 252


@dataclass(frozen=True)
class DayPool:
    """D sessions to draw from.

    Logarithms are relative to the close before, less the drift and for one year of variance.
    """

    close: FloatArray  # (D,) log return
    open: FloatArray  # (D,)
    high: FloatArray  # (D,)
    low: FloatArray  # (D,)
    implied_vol: FloatArray  # (D,) at the close, annual decimal
    mean_block: float  # sessions
    growth: float  # of the logarithm a calendar year

    def __post_init__(self) -> None:
        for name in ("close", "open", "high", "low", "implied_vol"):
            object.__setattr__(self, name, readonly(np.asarray(getattr(self, name), np.float64)))


def pool_days(past: MarketHistory, mean_block: float | None = None) -> DayPool:
    """Every session of a history of one path but the first, before which nothing is known.

    `mean_block` in sessions is estimated from returns and their squares unless given. Raises
    InputError where there are too few sessions.
    """
    if past.num_paths != 1 or past.num_sessions <= MIN_POOL_SESSIONS:
        raise InputError(
            f"{past.name} has {past.num_paths} path(s) of {past.num_sessions} sessions to draw "
            "from",
            f"Give one path of more than {MIN_POOL_SESSIONS} sessions",
        )
    growth, scale = growth_of(past), shock_scale(past)
    before = np.log(past.close[0, :-1]) + growth * past.days_to_next[:-1] / DAYS_PER_YEAR
    moved = {
        name: (np.log(getattr(past, name)[0, 1:]) - before) / scale
        for name in ("close", "open", "high", "low")
    }
    if mean_block is None:
        returns = moved["close"]
        squares = np.square(returns - returns.mean())
        mean_block = mean_block_length(np.stack([returns, squares]))
    implied_vol = past.implied_vol[0, 1:]
    return DayPool(**moved, implied_vol=implied_vol, mean_block=mean_block, growth=growth)


def simulate_bootstrap(
    pool: DayPool, scenario: Scenario, rng: np.random.Generator
) -> MarketHistory:
    """P paths; the drift is that of the past, `scenario.drift` is not read."""
    sessions = len(scenario.dates)
    drawn = stationary_indices(
        len(pool.close), pool.mean_block, scenario.num_paths, rng, length=sessions
    )
    log_close, high, low, opening = np.zeros((4, *drawn.shape))
    later, scale = drawn[:, 1:], np.sqrt(scenario.variance_years)
    drift = pool.growth * scenario.days / DAYS_PER_YEAR
    np.cumsum(drift + pool.close[later] * scale, axis=1, out=log_close[:, 1:])
    for bar, moved in ((high, pool.high), (low, pool.low), (opening, pool.open)):
        bar[:, 1:] = log_close[:, :-1] + drift + moved[later] * scale
    vol = pool.implied_vol[drawn]
    return history_of_paths("synthetic bootstrap", scenario, log_close, high, low, vol, opening)
