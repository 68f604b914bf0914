"""Measures of an equity curve and of the book behind it, alone and together in one table.

`summarise` fills a `Performance`, with the measures of `risk.metrics` and those of this file: what
was traded, what that cost, and how concentrated the positions were.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from conf.errors import InputError
from conf.types import FloatArray
from risk import metrics
from risk.metrics import SESSIONS_PER_YEAR, checked_series, divide


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

    def mean(self, measure: str) -> float:
        """A measure's mean over curves."""
        return float(np.mean(getattr(self, measure)))

    def numbers(self) -> dict[str, float]:
        """Name -> number, for a single curve."""
        if self.sharpe.ndim:
            raise InputError(
                f"{self.sharpe.size} curves have no single number", "Select one curve first"
            )
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
    which sessions without any position do not count in the mean concentration. The dates say how
    many sessions a year has.
    """
    curve = checked_series("equity", equity)
    returns = metrics.simple_returns(curve)
    closes = np.asarray(dates, dtype="datetime64[D]")
    days, annual = closes[1:], metrics.sessions_per_year(closes)
    shape = returns.shape[:-1]
    missing = np.full(shape, np.nan)
    return Performance(
        sessions=np.full(shape, float(returns.shape[-1])),
        total_return=np.asarray(curve[..., -1] / curve[..., 0] - 1.0),
        annual_return=metrics.annual_return(curve, annual),
        annual_volatility=metrics.annual_volatility(returns, annual),
        sharpe=metrics.sharpe_ratio(returns, risk_free, annual),
        sortino=metrics.sortino_ratio(returns, risk_free, annual),
        calmar=metrics.calmar_ratio(curve, annual),
        max_drawdown=metrics.max_drawdown(curve),
        max_drawdown_sessions=metrics.max_drawdown_sessions(curve).astype(np.float64),
        win_rate=metrics.win_rate(returns),
        profit_factor=metrics.profit_factor(returns),
        positive_months=metrics.positive_share(returns, days, "month"),
        positive_years=metrics.positive_share(returns, days, "year"),
        var_95=metrics.value_at_risk(returns),
        cvar_95=metrics.expected_shortfall(returns),
        kelly=metrics.kelly_fraction(returns),
        beta=missing if market_returns is None else metrics.beta(returns, market_returns),
        turnover=missing if traded_usd is None else turnover(traded_usd, curve, annual),
        cost_drag=missing if cost_usd is None else cost_drag(cost_usd, curve, annual),
        concentration=missing
        if position_usd is None
        else _mean_concentration(position_usd, returns.shape),
    )


def turnover(
    traded_usd: ArrayLike, equity: ArrayLike, sessions_per_year: float = SESSIONS_PER_YEAR
) -> FloatArray:
    """Value traded a year (bought plus sold) as a multiple of equity: 1.0 is 100 % a year.

    traded_usd (..., T) ≥ 0 by session; equity (..., T + 1), of which each session's start counts.
    """
    return _share_of_equity_a_year("traded_usd", traded_usd, equity, sessions_per_year)


def cost_drag(
    cost_usd: ArrayLike, equity: ArrayLike, sessions_per_year: float = SESSIONS_PER_YEAR
) -> FloatArray:
    """Return a year that trading costs take away, decimal; shapes as in `turnover`."""
    return _share_of_equity_a_year("cost_usd", cost_usd, equity, sessions_per_year)


def concentration(position_usd: ArrayLike) -> FloatArray:
    """Herfindahl index Σw² of the shares w of gross value, over the last axis: 1/M .. 1.

    position_usd (..., M) is signed; a short counts like a long. NaN without any position.
    """
    gross = np.abs(checked_series("position_usd", position_usd))
    total = gross.sum(axis=-1, keepdims=True)
    return np.asarray(np.square(divide(gross, total, total > 0)).sum(axis=-1), dtype=np.float64)


def iv_rank(implied_vol: ArrayLike) -> FloatArray:
    """Position of the last implied volatility in the range of its window, 0 (lowest) to 1.

    (last − min) / (max − min) over the last axis, the window, of usually 252 sessions. NaN where
    the window never moves.
    """
    window = checked_series("implied_vol", implied_vol)
    low, high = np.asarray(window.min(axis=-1)), np.asarray(window.max(axis=-1))
    return divide(np.asarray(window[..., -1] - low), np.asarray(high - low), high > low)


def _mean_concentration(position_usd: ArrayLike, sessions: tuple[int, ...]) -> FloatArray:
    by_day = concentration(position_usd)
    if by_day.shape != sessions:
        raise InputError(
            f"position_usd has shape {np.shape(position_usd)}, expected {(*sessions, 'M')}",
            "Give the value of each of M positions for every session",
        )
    held = np.isfinite(by_day)
    count = np.asarray(held.sum(axis=-1, dtype=np.float64))
    return divide(np.asarray(np.where(held, by_day, 0.0).sum(axis=-1)), count, count > 0)


def _share_of_equity_a_year(
    name: str, values: ArrayLike, equity: ArrayLike, sessions_per_year: float
) -> FloatArray:
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
            f"Give {name} as amounts of 0 or more, and cut the curve at ruin",
        )
    return np.asarray((usd / start).mean(axis=-1) * sessions_per_year, dtype=np.float64)
