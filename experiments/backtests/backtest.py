"""Run a policy through a stretch of market and write down every day."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.policy import PolicyBatch, RiskManagedPolicy, Trader
from conf.errors import InputError
from conf.types import BoolArray, DateArray, FloatArray, ObsArray
from envs.core.batch import StepResult, Window
from envs.core.kernel import BookKernel
from envs.core.market import BookMarket, BookOptions, as_rows
from envs.kernels import open_kernel
from experiments.statistics.performance import Performance, summarise
from risk.bootstrap import equity_curve
from risk.metrics import sessions_per_year
from risk.overlay import OVERLAY_RULES, RiskSettings

FLOOR_USD = 0.01  # the equity shown of a book that owes money

_BOOKS_AT_ONCE = 256


@dataclass(frozen=True)
class Backtest:
    """N books over T sessions, day by day. Money in dollars."""

    dates: DateArray  # (T + 1,) closes; the first is where everything begins
    equity: FloatArray  # (N, T + 1)
    risk_free: FloatArray  # (T,) simple return of cash
    index_return: FloatArray  # (N, T) total return of the market's index
    cost: FloatArray  # (N, T) paid at the trade that begins the session and when rolling
    traded: FloatArray  # (N, T)
    reward: FloatArray  # (N, T)
    quantity: FloatArray  # (N, T, M) held into each close, units
    position: FloatArray  # (N, T, M) its value when traded
    exposures: dict[str, FloatArray]  # name -> (N, T), see the kernel's `exposures`
    rules: dict[str, FloatArray]  # rule -> (N, T) dollars of the request that it took away
    blocked_pnl: FloatArray  # (N, T) P&L by the next close of what the risk module took away
    guard: NDArray[np.int8]  # (N, T) GuardState of each trade; ACTIVE without a risk module
    alive: BoolArray  # (N, T) the book still traded; after ruin all numbers are 0
    ruined: BoolArray  # (N,) stopped out before the end; equity stays at the level of ruin

    def performance(self) -> Performance:
        """All metrics, arrays of N."""
        return summarise(
            self.equity,
            self.dates,
            self.risk_free,
            market_returns=self.index_return,
            traded_usd=self.traded,
            cost_usd=self.cost,
            position_usd=self.position,
        )

    @property
    def sessions_per_year(self) -> float:
        """What annualises everything measured on it."""
        return sessions_per_year(self.dates)

    def books(self, chosen: slice) -> Backtest:
        """Only some of the books."""
        shared = ("dates", "risk_free")
        parts = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in shared}
        for name, values in parts.items():
            is_dict = isinstance(values, dict)
            parts[name] = {k: v[chosen] for k, v in values.items()} if is_dict else values[chosen]
        return replace(self, **parts)


def run_backtest(
    policy: Trader | PolicyBatch | RiskManagedPolicy,
    market: BookMarket,
    options: BookOptions,
    window: Window,
    num_books: int | None = None,
) -> Backtest:
    """Take the policy, deterministic, through the whole window in one go.

    Book i runs on path i modulo P; one book a path unless `num_books` says otherwise. Costs,
    accounting and observations are those of training: it is the same kernel. The trades of a
    `RiskManagedPolicy` go through its risk module.

    Examples:
        >>> from agents import Cash
        >>> from envs import make_option_portfolio
        >>> own = make_option_portfolio(split="test").kernel
        >>> days = run_backtest(Cash(), own.market, own.options, own.window)
        >>> days.equity.shape, round(days.performance().mean("total_return"), 3)
        ((1, 754), 0.028)
    """
    books = market.history.num_paths if num_books is None else num_books
    traders, kernel = open_batch(policy, market, options, window, books)
    observation = kernel.reset()
    record = _Record(kernel)
    for result, alive in rollout(traders, kernel, observation, window.stop - window.start - 1):
        record.add(result, alive)
    return record.backtest()


def open_batch(
    policy: Trader | PolicyBatch | RiskManagedPolicy,
    market: BookMarket,
    options: BookOptions,
    window: Window,
    num_books: int,
) -> tuple[PolicyBatch, BookKernel]:
    """The traders and the books that they decide for, under the risk module if there is one."""
    risk = None
    if isinstance(policy, RiskManagedPolicy):
        risk, policy = policy.risk, policy.policy
    traders = policy if isinstance(policy, PolicyBatch) else PolicyBatch([policy])
    return traders, open_kernel(market, options, window, num_books, random_start=False, risk=risk)


def rollout(
    traders: PolicyBatch, kernel: BookKernel, observation: ObsArray, sessions: int
) -> Iterator[tuple[StepResult, BoolArray]]:
    """Step the kernel, deterministically; yields each result and which books were alive before it.

    A ruined book holds nothing more.
    """
    state, begins = None, np.ones(kernel.num_envs, np.bool_)
    alive = begins.copy()
    for _ in range(sessions):
        quantity, state = traders.quantities(kernel, observation, state, begins)
        result = kernel.trade_to(np.where(alive[:, None], quantity, 0.0))
        yield result, alive
        alive = alive & ~result.terminated
        observation, begins = result.observation, np.zeros(kernel.num_envs, np.bool_)


def run_backtests(
    policies: Mapping[str, Trader],
    market: BookMarket,
    options: BookOptions,
    window: Window,
    risk: RiskSettings | None = None,
) -> dict[str, Backtest]:
    """Every policy alone through the whole window, one book a path; with `risk`, all under it.

    Few books are stepped together, which takes no longer than one of them and gives the same
    numbers; where paths are many each policy runs by itself, to bound memory.
    """
    paths, names = market.history.num_paths, list(policies)
    together = len(names) if len(names) * paths <= _BOOKS_AT_ONCE else 1
    backtests: dict[str, Backtest] = {}
    for first in range(0, len(names), together):
        chosen = names[first : first + together]
        batch: PolicyBatch | RiskManagedPolicy = PolicyBatch([policies[name] for name in chosen])
        if risk is not None:
            batch = RiskManagedPolicy(batch, risk)
        backtest = run_backtest(batch, market, options, window, len(chosen) * paths)
        for k, name in enumerate(chosen):
            backtests[name] = backtest.books(slice(k * paths, (k + 1) * paths))
    return backtests


def first_session(backtest: Backtest, market: BookMarket) -> int:
    """The session of the market at which the backtest begins; InputError if it is another's."""
    dates = market.history.dates
    start = int(np.searchsorted(dates, backtest.dates[0]))
    same_days = np.array_equal(dates[start : start + len(backtest.dates)], backtest.dates)
    if not same_days or backtest.quantity.shape[-1] != len(market.instruments):
        raise InputError(
            f"{market.history.name}: the backtest of {backtest.dates[0]} to {backtest.dates[-1]} "
            f"with {backtest.quantity.shape[-1]} instruments was not run on this market",
            "Give the market that the backtest was run on",
        )
    return start


def index_equity(market: BookMarket, window: Window, initial: float) -> FloatArray:
    """Buy-and-hold of the market's index, dividends reinvested, (P, T + 1) dollars."""
    return initial * equity_curve(market.index_returns(window))


class _Record:
    """Collects the days of a backtest."""

    def __init__(self, kernel: BookKernel) -> None:
        self._kernel, ledger = kernel, kernel.ledger
        self._costs, self._traded = ledger.costs.copy(), ledger.traded.copy()
        self._equity = [ledger.equity.copy()]
        self._alive = [np.ones(kernel.num_envs, np.bool_)]
        self._days: dict[str, list[FloatArray]] = {}
        self._exposures: dict[str, list[FloatArray]] = {}
        self._rules: dict[str, list[FloatArray]] = {}

    def add(self, result: StepResult, alive: BoolArray) -> None:
        """One day; `alive` (N,) is before its trade."""
        kernel, ledger, trade = self._kernel, self._kernel.ledger, result.record
        day = {
            "cost": ledger.costs - self._costs,
            "traded": ledger.traded - self._traded,
            "reward": result.reward,
            "quantity": trade.quantity,
            "position": trade.quantity * trade.price,
            "blocked_pnl": np.zeros(len(alive)),
            "guard": np.zeros(len(alive)),
        }
        rules: dict[str, FloatArray] = {}
        if trade.overlay is not None:
            gain = as_rows(kernel.market.aged)[trade.row + 1] - trade.price
            blocked = trade.requested - trade.overlay.quantity
            day["blocked_pnl"] = (blocked * gain).sum(axis=-1)
            day["guard"] = trade.overlay.state.astype(np.float64)
            rules = {rule: trade.overlay.clipped[:, i] for i, rule in enumerate(OVERLAY_RULES)}
        for series, values_by_name in (
            (self._days, day),
            (self._exposures, kernel.exposures()),
            (self._rules, rules),
        ):
            for name, values in values_by_name.items():
                by_book = alive.reshape(-1, *[1] * (values.ndim - 1))
                series.setdefault(name, []).append(np.where(by_book, values, 0.0))
        self._costs, self._traded = ledger.costs.copy(), ledger.traded.copy()
        # Returns need something to be left.
        equity = np.where(alive, np.maximum(ledger.equity, FLOOR_USD), self._equity[-1])
        self._equity.append(equity)
        self._alive.append(alive & ~result.terminated)

    def backtest(self) -> Backtest:
        """All days that were added."""
        market, start = self._kernel.market, self._kernel.window.start
        window = Window(start, start + len(self._equity))
        index_return = market.index_returns(window)
        *alive, alive_at_end = self._alive
        days: dict[str, Any] = _stacked(self._days)
        return Backtest(
            dates=market.history.dates[window.start : window.stop],
            equity=np.stack(self._equity, axis=1),
            risk_free=market.cash_return[window.start : window.stop - 1],
            index_return=index_return[np.arange(len(alive_at_end)) % len(index_return)],
            exposures=_stacked(self._exposures),
            rules=_stacked(self._rules),
            guard=days.pop("guard").astype(np.int8),
            alive=np.stack(alive, axis=1),
            ruined=~alive_at_end,
            **days,
        )


def _stacked(series: dict[str, list[FloatArray]]) -> dict[str, FloatArray]:
    """Every series as one array (N, T, ...)."""
    return {name: np.stack(values, axis=1) for name, values in series.items()}
