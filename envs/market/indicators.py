"""The seven market features, each computed from the past and present only."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from conf.types import FloatArray
from envs.market.history import MarketHistory
from risk.metrics import SESSIONS_PER_YEAR


def recursive_filter(
    values: FloatArray, gain: float, decay: float, before: FloatArray
) -> FloatArray:
    """y[t] = gain x[t] + decay y[t-1] along axis 1 of (P, T), from y[-1] = `before` (P, 1)."""
    filtered = np.empty_like(values)
    state = before[:, 0]
    for session, value in enumerate(gain * values.T):
        state = filtered[:, session] = value + decay * state
    return filtered


# Sessions that must lie behind a session before every feature is defined there.
WARMUP_SESSIONS = 50

MARKET_FEATURES = (
    "log_price",
    "return",
    "volatility_20d",
    "volume_ratio",
    "high_low_range",
    "rsi_14",
    "macd_signal",
)


def market_features(history: MarketHistory) -> FloatArray:
    """Unscaled market features, (P, T, 7) in the order of MARKET_FEATURES.

    log_price: natural log of the close (the environment subtracts the episode's first);
    return: simple, from the previous close; volatility_20d: annualised standard deviation of the
    last 20 returns (ddof=1); volume_ratio: volume over its mean of the last 50 sessions;
    high_low_range: (high - low) / close; rsi_14: Wilder's index in [0, 1]; macd_signal: 9-session
    EMA of (EMA12 - EMA26) over the close. NaN where there is not enough past; everything is
    defined from session WARMUP_SESSIONS - 1 on.
    """
    close = history.close
    returns = simple_returns(close)
    features = np.stack(
        [
            np.log(close),
            returns,
            realised_volatility(returns, window=20),
            volume_ratio(history.volume, window=WARMUP_SESSIONS),
            (history.high - history.low) / close,
            relative_strength_index(close, window=14) / 100.0,
            macd_signal(close) / close,
        ],
        axis=-1,
    )
    return np.ascontiguousarray(features)


def simple_returns(close: FloatArray) -> FloatArray:
    """Return of each session from the close before it, (P, T); NaN at the first."""
    returns = np.full_like(close, np.nan)
    returns[:, 1:] = close[:, 1:] / close[:, :-1] - 1.0
    return returns


def realised_volatility(returns: FloatArray, window: int) -> FloatArray:
    """Annualised standard deviation (ddof=1) of the last `window` returns, (P, T)."""
    volatility = np.full_like(returns, np.nan)
    if returns.shape[1] >= window:
        windows = sliding_window_view(returns, window, axis=1)
        volatility[:, window - 1 :] = windows.std(axis=-1, ddof=1) * np.sqrt(SESSIONS_PER_YEAR)
    return volatility


def volume_ratio(volume: FloatArray, window: int) -> FloatArray:
    """Volume over its trailing mean, (P, T).

    A volume of 0 is a gap in the data and takes the last known volume; where none is known yet
    (or the index has no volume at all) the ratio is 1.
    """
    known = np.where(volume > 0, np.arange(volume.shape[1]), -1)
    last_known = np.maximum.accumulate(known, axis=1)
    filled = np.take_along_axis(volume, np.maximum(last_known, 0), axis=1)
    filled = np.where(last_known >= 0, filled, np.nan)
    ratio = np.full_like(volume, np.nan)
    if volume.shape[1] >= window:
        windows = sliding_window_view(filled, window, axis=1)
        counted = np.isfinite(windows).sum(axis=-1)
        total = np.nansum(windows, axis=-1)
        mean = np.where(counted > 0, total / np.maximum(counted, 1), np.nan)
        current = filled[:, window - 1 :]
        ratio[:, window - 1 :] = np.where(np.isfinite(current), current / mean, 1.0)
    return ratio


def exponential_average(values: FloatArray, span: float) -> FloatArray:
    """Recursive exponential average with weight 2/(span+1), started at the first value, (P, T)."""
    alpha = 2.0 / (span + 1.0)
    return _recursive_average(values, alpha, values[:, :1])


def relative_strength_index(close: FloatArray, window: int) -> FloatArray:
    """Wilder's relative strength index, 0..100, (P, T); 50 where nothing moved.

    Average gain and loss start as simple means of the first `window` changes and are then
    smoothed with weight 1/window. J. W. Wilder, New Concepts in Technical Trading Systems (1978).
    """
    index = np.full_like(close, np.nan)
    if close.shape[1] <= window:
        return index
    change = np.diff(close, axis=1)
    averages = []
    for moves in (np.maximum(change, 0.0), np.maximum(-change, 0.0)):
        first = moves[:, :window].mean(axis=1, keepdims=True)
        later = _recursive_average(moves[:, window:], 1.0 / window, first, include_first=True)
        averages.append(later)
    gain, loss = averages
    total = gain + loss
    share = np.divide(gain, total, out=np.full_like(gain, 0.5), where=total > 0)
    index[:, window:] = 100.0 * share
    return index


def macd_signal(close: FloatArray) -> FloatArray:
    """Signal line of the moving-average convergence divergence (12, 26, 9), index points."""
    macd = exponential_average(close, 12) - exponential_average(close, 26)
    return exponential_average(macd, 9)


def _recursive_average(
    values: FloatArray, alpha: float, first: FloatArray, *, include_first: bool = False
) -> FloatArray:
    """y[t] = y[t-1] + alpha (x[t] - y[t-1]), from y = first.

    With `include_first` the result has `first` put before the smoothed values.
    """
    body = values if include_first else values[:, 1:]
    smoothed = recursive_filter(body, alpha, 1.0 - alpha, first)
    return np.concatenate([first, smoothed], axis=1)
