"""Everything that is measured about an equity curve, in one table."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from risk import metrics
from risk.book_metrics import concentration, cost_drag, turnover
from risk.errors import InputError

FloatArray = NDArray[np.float64]


class Performance(NamedTuple):
    """Measures of one equity curve (single numbers) or of N (arrays of N); NaN where undefined.

    Ratios, rates and shares are decimals; losses and drawdowns are positive.
    """

    sessions: FloatArray  # T
    total_return: FloatArray
    annual_return: FloatArray
    annual_volatility: FloatArray
    sharpe: FloatArray
    sortino: FloatArray
    calmar: FloatArray
    max_drawdown: FloatArray
    max_drawdown_sessions: FloatArray
    win_rate: FloatArray  # share of days
    profit_factor: FloatArray
    positive_months: FloatArray  # share of calendar months
    positive_years: FloatArray  # share of calendar years
    var_95: FloatArray  # of one day
    cvar_95: FloatArray  # of one day
    kelly: FloatArray
    beta: FloatArray  # NaN unless market returns were given
    turnover: FloatArray  # multiple of equity a year; NaN unless trades were given
    cost_drag: FloatArray  # return a year; NaN unless costs were given
    concentration: FloatArray  # mean Herfindahl index; NaN unless positions were given

    def numbers(self) -> dict[str, float]:
        """Name -> number, for a single curve."""
        if self.sharpe.ndim:
            raise InputError(f"{self.sharpe.size} curves have no single number", "Pick one first")
        return {name: float(values) for name, values in self._asdict().items()}


def summarise(
    equity: ArrayLike,
    dates: ArrayLike,
    risk_free: ArrayLike,
    *,
    market_returns: ArrayLike | None = None,
    traded_usd: ArrayLike | None = None,
    cost_usd: ArrayLike | None = None,
    position_usd: ArrayLike | None = None,
) -> Performance:
    """Measure equity curves (..., T + 1) with their dates (T + 1,), the start included.

    By session: risk_free and market_returns (..., T), or what broadcasts to it; traded_usd and
    cost_usd (..., T); position_usd (..., T, M), signed values after each session's trades, of
    which sessions without any position do not count in the mean concentration.
    """
    curve = metrics.checked_series("equity", equity)
    returns = metrics.simple_returns(curve)
    result = _of_curve(curve, returns, np.asarray(dates, dtype="datetime64[D]")[1:], risk_free)
    if market_returns is not None:
        result = result._replace(beta=metrics.beta(returns, market_returns))
    if traded_usd is not None:
        result = result._replace(turnover=turnover(traded_usd, curve))
    if cost_usd is not None:
        result = result._replace(cost_drag=cost_drag(cost_usd, curve))
    if position_usd is not None:
        result = result._replace(concentration=_mean_concentration(position_usd, returns.shape))
    return result


def _of_curve(
    curve: FloatArray, returns: FloatArray, days: NDArray[np.datetime64], risk_free: ArrayLike
) -> Performance:
    shape = returns.shape[:-1]
    missing = np.full(shape, np.nan)
    return Performance(
        sessions=np.full(shape, float(returns.shape[-1])),
        total_return=np.asarray(curve[..., -1] / curve[..., 0] - 1.0),
        annual_return=metrics.annual_return(curve),
        annual_volatility=metrics.annual_volatility(returns),
        sharpe=metrics.sharpe_ratio(returns, risk_free),
        sortino=metrics.sortino_ratio(returns, risk_free),
        calmar=metrics.calmar_ratio(curve),
        max_drawdown=metrics.max_drawdown(curve),
        max_drawdown_sessions=metrics.max_drawdown_sessions(curve).astype(np.float64),
        win_rate=metrics.win_rate(returns),
        profit_factor=metrics.profit_factor(returns),
        positive_months=metrics.positive_share(returns, days, "month"),
        positive_years=metrics.positive_share(returns, days, "year"),
        var_95=metrics.value_at_risk(returns),
        cvar_95=metrics.expected_shortfall(returns),
        kelly=metrics.kelly_fraction(returns),
        beta=missing,
        turnover=missing,
        cost_drag=missing,
        concentration=missing,
    )


def _mean_concentration(position_usd: ArrayLike, sessions: tuple[int, ...]) -> FloatArray:
    by_day = concentration(position_usd)
    if by_day.shape != sessions:
        raise InputError(
            f"position_usd has shape {np.shape(position_usd)}, expected {(*sessions, 'M')}",
            "Give the value of each of M positions for every session",
        )
    held = np.isfinite(by_day)
    count = np.asarray(held.sum(axis=-1))
    mean = np.full(count.shape, np.nan)
    np.divide(np.where(held, by_day, 0.0).sum(axis=-1), count, out=mean, where=count > 0)
    return mean
