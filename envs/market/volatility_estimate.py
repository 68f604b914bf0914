"""Implied volatility estimated from the index's own past, for sessions without a VIX.

    IV = 0.0384 + 0.3865 V90 + 0.6760 P7 + 0.3920 L5

with exponentially weighted means over the past and the present session, the subscript being the
half-life in sessions, all annualised by sqrt(252) and decimal:

    V90   root mean square of the close-to-close log returns
    P7    root mean square range, ln(high / low) / sqrt(4 ln 2)  (Parkinson 1980)
    L5    minus the mean log return: volatility rises after losses

The coefficients are a regression on VIX closes of 1999-2013.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from conf.types import FloatArray
from envs.market.history import VOL_ESTIMATED, VOL_OBSERVED, MarketHistory
from envs.market.indicators import recursive_filter
from risk.metrics import SESSIONS_PER_YEAR, sessions_per_year

CONSTANT = 0.0384
RETURN_WEIGHT, RETURN_HALF_LIFE = 0.3865, 90.0
RANGE_WEIGHT, RANGE_HALF_LIFE = 0.6760, 7.0
LOSS_WEIGHT, LOSS_HALF_LIFE = 0.3920, 5.0

# Half of the lowest VIX on record, so that a long calm rise cannot push the estimate to zero.
MIN_VOL_ANNUAL = 0.045


def estimate_implied_vol(
    high: ArrayLike,
    low: ArrayLike,
    close: ArrayLike,
    sessions_per_year: float = SESSIONS_PER_YEAR,
) -> FloatArray:
    """Estimated VIX / 100 at each close, (P, T) annual decimal, from sessions up to it.

    `high`, `low` and `close` are (P, T) positive index points. The first session has no return,
    so there the range stands in for V90 and L5 is 0. Never below MIN_VOL_ANNUAL.
    """
    prices = np.atleast_2d(np.asarray(close, np.float64))
    returns = np.diff(np.log(prices), axis=1)
    log_range = np.log(np.asarray(high, np.float64) / np.asarray(low, np.float64))
    range_variance = np.atleast_2d(log_range) ** 2 / (4.0 * np.log(2.0))
    ranges = np.sqrt(weighted_mean(range_variance, RANGE_HALF_LIFE))
    returns_rms, losses = ranges.copy(), np.zeros_like(ranges)
    returns_rms[:, 1:] = np.sqrt(weighted_mean(returns**2, RETURN_HALF_LIFE))
    losses[:, 1:] = -weighted_mean(returns, LOSS_HALF_LIFE)
    slopes = RETURN_WEIGHT * returns_rms + RANGE_WEIGHT * ranges + LOSS_WEIGHT * losses
    estimate: FloatArray = CONSTANT + slopes * np.sqrt(sessions_per_year)
    return np.maximum(estimate, MIN_VOL_ANNUAL)


def fill_implied_vol(
    observed: ArrayLike,
    high: ArrayLike,
    low: ArrayLike,
    close: ArrayLike,
    sessions_per_year: float = SESSIONS_PER_YEAR,
) -> tuple[FloatArray, NDArray[np.int8]]:
    """The observed volatility of one path, and the estimate where it is NaN.

    All arguments are (T,); `observed` is annual decimal. Returns the volatility (1, T) and its
    source (T,): VOL_OBSERVED or VOL_ESTIMATED.
    """
    given = np.asarray(observed, np.float64)
    known = np.isfinite(given)
    source = np.where(known, VOL_OBSERVED, VOL_ESTIMATED).astype(np.int8)
    return np.where(known, given, estimate_implied_vol(high, low, close, sessions_per_year)), source


def history_of_bars(
    name: str, bars: pd.DataFrame, rate: float | FloatArray, dividend_yield: float
) -> MarketHistory:
    """The history of daily bars by date; the rates are continuous annual decimals, (T,) or one.

    Columns open, high, low, close (index points), volume and vix (points; estimated where NaN).
    """
    names = ("open", "high", "low", "close", "volume", "vix")
    opening, high, low, close, volume, vix = (bars[name].to_numpy(np.float64) for name in names)
    dates = bars.index.to_numpy().astype("datetime64[D]")
    vol, source = fill_implied_vol(vix / 100.0, high, low, close, sessions_per_year(dates))
    return MarketHistory(
        name=name,
        dates=dates,
        open=opening,
        high=high,
        low=low,
        close=close,
        volume=volume,
        implied_vol=vol,
        implied_vol_source=source,
        rate=np.broadcast_to(rate, len(bars)),
        dividend_yield=np.full(len(bars), dividend_yield),
    )


def estimate_notices(history: MarketHistory) -> tuple[str, ...]:
    """One line if some implied volatilities are estimates, none otherwise."""
    estimated = int(np.count_nonzero(history.implied_vol_source == VOL_ESTIMATED))
    if not estimated:
        return ()
    return (
        f"{history.name}: implied volatility is estimated from the index's past on "
        f"{estimated:,} of {history.num_sessions:,} sessions",
    )


def weighted_mean(values: FloatArray, half_life: float) -> FloatArray:
    """Exponentially weighted mean of the past and the present, (P, T).

    Weights 0.5^(age / half_life) divided by their sum, so the first values are plain averages of
    what is there (pandas: ``ewm(halflife=..., adjust=True).mean()``).
    """
    decay = 0.5 ** (1.0 / half_life)
    total = recursive_filter(values, 1.0, decay, np.zeros((len(values), 1)))
    weight = recursive_filter(np.ones((1, values.shape[1])), 1.0, decay, np.zeros((1, 1)))
    return total / weight
