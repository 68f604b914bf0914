"""An index whose volatility clusters: GJR-GARCH fitted to its past, real shocks drawn anew.

The law is that of `envs.market.models.garch` for a single asset. Its clock is the session, 252 a
year, so weekends carry no more risk than other nights. Implied volatility is the root of the mean
variance that the model expects over the next 30 days, and what the options of the past cost above
that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conf.types import FloatArray
from envs.market.history import MarketHistory
from envs.market.models.bridge import bridge_extremes
from envs.market.models.garch import (
    BURN_IN_SESSIONS,
    GarchFit,
    fit_garch,
    following_variance,
    garch_steps,
)
from envs.market.models.gbm import DAYS_PER_YEAR, Scenario, history_of_paths, with_premium
from envs.market.panel import PanelHistory
from risk.metrics import SESSIONS_PER_YEAR

MONTH_SESSIONS = 21  # of 30 calendar days


@dataclass(frozen=True)
class IndexGarch:
    """The fitted law of one index."""

    fit: GarchFit  # of one asset
    vol_premium: float  # implied volatility less what the model expects, decimal

    def expected_vol(self, following: FloatArray) -> FloatArray:
        """Root of the mean variance of the next 21 sessions, annual, where the next has h."""
        fit = self.fit
        falls = (fit.shocks[:, 0] ** 2 * (fit.shocks[:, 0] < 0)).mean()
        persistence = float(fit.alpha[0] + fit.gamma[0] * falls + fit.beta[0])
        # h ahead is affine in the next h: constant + slope h.
        constant, slope, constants, slopes = 0.0, 1.0, 0.0, 0.0
        for _ in range(MONTH_SESSIONS):
            constants, slopes = constants + constant, slopes + slope
            constant, slope = float(fit.omega[0]) + persistence * constant, persistence * slope
        mean = (constants + slopes * following) / MONTH_SESSIONS
        expected: FloatArray = np.sqrt(np.minimum(mean, fit.ceiling[0]) * SESSIONS_PER_YEAR)
        return expected


def fit_index_garch(past: MarketHistory) -> IndexGarch:
    """Fit to a history of one path, all of it; InputError where that is too short."""
    prices = past.close[:, :, None]
    panel = PanelHistory(past.name, ("the index",), past.dates, prices, past.rate)
    fit = fit_garch(panel, past.num_sessions)
    model = IndexGarch(fit, 0.0)
    interest = past.rate[:-1] * past.days_to_next[:-1] / DAYS_PER_YEAR
    surprises = np.diff(np.log(past.close[0])) - interest - fit.mean[0]
    variance, following = fit.variance, np.empty(len(surprises))
    for session, surprise in enumerate(surprises):
        variance = following_variance(fit, np.array([surprise]), variance)
        following[session] = variance[0]
    expected = model.expected_vol(following)
    return IndexGarch(fit, float((past.implied_vol[0, 1:] - expected).mean()))


def simulate_index_garch(
    model: IndexGarch, scenario: Scenario, rng: np.random.Generator
) -> MarketHistory:
    """P paths, each burnt in first; the drift is the past's, `scenario.drift` is not read."""
    fit, steps = model.fit, len(scenario.days)
    shape = (scenario.num_paths, BURN_IN_SESSIONS + steps)
    drawn = rng.integers(0, len(fit.shocks), shape)
    shock = np.empty((scenario.num_paths, steps))
    # h at each close is that of the session to come.
    ahead = np.empty((scenario.num_paths, steps + 1))
    for step, (moved, following) in enumerate(garch_steps(fit, drawn), start=1 - BURN_IN_SESSIONS):
        if step >= 0:
            ahead[:, step] = following[:, 0]
        if step > 0:
            shock[:, step - 1] = moved[:, 0]
    interest = scenario.rate * scenario.days / DAYS_PER_YEAR
    log_close = np.zeros_like(ahead)
    np.cumsum(shock + fit.mean[0] + interest, axis=1, out=log_close[:, 1:])
    log_high, log_low = log_close.copy(), log_close.copy()
    extremes = bridge_extremes(log_close[:, :-1], log_close[:, 1:], ahead[:, :-1], rng)
    log_high[:, 1:], log_low[:, 1:] = extremes
    vol = with_premium(model.expected_vol(ahead), model.vol_premium)
    return history_of_paths("synthetic garch", scenario, log_close, log_high, log_low, vol)
