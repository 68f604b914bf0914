"""What all environments of books share: episodes, accounts, risk module, reward and state.

Decide at the close of t on what is known then, trade at that close, settle at the close of t+1.
A subclass says what an action asks for, what trading costs, and what is seen.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from conf.errors import InputError
from conf.types import BoolArray, FloatArray, IntArray, ObsArray
from envs.core.batch import BatchKernel, SavedArrays, StepRecord, StepResult, Window
from envs.core.episode_statistics import ALL, EpisodeStatistics
from envs.core.ledger import Ledger
from envs.core.market import BookMarket, BookOptions, as_rows
from envs.core.reward import VOLATILITY_SESSIONS, Reward, Step
from risk.book import Book
from risk.overlay import RiskOverlay, RiskSettings


@dataclass(frozen=True)
class BookState:
    """N books at a close, before they trade: what a strategy states quantities from."""

    options: Any  # the environment's settings: sizing, costs
    path: IntArray  # (N,)
    session: IntArray  # (N,) of this close
    start: IntArray  # (N,) at which the episode began
    quantity: FloatArray  # (N, M) units held
    cash: FloatArray  # (N,) dollars
    equity: FloatArray  # (N,) dollars

    def rows(self, own: slice) -> BookState:
        """Some of the books."""
        names = ("path", "session", "start", "quantity", "cash", "equity")
        return replace(self, **{name: getattr(self, name)[own] for name in names})


class BookKernel(BatchKernel):
    """N books over one market of M instruments.

    With `random_start` each episode begins at a session and on a path drawn at random inside the
    window and lasts `episode.sessions`; otherwise episode i runs through the whole window on path
    i modulo P. With `risk`, what the action asks for goes through the risk module before it is
    traded, in whole lots of `lot` units if that is given. Subclasses set `action_space`.
    """

    market: BookMarket
    options: BookOptions

    def __init__(
        self,
        market: BookMarket,
        options: BookOptions,
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
        self._paths: IntArray | None = None  # that episodes are drawn on; None: all
        self._check_window()
        low = np.array([feature.low for feature in market.features], np.float32)
        high = np.array([feature.high for feature in market.features], np.float32)
        self.observation_space = spaces.Box(low, high, dtype=np.float32)
        instruments = len(market.instruments)
        self.reward = Reward(options.reward)
        self.ledger = Ledger(num_envs, instruments)
        self.statistics = EpisodeStatistics(num_envs, market.history.sessions_per_year)
        self.overlay: RiskOverlay | None = None
        if risk is not None and risk.enabled:
            self.overlay = RiskOverlay(
                num_envs, risk, options.lot, market.history.sessions_per_year
            )
        self.path: IntArray = np.zeros(num_envs, np.int64)
        self.session: IntArray = np.full(num_envs, window.start)
        self.start: IntArray = self.session.copy()
        self.end: IntArray = self.session + 1
        # The book held into the last close, for exposures and attribution.
        self.held_quantity: FloatArray = np.zeros((num_envs, instruments))
        self.reward_terms: FloatArray = np.zeros((num_envs, len(self.reward.term_names)))
        self._nothing_traded: FloatArray = np.zeros(num_envs)
        self._mark, self._aged = as_rows(market.mark), as_rows(market.aged)
        closed = market.market_closed
        self._market_closed = None if closed is None else as_rows(closed)
        self._num_sessions = market.history.num_sessions
        self._prepare()

    def reset(self, mask: BoolArray | None = None) -> ObsArray:
        """Begin episodes with nothing but cash."""
        self._open(np.ones(self.num_envs, np.bool_) if mask is None else mask)
        return self._observe(self._row())

    def restart(self, mask: BoolArray) -> ObsArray:
        """Like `reset(mask)`, but the first observations (K, D) of the K new episodes alone."""
        self._open(mask)
        env_indices = np.nonzero(mask)[0]
        return self._observe(self._row()[env_indices], env_indices)

    def place(self, start: IntArray, path: IntArray, end: IntArray) -> ObsArray:
        """Begin every episode at given sessions, on given paths, to last up to session `end`."""
        self.reset()
        self.start[:], self.session[:], self.path[:], self.end[:] = start, start, path, end
        return self._observe(self._row())

    def restrict(self, window: Window, paths: IntArray | None) -> None:
        """Draw new episodes inside that window and on these paths only; None: on all.

        It is no part of the state that is saved. InputError for a window without an episode.
        """
        self.window, self._paths = window, paths
        self._check_window()

    def step(self, action: NDArray[np.floating[Any]]) -> StepResult:
        """Trade to what the actions (N, A) ask for, go to the next close, settle, reward."""
        return self.trade_to(self.quantity_of(action))

    def quantity_of(self, action: NDArray[np.floating[Any]]) -> FloatArray:
        """Quantities (N, M) that actions (N, A) ask for at this close."""
        self._check_not_ended()
        row = self._row()
        return self._target(self.checked_action(action), self._mark.take(row, axis=0), row)

    def trade_to(self, quantity: FloatArray) -> StepResult:
        """Trade to quantities (N, M) in units, go to the next close, settle, reward.

        The risk module comes first, where there is one, and closes a book that is asked for NaN;
        without it a NaN, and always another shape, is an InputError. So is a step beyond the end of
        an episode; a ruined book may go on up to it.
        """
        return self.settle(self.execute(self.plan(quantity)))

    def plan(self, quantity: FloatArray) -> StepRecord:
        """The first of the three parts of `trade_to`: what would be traded here, and its cost.

        Of the next close nothing is needed. The risk module takes it as decided.
        """
        self._check_not_ended()
        self._check_quantity(quantity)
        row = self._row()
        mark = self._mark.take(row, axis=0)
        target, overlay = quantity, None
        if self.overlay is not None:
            overlay = self.overlay.apply(quantity, self._risk_book(mark, row))
            target = overlay.quantity
        if self._market_closed is not None:
            target = self._kept_where_closed(target, self._market_closed.take(row))
        change = target - self.ledger.quantity
        cost = self._cost(change, mark, row)
        return StepRecord(row, quantity, target, mark, cost, self._nothing_traded, overlay)

    def execute(self, record: StepRecord) -> StepRecord:
        """The second: trade to the record's `quantity` at its `price`, for its `cost`.

        These may be others than planned, as where an order was filled in part or at another price:
        then `cost` is the commission and what was paid more than `price`.
        """
        ledger = self.ledger
        self._equity_before = ledger.equity
        self._change = record.quantity - ledger.quantity
        traded = ledger.trade(record.quantity, record.price, record.cost)
        self.held_quantity = record.quantity
        return record._replace(traded=traded)

    def settle(self, record: StepRecord) -> StepResult:
        """The third: go to the next close, settle what was executed here, reward."""
        ledger, row, before = self.ledger, record.row, self._equity_before
        next_row, target, cost, traded = row + 1, record.quantity, record.cost, record.traded
        cash_return = self.market.cash_return.take(self.session)
        self.session = self.session + 1
        left, closing = self._leaving(target, next_row)
        held_value = ledger.settle(self._aged.take(next_row, axis=0), left, cash_return, closing)
        if closing is not None:
            cost = cost + closing
            self._change = np.concatenate([self._change, target * left], axis=-1)
            closed = np.abs(held_value * left).sum(axis=-1)
            traded = traded + closed
            if self.overlay is not None:
                self.overlay.record_trade(closed)
        market_return = self._market_return(row)
        reward, ruined = self._reward(before, cost, traded, held_value, cash_return, market_return)
        truncated = (self.session >= self.end) & ~ruined
        return StepResult(self._observe(next_row), reward, ruined, truncated, record)

    def within_limits(self, quantity: FloatArray) -> FloatArray:
        """What is left of books `quantity` (N, M) at this close until they keep every limit.

        Limits are shares of the equity that there is here. All of it without a risk module.
        """
        if self.overlay is None:
            return quantity
        row = self._row()
        book = self._risk_book(self._mark.take(row, axis=0), row)
        return self.overlay.within_limits(replace(book, quantity=quantity))

    def trading_cost(self, trade: FloatArray, mark: FloatArray, row: IntArray) -> FloatArray:
        """Dollars (N,) that it costs to trade quantities (N, M) at `row` (N,) of the market."""
        return self._cost(trade, mark, row)

    def books(self) -> BookState:
        """The books at this close, before they trade."""
        ledger, where = self.ledger, (self.path, self.session, self.start)
        return BookState(self.options, *where, ledger.quantity, ledger.cash, ledger.equity)

    def risk_book(self) -> Book:
        """The books at this close as the risk module sees them; InputError where none can be."""
        row = self._row()
        return self._risk_book(self._mark.take(row, axis=0), row)

    def prices(self) -> FloatArray:
        """Dollars a unit (N, M) at which everything can be traded at this close."""
        prices: FloatArray = self._mark.take(self._row(), axis=0)
        return prices

    def position_greeks(self) -> dict[str, FloatArray]:
        """Of each position held at this close (N, M), in dollars; none where nothing is priced."""
        return {}

    def episode_summary(self, index: int) -> dict[str, float]:
        """Reward, length, return, Sharpe, drawdown, turnover and costs of a finished episode."""
        initial = self.options.initial_equity_usd
        return {
            **self.statistics.summary(index),
            "total_return": float(self.ledger.equity[index] / initial - 1.0),
            "costs_share": float(self.ledger.costs[index] / initial),
            "traded_share": float(self.ledger.traded[index] / initial),
        }

    @abstractmethod
    def exposures(self) -> dict[str, FloatArray]:
        """What the book held into the last close was exposed to at the close before it, (N,)."""

    def book_scalars(self) -> dict[str, FloatArray]:
        """What is logged of the books in training: exposures, drawdown and cash, (N,) each."""
        equity = np.maximum(self.statistics.equity_before, 1.0)
        return {
            **self.exposures(),
            "drawdown": self.ledger.drawdown,
            "cash": self.ledger.cash / equity,
        }

    # --- what a subclass has to say --------------------------------------------------------------

    @abstractmethod
    def _prepare(self) -> None:
        """Set `action_space`, and lay out what the steps gather from."""

    @abstractmethod
    def _target(self, action: FloatArray, mark: FloatArray, row: IntArray) -> FloatArray:
        """Quantities (N, M) that a checked action (N, A) asks for."""

    @abstractmethod
    def _cost(self, trade: FloatArray, mark: FloatArray, row: IntArray) -> FloatArray:
        """Dollars (N,) that it costs to trade these quantities (N, M)."""

    @abstractmethod
    def _leaving(self, held: FloatArray, next_row: IntArray) -> tuple[BoolArray, FloatArray | None]:
        """Which positions are paid out at the next close, and what that costs (N,), if anything.

        The first broadcasts to (N, M). `session` is that of the next close already.
        """

    @abstractmethod
    def _risk_book(self, mark: FloatArray, row: IntArray) -> Book:
        """The books before the trade, as the risk module sees them."""

    @abstractmethod
    def _market_return(self, row: IntArray) -> FloatArray:
        """Return (N,) of the index from `row` to the next close."""

    @abstractmethod
    def _observe(self, row: IntArray, env_indices: slice | IntArray = ALL) -> ObsArray:
        """What the K episodes `env_indices` see at `row` (K,)."""

    def _check_not_ended(self) -> None:
        ended = self.session >= self.end
        if np.count_nonzero(ended):
            raise InputError(
                f"the episode of book {int(ended.argmax())} has ended",
                "Call reset before the next step",
            )

    def _check_quantity(self, quantity: FloatArray) -> None:
        shape = self.held_quantity.shape
        if quantity.shape != shape:
            raise InputError(f"quantities have shape {quantity.shape}, not {shape}", "Give (N, M)")
        if self.overlay is None and not np.isfinite(quantity).all():
            book, at = np.argwhere(~np.isfinite(quantity))[0]
            raise InputError(
                f"the quantity of {self.market.instruments[at]} in book {book} is "
                f"{quantity[book, at]}",
                "Give a finite number of units",
            )

    def _kept_where_closed(self, target: FloatArray, market_closed: BoolArray) -> FloatArray:
        """What is held stays where nothing can be traded."""
        if self.overlay is not None:
            self.overlay.nothing_traded(market_closed)
        return np.where(market_closed[:, None], self.ledger.quantity, target)

    # --- reward ----------------------------------------------------------------------------------

    def _reward(
        self,
        before: FloatArray,
        cost: FloatArray,
        traded: FloatArray,
        held_value: FloatArray,
        cash_return: FloatArray,
        market_return: FloatArray,
    ) -> tuple[FloatArray, BoolArray]:
        ledger, statistics = self.ledger, self.statistics
        returned = ledger.equity / before - 1.0
        excess = returned - cash_return
        drawdown = ledger.drawdown
        statistics.record(before, excess, market_return, drawdown)
        if self.overlay is not None:
            self.overlay.observe(ledger.equity, market_return)
        step = Step(
            portfolio_return=returned,
            excess_return=excess,
            cost_share=cost / before,
            traded_share=traded / before,
            trades=self._num_trades,
            drawdown=drawdown,
            held_value=held_value,
            equity=ledger.equity,
            market_return=market_return,
            episode_sharpe=statistics.episode_sharpe(),
            market_correlation=statistics.market_correlation,
            recent_volatility=self._recent_volatility,
            goal_gaps=self._goal_gaps,
            exposure=self._exposure,
        )
        reward, self.reward_terms = self.reward.evaluate(step)
        ruined = ledger.equity < self.options.episode.ruin_share * self.options.initial_equity_usd
        if np.count_nonzero(ruined):
            reward = reward - self.options.reward.ruin_penalty * ruined
        statistics.add_reward(reward)
        return reward, ruined

    def _num_trades(self) -> FloatArray:
        trades: FloatArray = np.count_nonzero(self._change, axis=-1).astype(np.float64)
        return trades

    def _recent_volatility(self) -> FloatArray:
        since = self.session[:, None] - 1 - np.arange(VOLATILITY_SESSIONS)
        return self.statistics.recent_volatility(self.market.cash_return.take(np.maximum(since, 0)))

    def _goal_gaps(self) -> FloatArray:
        return np.zeros((self.num_envs, 2))  # as long as there are no goals

    def _exposure(self, name: str) -> FloatArray:
        exposures = self.exposures()
        if name not in exposures:
            raise InputError(
                f"a term of the reward asks for the exposure {name}, which this environment lacks",
                f"It has {', '.join(exposures)}; give that term the weight 0",
            )
        return exposures[name]

    # --- episodes and state ----------------------------------------------------------------------

    def _check_window(self) -> None:
        history, window = self.market.history, self.window
        first, last = self.market.first_usable, history.num_sessions
        if window.start < first or window.stop > last:
            raise InputError(
                f"{history.name}: sessions {window.start} to {window.stop - 1} were requested, but "
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
        if self._paths is None:
            path = self.rng.integers(0, paths, size=count)
        else:
            path = self._paths[self.rng.integers(0, len(self._paths), size=count)]
        return start, path, start + sessions

    def _row(self) -> IntArray:
        return self.path * self._num_sessions + self.session

    def _parts(self) -> dict[str, SavedArrays | RiskOverlay]:
        overlay = {} if self.overlay is None else {"overlay.": self.overlay}
        return {"ledger.": self.ledger, "statistics.": self.statistics, **overlay}

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
