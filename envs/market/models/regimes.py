"""An index that switches between hidden regimes, such as calm and storm.

J. D. Hamilton, A new approach to the economic analysis of nonstationary time series and the
business cycle, Econometrica 57 (1989). The state may change with each calendar day. A day that has
b years of variance (`envs.market.clock`; 1 / 365 by the calendar) in state s adds
(drift_s - dividend yield) / 365 - b vol_s² / 2 to the log price, and noise of variance b vol_s².
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from conf.errors import InputError
from conf.settings import settings
from conf.types import FloatArray, IntArray
from envs.market.clock import DAYS_PER_YEAR
from envs.market.history import MarketHistory
from envs.market.models.gbm import Scenario, VolPremium, history_of_steps, with_premium
from envs.market.models.heston import VIX_DAYS


class MarkovRegimes:
    """Regimes of a market, of which one follows another as the states of a Markov chain."""

    states: tuple[Any, ...]  # K regimes
    transition: tuple[tuple[float, ...], ...]  # row: from this state; column: to that one
    _key: ClassVar[str]  # of the settings, for messages

    def transition_matrix(self) -> FloatArray:
        """The transition matrix (K, K); InputError unless its rows are probabilities."""
        count, name = len(self.states), f"{self._key}.transition"
        if len(self.transition) != count or any(len(row) != count for row in self.transition):
            raise InputError(
                f"{name} is not {count} by {count}",
                "Give a row and a column for each of the states",
            )
        matrix = np.array(self.transition, np.float64)
        for number, row in enumerate(matrix):
            if row.min() < 0 or abs(row.sum() - 1.0) > 1e-9:
                raise InputError(
                    f"row {number} of {name} is {row.tolist()}",
                    "Give probabilities that add up to 1",
                )
        return matrix

    def stationary(self) -> FloatArray:
        """How often each state holds in the long run, (K,); InputError if that is not unique."""
        matrix = self.transition_matrix()
        balance = np.vstack([matrix.T - np.eye(len(matrix)), np.ones(len(matrix))])
        shares, _, rank, _ = np.linalg.lstsq(balance, np.eye(len(balance))[-1])
        if rank < len(matrix):
            raise InputError(
                f"{self._key}.transition has states that never meet",
                "Let every state be reached, directly or not, from every other",
            )
        stationary: FloatArray = np.maximum(shares, 0.0) / np.maximum(shares, 0.0).sum()
        return stationary

    def state_paths(self, paths: int, steps: int, rng: np.random.Generator) -> IntArray:
        """The state of each step, (paths, steps), the first drawn from the stationary shares.

        By inversion of one uniform number a step.
        """
        thresholds = np.cumsum(self.transition_matrix(), axis=1)[:, :-1]
        first = np.cumsum(self.stationary())[:-1]
        uniform = rng.random((paths, steps))
        states = np.empty(uniform.shape, np.int64)
        states[:, 0] = (uniform[:, :1] >= first).sum(axis=1)
        for step in range(1, steps):
            row = thresholds[states[:, step - 1]]
            states[:, step] = (uniform[:, step, None] >= row).sum(axis=1)
        return states


@settings
class IndexState:
    """How the index moves while one regime holds."""

    drift: Annotated[float, Field(ge=-5, le=5)]  # continuous, annual, dividends included
    vol_annual: Annotated[float, Field(gt=0, lt=5)]  # decimal


@settings
class IndexRegimes(MarkovRegimes):
    """The regimes and how one follows the other; the defaults are fitted to the S&P 500 to 2013."""

    states: Annotated[tuple[IndexState, ...], Field(min_length=2)] = (
        IndexState(drift=0.17, vol_annual=0.127),
        IndexState(drift=-0.17, vol_annual=0.317),
    )
    # With the next calendar day.
    transition: tuple[tuple[float, ...], ...] = ((0.994, 0.006), (0.013, 0.987))
    vol_premium: VolPremium = 0.0

    _key: ClassVar[str] = "data.regime"

    def expected_vol(self) -> FloatArray:
        """Root of the mean variance of the next 30 days from each state, (K,), annual decimals."""
        matrix, variance = self.transition_matrix(), self._each("vol_annual") ** 2
        total, ahead = np.zeros_like(variance), variance
        for _ in range(int(VIX_DAYS)):
            ahead = matrix @ ahead
            total += ahead
        return np.sqrt(total / VIX_DAYS)

    def _each(self, name: str) -> FloatArray:
        return np.array([getattr(state, name) for state in self.states])


def simulate_index_regimes(
    model: IndexRegimes, scenario: Scenario, rng: np.random.Generator
) -> tuple[MarketHistory, IntArray]:
    """P paths and the state that holds at each close, (P, T).

    The drifts are the model's; `scenario.drift` is not read. Implied volatility knows the state.
    """
    days = scenario.days
    states = model.state_paths(scenario.num_paths, int(days.sum()) + 1, rng)
    ends = np.concatenate([[0], np.cumsum(days)])  # of the sessions, in calendar days
    daily = (model._each("vol_annual") ** 2)[states[:, 1:]] * scenario.variance_by_day
    growth = ((model._each("drift") - scenario.dividend_yield) / DAYS_PER_YEAR)[states[:, 1:]]
    variance, mean = (
        np.add.reduceat(by_day, ends[:-1], axis=1) for by_day in (daily, growth - daily / 2)
    )
    steps = mean + rng.standard_normal(variance.shape) * np.sqrt(variance)
    at_close = states[:, ends]
    vol = with_premium(model.expected_vol()[at_close], model.vol_premium)
    history = history_of_steps("synthetic regime", scenario, steps, variance, vol, rng)
    return history, at_close
