"""What is known at the close of a session, from the past and the present only.

Seven features of an index, and the last return and the volatility of each asset of a panel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from conf.errors import InputError
from conf.types import FloatArray
from envs.market.history import MarketHistory
from envs.market.panel import PanelHistory
from risk.metrics import SESSIONS_PER_YEAR

# Sessions up to and including the first at which every market feature is defined.
WARMUP_SESSIONS = 50
VOLATILITY_WINDOW = 20


def recursive_filter(
    values: FloatArray, gain: float, decay: float, before: FloatArray
) -> FloatArray:
    """y[t] = gain x[t] + decay y[t-1] along axis 1 of (P, T), from y[-1] = `before` (P, 1)."""
    filtered = np.empty_like(values)
    state = before[:, 0]
    for session, value in enumerate(gain * values.T):
        state = filtered[:, session] = value + decay * state
    return filtered


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
            realised_volatility(returns, 20, history.sessions_per_year),
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


def realised_volatility(
    returns: FloatArray, window: int, sessions_per_year: float = SESSIONS_PER_YEAR
) -> FloatArray:
    """Annualised standard deviation (ddof=1) of the last `window` returns, (P, T)."""
    volatility = np.full_like(returns, np.nan)
    if returns.shape[1] >= window:
        windows = sliding_window_view(returns, window, axis=1)
        volatility[:, window - 1 :] = windows.std(axis=-1, ddof=1) * np.sqrt(sessions_per_year)
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
    return _recursive_average(values[:, :1], values[:, 1:], 2.0 / (span + 1.0))


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
        averages.append(_recursive_average(first, moves[:, window:], 1.0 / window))
    gain, loss = averages
    total = gain + loss
    share = np.divide(gain, total, out=np.full_like(gain, 0.5), where=total > 0)
    index[:, window:] = 100.0 * share
    return index


def macd_signal(close: FloatArray) -> FloatArray:
    """Signal line of the moving-average convergence divergence (12, 26, 9), index points."""
    macd = exponential_average(close, 12) - exponential_average(close, 26)
    return exponential_average(macd, 9)


def _recursive_average(first: FloatArray, later: FloatArray, alpha: float) -> FloatArray:
    """`first` (P, 1), then y[t] = y[t-1] + alpha (x[t] - y[t-1]) for `later` (P, T-1): (P, T)."""
    smoothed = recursive_filter(later, alpha, 1.0 - alpha, first)
    return np.concatenate([first, smoothed], axis=1)


@dataclass(frozen=True)
class PanelFeatures:
    """Features of every path, session and asset; NaN where there is not enough past."""

    returns: FloatArray  # (P, T, A) simple return from the close before
    volatility: FloatArray  # (P, T, A) annualised standard deviation of the last returns


def panel_warmup(window: int = VOLATILITY_WINDOW) -> int:
    """Sessions up to and including the first where every feature is defined.

    One more than the window: the first session has no return.
    """
    return window + 1


def panel_features(history: PanelHistory, window: int = VOLATILITY_WINDOW) -> PanelFeatures:
    """Last return, and annual volatility (ddof=1) over the last `window` returns.

    Defined from session `panel_warmup(window)` - 1 on. Raises InputError for a window under two.
    """
    if window < 2:
        raise InputError(
            f"a volatility over {window} returns is not defined", "Give a window of 2 or more"
        )
    returns = simple_returns(history.close)
    volatility = np.empty_like(returns)
    for path in range(history.num_paths):  # one at a time: the windows take `window` times as much
        # Side by side in memory, an asset's sums do not depend on what stands beside it.
        by_asset = np.ascontiguousarray(returns[path].T)
        volatility[path] = realised_volatility(by_asset, window, history.sessions_per_year).T
    return PanelFeatures(returns, volatility)
