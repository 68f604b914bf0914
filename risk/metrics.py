"""Measures of a stream of returns or of an equity curve.

Every function reads the last axis and keeps the others: a path (T,) gives one number, a batch
(N, T) gives (N,), each row exactly as if it were alone. Returns are simple daily returns,
decimals; `risk_free` holds what cash earned on the same days (a number, or an array that
broadcasts). Equity has one value more than the returns: the one before the first day.

What is not defined (a ratio with a denominator of 0, the deviation of a single day) is NaN, with
one exception: 0 / 0 counts as 0 for Sharpe, Sortino and Calmar, because a book that holds cash
takes no risk and earns no excess return. Missing or infinite input raises InputError.
"""

from __future__ import annotations

import math
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from conf.errors import InputError, checked_number
from conf.types import BoolArray, DateArray, FloatArray, IntArray

Numbers = TypeVar("Numbers", float, FloatArray)
Period = Literal["month", "year"]

SESSIONS_PER_YEAR = 252  # of an exchange
DAYS_A_YEAR = 365.25
# Daily deviations and means below this are rounding: equity of 1e5 is known to about 1e-11.
NEGLIGIBLE = 1e-12
_LARGEST = 1e100  # squares and sums of larger numbers overflow


def sessions_per_year(dates: DateArray) -> float:
    """How many of the sessions (T,) make a year: what annualises everything measured on them.

    252 for five days a week, 365 for seven, 365.25 / 7 for weeks; else what the dates show. The
    first sessions of a history give the same as the whole of it.
    """
    days = dates.astype("datetime64[D]")
    length = int((days[-1] - days[0]).astype(int)) if len(days) else 0
    count = (len(days) - 1) * DAYS_A_YEAR / length if length else float(SESSIONS_PER_YEAR)
    if count > 200.0:
        by_weekday = np.bincount((days.astype(np.int64) + 3) % 7, minlength=7)
        traded = int((by_weekday * 50 > len(days)).sum())  # days of the week, single ones apart
        return {7: 365.0, 6: count}.get(traded, float(SESSIONS_PER_YEAR))
    return DAYS_A_YEAR / 7.0 if abs(7.0 * count / DAYS_A_YEAR - 1.0) < 0.05 else count


def simple_returns(equity: ArrayLike) -> FloatArray:
    """Daily returns (..., T) of an equity curve (..., T + 1).

    Only the last value may be zero or negative: cut the curve at the session of ruin.

    Examples:
        >>> simple_returns([100.0, 110.0, 99.0]).round(3)
        array([ 0.1, -0.1])
    """
    curve = _curve(equity)
    ruined = curve[..., :-1] <= 0
    if ruined.any():
        first = _first(ruined)
        raise InputError(
            f"equity is {curve[first]:g} at {list(first)}, and the curve goes on",
            "Cut the curve at the session of ruin",
        )
    return curve[..., 1:] / curve[..., :-1] - 1.0


def sharpe_ratio(
    returns: ArrayLike, risk_free: ArrayLike, sessions_per_year: float = SESSIONS_PER_YEAR
) -> FloatArray:
    """Mean excess return over its sample standard deviation (ddof=1), × √(sessions a year).

    Reference: W. Sharpe, The Sharpe ratio, Journal of Portfolio Management 21 (1994).

    Examples:
        >>> print(sharpe_ratio([0.01, -0.01, 0.02], risk_free=0.0).round(2))
        6.93
    """
    excess = _excess(returns, risk_free)
    return _ratio(excess.mean(axis=-1), _deviation(excess)) * math.sqrt(sessions_per_year)


def sortino_ratio(
    returns: ArrayLike, risk_free: ArrayLike, sessions_per_year: float = SESSIONS_PER_YEAR
) -> FloatArray:
    """Mean excess return over its downside deviation, × √(sessions a year).

    Downside deviation is √mean(min(excess, 0)²) over all days: days without a loss count as 0.
    Reference: F. Sortino and L. Price, Performance measurement in a downside risk framework,
    Journal of Investing 3 (1994).

    Examples:
        >>> print(sortino_ratio([0.01, -0.01, 0.02], risk_free=0.0).round(2))
        18.33
    """
    excess = _excess(returns, risk_free)
    downside = np.sqrt(np.square(np.minimum(excess, 0.0)).mean(axis=-1))
    return _ratio(excess.mean(axis=-1), downside) * math.sqrt(sessions_per_year)


def calmar_ratio(equity: ArrayLike, sessions_per_year: float = SESSIONS_PER_YEAR) -> FloatArray:
    """Annualised return over maximum drawdown.

    Examples:
        >>> print(calmar_ratio([100.0, 80.0, 110.0], sessions_per_year=2).round(2))
        0.5
    """
    return _ratio(annual_return(equity, sessions_per_year), max_drawdown(equity))


def annual_return(equity: ArrayLike, sessions_per_year: float = SESSIONS_PER_YEAR) -> FloatArray:
    """(last / first)^(sessions a year / T) − 1: compounded growth a year.

    −1, everything lost, where the last value is zero or negative.

    Examples:
        >>> print(annual_return([100.0, 105.0, 110.25], sessions_per_year=1).round(3))
        0.05
    """
    curve = _curve(equity)
    # NumPy's power rounds single numbers and arrays differently: keep an axis, for equal results.
    growth = np.maximum(curve[..., -1:] / curve[..., :1], 0.0)
    return _as_array(growth ** (sessions_per_year / (curve.shape[-1] - 1)) - 1.0)[..., 0]


def annual_volatility(
    returns: ArrayLike, sessions_per_year: float = SESSIONS_PER_YEAR
) -> FloatArray:
    """Sample standard deviation (ddof=1) of returns, × √(sessions a year).

    Examples:
        >>> print(annual_volatility([0.01, -0.01, 0.02]).round(3))
        0.242
    """
    return _deviation(checked_series("returns", returns)) * math.sqrt(sessions_per_year)


def drawdown(equity: ArrayLike) -> FloatArray:
    """(peak − equity) / peak with the running peak, (..., T + 1); above 1 for negative equity.

    Examples:
        >>> drawdown([100.0, 80.0, 110.0])
        array([0. , 0.2, 0. ])
    """
    curve = _curve(equity)
    peak = np.maximum.accumulate(curve, axis=-1)
    return _as_array((peak - curve) / peak)


def max_drawdown(equity: ArrayLike) -> FloatArray:
    """The deepest fall from a running peak, as a positive fraction of that peak.

    Examples:
        >>> print(max_drawdown([100.0, 80.0, 110.0]))
        0.2
    """
    return _as_array(drawdown(equity).max(axis=-1))


def max_drawdown_sessions(equity: ArrayLike) -> IntArray:
    """Sessions from the peak of the deepest drawdown until that peak is regained, or to the end.

    The first of equally deep drawdowns counts; 0 without any drawdown.

    Examples:
        >>> print(max_drawdown_sessions([100.0, 80.0, 90.0, 110.0]))
        3
    """
    depth = drawdown(equity)
    last = depth.shape[-1] - 1
    index = np.broadcast_to(np.arange(last + 1), depth.shape)
    at_peak = depth == 0
    since = np.maximum.accumulate(np.where(at_peak, index, 0), axis=-1)
    until = np.where(at_peak, index, last)
    until = np.minimum.accumulate(until[..., ::-1], axis=-1)[..., ::-1]
    trough = depth.argmax(axis=-1)[..., None]
    length = np.take_along_axis(until - since, trough, axis=-1)[..., 0]
    return np.asarray(length, dtype=np.int64)


def win_rate(returns: ArrayLike) -> FloatArray:
    """Share of all days with a gain, interest included; a day without a change is no win.

    Examples:
        >>> print(win_rate([0.01, -0.01, 0.02, 0.0]))
        0.5
    """
    return _as_array((checked_series("returns", returns) > 0).mean(axis=-1))


def profit_factor(returns: ArrayLike) -> FloatArray:
    """Sum of the daily gains over the sum of the daily losses; NaN without a losing day.

    Examples:
        >>> print(profit_factor([0.01, -0.01, 0.02]).round(2))
        3.0
    """
    gains, losses = _gains_and_losses(checked_series("returns", returns))
    return divide(gains, losses, losses > 0)


def value_at_risk(returns: ArrayLike, level: float = 0.95) -> FloatArray:
    """The daily loss not exceeded on a share `level` of the days, positive for a loss.

    The empirical quantile, interpolated linearly. Negative where that day earns.

    Examples:
        >>> print(value_at_risk([-0.03, -0.01, 0.0, 0.01, 0.02], level=0.75).round(3))
        0.01
    """
    check_level(level)
    return _as_array(-np.quantile(checked_series("returns", returns), 1.0 - level, axis=-1))


def expected_shortfall(returns: ArrayLike, level: float = 0.95) -> FloatArray:
    """CVaR: the mean loss on the worst share 1 − `level` of the days, positive for a loss.

    Where that share is no whole number of days, the last one counts in part (R. Rockafellar and S.
    Uryasev, Conditional value-at-risk for general loss distributions, Journal of Banking and
    Finance 26, 2002), so it is never below the value at risk.

    Examples:
        >>> print(expected_shortfall([-0.03, -0.01, 0.0, 0.01], level=0.5).round(3))
        0.02
    """
    check_level(level)
    days = np.sort(checked_series("returns", returns), axis=-1)
    tail = (1.0 - level) * days.shape[-1]
    weight = np.clip(tail - np.arange(days.shape[-1]), 0.0, 1.0) / tail
    return _as_array(-(days * weight).sum(axis=-1))


def beta(returns: ArrayLike, market_returns: ArrayLike) -> FloatArray:
    """Slope of the returns on the market's: covariance over variance, both ddof=1.

    Examples:
        >>> print(beta([0.02, -0.02, 0.04], market_returns=[0.01, -0.01, 0.02]).round(2))
        2.0
    """
    days = checked_series("returns", returns)
    return slope(days, aligned("market_returns", market_returns, days.shape))


def slope(days: FloatArray, market: FloatArray) -> FloatArray:
    """`beta` of series (..., T) without the checks; NaN where the market does not move."""
    days, market = _centred(days), _centred(market)
    variance = np.square(market).sum(axis=-1)
    floor = NEGLIGIBLE**2 * market.shape[-1]
    return divide((days * market).sum(axis=-1), variance, variance > floor)


def kelly_fraction(returns: ArrayLike) -> FloatArray:
    """Kelly's share of capital for a bet like these days: p − (1 − p)·(mean loss / mean win).

    p is the share of gains among the days with a change. Not clamped; negative where the odds are
    against it; NaN without a winning day.
    Reference: J. Kelly, A new interpretation of information rate, Bell System Technical Journal
    35 (1956).
    """
    days = checked_series("returns", returns)
    wins, changes = (days > 0).sum(axis=-1), (days != 0).sum(axis=-1)
    gains, losses = _gains_and_losses(days)
    # (1 − p)·mean loss is losses / changes, which is defined without a losing day too.
    terms = ((wins, changes), (gains, wins), (losses, changes))
    return kelly_of_odds(*(divide(above, below, wins > 0) for above, below in terms))


def kelly_of_odds(win_rate: Numbers, mean_win: Numbers, expected_loss: Numbers) -> Numbers:
    """Kelly's share of capital, p − (1 − p)·(mean loss / mean win), not clamped.

    `expected_loss` is (1 − p)·mean loss: what a bet loses on average, wins counting as 0.
    """
    return win_rate - expected_loss / mean_win


def period_returns(
    returns: ArrayLike, dates: ArrayLike, period: Period
) -> tuple[DateArray, FloatArray]:
    """Compounded return of each calendar month or year: its start (n,) and returns (..., n).

    dates (T,) are the days that the returns (..., T) were earned on. The first and the last
    period may be partial.
    """
    days = checked_series("returns", returns)
    if period not in ("month", "year"):
        raise InputError(f"period is {period!r}", "Give month or year")
    try:
        when = np.asarray(dates, dtype="datetime64[D]")
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"dates cannot be read: {error}", "Give dates as 2020-01-31") from None
    if when.shape != days.shape[-1:] or (np.diff(when) <= np.timedelta64(0, "D")).any():
        raise InputError(
            f"{when.size} dates for {days.shape[-1]} returns, or not in increasing order",
            "Give the date of each return, sorted",
        )
    label = when.astype("datetime64[M]" if period == "month" else "datetime64[Y]")
    starts = np.flatnonzero(np.concatenate([[True], label[1:] != label[:-1]]))
    return label[starts], np.multiply.reduceat(1.0 + days, starts, axis=-1) - 1.0


def positive_share(returns: ArrayLike, dates: ArrayLike, period: Period) -> FloatArray:
    """Share of calendar months or years with a gain; arguments as for `period_returns`."""
    _, by_period = period_returns(returns, dates, period)
    return np.asarray((by_period > 0).mean(axis=-1), dtype=np.float64)


def checked_series(name: str, values: ArrayLike) -> FloatArray:
    """`values` (..., T) as contiguous float64; InputError names what is missing or infinite."""
    array = _as_numbers(name, values)
    if array.ndim == 0 or array.size == 0:
        raise InputError(f"{name} of shape {array.shape} is empty", "Give one value or more")
    # Contiguous rows are summed in the same order alone and in a batch.
    series = np.ascontiguousarray(array)
    finite = np.abs(series) <= _LARGEST  # False for NaN
    if not finite.all():
        first = _first(~finite)
        raise InputError(
            f"{name}{list(first)} is {series[first]}", "Leave such sessions out and count them"
        )
    return series


def aligned(name: str, values: ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    """`values`, checked as by `checked_series`, broadcast to the shape of the returns."""
    array = checked_series(name, np.atleast_1d(_as_numbers(name, values)))
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise InputError(
            f"{name} has shape {array.shape}, the returns have {shape}",
            "Give one value a day, or one for all days",
        ) from None


def _as_numbers(name: str, values: ArrayLike) -> FloatArray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{name} cannot be read as numbers: {error}", "Give numbers") from None


def divide(above: FloatArray, below: FloatArray, defined: BoolArray) -> FloatArray:
    """above / below where `defined`, NaN elsewhere."""
    quotient = np.full(np.broadcast_shapes(above.shape, below.shape), np.nan)
    np.divide(above, below, out=quotient, where=defined)
    return quotient


def check_level(level: float) -> None:
    """InputError unless a confidence level lies between 0 and 1."""
    if not 0.0 < checked_number("confidence level", level) < 1.0:
        raise InputError(f"confidence level is {level}", "Give a number between 0 and 1, as 0.95")


def _first(bad: BoolArray) -> tuple[int, ...]:
    """Index of the first True."""
    return tuple(int(i) for i in np.argwhere(bad)[0])


def _excess(returns: ArrayLike, risk_free: ArrayLike) -> FloatArray:
    days = checked_series("returns", returns)
    return days - aligned("risk_free", risk_free, days.shape)


def _gains_and_losses(days: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Sums (...) of the gains and of the losses, both positive."""
    return np.maximum(days, 0.0).sum(axis=-1), np.maximum(-days, 0.0).sum(axis=-1)


def _deviation(days: FloatArray) -> FloatArray:
    if days.shape[-1] < 2:
        return np.full(days.shape[:-1], np.nan)
    return _as_array(days.std(axis=-1, ddof=1))


def _ratio(reward: FloatArray, risk: FloatArray) -> FloatArray:
    """reward / risk; without risk 0 where there is no reward either, and NaN otherwise."""
    riskless = np.where(np.abs(reward) <= NEGLIGIBLE, 0.0, np.nan)
    defined = risk > NEGLIGIBLE
    return np.where(defined | np.isnan(risk), divide(reward, risk, defined), riskless)


def _centred(days: FloatArray) -> FloatArray:
    return np.ascontiguousarray(days - days.mean(axis=-1, keepdims=True))


def _curve(equity: ArrayLike) -> FloatArray:
    curve = checked_series("equity", equity)
    if curve.shape[-1] < 2:
        raise InputError("equity has a single value", "Give the start and at least one session")
    if (curve[..., 0] <= 0).any():
        raise InputError(f"equity starts at {curve[..., 0].min():g}", "Start above zero")
    return curve


def _as_array(values: ArrayLike) -> FloatArray:
    return np.asarray(values, dtype=np.float64)
