"""Tests of a Sharpe ratio that may be looked at every day: e-processes by betting.

Each day a small bet is placed against the null hypothesis, at odds that are fair or worse if it is
true. Wealth that began at 1 is then a supermartingale, and it ever reaches 1 / level with a
probability of at most `level`, however often it is looked at (J. Ville, Étude critique de la notion
de collectif, 1939; betting on means: I. Waudby-Smith and A. Ramdas, Estimating means of bounded
random variables by betting, Journal of the Royal Statistical Society B 86, 2024).

With z = excess return / a scale known the day before and s the null's Sharpe ratio a day, a bet
that the Sharpe ratio is above s pays y = z − s h(z), a bet that it is below pays −y. For neither to
earn under the null, E[h] has to be on the right side of the true volatility (in scales):

- not below it: h = (z² + 1) / 2, as E[h] >= √E[z²] (arithmetic and geometric mean);
- not above it: h = √(π/2) |z| / √(1 + s²). E|z| <= √(2/π) √E[z²] for the normal distribution and
  its mixtures over scales, Student's t among them: for tails as thin as the normal's or fatter. As
  s² (1 + d²) <= d² (1 + s²) where |d| >= |s|, this holds at every Sharpe ratio d under the null.

Wealth is the mean over bets of all sizes up to 1 / `LARGEST_LOSS`, so no size has to be guessed (T.
Cover, Universal portfolios, Mathematical Finance 1, 1991).

**What the guarantee rests on.** (1) Under the null the Sharpe ratio given the past is on its side
of s each day; volatility may change as it likes. (2) No day takes more than `LARGEST_LOSS` scales
from a bet. Without a bound no test of a mean exists: losses that are rare enough are in no record.
A bet that loses more ends at 0; where E[(y + 10)⁻] = b, the false-alarm rate over T days is at most
level · exp(b T / 10), and b is 2.5e-4 for Student's t(4). (3) For the second h: tails as above.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from conf.errors import InputError
from conf.types import FloatArray
from risk.metrics import NEGLIGIBLE, SESSIONS_PER_YEAR, check_level, checked_series

LARGEST_LOSS = 10.0  # scales that a bet may lose in a day
WARM_UP = 20  # sessions without a bet, for the first scale
_HALF_LIFE = 60.0  # sessions, of the squared returns behind the scale
_LEAST = 0.5  # of the scale of all the past: a book that rests in cash does not look wild after it
_SIZES = (np.arange(20) + 0.5) / (20 * LARGEST_LOSS)


@dataclass(frozen=True)
class SharpeTest:
    """An anytime-valid test that an annual Sharpe ratio is above, or below, `null_sharpe`."""

    null_sharpe: float
    shows: Literal["above", "below"]  # the alternative; the null is its complement, edge included
    level: float = 0.05  # false-alarm rate over all time

    def __post_init__(self) -> None:
        check_level(self.level)
        if not abs(self.null_sharpe) < 10.0:
            raise InputError(f"null_sharpe is {self.null_sharpe}", "Give it a year, as .8")

    @property
    def threshold(self) -> float:
        """The wealth at which the null is rejected."""
        return 1.0 / self.level

    def wealth(self, excess: ArrayLike, sessions_per_year: float = SESSIONS_PER_YEAR) -> FloatArray:
        """The e-process after each of the daily excess returns (..., T), the same shape."""
        days = checked_series("excess", excess)
        z, sign = _standardised(days), 1.0 if self.shows == "above" else -1.0
        payoff = sign * (
            z - _volatility_part(z, self.null_sharpe / math.sqrt(sessions_per_year), sign)
        )
        payoff = np.minimum(payoff, LARGEST_LOSS)  # a single day proves nothing
        wealth = np.empty_like(days)
        bets = np.ones((*days.shape[:-1], _SIZES.size))
        for t in range(days.shape[-1]):
            if t >= WARM_UP:
                bets *= 1.0 + payoff[..., t, None] * _SIZES
                np.clip(bets, 0.0, 1e100, out=bets)
            wealth[..., t] = bets.mean(axis=-1)
        return wealth

    def first_alarm(
        self, excess: ArrayLike, sessions_per_year: float = SESSIONS_PER_YEAR
    ) -> FloatArray:
        """The session (...), from 1 on, of (..., T) that rejects the null; infinite if none."""
        return first(self.wealth(excess, sessions_per_year) >= self.threshold)


# Decided in advance, as every verdict is.
PROMOTION = SharpeTest(0.0, "above")
DEMOTION = SharpeTest(0.8, "below")
# True Sharpe ratio -> years until PROMOTION has found half of such agents; see `triggers.py`.
MEDIAN_YEARS = {0.5: 22.4, 1.0: 5.5, 1.5: 2.9}


def first(alarms: ArrayLike) -> FloatArray:
    """Number, from 1 on, of the first True along the last axis; infinite where there is none."""
    raised = np.asarray(alarms, np.bool_)
    return np.where(raised.any(axis=-1), raised.argmax(axis=-1) + 1.0, math.inf)


def _standardised(days: FloatArray) -> FloatArray:
    """Each day over a volatility of the days before it; 0 where there was none."""
    squares = np.square(days)
    decay, weight = 0.5 ** (1.0 / _HALF_LIFE), 0.0
    recent, total = np.zeros(days.shape[:-1]), np.zeros(days.shape[:-1])
    z = np.zeros_like(days)
    for t in range(days.shape[-1]):
        if t >= WARM_UP:
            scale = np.sqrt(np.maximum(recent / weight, _LEAST**2 * total / t))
            np.divide(days[..., t], scale, out=z[..., t], where=scale > NEGLIGIBLE)
        recent, weight = decay * recent + squares[..., t], decay * weight + 1.0
        total += squares[..., t]
    return z


def _volatility_part(z: FloatArray, sharpe: float, sign: float) -> FloatArray:
    """s h(z): see the top of this file."""
    if sign * sharpe > 0.0:
        return sharpe * 0.5 * (np.square(z) + 1.0)
    return sharpe * math.sqrt(math.pi / 2.0 / (1.0 + sharpe**2)) * np.abs(z)
