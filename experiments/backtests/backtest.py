"""Run a policy through a stretch of market and write down every day."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from agents.policy import PolicyBatch, RiskManagedPolicy, Trader
from conf.errors import InputError
from conf.types import BoolArray, DateArray, FloatArray, ObsArray
from envs.core.batch import StepRecord, StepResult, Window
from envs.core.kernel import BookKernel
from envs.core.market import BookMarket, BookOptions, as_rows
from envs.kernels import open_kernel
from experiments.statistics.performance import Performance, summarise
from risk.bootstrap import equity_curve
from risk.overlay import OVERLAY_RULES, RiskSettings

FLOOR_USD = 0.01  # where a book stands that owes money

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
    rules: dict[str, FloatArray]  # rule -> (N, T) dollars it took from what was wanted
    blocked_pnl: FloatArray  # (N, T) P&L by the next close of what the risk module took away
    guard: NDArray[np.int8]  # (N, T) GuardState of each trade; ACTIVE without a risk module
    alive: BoolArray  # (N, T) the book still traded; after ruin all numbers are 0
    ruined: BoolArray  # (N,) stopped out before the end; equity stays where it fell to

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
            for name in ("exposures", "rules")
        }
        return replace(self, **own)


_BY_BOOK = (
    "equity", "index_return", "cost", "traded", "reward", "quantity", "position", "blocked_pnl",
    "guard", "alive", "ruined",
)  # fmt: skip


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
    """
    books = market.history.num_paths if num_books is None else num_books
    traders, kernel = opened(policy, market, options, window, books)
    observation = kernel.reset()
    record, alive = _Record(kernel), np.ones(books, np.bool_)
    sessions = window.stop - window.start - 1
    for result, alive_before in rollout(traders, kernel, observation, sessions):
        record.write(result, alive_before)
        alive = alive_before & ~result.terminated
    return record.finish(kernel, alive)


def opened(
    policy: Trader | PolicyBatch | RiskManagedPolicy,
    market: BookMarket,
    options: BookOptions,
    window: Window,
    num_books: int,
) -> tuple[PolicyBatch, BookKernel]:
    """What decides, and the books that it decides for, under its risk module if it has one."""
    risk = None
    if isinstance(policy, RiskManagedPolicy):
        risk, policy = policy.risk, policy.policy
    traders = policy if isinstance(policy, PolicyBatch) else PolicyBatch([policy])
    return traders, open_kernel(market, options, window, num_books, random_start=False, risk=risk)


def rollout(
    traders: PolicyBatch, kernel: BookKernel, observation: ObsArray, sessions: int
) -> Iterator[tuple[StepResult, BoolArray]]:
    """Step the kernel so often, deterministically; each result and which books lived before it.

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


def _overlay_day(record: StepRecord, market: BookMarket) -> dict[str, FloatArray]:
    overlay = record.overlay
    if overlay is None:
        nothing = np.zeros(len(record.row))
        return {"guard": nothing, "blocked_pnl": nothing}
    clipped = {f"rule.{rule}": overlay.clipped[:, i] for i, rule in enumerate(OVERLAY_RULES)}
    gain = as_rows(market.aged)[record.row + 1] - record.price
    blocked_pnl = ((record.requested - overlay.quantity) * gain).sum(axis=-1)
    return {"guard": overlay.state.astype(np.float64), "blocked_pnl": blocked_pnl, **clipped}


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
        self._kernel = kernel
        self._equity = [kernel.ledger.equity.copy()]
        self._costs = [kernel.ledger.costs.copy()]
        self._traded = [kernel.ledger.traded.copy()]
        self._days: dict[str, list[FloatArray]] = {}

    def write(self, result: StepResult, alive: BoolArray) -> None:
        kernel, ledger, record = self._kernel, self._kernel.ledger, result.record
        held = record.quantity * alive[:, None]
        day = {"reward": result.reward, "quantity": held, "position": held * record.price}
        day |= {**kernel.exposures(), "alive": alive.astype(np.float64)}
        day |= _overlay_day(record, kernel.market)
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

    def finish(self, kernel: BookKernel, alive: BoolArray) -> Backtest:
        history, window = kernel.market.history, kernel.window
        days = {name: np.stack(values, axis=1) for name, values in self._days.items()}
        rules = {name[5:]: days.pop(name) for name in list(days) if name.startswith("rule.")}
        length = days["reward"].shape[1]
        stop = window.start + length
        return Backtest(
            dates=history.dates[window.start : stop + 1],
            equity=np.stack(self._equity, axis=1),
            risk_free=kernel.market.cash_return[window.start : stop],
            index_return=kernel.market.index_returns(Window(window.start, stop + 1))[
                np.arange(kernel.num_envs) % history.num_paths
            ],
            cost=np.diff(np.stack(self._costs, axis=1), axis=1),
            traded=np.diff(np.stack(self._traded, axis=1), axis=1),
            reward=days.pop("reward"),
            quantity=days.pop("quantity"),
            position=days.pop("position"),
            rules=rules,
            blocked_pnl=days.pop("blocked_pnl"),
            guard=days.pop("guard").astype(np.int8),
            alive=days.pop("alive").astype(np.bool_),
            exposures=days,
            ruined=~alive,
        )
