"""Implied-volatility surfaces: what volatility an option of any strike and maturity is priced at.

A surface is driven by a few numbers a session, its drivers, which use the past and the present of
the history only. `drivers` makes them, `vol` reads the surface off them:

    drivers = surface.drivers(history.implied_vol)                          # (P, T, D)
    vols = surface.vol(drivers[:, :, None, :], log_moneyness, tau_years)    # (P, T, M)
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, model_validator

from conf.errors import InputError
from conf.settings import settings
from conf.types import FloatArray
from envs.market.clock import DAYS_PER_YEAR
from envs.market.volatility_estimate import weighted_mean
from envs.options.black_scholes import in_blocks


@settings
class FlatSurface:
    """One volatility for every option, at all times or that of the session."""

    kind: Literal["flat"] = "flat"
    vol_annual: Annotated[float, Field(gt=0, lt=5)] | None = 0.20  # decimal; null: implied_vol

    def drivers(self, implied_vol: ArrayLike) -> FloatArray:
        """The volatility of each session, (P, T, 1), from implied vol (P, T), decimals."""
        level = _checked_level(implied_vol)[..., None]
        return level if self.vol_annual is None else np.full_like(level, self.vol_annual)

    def vol(self, drivers: ArrayLike, log_moneyness: ArrayLike, tau_years: ArrayLike) -> FloatArray:
        """Annual volatility, of the shape of the broadcast arguments."""
        return np.array(np.broadcast_arrays(_split(drivers, 1)[0], log_moneyness, tau_years)[0])

    def check_calendar(self, drivers: ArrayLike) -> None:
        """Nothing to check: total variance grows linearly with maturity."""
        _split(drivers, 1)


@settings
class AtmKnot:
    """At-the-money volatility at one maturity: constant + level·VIX + average·EMA(VIX)."""

    days: Annotated[float, Field(gt=0)]  # calendar days to expiry
    constant: float  # decimal
    level: float
    average: float


# Fitted to S&P 500 option surfaces: to three months of 1996-2018, beyond of 1996-2020.
_SP500_KNOTS = (
    AtmKnot(days=7.0, constant=-0.0182, level=1.0944, average=-0.1607),
    AtmKnot(days=30.0, constant=-0.0084, level=0.892, average=0.0428),
    AtmKnot(days=91.0, constant=0.0131, level=0.6754, average=0.1895),
    AtmKnot(days=182.0, constant=0.0296, level=0.529, average=0.282),
    AtmKnot(days=365.0, constant=0.0424, level=0.400, average=0.368),
)


@settings
class VixSurface:
    """An SSVI surface whose term structure follows VIX and its slow average.

        ATM(T) = a(T) + b(T)·VIX + c(T)·EMA(VIX),   θ = ATM²·T,   φ = η / (θ^γ (1+θ)^(1−γ))
        w(k) = θ/2·(1 + ρφk + √((φk + ρ)² + 1 − ρ²)),   σ = √(w/T),   k = ln(K/F)

    a, b and c are linear in T between the knots and constant outside them. Below `floor_days` the
    whole smile is that of `floor_days`, and ATM is never below `floor_vol`. The settings themselves
    exclude butterfly arbitrage; `check_calendar` tests the rest, which depends on the drivers.

    Reference: J. Gatheral and A. Jacquier, Arbitrage-free SVI volatility surfaces, Quantitative
    Finance 14 (2014), theorems 4.1 (calendar) and 4.2 (butterfly).
    """

    kind: Literal["vix"] = "vix"
    rho: Annotated[float, Field(gt=-1, lt=1)] = -0.518  # correlation of spot and volatility: skew
    eta: Annotated[float, Field(gt=0)] = 0.493  # curvature of the smile
    gamma: Annotated[float, Field(ge=0.5, lt=1)] = 0.601  # how fast it flattens with maturity
    average_half_life: Annotated[float, Field(gt=0)] = 126.0  # sessions
    floor_days: Annotated[float, Field(gt=0)] = 7.0  # calendar days
    floor_vol: Annotated[float, Field(ge=0, lt=1)] = 0.03  # annual decimal, at the money
    knots: Annotated[tuple[AtmKnot, ...], Field(min_length=1)] = _SP500_KNOTS

    @model_validator(mode="after")
    def _check(self) -> VixSurface:
        days = [knot.days for knot in self.knots]
        if any(later <= earlier for earlier, later in pairwise(days)):
            raise ValueError(f"knots at {days} days are not in increasing order")
        # θφ < η for every θ; θφ² falls with θ, so that the smallest θ decides.
        wing, least = 1.0 + abs(self.rho), self.least_variance
        if self.gamma > 0.5 and not least:
            raise ValueError(
                "gamma above 0.5 needs a floor_vol above 0: butterfly arbitrage returns as total "
                "variance goes to zero"
            )
        steepest = 1.0 / (1.0 + least)
        if self.gamma > 0.5:
            steepest *= (least / (1.0 + least)) ** (1.0 - 2.0 * self.gamma)
        most = min(4.0 / wing, (4.0 / (wing * steepest)) ** 0.5)
        if self.eta > most:
            raise ValueError(
                f"eta = {self.eta:g} with rho = {self.rho:g} and gamma = {self.gamma:g} allows "
                f"butterfly arbitrage at a total variance of {least:.2g}, the least there is; eta "
                f"must be at most {most:.6g}, or floor_vol higher"
            )
        return self

    @property
    def least_variance(self) -> float:
        """The smallest total variance at the money, where both floors hold."""
        return self.floor_vol**2 * self.floor_days / DAYS_PER_YEAR

    def drivers(self, implied_vol: ArrayLike) -> FloatArray:
        """VIX and its exponential moving average, (P, T, 2), from implied vol (P, T), decimals.

        The average weighs the past only, with weights that add up to one from the first session.
        Raises InputError where a volatility is missing or so low that the at-the-money term
        structure would not be positive.
        """
        level = _checked_level(implied_vol)
        average = weighted_mean(level, self.average_half_life)
        drivers = np.stack([level, average], axis=-1)
        complaint = "at-the-money volatility is not positive at every knot"
        floored = np.maximum(self._knot_vols(drivers), self.floor_vol)
        _refuse_unless_positive(drivers, floored, complaint)
        return drivers

    def vol(self, drivers: ArrayLike, log_moneyness: ArrayLike, tau_years: ArrayLike) -> FloatArray:
        """Annual volatility at log-moneyness k = ln(K/F) and time to expiry in years.

        `drivers[..., d]`, `log_moneyness` and `tau_years` broadcast; the result has their shape.
        """
        level, average = _split(drivers, 2)
        moneyness = np.asarray(log_moneyness, np.float64)
        tau = np.asarray(tau_years, np.float64)
        return in_blocks(self._smile, [level, average, moneyness, tau])[0]

    def check_calendar(self, drivers: ArrayLike) -> None:
        """Raise InputError for the first session whose total variance θ falls with maturity.

        For this φ that is the only way to calendar arbitrage. Between two knots ATM is linear, so
        dθ/dT = ATM·(ATM + 2T·dATM/dT) changes sign at most once: its ends decide. Where ATM is
        floored, θ grows.
        """
        drivers = np.asarray(drivers, np.float64)
        vols, tau = self._knot_vols(drivers), self._knot_years()
        slope = np.diff(vols, axis=-1) / np.diff(tau)
        vols = np.maximum(vols, self.floor_vol)
        growth = np.concatenate(
            [vols[..., :-1] + 2.0 * tau[:-1] * slope, vols[..., 1:] + 2.0 * tau[1:] * slope],
            axis=-1,
        )
        _refuse_unless_positive(drivers, growth, "total variance falls with maturity")

    def _smile(
        self, level: FloatArray, average: FloatArray, k: FloatArray, tau: FloatArray
    ) -> tuple[FloatArray]:
        tau = self._floored(tau)
        atm = np.maximum(self._atm(level, average, tau), self.floor_vol)
        theta = atm * atm * tau
        more = 1.0 + theta
        phi_k = self.eta * k / ((theta / more) ** self.gamma * more)
        root = np.sqrt(np.square(phi_k + self.rho) + (1.0 - self.rho**2))
        return (atm * np.sqrt(0.5 * (1.0 + self.rho * phi_k + root)),)

    def _atm(self, level: FloatArray, average: FloatArray, tau: FloatArray) -> FloatArray:
        years = self._knot_years()
        weights = np.array([(knot.constant, knot.level, knot.average) for knot in self.knots]).T
        constant, of_level, of_average = (np.interp(tau, years, row) for row in weights)
        return np.asarray(constant + of_level * level + of_average * average)

    def _floored(self, tau: FloatArray) -> FloatArray:
        return np.maximum(tau, self.floor_days / DAYS_PER_YEAR)

    def _knot_years(self) -> FloatArray:
        return np.array([knot.days for knot in self.knots]) / DAYS_PER_YEAR

    def _knot_vols(self, drivers: FloatArray) -> FloatArray:
        """At-the-money volatility at each knot, (..., knots)."""
        level, average = _split(drivers, 2)
        return self._atm(level[..., None], average[..., None], self._knot_years())


SurfaceSettings = Annotated[FlatSurface | VixSurface, Field(discriminator="kind")]


def _split(drivers: ArrayLike, count: int) -> list[FloatArray]:
    values = np.asarray(drivers, np.float64)
    if values.ndim == 0 or values.shape[-1] != count:
        raise InputError(
            f"surface drivers have shape {values.shape}, expected (..., {count})",
            "Make them with the same surface's drivers()",
        )
    return [values[..., column] for column in range(count)]


def _checked_level(implied_vol: ArrayLike) -> FloatArray:
    level = np.asarray(implied_vol, np.float64)
    if level.ndim != 2:
        raise InputError(f"implied_vol has shape {level.shape}, expected (paths, sessions)")
    drivers = level[..., None]
    _refuse_unless_positive(drivers, drivers, "implied volatility is not positive")
    return level


def _refuse_unless_positive(drivers: FloatArray, values: FloatArray, complaint: str) -> None:
    """Raise for the first session at which one of its finite values (..., T, n) is not > 0."""
    good = np.all((values > 0) & (values < np.inf), axis=-1)
    if good.all():
        return
    where = min(
        (tuple(int(i) for i in index) for index in np.argwhere(~good)), key=lambda i: i[::-1]
    )
    session = where[-1] if where else 0
    numbers = ", ".join(f"{value:.6g}" for value in np.atleast_1d(drivers[where]))
    raise InputError(
        f"{complaint} at session {session} (path {list(where[:-1])}): drivers {numbers}",
        "Correct the implied volatility there, or choose other surface settings",
    )
