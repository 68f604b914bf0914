"""Geometric Brownian motion, and what every simulated index history is made of.

Variance runs by the clock of `envs.market.clock`, the same by which options are priced; drift,
interest and dividends run by calendar days / 365. The index drifts so that

    E[S(t)] = S(0) exp((drift - dividend_yield) t)

hence with drift = rate the index with its dividends reinvested, discounted at the rate, is a
martingale. The index trades without pause: a session opens at the previous close, and its high
and low are those of the path since then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from conf.errors import InputError
from conf.settings import settings
from conf.types import DateArray, FloatArray, IntArray
from envs.market.clock import CLOSED_DAY_WEIGHT, DAYS_PER_YEAR, VarianceClock
from envs.market.history import VOL_OBSERVED, MarketHistory
from envs.market.volatility_estimate import MIN_VOL_ANNUAL
from risk.metrics import sessions_per_year

# Implied volatility less what the model expects, decimal: what sellers of options are paid for.
VolPremium = Annotated[float, Field(gt=-1, lt=1)]


@settings
class GbmModel:
    """Geometric Brownian motion with one constant volatility, at which options are priced."""

    vol_annual: Annotated[float, Field(gt=0, lt=5)] = 0.20  # decimal
    vol_premium: VolPremium = 0.0


@dataclass(frozen=True)
class Scenario:
    """The dates, the number of paths and the constants that every model simulates with."""

    dates: DateArray  # (T,) sessions, strictly increasing
    num_paths: int  # P
    initial_price: float  # index points, the close of the first session on every path
    drift: float  # continuous annual decimal, dividends included; the rate for a fair market
    rate: float  # continuous annual decimal
    dividend_yield: float  # continuous annual decimal
    closed_day_weight: float = CLOSED_DAY_WEIGHT  # of variance

    def __post_init__(self) -> None:
        if len(self.dates) < 2 or self.num_paths < 1 or not self.initial_price > 0:
            raise InputError(
                f"cannot simulate {self.num_paths} paths of {len(self.dates)} sessions from "
                f"{self.initial_price}",
                "Ask for at least one path, two sessions and a positive price",
            )

    @property
    def days(self) -> IntArray:
        """Calendar days from each session to the next, (T-1,)."""
        return np.diff(self.dates.astype("datetime64[D]")).astype(np.int64)

    @property
    def clock(self) -> VarianceClock:
        """The clock of the variance, that of the history that is simulated."""
        return VarianceClock(self.closed_day_weight, sessions_per_year(self.dates))

    @property
    def units(self) -> FloatArray:
        """Units of the clock from each session to the next, (T-1,)."""
        return self.clock.units(self.dates[:-1], self.dates[1:])

    @property
    def variance_years(self) -> FloatArray:
        """Years of variance from each session to the next, (T-1,)."""
        return self.units / self.clock.units_per_year

    @property
    def variance_by_day(self) -> FloatArray:
        """Years of variance of each calendar day after the first session, (D,)."""
        first, last = self.dates[[0, -1]].astype("datetime64[D]")
        days = np.arange(first, last + np.timedelta64(1, "D"))
        return self.clock.years(days[:-1], days[1:])

    @property
    def growth(self) -> float:
        """Drift of the index itself, without its dividends; continuous annual decimal."""
        return self.drift - self.dividend_yield


def growth_of(past: MarketHistory) -> float:
    """Log growth of a real history of one path a calendar year."""
    years = float(past.days_to_next.sum()) / DAYS_PER_YEAR
    return float(np.log(past.close[0, -1] / past.close[0, 0])) / years


def shock_scale(past: MarketHistory) -> FloatArray:
    """What returns less their drift are divided by, (T-1,), to be shocks of a year of variance.

    The root of the years of variance of each step, as a share of which the clock sees it; adjusted
    so that the past keeps the variance that it had. Closings that nobody foresaw weigh as closed
    days here, for nothing was traded on them.
    """
    closed_days = past.days_to_next[:-1] - 1.0
    years = (1.0 + past.closed_day_weight * closed_days) / past.clock.units_per_year
    drift = growth_of(past) * past.days_to_next[:-1] / DAYS_PER_YEAR
    squares = np.square(np.diff(np.log(past.close[0])) - drift)
    variance = float(squares.sum() / years.sum())
    kept = float((squares / years).mean()) / variance if variance > 0.0 else 1.0
    return np.sqrt(years * kept)


def simulate_gbm(model: GbmModel, scenario: Scenario, rng: np.random.Generator) -> MarketHistory:
    """P paths; the closes are exact, and each high and low has its exact distribution."""
    variance = model.vol_annual**2 * scenario.variance_years
    shocks = rng.standard_normal((scenario.num_paths, len(variance))) * np.sqrt(variance)
    steps = scenario.growth * (scenario.days / DAYS_PER_YEAR) - variance / 2 + shocks
    vol = np.full((scenario.num_paths, len(scenario.dates)), model.vol_annual)
    vol = with_premium(vol, model.vol_premium)
    return history_of_steps("synthetic gbm", scenario, steps, variance, vol, rng)


def with_premium(vol: FloatArray, premium: float) -> FloatArray:
    """Implied volatility where options cost `premium` more than the model expects; decimals."""
    return vol if premium == 0.0 else np.maximum(vol + premium, MIN_VOL_ANNUAL)


def history_of_steps(
    name: str,
    scenario: Scenario,
    steps: FloatArray,
    variance: ArrayLike,
    vol: FloatArray,
    rng: np.random.Generator,
) -> MarketHistory:
    """The history of P paths whose log close moves by `steps` (P, T-1), Brownian in between.

    `variance` (P, T-1), or what broadcasts to it, is that of each step; `vol` is (P, T).
    """
    log_close = np.zeros(vol.shape)
    np.cumsum(steps, axis=1, out=log_close[:, 1:])
    log_high, log_low = log_close.copy(), log_close.copy()
    log_high[:, 1:], log_low[:, 1:] = bridge_extremes(
        log_close[:, :-1], log_close[:, 1:], variance, rng
    )
    return history_of_paths(name, scenario, log_close, log_high, log_low, vol)


def bridge_extremes(
    start: FloatArray, end: FloatArray, variance: ArrayLike, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Maximum and minimum of a Brownian bridge from `start` to `end`, of their shape.

    `variance` (broadcast) is that of the whole stretch. Inverse-transform sampling of
    P(max > m) = exp(-2 (m - start)(m - end) / variance); each extreme has its exact distribution,
    and the two are drawn independently of each other. (Glasserman, Monte Carlo Methods in Financial
    Engineering, 2003, section 6.4.)
    """
    centre, square = (start + end) / 2, (end - start) ** 2
    reach = [
        np.sqrt(square + 2.0 * np.asarray(variance) * rng.standard_exponential(start.shape)) / 2
        for _ in range(2)
    ]
    return centre + reach[0], centre - reach[1]


def history_of_paths(
    name: str,
    scenario: Scenario,
    log_close: FloatArray,
    log_high: FloatArray,
    log_low: FloatArray,
    vol: FloatArray,
    log_open: FloatArray | None = None,
) -> MarketHistory:
    """The history of P simulated paths; all arrays (P, T), logarithms relative to the first close.

    Sessions open at the close before unless `log_open` is given. Volume is 0 (there is none).
    """
    close = scenario.initial_price * np.exp(log_close)
    if log_open is None:
        opening = np.concatenate([close[:, :1], close[:, :-1]], axis=1)
    else:
        opening = scenario.initial_price * np.exp(log_open)
    # The maxima guard the last bit: exp is not monotone to the last digit.
    high = np.maximum(scenario.initial_price * np.exp(log_high), np.maximum(opening, close))
    low = np.minimum(scenario.initial_price * np.exp(log_low), np.minimum(opening, close))
    sessions = len(scenario.dates)
    return MarketHistory(
        name=name,
        dates=scenario.dates,
        open=opening,
        high=high,
        low=low,
        close=close,
        volume=np.zeros_like(close),
        implied_vol=vol,
        implied_vol_source=np.full(sessions, VOL_OBSERVED, np.int8),
        rate=np.full(sessions, scenario.rate),
        dividend_yield=np.full(sessions, scenario.dividend_yield),
        closed_day_weight=scenario.closed_day_weight,
    )
