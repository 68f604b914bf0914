"""European option prices and Greeks in the Black–Scholes–Merton model.

Everything is vectorised: arguments broadcast against each other, results are float64 arrays of
the broadcast shape. A result depends only on its own contract, never on what it is priced with.

    d1 = (ln(S/K) + (r − q + σ²/2)·T) / (σ√T),   d2 = d1 − σ√T,   s = +1 call, −1 put
    price = s·(S·e^(−qT)·N(s·d1) − K·e^(−rT)·N(s·d2))

Reference: J. Hull, Options, Futures, and Other Derivatives, chapters 15, 17 and 19.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from conf.errors import InputError
from conf.types import FloatArray

_BLOCK = 8192  # elements: twenty temporaries of 64 KiB
_CONTRACT = ("spot", "strike", "tau_years", "vol_annual", "rate", "dividend_yield", "is_call")
# The comparison that every value must pass, its bound, and both as the error words them.
_BOUNDS: dict[str, tuple[Any, float, str]] = {
    "spot": (np.greater, 0.0, " > 0"),
    "strike": (np.greater, 0.0, " > 0"),
    "tau_years": (np.greater_equal, 0.0, " >= 0"),
    "vol_annual": (np.greater_equal, 0.0, " >= 0"),
    "rate": (np.greater, -np.inf, ""),
    "dividend_yield": (np.greater, -np.inf, ""),
}


def checked_arguments(names: Sequence[str], *values: ArrayLike) -> list[NDArray[Any]]:
    """The named values as arrays: `is_call` boolean, all others float64.

    Raises InputError that names the first value that is missing, infinite or out of range
    (spot, strike > 0; tau_years, vol_annual ≥ 0), or the shapes where they do not broadcast.
    `price` may be anything: whether it is possible depends on the rest.
    """
    arrays = [_checked(name, value) for name, value in zip(names, values, strict=True)]
    try:
        np.broadcast_shapes(*(array.shape for array in arrays))
    except ValueError:
        shapes = (f"{name} {array.shape}" for name, array in zip(names, arrays, strict=True))
        raise InputError(
            f"option arguments do not broadcast: {', '.join(shapes)}",
            "Give arrays of equal shape, or with axes of length 1",
        ) from None
    return arrays


def _checked(name: str, value: ArrayLike) -> NDArray[Any]:
    if name == "is_call":
        flags = np.asarray(value)
        if flags.dtype != np.bool_:
            raise InputError(
                f"option argument is_call has type {flags.dtype}, expected booleans",
                "Pass True for calls and False for puts",
            )
        return flags
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"option argument {name} is not an array of numbers") from None
    if name in _BOUNDS and numbers.size:
        _check_range(name, numbers)
    return numbers


def _check_range(name: str, numbers: FloatArray) -> None:
    compare, bound, words = _BOUNDS[name]
    # A NaN anywhere makes both extremes NaN, and no comparison with NaN holds.
    if numbers.max() < np.inf and compare(numbers.min(), bound):
        return
    good = np.isfinite(numbers) & compare(numbers, bound)
    where = tuple(int(i) for i in np.argwhere(~good)[0])
    raise InputError(
        f"option argument {name}{list(where) or ''} is {numbers[where]}",
        f"Give a finite number{words}",
    )


def in_blocks(
    formula: Callable[..., Sequence[FloatArray]], inputs: Sequence[NDArray[Any]], outputs: int = 1
) -> tuple[FloatArray, ...]:
    """Apply an elementwise `formula` to arrays that broadcast, in pieces that the cache holds.

    A formula of thirty operations on millions of elements would spend most of its time moving
    temporaries through memory; in pieces of a few thousand they never leave the cache.
    `formula` gets one contiguous vector for each input, in its own dtype, and returns `outputs`
    vectors. Returns as many float64 arrays of the broadcast shape.
    """
    count = len(inputs)
    # NumPy's type stubs lack the "contig" flag. It makes every piece contiguous, so that a value
    # does not depend on the memory layout that it came in: strided loops may round differently.
    nditer: Any = np.nditer
    with nditer(
        [*inputs, *[None] * outputs],
        flags=["external_loop", "buffered", "zerosize_ok"],
        op_flags=[["readonly", "contig"]] * count + [["writeonly", "allocate", "contig"]] * outputs,
        op_dtypes=[values.dtype for values in inputs] + [np.dtype(np.float64)] * outputs,
        buffersize=_BLOCK,
        order="C",
    ) as pieces:
        results: tuple[FloatArray, ...] = tuple(pieces.operands[count:])
        for piece in pieces:
            for out, values in zip(piece[count:], formula(*piece[:count]), strict=True):
                out[...] = values
    return results


# Below this standard deviation nothing is uncertain; (700 / it)² is still a finite number.
_MIN_DEVIATION = 1e-150
_INV_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)


class PriceAndGreeks(NamedTuple):
    """Value of an option and its first-order sensitivities, each of the same shape."""

    price: FloatArray  # index points
    delta: FloatArray  # per index point of spot
    gamma: FloatArray  # change of delta per index point of spot
    theta: FloatArray  # points per YEAR that passes (negative: the option decays)
    vega: FloatArray  # points per 1.00 of annual volatility
    rho: FloatArray  # points per 1.00 of the annual rate


def price(
    spot: ArrayLike,
    strike: ArrayLike,
    tau_years: ArrayLike,
    vol_annual: ArrayLike,
    rate: ArrayLike,
    dividend_yield: ArrayLike,
    is_call: ArrayLike,
) -> FloatArray:
    """Prices in index points, of the broadcast shape; arguments as in `price_and_greeks`.

    Examples:
        >>> print(price(100.0, 100.0, 0.5, 0.2, 0.02, 0.0, True).round(3))
        6.121
    """
    contract = checked_arguments(
        _CONTRACT, spot, strike, tau_years, vol_annual, rate, dividend_yield, is_call
    )
    return in_blocks(_price_formula, contract)[0]


def price_and_greeks(
    spot: ArrayLike,
    strike: ArrayLike,
    tau_years: ArrayLike,
    vol_annual: ArrayLike,
    rate: ArrayLike,
    dividend_yield: ArrayLike,
    is_call: ArrayLike,
) -> PriceAndGreeks:
    """Price European options and their Greeks.

    Spot and strike are positive index points, `tau_years` ≥ 0 the time to expiry, `vol_annual`
    ≥ 0 and the continuous `rate` and `dividend_yield` annual decimals, `is_call` booleans.

    Without time or volatility left the price is exactly the discounted intrinsic value of the
    forward, delta is that of a step (one half at the step), and gamma and the decay of time value
    are 0, also at the strike itself, where mathematically they are infinite.

    Raises InputError that names the first value that is missing or out of range.

    Examples:
        >>> call = price_and_greeks(100.0, [90.0, 110.0], 0.5, 0.2, 0.02, 0.0, True)
        >>> call.price.round(2), call.delta.round(2)
        (array([12.45,  2.47]), array([0.81, 0.3 ]))
    """
    contract = checked_arguments(
        _CONTRACT, spot, strike, tau_years, vol_annual, rate, dividend_yield, is_call
    )
    return PriceAndGreeks(*in_blocks(_greeks_formula, contract, outputs=6))


def _legs(*contract: Any) -> tuple[FloatArray, ...]:
    """d1, σ√T, S·e^(−qT), and the legs of the price: s·S·e^(−qT)·N(s·d1), s·K·e^(−rT)·N(s·d2)."""
    spot, strike, tau, vol, rate, dividend, is_call = contract
    sign = np.where(is_call, 1.0, -1.0)
    deviation = vol * np.sqrt(tau)
    log_forward = np.log(spot / strike) + (rate - dividend) * tau
    d1 = log_forward / np.maximum(deviation, _MIN_DEVIATION) + 0.5 * deviation
    spot_discounted = spot * np.exp(-dividend * tau)
    spot_leg = sign * spot_discounted * ndtr(sign * d1)
    strike_leg = sign * (strike * np.exp(-rate * tau)) * ndtr(sign * (d1 - deviation))
    return d1, deviation, spot_discounted, spot_leg, strike_leg


def _value(spot_leg: FloatArray, strike_leg: FloatArray) -> FloatArray:
    # The difference of two nearly equal legs may round to a number just below zero.
    return np.maximum(spot_leg - strike_leg, 0.0) + 0.0


def _price_formula(*contract: Any) -> tuple[FloatArray]:
    return (_value(*_legs(*contract)[3:]),)


def _greeks_formula(*contract: Any) -> PriceAndGreeks:
    spot, _, tau, vol, rate, dividend, _ = contract
    d1, deviation, spot_discounted, spot_leg, strike_leg = _legs(*contract)
    certain = deviation < _MIN_DEVIATION
    inverse = np.where(certain, 0.0, 1.0 / np.where(certain, 1.0, deviation))
    spot_density = spot_discounted * (_INV_SQRT_2PI * np.exp(-0.5 * d1 * d1))
    decay = 0.5 * spot_density * vol * vol * inverse
    return PriceAndGreeks(
        price=_value(spot_leg, strike_leg),
        delta=spot_leg / spot,
        gamma=spot_density * inverse / (spot * spot),
        theta=dividend * spot_leg - rate * strike_leg - decay,
        vega=spot_density * np.sqrt(tau),
        rho=tau * strike_leg,
    )
