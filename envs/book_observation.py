"""The observation of an option book: rows of the market, and the portfolio block beside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.batch import IntArray, ObsArray
from envs.episode_statistics import EpisodeStatistics
from envs.features import Scaling
from envs.ledger import Ledger
from envs.market_rows import as_rows
from envs.observation import MARKET, MarketObservation
from envs.option_market import OptionMarket
from envs.reward import diversification_of


@dataclass(frozen=True)
class MarketRows:
    """Views of an OptionMarket, one row for each (path, session). M slots."""

    mark: NDArray[np.float64]  # (rows, M)
    spot: NDArray[np.float64]  # (rows,)
    unit_cost: NDArray[np.float64]  # (rows, M)
    closing_cost: NDArray[np.float64] | None  # (rows, M)
    before: NDArray[np.float32]  # (rows, F1) observation before the portfolio block
    after: NDArray[np.float32]  # (rows, F2) and after it
    log_price: NDArray[np.float64]  # (rows,)


def lay_out_rows(market: OptionMarket, mark: NDArray[np.float64]) -> MarketRows:
    """The rows of a market; those of `mark` are there already."""
    observed, closing = market.observed, market.closing_unit_cost
    return MarketRows(
        mark=mark,
        spot=as_rows(market.history.close),
        unit_cost=as_rows(market.unit_cost),
        closing_cost=None if closing is None else as_rows(closing),
        before=as_rows(observed.before),
        after=as_rows(observed.after),
        log_price=as_rows(observed.log_price),
    )


class BookObservation:
    """Puts observations (K, D) together; see `envs.observation` for what stands in them."""

    def __init__(
        self, observed: MarketObservation, rows: MarketRows, initial_equity_usd: float
    ) -> None:
        self._rows, self._initial_equity = rows, initial_equity_usd
        self._width, self._block = len(observed.features), observed.portfolio
        self._scaling = Scaling(observed.features[self._block])

    def observe(
        self,
        row: IntArray,
        since_start: IntArray,
        ledger: Ledger,
        statistics: EpisodeStatistics,
        who: slice | IntArray,
    ) -> ObsArray:
        """What the K episodes `who` see at `row` (K,), `since_start` (K,) sessions into them."""
        rows, block = self._rows, self._block
        obs = np.empty((len(row), self._width), np.float32)
        obs[:, : block.start] = rows.before.take(row, axis=0)
        log_move = rows.log_price.take(row) - rows.log_price.take(row - since_start)
        obs[:, 0] = np.minimum(
            np.maximum(log_move / MARKET[0].scale, MARKET[0].low), MARKET[0].high
        )
        if rows.after.shape[-1]:
            obs[:, block.stop :] = rows.after.take(row, axis=0)

        quantity, equity = ledger.quantity[who], ledger.equity[who]
        worth = np.maximum(equity, 1e-3 * self._initial_equity)
        value = quantity * rows.mark.take(row, axis=0)
        gross = np.abs(value).sum(axis=-1)
        slots = value.shape[1]
        raw = np.empty((len(row), block.stop - block.start))
        raw[:, 0] = ledger.cash[who] / worth
        raw[:, 1] = equity / self._initial_equity - 1.0
        raw[:, 2 : 2 + slots] = quantity * (rows.spot.take(row) / worth)[:, None]
        raw[:, 2 + slots : 2 + 2 * slots] = value / worth[:, None]
        raw[:, -4] = gross / worth
        raw[:, -3] = diversification_of(value, gross)
        raw[:, -2] = ledger.drawdown[who]
        raw[:, -1] = statistics.rolling_sharpe(who)
        obs[:, block] = self._scaling.apply(raw)
        return obs
