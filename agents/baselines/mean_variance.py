"""Mean-variance books of constant weights over a training window, without costs and with them."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from conf.types import FloatArray
from envs.core.batch import Window
from envs.option_portfolio.market import OptionMarket
from risk.metrics import SESSIONS_PER_YEAR

TARGET_VOLATILITY = 0.10  # annual
PRIOR_SHARPE = 0.5  # annual: about that of the index, or of writing puts on it
_LEAST_VARIANCE = 1e-16  # of a slot's daily profit that is told from none


def slot_returns(market: OptionMarket, window: Window) -> FloatArray:
    """Daily excess profit of a unit of notional in each slot; paths are stacked.

    (aged[t+1] - mark[t] (1 + cash_return[t])) / spot[t] for each session t of the window but the
    last; (P x (sessions - 1), M). Nothing outside the window is read.
    """
    now, then = slice(window.start, window.stop - 1), slice(window.start + 1, window.stop)
    tape = market.tape
    financed = tape.mark[:, now] * (1.0 + market.cash_return[None, now, None])
    gained = (tape.aged[:, then] - financed) / market.history.close[:, now, None]
    return gained.reshape(-1, tape.num_slots)


def tangency(mean: FloatArray, covariance: FloatArray, count: int) -> FloatArray:
    """Weights (M,) of the best Sharpe ratio given daily means (M,) of `count` samples.

    The means are shrunk towards zero, as in a market without premia, and most in the directions of
    little variance, where contracts nearly cancel and a mean is chance. This is the posterior under
    the prior mean ~ N(0, k²/tr(C) C²), k the presumed Sharpe ratio of the whole market:
    w = (C + g I)^-1 mean, g = tr(C) / (k² n).

    S. Kozak, S. Nagel and S. Santosh, Shrinking the cross-section, Journal of Financial Economics
    135 (2020), section 2.
    """
    daily_sharpe_squared = PRIOR_SHARPE**2 / SESSIONS_PER_YEAR
    penalty = float(np.trace(covariance)) / (daily_sharpe_squared * count)
    if penalty <= 0.0:  # no price ever moved
        return np.zeros(len(mean))
    return np.asarray(np.linalg.solve(covariance + penalty * np.eye(len(mean)), mean))


def mean_variance_weights(
    returns: FloatArray,
    max_notional: float,
    target_volatility: float = TARGET_VOLATILITY,
    sessions_per_year: float = SESSIONS_PER_YEAR,
) -> FloatArray:
    """Notional weights (M,), shares of equity, from daily excess profits (n, M) of a unit each.

    The direction of `tangency` under the covariance of Ledoit and Wolf (A well-conditioned
    estimator for large-dimensional covariance matrices, Journal of Multivariate Analysis 88, 2004),
    scaled to the target volatility (annual, decimal) or to the largest notional allowed, whichever
    comes first.
    """
    from sklearn.covariance import ledoit_wolf  # takes a second to import

    covariance: FloatArray = ledoit_wolf(returns)[0]
    direction = tangency(returns.mean(axis=0), covariance, len(returns))
    volatility = float(np.sqrt(sessions_per_year * (direction @ covariance @ direction)))
    largest = float(np.abs(direction).max())
    if volatility <= 0.0 or largest <= 0.0:
        return np.zeros(returns.shape[1])
    return direction * min(target_volatility / volatility, max_notional / largest)


def listing_costs(market: OptionMarket, window: Window) -> FloatArray:
    """Mean cost a day (M,) of a unit of notional in each slot that is held to expiry.

    Shares of equity, on the sessions of `slot_returns`: what is listed is bought, and sold again
    where contracts are re-struck before they expire.
    """
    now, then = slice(window.start, window.stop - 1), slice(window.start + 1, window.stop)
    cost = market.unit_cost[:, now] * market.tape.rolled[now]
    if market.closing_unit_cost is not None:
        cost = cost + market.closing_unit_cost[:, then]
    return np.asarray((cost / market.history.close[:, now, None]).mean(axis=(0, 1)))


def best_static_weights(
    returns: FloatArray, costs: FloatArray, risk_aversion: float, max_notional: float
) -> FloatArray:
    """Notional weights (M,) that maximise mean - risk aversion / 2 x variance after costs.

    returns: daily excess profits (n, M) of a unit of each, before costs; costs: (M,) a day and
    unit, long or short. None of the weights exceeds `max_notional`. Nothing is shrunk: give many
    days. With long and short parts apart it is a quadratic programme with bounds.
    """
    slots, mean = returns.shape[1], returns.mean(axis=0)
    covariance = np.cov(returns, rowvar=False, bias=True).reshape(slots, slots)
    # Solved in units in which all slots are alike and the answer is of the order of 1.
    scale = np.sqrt(np.maximum(np.diag(covariance), _LEAST_VARIANCE))
    unit = float(np.abs(mean / scale).max()) / risk_aversion
    if unit == 0.0:
        return np.zeros(slots)
    curvature = covariance / np.outer(scale, scale)
    slope, paid = mean / (scale * risk_aversion * unit), costs / (scale * risk_aversion * unit)

    def loss(parts: FloatArray) -> tuple[float, FloatArray]:
        long, short = parts[:slots], parts[slots:]
        pull = curvature @ (long - short) - slope
        value = 0.5 * (long - short) @ (pull - slope) + paid @ (long + short)
        return float(value), np.concatenate([paid + pull, paid - pull])

    found = minimize(
        loss,
        np.zeros(2 * slots),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, max_notional * each / unit) for each in (*scale, *scale)],
        options={"maxiter": 20_000, "maxfun": 40_000, "maxcor": 40, "ftol": 1e-15, "gtol": 1e-9},
    )
    return np.asarray((found.x[:slots] - found.x[slots:]) * unit / scale)
