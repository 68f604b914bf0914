"""The volatility at which a European option is worth its price.

Work in the total deviation s = σ√T of the out-of-the-money option of the same strike, as a share
b of its upper bound (a put beyond the forward mirrors a call). With x = −|ln(F/K)|:

    b(s) = N(d1) − e^(−x)·N(d2),   d1 = x/s + s/2,   d2 = d1 − s

b is convex up to s = √(−2x), where d1 = 0, and concave beyond. The root is sought in the logarithm
of b below that point and in that of 1 − b above it, which hold every digit of the smallest price.

Reference: P. Jäckel, Let's be rational, Wilmott 2015 (the normalisation and the split).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize.elementwise import find_root
from scipy.special import erfcx

from conf.errors import InputError
from conf.types import FloatArray
from envs.options.black_scholes import checked_arguments, in_blocks

_EPSILON = float(np.finfo(np.float64).eps)
_SQRT_HALF = np.sqrt(0.5)
_SMALLEST = 1e-300  # of a total deviation
_ARGUMENTS = ("price", "spot", "strike", "tau_years", "rate", "dividend_yield", "is_call")


def implied_volatility(
    price: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    tau_years: ArrayLike,
    rate: ArrayLike,
    dividend_yield: ArrayLike,
    is_call: ArrayLike,
    *,
    strict: bool = True,
) -> FloatArray:
    """Annual implied volatility, decimal, of the broadcast shape of the arguments.

    A volatility exists where the price lies strictly between the discounted intrinsic value of
    the forward and the discounted spot (call) or strike (put), and time is left. Elsewhere, where
    the price is NaN, and where an in-the-money price exceeds its intrinsic value by no more than
    rounding, no volatility is implied: InputError if `strict`, otherwise NaN (never 0).

    The error is about that of the price divided by vega. Deep in the money the time value drowns
    in the intrinsic value: invert the out-of-the-money option of the same strike instead.
    Raises InputError for any other argument that is missing or out of range.

    Examples:
        >>> print(implied_volatility(6.121, 100.0, 100.0, 0.5, 0.02, 0.0, True).round(3))
        0.2
    """
    arguments = checked_arguments(
        _ARGUMENTS, price, spot, strike, tau_years, rate, dividend_yield, is_call
    )
    vol, low, high = in_blocks(_invert, arguments, outputs=3)
    missing = np.isnan(vol)
    if strict and missing.any():
        where = tuple(int(i) for i in np.argwhere(missing)[0])
        value, tau = (np.broadcast_to(arguments[i], vol.shape)[where] for i in (0, 3))
        raise InputError(
            f"no volatility gives price {value:.12g} to option {list(where)} with {tau:.6g} years "
            f"left: it must lie between {low[where]:.12g} and {high[where]:.12g}",
            "Correct the price, or pass strict=False to get NaN there",
        )
    return vol


def _invert(*arguments: Any) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Volatility, or NaN, and the lowest and the highest price that has one."""
    price, spot, strike, tau, rate, dividend, is_call = arguments
    spot_now, strike_now = spot * np.exp(-dividend * tau), strike * np.exp(-rate * tau)
    log_forward = np.log(spot / strike) + (rate - dividend) * tau
    in_the_money = np.where(is_call, log_forward > 0, log_forward < 0)
    intrinsic = np.where(in_the_money, np.abs(spot_now - strike_now), 0.0)
    upper = np.minimum(spot_now, strike_now)
    rounding = np.where(in_the_money, 2.0 * _EPSILON * (upper + intrinsic), 0.0)
    time_value = price - intrinsic
    possible = (time_value > rounding) & (time_value < upper) & (tau > 0)
    vol = np.full(price.shape, np.nan)
    share = time_value[possible] / upper[possible]
    deviation = _total_deviation(-np.abs(log_forward[possible]), share)
    vol[possible] = deviation / np.sqrt(tau[possible])
    return vol, intrinsic, np.where(is_call, spot_now, strike_now)


def _total_deviation(x: FloatArray, share: FloatArray) -> FloatArray:
    """Solve b(s) = share for s > 0, given x ≤ 0 and 0 < share < 1."""
    turning = np.sqrt(-2.0 * x)
    above = share > 0.5 * (1.0 - erfcx(_SQRT_HALF * turning))
    target = np.where(above, np.log1p(-share), np.log(share))
    low = np.where(above, np.maximum(turning, _SMALLEST), _SMALLEST)
    # 1 − b at d1 = 9 is less than the spacing of doubles below 1: the root cannot lie beyond.
    high = np.where(above, 9.0 + np.sqrt(81.0 - 2.0 * x), turning)
    with np.errstate(divide="ignore", over="ignore"):
        arguments = (x, np.where(above, 1.0, -1.0), target)
        root = find_root(
            _log_error,
            (low, high),
            args=arguments,
            tolerances={"xatol": 0.0, "xrtol": 2.0**-50, "fatol": 0.0, "frtol": 0.0},
        )
    solution: FloatArray = root.x
    return solution


def _log_error(s: FloatArray, x: FloatArray, side: FloatArray, target: FloatArray) -> FloatArray:
    """Error of the logarithm at s; it rises with s.

    b below (side −1) and 1 − b above the turning point (side 1) have one form:
    e^(−d1²/2)/2·(erfcx(side·d1/√2) + side·erfcx(−d2/√2)).
    """
    h, t = x / s, 0.5 * s
    d1 = h + t
    scaled = erfcx(_SQRT_HALF * side * d1) + side * erfcx(_SQRT_HALF * (t - h))
    error: FloatArray = side * (target - (np.log(0.5 * scaled) - 0.5 * d1 * d1))
    return error
