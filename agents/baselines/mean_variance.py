"""The best book of constant weights over a stretch of the past."""

from __future__ import annotations

import numpy as np

from conf.types import FloatArray
from envs.core.batch import Window
from envs.option_portfolio.market import OptionMarket
from risk.metrics import SESSIONS_PER_YEAR

TARGET_VOLATILITY = 0.10  # annual
PRIOR_SHARPE = 0.5  # annual: about that of the index, or of writing puts on it


def slot_returns(market: OptionMarket, window: Window) -> FloatArray:
    """Daily excess profit of a unit of notional in each slot, every path below the other.

    (aged[t+1] - mark[t] (1 + cash_return[t])) / spot[t] for each session t of the window but the
    last; (P x (sessions - 1), M). Nothing outside the window is read.
    """
    now, then = slice(window.start, window.stop - 1), slice(window.start + 1, window.stop)
    tape = market.tape
    financed = tape.mark[:, now] * (1.0 + market.cash_return[None, now, None])
    gained = (tape.aged[:, then] - financed) / market.history.close[:, now, None]
    return gained.reshape(-1, tape.num_slots)


def ledoit_wolf(samples: FloatArray) -> FloatArray:
    """Covariance (M, M) of samples (n, M), shrunk towards a multiple of the identity.

    O. Ledoit and M. Wolf, A well-conditioned estimator for large-dimensional covariance matrices,
    Journal of Multivariate Analysis 88 (2004), section 3.2:

        S* = b²/d² m I + (1 - b²/d²) S,   m = tr(S)/M,   d² = |S - m I|²,
        b² = min(d², 1/n² sum |x_k x_k' - S|²),   |A|² = tr(A A')/M
    """
    count, size = samples.shape
    centred = samples - samples.mean(axis=0)
    sample = centred.T @ centred / count
    level = np.trace(sample) / size
    target = level * np.eye(size)
    distance = ((sample - target) ** 2).sum() / size
    fourth = ((centred**2).sum(axis=1) ** 2).sum()
    noise = (fourth / count**2 - (sample**2).sum() / count) / size
    intensity = min(noise, distance) / distance if distance > 0.0 else 0.0
    return np.asarray(intensity * target + (1.0 - intensity) * sample)


def tangency(mean: FloatArray, covariance: FloatArray, count: int) -> FloatArray:
    """Weights (M,) of the best Sharpe ratio given daily means (M,) of `count` samples.

    The means are shrunk towards zero, where a market without premia has them, and most in the
    directions of little variance, in which contracts all but cancel and a mean is an accident. It
    is the posterior under the prior mean ~ N(0, k²/tr(C) C²), k the Sharpe ratio that the whole
    market is believed to offer: w = (C + g I)^-1 mean, g = tr(C) / (k² n).

    S. Kozak, S. Nagel and S. Santosh, Shrinking the cross-section, Journal of Financial Economics
    135 (2020), section 2.
    """
    believed = PRIOR_SHARPE**2 / SESSIONS_PER_YEAR  # squared, of a day
    penalty = float(np.trace(covariance)) / (believed * count)
    if penalty <= 0.0:  # nothing ever moved
        return np.zeros(len(mean))
    return np.asarray(np.linalg.solve(covariance + penalty * np.eye(len(mean)), mean))


def mean_variance_weights(
    returns: FloatArray,
    max_notional: float,
    target_volatility: float = TARGET_VOLATILITY,
) -> FloatArray:
    """Notional weights (M,), shares of equity, from daily excess profits (n, M) of a unit each.

    The direction of `tangency` under the covariance of `ledoit_wolf`, scaled to the target
    volatility (annual, decimal) or to the largest notional allowed, whichever comes first.
    """
    covariance = ledoit_wolf(returns)
    direction = tangency(returns.mean(axis=0), covariance, len(returns))
    volatility = float(np.sqrt(SESSIONS_PER_YEAR * (direction @ covariance @ direction)))
    largest = float(np.abs(direction).max())
    if volatility <= 0.0 or largest <= 0.0:
        return np.zeros(returns.shape[1])
    return direction * min(target_volatility / volatility, max_notional / largest)
