"""Hedging: a liability that was sold, and how many shares are held against it."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from conf.errors import InputError
from conf.types import BoolArray, FloatArray, IntArray, ObsArray
from envs.core.batch import StepResult
from envs.core.episode_statistics import ALL
from envs.core.features import Scaling
from envs.core.kernel import BookKernel
from envs.core.market import as_rows
from envs.hedging.market import HedgingMarket, HedgingSettings, nothing_to_limit
from risk.book import Book

BAND_SHIFT = 2.0  # an action of 0 leaves ln(1 + e^-2) = .13 shares on each side of delta
ACTION_LIMIT = 10.0
CENTRE_STEP = 0.1  # shares by which an action of 1 shifts the band
ACTION_SIZES = {"band": 2, "shifted_band": 3, "holding": 1}


def band_edges(action: FloatArray, delta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest holding (...), a unit, that actions (..., 2) allow around delta (...).

    delta - softplus(a1 - 2) and delta + softplus(a2 - 2); of actions (..., 3) around delta + .1 a3.
    """
    width = np.logaddexp(0.0, action[..., :2] - BAND_SHIFT)
    centre = delta + CENTRE_STEP * action[..., 2] if action.shape[-1] > 2 else delta
    return centre - width[..., 0], centre + width[..., 1]


def holding_limit(options: HedgingSettings) -> float:
    """The most shares a unit that an action can ask for: half as many again as can be delta."""
    return 1.5 * sum(abs(leg.quantity) for leg in options.legs)


class HedgingKernel(BookKernel):
    """N hedgers over one market; see `BookKernel` for episodes and steps.

    Action (N, 2), `band`: what is held is moved into the band, and only to its edge, which is the
    form of the best hedge under proportional costs (M. H. A. Davis, V. G. Panas and
    T. Zariphopoulou, European option pricing with transaction costs, 1993). Or (N, 1), `holding`:
    shares a unit.
    The liability is held whatever is asked for. An episode is the life of one, at whose end the
    shares are sold, at a cost, and the episode terminates: there is nothing after it. The reward is
    what was earned in prices of the liability, so that a liability costs minus the sum of rewards.
    """

    market: HedgingMarket
    options: HedgingSettings

    def _prepare(self) -> None:
        market, options = self.market, self.options
        if self.overlay is not None:
            raise nothing_to_limit()
        self._starts = market.starts(self.window, options.episode.sessions)
        if self.random_start and not len(self._starts):
            raise InputError(
                f"{market.history.name}: no liability of {options.episode.sessions} sessions "
                f"begins and ends within sessions {self.window.start} to {self.window.stop - 1}",
                "Widen the split or set env.episode.sessions lower",
            )
        most = holding_limit(options) if options.action == "holding" else ACTION_LIMIT
        self._traded = market.num_traded
        limit = np.full(self._traded * ACTION_SIZES[options.action], most, np.float32)
        self.action_space = spaces.Box(-limit, limit, dtype=np.float32)
        self._delta, self._shares = as_rows(market.delta), as_rows(market.shares)
        self._premium, self._liability = as_rows(market.premium), as_rows(market.liability)
        self._observed, self._index = as_rows(market.observed), as_rows(market.index_return)
        self._unit_cost = as_rows(market.unit_cost)
        self._closing_cost = as_rows(market.closing_cost)
        self._scaling = Scaling(market.own_features)
        # Of each instrument: what is neutral, and the units of it that are one a unit.
        self._neutral = as_rows(np.concatenate([market.delta[..., None], market.neutral], axis=-1))
        of_options = np.broadcast_to(market.units[..., None], market.neutral.shape)
        self._per_unit = as_rows(np.concatenate([market.shares[..., None], of_options], axis=-1))
        self._option_delta = as_rows(market.option_delta)
        self._return_term = self.reward.term_names.index("portfolio_return")
        self.lost: FloatArray = np.zeros(self.num_envs)  # since the sale, in prices
        self.last_cost: FloatArray = np.zeros(self.num_envs)  # of the last liability that ended

    def trade_to(self, quantity: FloatArray) -> StepResult:
        """As `BookKernel.trade_to`; of the quantities (N, M) those of the legs do not count."""
        self._check_not_ended()
        self._check_quantity(quantity)
        held = quantity.copy()
        held[:, self._traded :] = self._liability.take(self._row(), axis=0)
        result = super().trade_to(held)
        if not self.random_start:
            return result
        over = result.terminated | result.truncated
        return result._replace(terminated=over, truncated=np.zeros_like(over))

    def exposures(self) -> dict[str, FloatArray]:
        """What was held into the last close, at the close before it, after the trade.

        holding: shares a unit of the liability; delta: those that would have been neutral.
        """
        row = self._row() - 1
        held = self.held_quantity[:, 0] / self._shares.take(row)
        return {"holding": held, "delta": self._delta.take(row)}

    def episode_summary(self, index: int) -> dict[str, float]:
        """Reward, length, and what the liability cost in its prices.

        A year's Sharpe ratio of a book that lives for a month says nothing.
        """
        summary = super().episode_summary(index)
        own = {"hedging_cost": float(self.last_cost[index])}
        return {"r": summary["r"], "l": summary["l"], **own}

    def _target(self, action: FloatArray, mark: FloatArray, row: IntArray) -> FloatArray:
        per_unit, legs = self._per_unit.take(row, axis=0), self._liability.take(row, axis=0)
        if self.options.action == "holding":
            return np.column_stack([action * per_unit, legs])
        by_instrument = action.reshape(len(action), self._traded, -1)
        low, high = band_edges(by_instrument, self._neutral.take(row, axis=0))
        low, high, held = low * per_unit, high * per_unit, self.ledger.quantity
        options = np.minimum(np.maximum(held[:, 1 : self._traded], low[:, 1:]), high[:, 1:])
        theirs = (options * self._option_delta.take(row, axis=0)).sum(axis=-1)
        shares = np.minimum(np.maximum(held[:, 0], low[:, 0] - theirs), high[:, 0] - theirs)
        return np.column_stack([shares, options, legs])

    def _cost(self, trade: FloatArray, mark: FloatArray, row: IntArray) -> FloatArray:
        dollars = self._unit_cost.take(row, axis=0) * np.abs(trade[:, : self._traded])
        cost: FloatArray = dollars.sum(axis=-1)
        return cost

    def _leaving(self, held: FloatArray, next_row: IntArray) -> tuple[BoolArray, FloatArray | None]:
        left = self.market.leaves.take(self.session, axis=0)
        if not left[:, 0].any():
            return left, None
        dollars = self._closing_cost.take(next_row, axis=0) * np.abs(held[:, : self._traded])
        return left, dollars.sum(axis=-1)

    def _kept_where_closed(self, target: FloatArray, market_closed: BoolArray) -> FloatArray:
        kept = target.copy()
        own = slice(0, self._traded)
        kept[market_closed, own] = self.ledger.quantity[market_closed, own]
        return kept

    def _risk_book(self, mark: FloatArray, row: IntArray) -> Book:
        raise nothing_to_limit()

    def _market_return(self, row: IntArray) -> FloatArray:
        return self._index.take(row + 1)

    def _reward(
        self,
        before: FloatArray,
        cost: FloatArray,
        traded: FloatArray,
        held_value: FloatArray,
        cash_return: FloatArray,
        market_return: FloatArray,
    ) -> tuple[FloatArray, BoolArray]:
        shared, ruined = super()._reward(
            before, cost, traded, held_value, cash_return, market_return
        )
        premium = self._premium.take(self._row() - 1)
        earned = (self.ledger.equity - before * (1.0 + cash_return)) / premium
        self.lost = self.lost - earned
        ended = self.market.leaves[:, 0].take(self.session)
        self.last_cost = np.where(ended, self.lost, self.last_cost)
        self.lost = np.where(ended, 0.0, self.lost)
        reward = self.options.reward.weights.portfolio_return * earned
        self.reward_terms = np.zeros_like(self.reward_terms)
        self.reward_terms[:, self._return_term] = reward
        self.statistics.add_reward(reward - shared)
        return reward, ruined

    def _observe(self, row: IntArray, env_indices: slice | IntArray = ALL) -> ObsArray:
        held = self.ledger.quantity[env_indices, : self._traded] / self._per_unit.take(row, axis=0)
        own = self._scaling.apply(np.column_stack([held, self.lost[env_indices]]))
        return np.concatenate([self._observed.take(row, axis=0), own], axis=-1)

    # --- episodes and state ----------------------------------------------------------------------

    def _open(self, mask: BoolArray) -> None:
        super()._open(mask)
        self.lost[mask] = 0.0

    def _draw(self, mask: BoolArray, count: int) -> tuple[IntArray, IntArray, IntArray]:
        if not self.random_start:
            return super()._draw(mask, count)
        start = self._starts[self.rng.integers(0, len(self._starts), size=count)]
        path = self.rng.integers(0, self.market.history.num_paths, size=count)
        return start, path, start + self.options.episode.sessions

    def _get_arrays(self) -> dict[str, Any]:
        own = {"lost": self.lost.copy(), "last_cost": self.last_cost.copy()}
        return {**super()._get_arrays(), **own}

    def _set_arrays(self, arrays: dict[str, Any]) -> None:
        super()._set_arrays(arrays)
        self.lost = np.array(arrays["lost"], np.float64)
        self.last_cost = np.array(arrays["last_cost"], np.float64)
