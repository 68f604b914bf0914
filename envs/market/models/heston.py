"""The Heston (1993) stochastic-volatility model, simulated by Andersen's quadratic-exponential.

    dS/S = growth dt + sqrt(v) dW,   dv = kappa (theta - v) dt + xi sqrt(v) dZ,   dW dZ = rho dt

L. Andersen, Simple and efficient simulation of the Heston stochastic volatility model, Journal of
Computational Finance 11 (2008): the QE scheme with martingale correction, so that the simulated
index grows at exactly its rate whatever the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from conf.settings import settings
from conf.types import FloatArray, IntArray
from envs.market.clock import DAYS_PER_YEAR
from envs.market.history import MarketHistory
from envs.market.models.gbm import (
    Scenario,
    VolPremium,
    bridge_extremes,
    history_of_paths,
    with_premium,
)

VIX_DAYS = 30.0
# Above this ratio of variance to squared mean the quadratic form cannot match both moments.
_PSI_SWITCH = 1.5


@settings
class HestonModel:
    """Parameters a year; the defaults are those of the COS-method literature.

    Correlation is limited to falling markets raising volatility, where the scheme's martingale
    correction always exists.
    """

    # v(0), annual; None: each path's is drawn from the long run, a gamma distribution.
    initial_variance: Annotated[float, Field(ge=0, lt=25)] | None = 0.0175
    long_run_variance: Annotated[float, Field(gt=0, lt=25)] = 0.0398  # theta, annual
    mean_reversion: Annotated[float, Field(gt=0, le=100)] = 1.5768  # kappa, per year
    vol_of_vol: Annotated[float, Field(ge=0.01, le=10)] = 0.5751  # xi, per year
    correlation: Annotated[float, Field(ge=-1, le=0)] = -0.5711  # rho
    vol_premium: VolPremium = 0.0

    def expected_variance(self, variance: FloatArray, tau_years: float) -> FloatArray:
        """Mean annual variance expected over the next `tau_years`, of the shape of `variance`."""
        pull = self.mean_reversion * tau_years
        weight = -np.expm1(-pull) / pull
        expected: FloatArray = self.long_run_variance + weight * (variance - self.long_run_variance)
        return expected

    def first_variances(self, num_paths: int, rng: np.random.Generator) -> FloatArray:
        """Annual variance at the first close of each path, (P,)."""
        if self.initial_variance is not None:
            return np.full(num_paths, self.initial_variance)
        scale = self.vol_of_vol**2 / (2.0 * self.mean_reversion)
        return rng.gamma(self.long_run_variance / scale, scale, num_paths)


def simulate_heston(
    model: HestonModel, scenario: Scenario, rng: np.random.Generator
) -> MarketHistory:
    """P paths of T sessions, their implied volatility that of `heston_paths` and the premium."""
    log_close, log_high, log_low, vol = heston_paths(
        model,
        scenario.days,
        scenario.variance_by_day,
        scenario.num_paths,
        scenario.growth / DAYS_PER_YEAR,
        rng,
    )
    vol = with_premium(vol, model.vol_premium)
    return history_of_paths("synthetic heston", scenario, log_close, log_high, log_low, vol)


def heston_paths(
    model: HestonModel,
    days: IntArray,
    variance_years: FloatArray,
    num_paths: int,
    growth: float,
    rng: np.random.Generator,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Log close, high and low relative to the first close, and the 30-day volatility; all (P, T).

    `days` (T-1,) whole calendar days between sessions, each simulated on its own over its
    `variance_years` (D,); `growth` continuous drift of the index a calendar day; volatility annual
    decimal, the root of the expected variance of the next 30 days. Extremes are those of a Brownian
    bridge within each day.
    """
    each_day = variance_years.tolist()
    steps = {years: _QuadraticExponential.of(model, years) for years in set(each_day) if years}
    shape = (num_paths, len(days) + 1)
    log_close, log_high, log_low = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    variances = np.empty(shape)
    variances[:, 0] = model.first_variances(num_paths, rng)
    price, variance = np.zeros(num_paths), variances[:, 0].copy()
    day = 0
    for session, gap in enumerate(days.tolist(), start=1):
        high, low = price, price
        for years in each_day[day : day + gap]:
            before, start = variance, price
            price = start + growth
            if years:  # a closed day may have no variance at all
                variance, moved = steps[years].advance(before, rng)
                price = price + moved
            passed = (before + variance) / 2 * years
            day_high, day_low = bridge_extremes(start, price, passed, rng)
            high, low = np.maximum(high, day_high), np.minimum(low, day_low)
        day += gap
        log_close[:, session], variances[:, session] = price, variance
        log_high[:, session], log_low[:, session] = high, low
    vol = np.sqrt(model.expected_variance(variances, VIX_DAYS / DAYS_PER_YEAR))
    return log_close, log_high, log_low, vol


@dataclass(frozen=True)
class _QuadraticExponential:
    """One step of fixed length; the names are those of Andersen's paper."""

    theta: float
    decay: float  # exp(-kappa dt)
    spread_level: float  # coefficient of v in the conditional variance
    spread_constant: float
    k1: float
    k2: float
    k3: float  # and k4, which is the same for a central discretisation

    @classmethod
    def of(cls, model: HestonModel, dt: float) -> _QuadraticExponential:
        kappa, theta = model.mean_reversion, model.long_run_variance
        xi, rho = model.vol_of_vol, model.correlation
        decay = float(np.exp(-kappa * dt))
        half = dt / 2 * (kappa * rho / xi - 0.5)
        return cls(
            theta=theta,
            decay=decay,
            spread_level=xi * xi * decay / kappa * (1.0 - decay),
            spread_constant=theta * xi * xi / (2.0 * kappa) * (1.0 - decay) ** 2,
            k1=half - rho / xi,
            k2=half + rho / xi,
            k3=dt / 2 * (1.0 - rho * rho),
        )

    def advance(
        self, variance: FloatArray, rng: np.random.Generator
    ) -> tuple[FloatArray, FloatArray]:
        """The next variance and the log return without growth, both (P,)."""
        mean = self.theta + (variance - self.theta) * self.decay
        psi = (variance * self.spread_level + self.spread_constant) / mean**2
        normal, uniform = rng.standard_normal(variance.shape), rng.random(variance.shape)
        shock = rng.standard_normal(variance.shape)
        tilt = self.k2 + self.k3 / 2

        inverse = 2.0 / np.minimum(psi, _PSI_SWITCH)
        b_square = inverse - 1.0 + np.sqrt(inverse * (inverse - 1.0))
        a = mean / (1.0 + b_square)
        quadratic = a * (np.sqrt(b_square) + normal) ** 2
        quadratic_log = tilt * b_square * a / (1.0 - 2 * tilt * a) - 0.5 * np.log1p(-2 * tilt * a)

        ratio = np.maximum(psi, _PSI_SWITCH)
        at_zero = (ratio - 1.0) / (ratio + 1.0)
        beta = (1.0 - at_zero) / mean
        survives = uniform > at_zero
        tail = np.log((1.0 - at_zero) / np.where(survives, 1.0 - uniform, 1.0)) / beta
        exponential = np.where(survives, tail, 0.0)
        exponential_log = np.log(at_zero + beta * (1.0 - at_zero) / (beta - tilt))

        calm = psi <= _PSI_SWITCH
        following = np.where(calm, quadratic, exponential)
        # E[exp(tilt * following)] in closed form is what keeps the index a martingale.
        correction = -np.where(calm, quadratic_log, exponential_log)
        correction -= (self.k1 + self.k3 / 2) * variance
        noise = np.sqrt(self.k3 * variance + self.k3 * following) * shock
        return following, correction + self.k1 * variance + self.k2 * following + noise
