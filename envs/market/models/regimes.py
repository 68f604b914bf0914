"""An index that switches between calm and storm, and nobody is told when.

J. D. Hamilton, A new approach to the economic analysis of nonstationary time series and the
business cycle, Econometrica 57 (1989). On the one clock of `envs.market.models.gbm`: the state may
change with each calendar day, and a day in state s adds (drift_s - dividend yield - vol_s²/2) / 365
to the log price, and noise of variance vol_s² / 365.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from conf.errors import InputError
from conf.settings import settings
from conf.types import FloatArray, IntArray
from envs.market.history import MarketHistory
from envs.market.models.bridge import bridge_extremes
from envs.market.models.gbm import DAYS_PER_YEAR, Scenario, history_of_paths, with_premium
from envs.market.models.heston import VIX_DAYS, VolPremium


def checked_probabilities(rows: Sequence[Sequence[float]], count: int, name: str) -> FloatArray:
    """The transition matrix (K, K), row: from this state; InputError unless rows add up to 1."""
    if len(rows) != count or any(len(row) != count for row in rows):
        raise InputError(
            f"{name} is not {count} by {count}",
            "Give a row and a column for each of the states",
        )
    matrix = np.array(rows, np.float64)
    for number, row in enumerate(matrix):
        if row.min() < 0 or abs(row.sum() - 1.0) > 1e-9:
            raise InputError(
                f"row {number} of {name} is {row.tolist()}",
                "Give probabilities that add up to 1",
            )
    return matrix


def stationary_shares(matrix: FloatArray, name: str) -> FloatArray:
    """How often each state holds in the long run, (K,); InputError if that is not unique."""
    balance = np.vstack([matrix.T - np.eye(len(matrix)), np.ones(len(matrix))])
    shares, _, rank, _ = np.linalg.lstsq(balance, np.eye(len(balance))[-1])
    if rank < len(matrix):
        raise InputError(
            f"{name} has states that never meet",
            "Let every state be reached, directly or not, from every other",
        )
    found: FloatArray = np.maximum(shares, 0.0) / np.maximum(shares, 0.0).sum()
    return found


def chain_paths(
    matrix: FloatArray, first: FloatArray, paths: int, steps: int, rng: np.random.Generator
) -> IntArray:
    """The state of each step, (paths, steps), the first drawn from the shares `first` (K,).

    By inversion of one uniform number a step.
    """
    thresholds = np.cumsum(matrix, axis=1)[:, :-1]
    uniform = rng.random((paths, steps))
    states = np.empty(uniform.shape, np.int64)
    states[:, 0] = (uniform[:, :1] >= np.cumsum(first)[:-1]).sum(axis=1)
    for step in range(1, steps):
        row = thresholds[states[:, step - 1]]
        states[:, step] = (uniform[:, step, None] >= row).sum(axis=1)
    return states


_TRANSITION = "data.regime.transition"


@settings
class IndexState:
    """How the index moves while one regime holds."""

    drift: Annotated[float, Field(ge=-5, le=5)]  # continuous, annual, dividends included
    vol_annual: Annotated[float, Field(gt=0, lt=5)]  # decimal


@settings
class IndexRegimes:
    """The regimes and how one follows the other; the defaults are fitted to the S&P 500 to 2013."""

    states: Annotated[tuple[IndexState, ...], Field(min_length=2)] = (
        IndexState(drift=0.17, vol_annual=0.127),
        IndexState(drift=-0.17, vol_annual=0.317),
    )
    # Row: from this state; column: to that one, with the next calendar day.
    transition: tuple[tuple[float, ...], ...] = ((0.994, 0.006), (0.013, 0.987))
    vol_premium: VolPremium = 0.0

    def transition_matrix(self) -> FloatArray:
        """The checked transition matrix of a day, (K, K)."""
        return checked_probabilities(self.transition, len(self.states), _TRANSITION)

    def stationary(self) -> FloatArray:
        """How often each state holds in the long run, (K,)."""
        return stationary_shares(self.transition_matrix(), _TRANSITION)

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
    days, paths = scenario.days, scenario.num_paths
    total = int(days.sum())
    states = chain_paths(model.transition_matrix(), model.stationary(), paths, total + 1, rng)
    ends = np.concatenate([[0], np.cumsum(days)])  # of the sessions, in calendar days
    daily = model._each("vol_annual") ** 2 / DAYS_PER_YEAR
    growth = (model._each("drift") - scenario.dividend_yield) / DAYS_PER_YEAR - daily / 2
    variance, mean = (
        np.add.reduceat(by_state[states[:, 1:]], ends[:-1], axis=1) for by_state in (daily, growth)
    )
    log_close = np.zeros((paths, len(ends)))
    shocks = rng.standard_normal(variance.shape) * np.sqrt(variance)
    np.cumsum(mean + shocks, axis=1, out=log_close[:, 1:])
    log_high, log_low = log_close.copy(), log_close.copy()
    extremes = bridge_extremes(log_close[:, :-1], log_close[:, 1:], variance, rng)
    log_high[:, 1:], log_low[:, 1:] = extremes
    at_close = states[:, ends]
    vol = with_premium(model.expected_vol()[at_close], model.vol_premium)
    name = "synthetic regime"
    return history_of_paths(name, scenario, log_close, log_high, log_low, vol), at_close
