"""The option book: 20 contracts on one index, traded at each close.

Decide at the close of t on what is known then, trade at that close, settle at the close of t+1.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.batch import BatchKernel, BoolArray, FloatArray, IntArray, ObsArray, StepResult, Window
from envs.book_observation import BookObservation
from envs.episode_statistics import EVERYONE, EpisodeStatistics
from envs.ledger import Ledger
from envs.market_rows import as_rows, lay_out_rows
from envs.option_market import OptionMarket, OptionPortfolioSettings
from envs.reward import Reward, Step
from envs.risk_view import RiskView
from envs.sizing import target_quantity
from risk.errors import InputError
from risk.overlay import OverlayResult, RiskOverlay, RiskSettings


class OptionPortfolioKernel(BatchKernel):
    """N option books over one market.

    With `random_start` each episode begins at a session and on a path drawn at random inside the
    window and lasts `episode.sessions`; otherwise episode i runs through the whole window on path
    i modulo P. With `risk`, what the action asks for goes through the risk module before it is
    traded. Action (N, M) in [-1, 1], see `envs.sizing`; observation (N, D), see
    `envs.observation`.
    """

    def __init__(
        self,
        market: OptionMarket,
        options: OptionPortfolioSettings,
        window: Window,
        num_envs: int = 1,
        seed: int | None = None,
        *,
        random_start: bool = True,
        risk: RiskSettings | None = None,
    ) -> None:
        super().__init__(num_envs, seed)
        self.market, self.options, self.window = market, options, window
        self.random_start = random_start
        self._check_window()
        slots = market.tape.num_slots
        features = market.observed.features
        low = np.array([feature.low for feature in features], np.float32)
        high = np.array([feature.high for feature in features], np.float32)
        self.observation_space = spaces.Box(low, high, dtype=np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (slots,), dtype=np.float32)
        self.reward = Reward(options.reward)
        self.ledger = Ledger(num_envs, slots)
        self.statistics = EpisodeStatistics(num_envs)
        self.overlay: RiskOverlay | None = None
        self.overlay_result: OverlayResult | None = None  # of the last trade
        if risk is not None and risk.enabled:
            needs_scan = risk.limits.max_margin is not None
            self._risk_view = RiskView(market, risk.scan if needs_scan else None)
            lot = None if options.sizing.fractional else options.sizing.contract_multiplier
            self.overlay = RiskOverlay(num_envs, risk, lot)
        self.path: IntArray = np.zeros(num_envs, np.int64)
        self.session: IntArray = np.full(num_envs, window.start)
        self.start: IntArray = self.session.copy()
        self.end: IntArray = self.session + 1
        # The book held into the last close, for whoever wants to look at it (Greeks, attribution).
        self.held_quantity: FloatArray = np.zeros((num_envs, slots))
        self.reward_terms: FloatArray = np.zeros((num_envs, len(self.reward.term_names)))
        self._rows, self._num_sessions = lay_out_rows(market), market.history.num_sessions
        self._rolled = np.ascontiguousarray(market.tape.rolled)  # or `take` copies all of it
        self._observation = BookObservation(market.observed, self._rows, options.initial_equity_usd)

    def reset(self, mask: BoolArray | None = None) -> ObsArray:
        """Begin episodes with nothing but cash."""
        self._open(np.ones(self.num_envs, np.bool_) if mask is None else mask)
        return self._observe(self._row())

    def restart(self, mask: BoolArray) -> ObsArray:
        """Like `reset(mask)`, but the first observations (K, D) of the K new episodes alone."""
        self._open(mask)
        who = np.nonzero(mask)[0]
        return self._observe(self._row()[who], who)

    def place(self, start: IntArray, path: IntArray, end: IntArray) -> ObsArray:
        """Begin every episode at given sessions, on given paths, to last up to session `end`."""
        self.reset()
        self.start[:], self.session[:], self.path[:], self.end[:] = start, start, path, end
        return self._observe(self._row())

    def step(self, action: NDArray[np.floating[Any]]) -> StepResult:
        """Trade to the wanted book, go to the next close, settle, reward."""
        wanted = self.checked_action(action)
        ledger, row = self.ledger, self._row()
        next_row = row + 1
        before = ledger.equity
        mark, spot = self._rows.mark.take(row, axis=0), self._rows.spot.take(row)
        growth = self.market.growth.take(self.session)
        target = target_quantity(wanted, ledger.quantity, mark, spot, before, self.options.sizing)
        if self.overlay is not None:
            book = self._risk_view.book(row, ledger.quantity, before)
            self.overlay_result = self.overlay.apply(target, book)
            target = self.overlay_result.quantity
        cost = self._cost(target - ledger.quantity, mark, row)
        traded = ledger.trade(target, mark, cost)
        self.held_quantity = target
        held_value, closing = self._settle(target, next_row, growth)
        if closing is not None:
            cost = cost + closing
            closed = np.abs(held_value * self._rolled[self.session]).sum(axis=-1)
            traded = traded + closed
            if self.overlay is not None:
                self.overlay.record_trade(closed)
        market_return = self._rows.spot.take(next_row) / spot - 1.0
        reward, ruined = self._reward(before, cost, traded, held_value, growth, market_return)
        truncated = (self.session >= self.end) & ~ruined
        return StepResult(self._observe(next_row), reward, ruined, truncated)

    def book_greeks(self) -> dict[str, FloatArray]:
        """Greeks (N,) of the book held into the last close, as of the close before it.

        delta: sum of q x delta x S over equity; gamma: change of that delta for a 1 % move;
        vega: dollars a volatility point; theta: dollars a calendar day.
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

    def episode_summary(self, index: int) -> dict[str, float]:
        """Reward, length, return, Sharpe, drawdown, turnover and costs of a finished episode."""
        initial = self.options.initial_equity_usd
        return {
            **self.statistics.summary(index),
            "total_return": float(self.ledger.equity[index] / initial - 1.0),
            "costs_share": float(self.ledger.costs[index] / initial),
            "traded_share": float(self.ledger.traded[index] / initial),
        }

    # --- the parts of a step ---------------------------------------------------------------------

    def _cost(self, trade: FloatArray, mark: FloatArray, row: IntArray) -> FloatArray:
        size = np.abs(trade)
        cost: FloatArray = (size * self._rows.unit_cost.take(row, axis=0)).sum(axis=-1)
        impact = self.options.costs.impact(trade, mark)
        return cost if impact is None else cost + impact

    def _settle(
        self, held: FloatArray, next_row: IntArray, growth: FloatArray
    ) -> tuple[FloatArray, FloatArray | None]:
        """Move to the next close; the value there of what was held, and the cost of rolling."""
        self.session = self.session + 1
        aged = self._rows.aged.take(next_row, axis=0)
        left = self._rolled.take(self.session, axis=0)
        closing = None
        if self._rows.closing_cost is not None:
            closing = (np.abs(held) * self._rows.closing_cost.take(next_row, axis=0)).sum(axis=-1)
        return self.ledger.settle(aged, left, growth, closing), closing

    def _reward(
        self,
        before: FloatArray,
        cost: FloatArray,
        traded: FloatArray,
        held_value: FloatArray,
        growth: FloatArray,
        market_return: FloatArray,
    ) -> tuple[FloatArray, BoolArray]:
        ledger, statistics = self.ledger, self.statistics
        returned = ledger.equity / before - 1.0
        excess = returned - growth
        drawdown = ledger.drawdown
        statistics.record(before, excess, market_return, drawdown)
        if self.overlay is not None:
            self.overlay.observe(ledger.equity, market_return)
        step = Step(
            portfolio_return=returned,
            excess_return=excess,
            cost_share=cost / before,
            traded_share=traded / before,
            drawdown=drawdown,
            held_value=held_value,
            equity=ledger.equity,
            episode_sharpe=statistics.episode_sharpe(),
            market_correlation=statistics.market_correlation,
        )
        reward, self.reward_terms = self.reward.evaluate(step)
        ruined = ledger.equity < self.options.episode.ruin_share * self.options.initial_equity_usd
        if np.count_nonzero(ruined):
            reward = reward - self.options.reward.ruin_penalty * ruined
        statistics.add_reward(reward)
        return reward, ruined

    def _observe(self, row: IntArray, who: slice | IntArray = EVERYONE) -> ObsArray:
        since_start = self.session[who] - self.start[who]
        return self._observation.observe(row, since_start, self.ledger, self.statistics, who)

    # --- set-up ----------------------------------------------------------------------------------

    def _check_window(self) -> None:
        history, window = self.market.history, self.window
        first, last = self.market.first_usable, history.num_sessions
        if window.start < first or window.stop > last:
            raise InputError(
                f"{history.name}: sessions {window.start} to {window.stop - 1} were asked for, but "
                f"only {first} to {last - 1} can be used",
                f"Features need the first {first} sessions as warm-up; give a longer history",
            )
        sessions = self.options.episode.sessions
        if self.random_start and window.stop - window.start < sessions + 1:
            raise InputError(
                f"{history.name}: an episode of {sessions} sessions does not fit into the "
                f"{window.stop - window.start} of the window",
                "Set env.episode.sessions lower or widen the split",
            )

    def _open(self, mask: BoolArray) -> None:
        count = int(mask.sum())
        if not count:
            return
        start, path, end = self._draw(mask, count)
        self.start[mask] = self.session[mask] = start
        self.path[mask] = path
        self.end[mask] = end
        self.ledger.open(mask, self.options.initial_equity_usd)
        self.statistics.reset(mask, self.options.initial_equity_usd)
        if self.overlay is not None:
            self.overlay.open(mask, self.options.initial_equity_usd)
        self.held_quantity[mask] = 0.0

    def _draw(self, mask: BoolArray, count: int) -> tuple[IntArray, IntArray, IntArray]:
        paths, window = self.market.history.num_paths, self.window
        if not self.random_start:
            path = np.nonzero(mask)[0] % paths
            return np.full(count, window.start), path, np.full(count, window.stop - 1)
        sessions = self.options.episode.sessions
        start = self.rng.integers(window.start, window.stop - sessions, size=count)
        path = self.rng.integers(0, paths, size=count)
        return start, path, start + sessions

    def _row(self) -> IntArray:
        return self.path * self._num_sessions + self.session

    def _parts(self) -> dict[str, _Stateful]:
        parts: dict[str, _Stateful] = {"ledger.": self.ledger, "statistics.": self.statistics}
        if self.overlay is not None:
            parts["overlay."] = self.overlay
        return parts

    def _get_arrays(self) -> dict[str, Any]:
        arrays = {name: getattr(self, name).copy() for name in _ARRAYS}
        for prefix, part in self._parts().items():
            arrays |= {prefix + name: value for name, value in part.get_state().items()}
        return arrays

    def _set_arrays(self, arrays: dict[str, Any]) -> None:
        for name in _ARRAYS:
            setattr(self, name, np.array(arrays[name], dtype=getattr(self, name).dtype))
        for prefix, part in self._parts().items():
            own = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
            part.set_state(own)


_ARRAYS = ("path", "session", "start", "end", "held_quantity", "reward_terms")


class _Stateful(Protocol):
    def get_state(self) -> dict[str, Any]: ...

    def set_state(self, state: dict[str, Any]) -> None: ...
