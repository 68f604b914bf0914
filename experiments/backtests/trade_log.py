"""The trade log of a backtest: a file from which a third party can work the result out anew.

One line for each quote and each trade, with the contract's own strike and expiry, and the closes
of the index, the rate and the claimed equity of each day; `plain_ledger.EVENTS` says what each
line means. What was traded is read off the book, and what that cost off the market's unit costs,
not off the accounts whose numbers are to be checked; the fee schedule that those were made by and
what holding the index is claimed to have come to stand beside them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import date
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conf.errors import InputError
from conf.settings import settings_to_json
from conf.types import BoolArray, FloatArray
from envs.allocation.market import AllocationSettings, PanelMarket
from envs.core.batch import Window
from envs.core.costs import CostSettings, FlatCosts
from envs.core.market import BookMarket, BookOptions
from envs.option_portfolio.market import OptionMarket, OptionPortfolioSettings
from experiments.backtests.backtest import FLOOR_USD, Backtest, first_session, index_equity
from experiments.backtests.plain_ledger import Entry


def build_trade_log(
    backtest: Backtest, market: BookMarket, options: BookOptions, book: int = 0
) -> pd.DataFrame:
    """The lines of one book as a table with the columns of `Entry`, in order.

    A ruined book's trade log ends with its last close above nothing. Raises InputError where the
    backtest was not run on this market.
    """
    table = pd.DataFrame(_log(market, backtest, options, book).lines(), columns=Entry._fields)
    for name in ("day", "expiry"):
        table[name] = pd.to_datetime(table[name]).astype("datetime64[s]")
    return table


def write_trade_log(table: pd.DataFrame, path: Path) -> None:
    """Write a trade log as Parquet."""
    table.to_parquet(path, index=False)


def read_trade_log(path: Path) -> list[Entry]:
    """The lines of a trade log file; InputError for one that is none."""
    try:
        table = pd.read_parquet(path, columns=list(Entry._fields))
    except Exception as error:
        raise InputError(f"{path} is no trade log ({error})", "Evaluate the run again") from None
    plain = {name: table[name].tolist() for name in Entry._fields}
    for name in ("day", "expiry"):
        plain[name] = [None if pd.isna(day) else day.date() for day in plain[name]]
    for name in ("strike", "vol"):
        plain[name] = [None if pd.isna(number) else number for number in plain[name]]
    return [Entry(*row) for row in zip(*plain.values(), strict=True)]


class _Log(ABC):
    """Goes through the days of a book."""

    costs: CostSettings

    def __init__(self, backtest: Backtest, market: BookMarket, book: int) -> None:
        self.backtest, self.book = backtest, book
        self.start = first_session(backtest, market)
        self.path = book % market.history.num_paths
        self.quantity: FloatArray = backtest.quantity[book]  # (T, M) held into each close
        # Sessions of the market at which the trades were made.
        self.now = slice(self.start, self.start + len(self.quantity))
        self.days: list[date] = backtest.dates.astype("datetime64[D]").tolist()
        self.index: FloatArray | None = None  # (T + 1,) what holding it is claimed to be worth

    def lines(self) -> Iterator[Entry]:
        """Every line, day by day."""
        alive, equity = self.backtest.alive[self.book], self.backtest.equity[self.book]
        for name, number in self.fees().items():
            yield Entry(self.days[0], "fee", name, price=number)
        for t, day in enumerate(self.days):
            for event, price in self.public(t):
                yield Entry(day, event, price=price)
            if t:
                yield from self.revalued(t, day)
            yield Entry(day, "equity", price=float(equity[t]))
            if self.index is not None:
                yield Entry(day, "benchmark", price=float(self.index[t]))
            ended = t == len(alive) or not alive[t]
            if ended or equity[t + 1] <= FLOOR_USD:
                return
            yield from self.traded(t, day)

    def before(self, left: BoolArray) -> FloatArray:
        """What was held before each trade, (T, M); `left` (T - 1, M): it had been paid out."""
        kept = np.where(left, 0.0, self.quantity[:-1])
        return np.concatenate([np.zeros_like(self.quantity[:1]), kept])

    def fees(self) -> dict[str, float]:
        """The numbers of the fee schedule."""
        plain = settings_to_json(self.costs)
        return {name: float(number) for name, number in plain.items() if name != "kind"}

    @abstractmethod
    def public(self, t: int) -> list[tuple[str, float]]:
        """What everybody could know at the close of day t."""

    @abstractmethod
    def revalued(self, t: int, day: date) -> Iterator[Entry]:
        """Quotes of what was held into this close, and what was closed at it without a choice."""

    @abstractmethod
    def traded(self, t: int, day: date) -> Iterator[Entry]:
        """Trades at this close."""


class _OptionLog(_Log):
    def __init__(
        self, backtest: Backtest, market: OptionMarket, options: OptionPortfolioSettings, book: int
    ) -> None:
        super().__init__(backtest, market, book)
        self.market, self.costs = market, options.costs
        window = Window(self.start, self.start + len(self.days))
        self.index = index_equity(market, window, options.initial_equity_usd)[self.path]
        self.trade = self.quantity - self.before(market.tape.rolled[self.now][1:])
        self.cost = np.abs(self.trade) * market.unit_cost[self.path, self.now]
        each = self.trade.reshape(-1, 1), market.tape.mark[self.path, self.now].reshape(-1, 1)
        impact = options.costs.impact(*each)  # of each order by itself
        if impact is not None:
            self.cost = self.cost + impact.reshape(self.cost.shape)

    def public(self, t: int) -> list[tuple[str, float]]:
        history, s = self.market.history, self.start + t
        return [
            ("index", float(history.close[self.path, s])),
            ("rate", float(history.rate[s])),
            ("dividend_yield", float(history.dividend_yield[s])),
            ("index_vol", float(history.implied_vol[self.path, s])),
        ]

    def revalued(self, t: int, day: date) -> Iterator[Entry]:
        tape, s = self.market.tape, self.start + t
        held, closing = self.quantity[t - 1], self.market.closing_unit_cost
        for slot in np.flatnonzero(held).tolist():
            if tape.expired[s, slot]:
                continue
            line = self.contract(t - 1, slot)._replace(
                day=day,
                event="quote",
                price=float(tape.aged[self.path, s, slot]),
                vol=float(tape.aged_vol[self.path, s, slot]),
            )
            if tape.rolled[s, slot]:
                unit = 0.0 if closing is None else float(closing[self.path, s, slot])
                size = float(held[slot])
                line = line._replace(event="close", quantity=-size, cost=abs(size) * unit)
            yield line

    def traded(self, t: int, day: date) -> Iterator[Entry]:
        tape, s = self.market.tape, self.start + t
        for slot in np.flatnonzero(self.trade[t]).tolist():
            yield self.contract(t, slot)._replace(
                quantity=float(self.trade[t, slot]),
                price=float(tape.mark[self.path, s, slot]),
                cost=float(self.cost[t, slot]),
                vol=float(tape.vol[self.path, s, slot]),
            )

    def contract(self, t: int, slot: int) -> Entry:
        """The contract that sits in a slot after the close of day t."""
        tape, s = self.market.tape, self.start + t
        strike = float(tape.strike[self.path, s, slot])
        left = np.timedelta64(int(tape.days_to_expiry[s, slot]), "D")
        expiry: date = (self.backtest.dates[t].astype("datetime64[D]") + left).item()
        name = f"{tape.slots[slot].name} {strike:.4f} {expiry}"
        kind = "call" if tape.is_call[slot] else "put"
        return Entry(self.days[t], "trade", name, kind, strike, expiry)


class _PanelLog(_Log):
    costs: FlatCosts

    def __init__(
        self, backtest: Backtest, market: PanelMarket, options: AllocationSettings, book: int
    ) -> None:
        super().__init__(backtest, market, book)
        self.market, self.costs = market, options.costs
        self.trade = self.quantity - self.before(np.zeros(self.quantity[1:].shape, np.bool_))

    def public(self, t: int) -> list[tuple[str, float]]:
        return [("rate", float(self.market.history.rate[self.start + t]))]

    def revalued(self, t: int, day: date) -> Iterator[Entry]:
        for asset in np.flatnonzero(self.quantity[t - 1]).tolist():
            yield self.line(t, asset, day)

    def traded(self, t: int, day: date) -> Iterator[Entry]:
        for asset in np.flatnonzero(self.trade[t]).tolist():
            line, size = self.line(t, asset, day), float(self.trade[t, asset])
            cost = self.costs.share * abs(size) * line.price
            yield line._replace(event="trade", quantity=size, cost=cost)

    def line(self, t: int, asset: int, day: date) -> Entry:
        """An asset at its close."""
        price = float(self.market.history.close[self.path, self.start + t, asset])
        return Entry(day, "quote", self.market.instruments[asset], "spot", price=price)


@singledispatch
def _log(market: Any, backtest: Backtest, options: Any, book: int) -> _Log:
    raise InputError(f"there is no trade log for a {type(market).__name__}", "Write one")


@_log.register
def _(market: OptionMarket, backtest: Backtest, options: Any, book: int) -> _Log:
    return _OptionLog(backtest, market, options, book)


@_log.register
def _(market: PanelMarket, backtest: Backtest, options: Any, book: int) -> _Log:
    return _PanelLog(backtest, market, options, book)
