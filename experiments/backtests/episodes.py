"""The same policy in many single years: every episode begins anew, with nothing but cash."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agents.policy import Policy
from conf.types import FloatArray, IntArray
from envs.core.batch import Window
from envs.core.market import BookMarket, BookOptions
from experiments.backtests.backtest import FLOOR_USD, open_batch, rollout
from risk.bootstrap import equity_curve
from risk.metrics import (
    SESSIONS_PER_YEAR,
    max_drawdown,
    profit_factor,
    sharpe_ratio,
    simple_returns,
)

SESSIONS_APART = 21


@dataclass(frozen=True)
class Episodes:
    """E episodes; the equity of a ruined one stays at the level of ruin."""

    total_return: FloatArray  # (E,)
    max_drawdown: FloatArray  # (E,)
    sharpe: FloatArray  # (E,) annual, of excess returns

    @property
    def win_rate(self) -> float:
        """Share of episodes that earned something."""
        return float((self.total_return > 0.0).mean())

    @property
    def profit_factor(self) -> float:
        """Sum of the gains over the sum of the losses, by episode; NaN without a loss."""
        return float(profit_factor(self.total_return))


def run_episodes(
    policy: Policy, market: BookMarket, options: BookOptions, window: Window
) -> Episodes | None:
    """Episodes of the settings' length, begun every 21 sessions of the window.

    They overlap, so they are no independent draws; on several paths they follow one another. None
    where the window is shorter than an episode.
    """
    sessions, history = options.episode.sessions, market.history
    starts = _starts(market, options, window)
    if not len(starts):
        return None
    start = np.tile(starts, history.num_paths)
    path = np.repeat(np.arange(history.num_paths), len(starts))
    traders, kernel = open_batch(policy, market, options, window, len(start))
    observation = kernel.place(start, path, start + sessions)
    equity = [kernel.ledger.equity.copy()]
    for _, alive in rollout(traders, kernel, observation, sessions):
        equity.append(np.where(alive, kernel.ledger.equity, equity[-1]))
    cash_return = np.stack([market.cash_return[s : s + sessions] for s in start])
    return measured(
        np.maximum(np.stack(equity, axis=1), FLOOR_USD), cash_return, history.sessions_per_year
    )


def index_episodes(market: BookMarket, options: BookOptions, window: Window) -> Episodes | None:
    """Buy-and-hold of the market's index over the same episodes."""
    sessions, start = options.episode.sessions, _starts(market, options, window)
    if not len(start):
        return None
    returns = market.index_returns(window)
    cut = [returns[:, s - window.start : s - window.start + sessions] for s in start]
    cash_return = np.stack([market.cash_return[s : s + sessions] for s in start])
    paths = market.history.num_paths
    return measured(
        equity_curve(np.concatenate(cut)),
        np.repeat(cash_return, paths, axis=0),
        market.history.sessions_per_year,
    )


def measured(
    equity: FloatArray, risk_free: FloatArray, sessions_per_year: float = SESSIONS_PER_YEAR
) -> Episodes:
    """Measures of curves (E, T + 1) in dollars, given the return of cash (E, T)."""
    return Episodes(
        equity[:, -1] / equity[:, 0] - 1.0,
        max_drawdown(equity),
        sharpe_ratio(simple_returns(equity), risk_free, sessions_per_year),
    )


def _starts(market: BookMarket, options: BookOptions, window: Window) -> IntArray:
    sessions = options.episode.sessions
    apart = SESSIONS_APART if market.history.num_paths == 1 else sessions
    return np.arange(window.start, window.stop - sessions, apart)
