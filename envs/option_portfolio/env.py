"""The option book: 20 contracts on one index, traded at each close."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from gymnasium import spaces

from conf.types import BoolArray, FloatArray, IntArray, ObsArray
from envs.core.batch import SavedArrays
from envs.core.episode_statistics import ALL
from envs.core.goal import Goals, goal_gaps, goal_reward
from envs.core.kernel import BookKernel
from envs.core.market import as_rows
from envs.option_portfolio.market import OptionMarket, OptionPortfolioSettings
from envs.option_portfolio.observation import BookObservation
from envs.option_portfolio.risk_view import RiskView
from envs.option_portfolio.sizing import at_price_level, target_quantity
from risk.book import Book
from risk.overlay import RiskOverlay


class OptionPortfolioKernel(BookKernel):
    """N option books over one market; see `BookKernel` for episodes and steps.

    Action (N, M) in [-1, 1], see `sizing`; observation (N, D), see `observation`.
    """

    market: OptionMarket
    options: OptionPortfolioSettings

    def _prepare(self) -> None:
        market = self.market
        sizing = at_price_level(self.options.sizing, float(market.history.close[0, 0]))
        self.options = replace(self.options, sizing=sizing)
        self.action_space = spaces.Box(-1.0, 1.0, (market.tape.num_slots,), dtype=np.float32)
        goal = self.options.goal
        self.goals = None if goal is None else Goals(self.num_envs, goal)
        self._rows = market.rows
        self._rolled = np.ascontiguousarray(market.tape.rolled)  # or `take` copies all of it
        self._observation = BookObservation(
            market.observed, self._rows, self.options.initial_equity_usd
        )

    @cached_property
    def _risk_view(self) -> RiskView:
        scan = None
        if self.overlay is not None and self.overlay.options.limits.max_margin is not None:
            scan = self.overlay.options.scan
        return RiskView(self.market, scan)

    def exposures(self) -> dict[str, FloatArray]:
        """Greeks (N,) of the book held into the last close, as of the close before it.

        delta: sum of q x delta x S over equity; gamma: change of that delta for a 1 % move;
        vega: dollars a volatility point; theta: dollars a session (a calendar day on its clock).
        """
        row = self._row() - 1
        tape, spot = self.market.tape, self._rows.spot[row]
        equity = np.maximum(self.statistics.equity_before, 1.0)

        def total(values: FloatArray) -> FloatArray:
            by_row = as_rows(values).take(row, axis=0)
            exposure: FloatArray = (self.held_quantity * by_row).sum(axis=-1)
            return exposure

        return {
            "delta": total(tape.delta) * spot / equity,
            "gamma": total(tape.gamma) * spot * spot * 0.01 / equity,
            "vega": total(tape.vega) * 0.01,
            "theta": total(tape.theta),
        }

    def position_greeks(self) -> dict[str, FloatArray]:
        """Of each position (N, M): dollars for a 1 % move, the change of that, a point, a session.

        They belong to the contracts that sit in the slots at this close.
        """
        tape, row, held = self.market.tape, self._row(), self.ledger.quantity
        percent = 0.01 * self._rows.spot.take(row)[:, None]

        def of(values: FloatArray) -> FloatArray:
            greek: FloatArray = held * as_rows(values).take(row, axis=0)
            return greek

        return {
            "delta $": of(tape.delta) * percent,
            "gamma $": of(tape.gamma) * percent * percent,
            "vega $": of(tape.vega) * 0.01,
            "theta $": of(tape.theta),
        }

    def book_scalars(self) -> dict[str, FloatArray]:
        """Greeks, gross notional over equity, drawdown and cash, (N,) each."""
        equity = np.maximum(self.statistics.equity_before, 1.0)
        notional = np.abs(self.held_quantity).sum(axis=-1) * self._rows.spot[self._row() - 1]
        return {**super().book_scalars(), "gross_notional": notional / equity}

    def _target(self, action: FloatArray, mark: FloatArray, row: IntArray) -> FloatArray:
        ledger, spot = self.ledger, self._rows.spot.take(row)
        sizing = self.options.sizing
        return target_quantity(action, ledger.quantity, mark, spot, ledger.equity, sizing)

    def _cost(self, trade: FloatArray, mark: FloatArray, row: IntArray) -> FloatArray:
        size = np.abs(trade)
        cost: FloatArray = (size * self._rows.unit_cost.take(row, axis=0)).sum(axis=-1)
        impact = self.options.costs.impact(trade, mark)
        return cost if impact is None else cost + impact

    def _leaving(self, held: FloatArray, next_row: IntArray) -> tuple[BoolArray, FloatArray | None]:
        closing = None
        if self._rows.closing_cost is not None:
            closing = (np.abs(held) * self._rows.closing_cost.take(next_row, axis=0)).sum(axis=-1)
        return self._rolled.take(self.session, axis=0), closing

    def _risk_book(self, mark: FloatArray, row: IntArray) -> Book:
        return self._risk_view.book(row, self.ledger.quantity, self.ledger.equity)

    def _market_return(self, row: IntArray) -> FloatArray:
        spot = self._rows.spot
        returned: FloatArray = spot.take(row + 1) / spot.take(row) - 1.0
        return returned

    def _observe(self, row: IntArray, env_indices: slice | IntArray = ALL) -> ObsArray:
        since_start = self.session[env_indices] - self.start[env_indices]
        return self._observation.observe(
            row, since_start, self.ledger, self.statistics, env_indices, self.goals
        )

    # --- goals -----------------------------------------------------------------------------------

    def compute_reward(self, reached: ObsArray, desired: ObsArray, infos: Any) -> FloatArray:
        """What of the reward (K,) depends on the goal; goals (K, 2) as they are observed.

        Under the name that gymnasium's environments with goals have it.
        """
        return goal_reward(reached, desired, self.options.reward.weights)

    def _goal_gaps(self) -> FloatArray:
        if self.goals is None:
            return super()._goal_gaps()
        return goal_gaps(self.goals.reached(self.ledger, self.statistics, ALL), self.goals.desired)

    def _open(self, mask: BoolArray) -> None:
        super()._open(mask)
        if self.goals is not None and self.random_start:
            self.goals.draw(mask, self.rng)

    def _parts(self) -> dict[str, SavedArrays | RiskOverlay]:
        goals = {} if self.goals is None else {"goals.": self.goals}
        return {**super()._parts(), **goals}
