"""Measures of a book and its market: turnover, cost, concentration, rank of implied volatility.

As in `risk.metrics`, the last axis is read and the others are kept, what is not defined is NaN,
and missing input raises InputError.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from risk.errors import InputError
from risk.metrics import SESSIONS_PER_YEAR, checked_series

FloatArray = NDArray[np.float64]


def turnover(traded_usd: ArrayLike, equity: ArrayLike) -> FloatArray:
    """Value traded a year (bought plus sold) as a multiple of equity: 1.0 is 100 % a year.

    traded_usd (..., T) ≥ 0 by session; equity (..., T + 1), of which each session's start counts.
    """
    return _share_of_equity_a_year("traded_usd", traded_usd, equity)


def cost_drag(cost_usd: ArrayLike, equity: ArrayLike) -> FloatArray:
    """Return a year that trading costs take away, decimal; shapes as in `turnover`."""
    return _share_of_equity_a_year("cost_usd", cost_usd, equity)


def concentration(position_usd: ArrayLike) -> FloatArray:
    """Herfindahl index Σw² of the shares w of gross value, over the last axis: 1/M .. 1.

    position_usd (..., M) is signed; a short weighs as much as a long. NaN with no position.
    """
    gross = np.abs(checked_series("position_usd", position_usd))
    total = gross.sum(axis=-1, keepdims=True)
    shares = np.full_like(gross, np.nan)
    np.divide(gross, total, out=shares, where=total > 0)
    return np.asarray(np.square(shares).sum(axis=-1), dtype=np.float64)


def iv_rank(implied_vol: ArrayLike) -> FloatArray:
    """Where the last implied volatility stands in the range of its window, 0 (lowest) to 1.

    (last − min) / (max − min) over the last axis, the window, of usually 252 sessions. NaN where
    the window never moves.
    """
    window = checked_series("implied_vol", implied_vol)
    low, high = window.min(axis=-1), window.max(axis=-1)
    rank = np.full(low.shape, np.nan)
    np.divide(window[..., -1] - low, high - low, out=rank, where=np.asarray(high > low))
    return rank


def _share_of_equity_a_year(name: str, values: ArrayLike, equity: ArrayLike) -> FloatArray:
    usd, curve = checked_series(name, values), checked_series("equity", equity)
    if usd.shape[-1] + 1 != curve.shape[-1]:
        raise InputError(
            f"{name} covers {usd.shape[-1]} sessions, equity has {curve.shape[-1]} values",
            "Give equity one value more: its start",
        )
    start = curve[..., :-1]
    if (usd < 0).any() or (start <= 0).any():
        raise InputError(
            f"{name} is negative or equity is not positive",
            f"Give {name} as amounts >= 0, and cut the curve at ruin",
        )
    return np.asarray((usd / start).mean(axis=-1) * SESSIONS_PER_YEAR, dtype=np.float64)
