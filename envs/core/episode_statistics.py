"""Running statistics of N episodes, for the reward, the observation and the logs."""

from __future__ import annotations

import math

import numpy as np

from conf.types import BoolArray, FloatArray, IntArray
from envs.core.batch import SavedArrays
from envs.core.reward import MIN_RETURNS_FOR_SHARPE, MIN_RETURNS_FOR_VOLATILITY, SHARPE_STD_FLOOR
from risk.metrics import SESSIONS_PER_YEAR

ALL = slice(None)

ROLLING_SESSIONS = 60


class EpisodeStatistics(SavedArrays):
    """Excess returns of each episode: since its start (Welford), and of the last 60 sessions."""

    FIELDS = (
        *("count", "mean", "squares", "recent", "recent_market"),
        *("max_drawdown", "reward_sum", "equity_before"),
    )

    def __init__(self, num_envs: int, sessions_per_year: float = SESSIONS_PER_YEAR) -> None:
        self._annual = math.sqrt(sessions_per_year)
        self._all_rows = np.arange(num_envs)
        self.count: FloatArray = np.zeros(num_envs)  # sessions so far
        self.mean: FloatArray = np.zeros(num_envs)  # of the excess returns
        self.squares: FloatArray = np.zeros(num_envs)  # sum of squared deviations from the mean
        self.recent: FloatArray = np.zeros((num_envs, ROLLING_SESSIONS))  # ring of excess returns
        self.recent_market: FloatArray = np.zeros((num_envs, ROLLING_SESSIONS))
        self.max_drawdown: FloatArray = np.zeros(num_envs)
        self.reward_sum: FloatArray = np.zeros(num_envs)
        self.equity_before: FloatArray = np.ones(num_envs)  # dollars, before the last step

    def reset(self, mask: BoolArray, equity: float) -> None:
        """Forget the masked episodes; the next ones begin with this equity."""
        for name in self.FIELDS:
            getattr(self, name)[mask] = equity if name == "equity_before" else 0.0

    def record(
        self,
        equity_before: FloatArray,
        excess_return: FloatArray,
        market_return: FloatArray,
        drawdown: FloatArray,
    ) -> None:
        """Take in one step, all (N,)."""
        self.equity_before = equity_before
        place = self.count.astype(np.int64) % ROLLING_SESSIONS
        self.recent[self._all_rows, place] = excess_return
        self.recent_market[self._all_rows, place] = market_return
        self.count = self.count + 1.0
        step = excess_return - self.mean
        self.mean = self.mean + step / self.count
        self.squares = self.squares + step * (excess_return - self.mean)
        self.max_drawdown = np.maximum(self.max_drawdown, drawdown)

    def add_reward(self, reward: FloatArray) -> None:
        """Add the step's reward (N,) to the episode's."""
        self.reward_sum = self.reward_sum + reward

    def episode_sharpe(self) -> FloatArray:
        """Daily Sharpe ratio since the episode's start, (N,); 0 in its first five sessions."""
        variance = self.squares / np.maximum(self.count, 1.0)
        ratio = self.mean / (np.sqrt(variance) + SHARPE_STD_FLOOR)
        return np.where(self.count > MIN_RETURNS_FOR_SHARPE, ratio, 0.0)

    def rolling_sharpe(self, env_indices: slice | IntArray = ALL) -> FloatArray:
        """Annualised Sharpe ratio of the last 60 sessions, (N,); 0 in the first five sessions.

        `env_indices`: of these episodes only.
        """
        recent = self.recent[env_indices]
        count = np.minimum(self.count[env_indices], float(ROLLING_SESSIONS))
        safe = np.maximum(count, 2.0)
        mean = recent.sum(axis=-1) / safe
        variance = ((recent * recent).sum(axis=-1) - safe * mean * mean) / (safe - 1.0)
        ratio = mean / (np.sqrt(np.maximum(variance, 0.0)) + SHARPE_STD_FLOOR)
        return np.where(count > MIN_RETURNS_FOR_SHARPE, ratio * self._annual, 0.0)

    def recent_return(self, sessions: int, env_indices: slice | IntArray = ALL) -> FloatArray:
        """Sum of the excess returns of the last `sessions` <= 60, of these episodes (K,)."""
        recent, count = self.recent[env_indices], self.count[env_indices].astype(np.int64)
        place = (count[:, None] - 1 - np.arange(sessions)) % ROLLING_SESSIONS
        total: FloatArray = np.take_along_axis(recent, place, axis=-1).sum(axis=-1)
        return total

    def recent_volatility(self, risk_free: FloatArray) -> FloatArray:
        """Standard deviation (ddof=1) of the last K <= 60 returns, daily, (N,); 0 before five.

        risk_free (N, K): what cash earned in the last sessions, the newest first.
        """
        back = np.arange(risk_free.shape[1])
        place = (self.count.astype(np.int64)[:, None] - 1 - back) % ROLLING_SESSIONS
        returns = self.recent[self._all_rows[:, None], place] + risk_free
        known = back < self.count[:, None]
        number = np.maximum(known.sum(axis=-1), 2)
        mean = np.where(known, returns, 0.0).sum(axis=-1) / number
        centred = np.where(known, returns - mean[:, None], 0.0)
        deviation = np.sqrt((centred * centred).sum(axis=-1) / (number - 1))
        return np.where(self.count >= MIN_RETURNS_FOR_VOLATILITY, deviation, 0.0)

    def market_correlation(self) -> FloatArray:
        """Correlation of recent excess returns with the index, (N,); 0 where undefined."""
        count = np.minimum(self.count, float(ROLLING_SESSIONS))
        safe = np.maximum(count, 2.0)
        own, other = self.recent, self.recent_market
        mean_own, mean_other = own.sum(axis=-1) / safe, other.sum(axis=-1) / safe
        covariance = (own * other).sum(axis=-1) - safe * mean_own * mean_other
        spread = ((own * own).sum(axis=-1) - safe * mean_own**2) * (
            (other * other).sum(axis=-1) - safe * mean_other**2
        )
        defined = (count > MIN_RETURNS_FOR_SHARPE) & (spread > 1e-24)
        return np.where(defined, covariance / np.sqrt(np.where(defined, spread, 1.0)), 0.0)

    def summary(self, index: int) -> dict[str, float]:
        """One episode in numbers: reward `r`, length `l`, annualised Sharpe, maximum drawdown."""
        count = max(float(self.count[index]), 2.0)
        deviation = float(np.sqrt(self.squares[index] / (count - 1.0)))
        sharpe = self.mean[index] / (deviation + SHARPE_STD_FLOOR) * self._annual
        return {
            "r": float(self.reward_sum[index]),
            "l": float(self.count[index]),
            "sharpe": float(sharpe),
            "max_drawdown": float(self.max_drawdown[index]),
        }
