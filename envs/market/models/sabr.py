"""The SABR model: volatility wanders without a level to return to, and moves with the index.

    dF/F = s (F / F0)^(beta - 1) dW,   ds = nu s dZ,   dW dZ = rho dt

for the forward F of the index. P. Hagan, D. Kumar, A. Lesniewski and D. Woodward, Managing smile
risk, Wilmott Magazine (September 2002), whose alpha is s F0^(1 - beta). Volatility is a lognormal
martingale, so the model is one for months: in decades it nears 0 on most paths.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from conf.settings import settings
from conf.types import FloatArray
from envs.market.clock import DAYS_PER_YEAR
from envs.market.history import MarketHistory
from envs.market.models.gbm import Scenario, VolPremium, history_of_steps, with_premium
from envs.market.models.heston import VIX_DAYS
from envs.market.volatility_estimate import MIN_VOL_ANNUAL

# With beta < 1 the index can near 0, where its relative volatility has no bound.
MAX_VOL_ANNUAL = 5.0


@settings
class SabrModel:
    """Parameters a year; the defaults are those of Cao, Chen, Hull and Poulos (2021)."""

    vol_annual: Annotated[float, Field(gt=0, lt=5)] = 0.20  # s(0), decimal
    beta: Annotated[float, Field(ge=0, le=1)] = 1.0  # 1: lognormal; 0: normal
    vol_of_vol: Annotated[float, Field(ge=0.01, le=5)] = 0.6  # nu
    correlation: Annotated[float, Field(ge=-1, le=1)] = -0.4  # rho
    vol_premium: VolPremium = 0.0

    def at_the_money_vol(self, vol: FloatArray, tau_years: float) -> FloatArray:
        """Hagan's implied volatility of a strike at the forward, where the index has `vol` now.

        Of the shape of `vol`, which is that of the index, s (F / F0)^(beta - 1).
        """
        beta, nu, rho = self.beta, self.vol_of_vol, self.correlation
        growth = (1.0 - beta) ** 2 / 24.0 * vol * vol + rho * beta * nu / 4.0 * vol
        growth = growth + (2.0 - 3.0 * rho * rho) / 24.0 * nu * nu
        implied: FloatArray = vol * (1.0 + growth * tau_years)
        return implied


def simulate_sabr(model: SabrModel, scenario: Scenario, rng: np.random.Generator) -> MarketHistory:
    """P paths, priced at Hagan's at-the-money volatility of 30 days and the premium."""
    log_forward, vol = sabr_paths(model, scenario.variance_years, scenario.num_paths, rng)
    steps = np.diff(log_forward, axis=1) + scenario.growth * (scenario.days / DAYS_PER_YEAR)
    variance = np.square(vol[:, :-1]) * scenario.variance_years
    quoted = model.at_the_money_vol(vol, VIX_DAYS / DAYS_PER_YEAR)
    quoted = with_premium(np.maximum(quoted, MIN_VOL_ANNUAL), model.vol_premium)
    return history_of_steps("synthetic sabr", scenario, steps, variance, quoted, rng)


def sabr_paths(
    model: SabrModel, variance_years: FloatArray, num_paths: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Log of the forward over the first, and the index's volatility at each close; both (P, T).

    `variance_years` (T-1,) is the length of each step. s is exact; the forward moves at the
    volatility that the step begins with, which keeps it a martingale whatever the step.
    """
    shape = (num_paths, len(variance_years) + 1)
    log_forward, vol = np.zeros(shape), np.full(shape, model.vol_annual)
    log_s = np.full(num_paths, np.log(model.vol_annual))
    nu, rho = model.vol_of_vol, model.correlation
    for step, years in enumerate(variance_years.tolist()):
        of_vol, own = rng.standard_normal((2, num_paths)) * np.sqrt(years)
        shock = rho * of_vol + np.sqrt(1.0 - rho * rho) * own
        now = vol[:, step]
        log_forward[:, step + 1] = log_forward[:, step] + now * shock - now * now * years / 2.0
        log_s = log_s + nu * of_vol - nu * nu * years / 2.0
        following = log_s + (model.beta - 1.0) * log_forward[:, step + 1]
        vol[:, step + 1] = np.exp(np.minimum(following, np.log(MAX_VOL_ANNUAL)))
    return log_forward, vol
