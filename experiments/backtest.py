"""Run a policy through a stretch of market and write down every day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from agents.lineup import Lineup
from agents.managed import RiskManagedPolicy
from agents.policy import Policy
from envs.batch import Window
from envs.market.history import MarketHistory
from envs.market_rows import as_rows
from envs.option_market import OptionMarket, OptionPortfolioSettings
from envs.option_portfolio import OptionPortfolioKernel
from risk.overlay import OVERLAY_RULES, RiskSettings
from risk.performance import Performance, summarise

FloatArray = NDArray[np.float64]

FLOOR_USD = 0.01  # where a book stands that owes money

_BOOKS_AT_ONCE = 256
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Backtest:
    """N books over T sessions, day by day. Money in dollars."""

    dates: NDArray[np.datetime64]  # (T + 1,) closes; the first is where everything begins
    equity: FloatArray  # (N, T + 1)
    risk_free: FloatArray  # (T,) simple return of cash
    index_return: FloatArray  # (N, T) total return of the index, dividends included
    cost: FloatArray  # (N, T) paid at the trade that begins the session and when rolling
    traded: FloatArray  # (N, T)
    reward: FloatArray  # (N, T)
    quantity: FloatArray  # (N, T, M) held into each close, units of the index
    position: FloatArray  # (N, T, M) its value when traded
    greeks: dict[str, FloatArray]  # name -> (N, T), see OptionPortfolioKernel.book_greeks
    rules: dict[str, FloatArray]  # rule -> (N, T) dollars it took from what was wanted
    foregone: FloatArray  # (N, T) P&L by the next close of what the risk module took away
    guard: NDArray[np.int8]  # (N, T) GuardState of each trade; ACTIVE without a risk module
    alive: NDArray[np.bool_]  # (N, T) the book still traded; after ruin all numbers are 0
    ruined: NDArray[np.bool_]  # (N,) stopped out before the end; equity stays where it fell to

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

    def books(self, chosen: slice) -> Backtest:
        """Only some of the books."""
        own = {name: getattr(self, name)[chosen] for name in _BY_BOOK}
        own |= {
            name: {key: values[chosen] for key, values in getattr(self, name).items()}
            for name in ("greeks", "rules")
        }
        return replace(self, **own)


_BY_BOOK = (
    "equity", "index_return", "cost", "traded", "reward", "quantity", "position", "foregone",
    "guard", "alive", "ruined",
)  # fmt: skip


def run_backtest(
    policy: Policy,
    market: OptionMarket,
    options: OptionPortfolioSettings,
    window: Window,
    num_books: int | None = None,
) -> Backtest:
    """Take the policy, deterministic, through the whole window in one go.

    Book i runs on path i modulo P; one book a path unless `num_books` says otherwise. Costs,
    accounting and observations are those of training: it is the same kernel. The trades of a
    `RiskManagedPolicy` go through its risk module.
    """
    history = market.history
    books = history.num_paths if num_books is None else num_books
    risk = None
    if isinstance(policy, RiskManagedPolicy):
        risk = policy.risk
        policy = policy.policy
    kernel = OptionPortfolioKernel(market, options, window, books, random_start=False, risk=risk)
    obs, state = kernel.reset(), None
    record = _Record(kernel)
    starts = np.ones(books, np.bool_)
    alive = np.ones(books, np.bool_)
    for _ in range(window.stop - window.start - 1):
        action, state = policy.predict(obs, state=state, episode_start=starts, deterministic=True)
        result = kernel.step(np.where(alive[:, None], action, 0.0))
        record.write(result.reward, alive)
        alive &= ~result.terminated
        obs, starts = result.observation, np.zeros(books, np.bool_)
    return record.finish(kernel, alive)


def run_backtests(
    policies: Mapping[str, Policy],
    market: OptionMarket,
    options: OptionPortfolioSettings,
    window: Window,
    risk: RiskSettings | None = None,
) -> dict[str, Backtest]:
    """Every policy alone through the whole window, one book a path; with `risk`, all under it.

    Few books are stepped together, which takes no longer than one of them and gives the same
    numbers; where paths are many each policy runs by itself, to bound memory.
    """
    paths, names = market.history.num_paths, list(policies)
    together = len(names) if len(names) * paths <= _BOOKS_AT_ONCE else 1
    found: dict[str, Backtest] = {}
    for first in range(0, len(names), together):
        some = names[first : first + together]
        lineup: Policy = Lineup([policies[name] for name in some])
        if risk is not None:
            lineup = RiskManagedPolicy(lineup, risk)
        done = run_backtest(lineup, market, options, window, len(some) * paths)
        for k, name in enumerate(some):
            found[name] = done.books(slice(k * paths, (k + 1) * paths))
    return found


def _overlay_day(kernel: OptionPortfolioKernel, row: IntArray) -> dict[str, FloatArray]:
    result, tape = kernel.overlay_result, kernel.market.tape
    if result is None:
        nothing = np.zeros(kernel.num_envs)
        return {"guard": nothing, "foregone": nothing}
    taken = {f"rule.{rule}": result.taken[:, i] for i, rule in enumerate(OVERLAY_RULES)}
    gain = as_rows(tape.aged)[row + 1] - as_rows(tape.mark)[row]
    foregone = ((result.wanted - result.quantity) * gain).sum(axis=-1)
    return {"guard": result.state.astype(np.float64), "foregone": foregone, **taken}


def index_equity(history: MarketHistory, window: Window, initial: float) -> FloatArray:
    """Buy-and-hold of the index with dividends reinvested, (P, T + 1) dollars."""
    growth = 1.0 + index_returns(history, window)
    start = np.full((history.num_paths, 1), initial)
    return np.concatenate([start, initial * np.cumprod(growth, axis=1)], axis=1)


def index_returns(history: MarketHistory, window: Window) -> FloatArray:
    """Total return of the index from each session of the window to the next, (P, T)."""
    close = history.close[:, window.start : window.stop]
    now = slice(window.start, window.stop - 1)
    dividends = np.exp(history.dividend_yield[now] * history.days_to_next[now] / 365.0)
    return close[:, 1:] / close[:, :-1] * dividends - 1.0


def cash_equity(risk_free: FloatArray, initial: float) -> FloatArray:
    """Cash that earns the risk-free return (T,), as (T + 1,) dollars."""
    return np.concatenate([[initial], initial * np.cumprod(1.0 + risk_free)])


class _Record:
    """Collects the days of a backtest."""

    def __init__(self, kernel: OptionPortfolioKernel) -> None:
        self._kernel = kernel
        self._equity = [kernel.ledger.equity.copy()]
        self._costs = [kernel.ledger.costs.copy()]
        self._traded = [kernel.ledger.traded.copy()]
        self._days: dict[str, list[FloatArray]] = {}

    def write(self, reward: FloatArray, alive: NDArray[np.bool_]) -> None:
        kernel, ledger = self._kernel, self._kernel.ledger
        rows = kernel.path * kernel.market.history.num_sessions + kernel.session - 1
        mark = as_rows(kernel.market.tape.mark)[rows]
        held = kernel.held_quantity * alive[:, None]
        day = {"reward": reward, "quantity": held, "position": held * mark, **kernel.book_greeks()}
        day |= {"alive": alive.astype(np.float64), **_overlay_day(kernel, rows)}
        for name, values in day.items():
            shaped = alive.reshape(-1, *[1] * (values.ndim - 1))
            self._days.setdefault(name, []).append(np.where(shaped, values, 0.0))
        # Returns need something to be left.
        for series, now in (
            (self._equity, np.maximum(ledger.equity, FLOOR_USD)),
            (self._costs, ledger.costs),
            (self._traded, ledger.traded),
        ):
            series.append(np.where(alive, now, series[-1]))

    def finish(self, kernel: OptionPortfolioKernel, alive: NDArray[np.bool_]) -> Backtest:
        history, window = kernel.market.history, kernel.window
        days = {name: np.stack(values, axis=1) for name, values in self._days.items()}
        rules = {name[5:]: days.pop(name) for name in list(days) if name.startswith("rule.")}
        length = days["reward"].shape[1]
        stop = window.start + length
        return Backtest(
            dates=history.dates[window.start : stop + 1],
            equity=np.stack(self._equity, axis=1),
            risk_free=kernel.market.growth[window.start : stop],
            index_return=index_returns(history, Window(window.start, stop + 1))[
                np.arange(kernel.num_envs) % history.num_paths
            ],
            cost=np.diff(np.stack(self._costs, axis=1), axis=1),
            traded=np.diff(np.stack(self._traded, axis=1), axis=1),
            reward=days.pop("reward"),
            quantity=days.pop("quantity"),
            position=days.pop("position"),
            rules=rules,
            foregone=days.pop("foregone"),
            guard=days.pop("guard").astype(np.int8),
            alive=days.pop("alive").astype(np.bool_),
            greeks=days,
            ruined=~alive,
        )
