"""The trade log of a backtest: a file from which a third party can work the result out anew.

One line for each quote and each trade, with the contract's own strike and expiry, and the closes
of the index, the rate and the claimed equity of each day; `plain_ledger.EVENTS` says what each
line means. Trades are the changes of the book, and their costs follow from the market's unit
costs, not from the accounts whose numbers are to be checked; the fee schedule behind those and
the claimed worth of holding the index are lines as well.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conf.errors import InputError
from conf.settings import settings_to_json
from conf.types import BoolArray, FloatArray
from envs.allocation.market import AllocationSettings, PanelMarket
from envs.core.batch import Window
from envs.core.market import BookMarket, BookOptions
from envs.hedging.liability import Leg, calendar_of
from envs.hedging.listed import ListedOption
from envs.hedging.market import HedgingMarket, HedgingSettings
from envs.market.clock import DAYS_PER_YEAR
from envs.option_portfolio.market import OptionMarket, OptionPortfolioSettings
from experiments.backtests.backtest import FLOOR_USD, Backtest, first_session, index_equity
from experiments.backtests.plain_ledger import Entry


def build_trade_log(
    backtest: Backtest, market: BookMarket, options: BookOptions, book: int = 0
) -> pd.DataFrame:
    """The lines of one book as a table with the columns of `Entry`, in order.

    A ruined book's trade log ends with its last close above zero. Raises InputError where the
    backtest was not run on this market.
    """
    if type(market) not in _LOGS:
        raise InputError(f"there is no trade log for a {type(market).__name__}", "Write one")
    log = _LOGS[type(market)](backtest, market, options, book)
    table = pd.DataFrame(log.lines(), columns=Entry._fields)
    for name in ("day", "expiry"):
        table[name] = pd.to_datetime(table[name]).astype("datetime64[s]")
    return table


def write_trade_log(table: pd.DataFrame, path: Path) -> None:
    """Write a trade log as Parquet."""
    table.to_parquet(path, index=False)


def read_trade_log(path: Path) -> list[Entry]:
    """The lines of a trade log file; InputError for any other file."""
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

    market: Any
    options: Any
    index: FloatArray | None = None  # (T + 1,) what holding it is claimed to be worth

    def __init__(self, backtest: Backtest, market: Any, options: Any, book: int) -> None:
        self.backtest, self.market, self.options, self.book = backtest, market, options, book
        self.start = first_session(backtest, market)
        self.path = book % market.history.num_paths
        self.days: list[date] = backtest.dates.astype("datetime64[D]").tolist()
        self.quantity: FloatArray = backtest.quantity[book]  # (T, M) held into each close
        kept = np.where(self.paid_out(), 0.0, self.quantity[:-1])
        before = np.concatenate([np.zeros_like(self.quantity[:1]), kept])
        self.trade = self.quantity - before  # (T, M)

    def lines(self) -> Iterator[Entry]:
        """Every line, day by day."""
        alive, equity = self.backtest.alive[self.book], self.backtest.equity[self.book]
        for name, value in self.fees().items():
            yield Entry(self.days[0], "fee", name, price=float(value))
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

    def fees(self) -> dict[str, Any]:
        """The numbers of the fee schedule."""
        costs = settings_to_json(self.options.costs)
        return {name: value for name, value in costs.items() if name != "kind"}

    def paid_out(self) -> BoolArray:
        """What of the book was paid out at each close but the first, (T - 1, M)."""
        return np.zeros(self.quantity[1:].shape, np.bool_)

    @abstractmethod
    def public(self, t: int) -> list[tuple[str, float]]:
        """The public numbers of the close of day t."""

    @abstractmethod
    def revalued(self, t: int, day: date) -> Iterator[Entry]:
        """Quotes of what was held into this close, and positions that the roll closed at it."""

    @abstractmethod
    def traded(self, t: int, day: date) -> Iterator[Entry]:
        """Trades at this close."""


class _IndexLog(_Log):
    """Of options on one index."""

    def __init__(self, *book: Any) -> None:
        super().__init__(*book)
        window = Window(self.start, self.start + len(self.days))
        self.index = index_equity(self.market, window, self.options.initial_equity_usd)[self.path]

    def public(self, t: int) -> list[tuple[str, float]]:
        history, s = self.market.history, self.start + t
        return [
            ("index", float(history.close[self.path, s])),
            ("rate", float(history.rate[s])),
            ("dividend_yield", float(history.dividend_yield[s])),
            ("index_vol", float(history.implied_vol[self.path, s])),
        ]


class _OptionLog(_IndexLog):
    market: OptionMarket
    options: OptionPortfolioSettings

    def __init__(self, *book: Any) -> None:
        super().__init__(*book)
        market, costs = self.market, self.options.costs
        traded_at = slice(self.start, self.start + len(self.trade))
        self.cost = np.abs(self.trade) * market.unit_cost[self.path, traded_at]
        mark = market.tape.mark[self.path, traded_at]
        impact = costs.impact(self.trade.reshape(-1, 1), mark.reshape(-1, 1))  # by order
        if impact is not None:
            self.cost = self.cost + impact.reshape(self.cost.shape)

    def paid_out(self) -> BoolArray:
        return self.market.tape.rolled[self.start + 1 : self.start + len(self.quantity)]

    def revalued(self, t: int, day: date) -> Iterator[Entry]:
        tape, s = self.market.tape, self.start + t
        held, closing = self.quantity[t - 1], self.market.closing_unit_cost
        for slot in np.flatnonzero((held != 0.0) & ~tape.expired[s]).tolist():
            line = self.contract(t - 1, slot)._replace(
                day=day,
                event="quote",
                price=float(tape.aged[self.path, s, slot]),
                vol=float(tape.aged_vol[self.path, s, slot] * tape.aged_vol_scale[s, slot]),
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
                vol=float(tape.vol[self.path, s, slot] * tape.vol_scale[s, slot]),
            )

    def contract(self, t: int, slot: int) -> Entry:
        """The contract that sits in a slot after the close of day t."""
        tape, s = self.market.tape, self.start + t
        strike = float(tape.strike[self.path, s, slot])
        expiry = self.days[t] + timedelta(days=int(tape.days_to_expiry[s, slot]))
        name = f"{tape.slots[slot].name} {strike:.4f} {expiry}"
        kind = "call" if tape.is_call[slot] else "put"
        return Entry(self.days[t], "trade", name, kind, strike, expiry)


class _PanelLog(_Log):
    market: PanelMarket
    options: AllocationSettings

    def public(self, t: int) -> list[tuple[str, float]]:
        return [("rate", float(self.market.history.rate[self.start + t]))]

    def revalued(self, t: int, day: date) -> Iterator[Entry]:
        for asset in np.flatnonzero(self.quantity[t - 1]).tolist():
            yield self.line(t, asset, day)

    def traded(self, t: int, day: date) -> Iterator[Entry]:
        for asset in np.flatnonzero(self.trade[t]).tolist():
            line, size = self.line(t, asset, day), float(self.trade[t, asset])
            cost = self.options.costs.share * abs(size) * line.price
            yield line._replace(event="trade", quantity=size, cost=cost)

    def line(self, t: int, asset: int, day: date) -> Entry:
        """An asset at its close."""
        price = float(self.market.history.close[self.path, self.start + t, asset])
        return Entry(day, "quote", self.market.instruments[asset], "spot", price=price)


class _HedgingLog(_IndexLog):
    market: HedgingMarket
    options: HedgingSettings

    def __init__(self, *book: Any) -> None:
        super().__init__(*book)
        market, options = self.market, self.options
        self.life, self.traded_ones = options.episode.sessions, market.num_traded
        self.contracts: tuple[ListedOption | Leg, ...] = (*options.hedges, *options.legs)
        self.lives = [option.sessions for option in options.hedges]
        self.lives += [leg.expiry(self.life) for leg in options.legs]
        self.calendar = calendar_of(market.history, self.life, max(self.lives))
        self.drivers = market.surface.drivers(market.history.implied_vol)[self.path]

    def fees(self) -> dict[str, Any]:
        """The liability is sold and paid out at no cost."""
        of_options = settings_to_json(self.options.hedge_costs) if self.options.hedges else {}
        named = {name: value for name, value in of_options.items() if name != "kind"}
        if "impact_bps" in named:
            named["impact_bps"] = 0.0
        own = settings_to_json(self.options.costs)
        spread = own.get("half_spread_usd", 0.0)
        return {"spot_rate_bps": own["rate_bps"], "spot_half_spread_usd": spread, **named}

    def paid_out(self) -> BoolArray:
        return self.market.leaves[self.start + 1 : self.start + len(self.quantity)]

    def revalued(self, t: int, day: date) -> Iterator[Entry]:
        for at in np.flatnonzero(self.quantity[t - 1]).tolist():
            leaves = self.market.leaves[self.start + t, at]
            if not leaves:
                yield self.line(t, at, t - 1)._replace(event="quote")
            elif at < self.traded_ones:
                cost = float(self.market.closing_cost[self.path, self.start + t, at])
                size = -float(self.quantity[t - 1, at])
                yield self.traded_line(t, at, t - 1, size, cost)._replace(event="close")

    def traded(self, t: int, day: date) -> Iterator[Entry]:
        for at in np.flatnonzero(self.trade[t]).tolist():
            owed = at < self.traded_ones
            cost = float(self.market.unit_cost[self.path, self.start + t, at]) if owed else 0.0
            yield self.traded_line(t, at, t, float(self.trade[t, at]), cost)

    def traded_line(self, t: int, at: int, held: int, size: float, unit_cost: float) -> Entry:
        """So many units of what is held from the close of day `held` on, traded at that of t."""
        cost = unit_cost * abs(size)
        return self.line(t, at, held)._replace(event="trade", quantity=size, cost=cost)

    def line(self, t: int, at: int, held: int) -> Entry:
        """The share, or an option that is held from the close of day `held` on, on day t."""
        history, s, day = self.market.history, self.start + t, self.days[t]
        name, price = self.market.instruments[at], float(self.market.mark[self.path, s, at])
        if at == 0:
            return Entry(day, "quote", name, "spot", price=price)
        option, sold = self.contracts[at - 1], int(self.calendar.sold[self.start + held])
        if held < t:
            price = float(self.market.aged[self.path, s, at])
        expiry = self.calendar.dates[sold + self.lives[at - 1]]
        strike = option.moneyness * float(history.close[self.path, sold])
        # Variance runs by the history's clock, the option's time by calendar days.
        years = float(history.clock.years(history.dates[s], expiry))
        days = float((expiry - history.dates[s]).astype(np.int64)) / DAYS_PER_YEAR
        carry = float(history.rate[s] - history.dividend_yield[s])
        moneyness = math.log(strike / float(history.close[self.path, s])) - carry * days
        quoted = float(self.market.surface.vol(self.drivers[s], moneyness, days))
        vol, own = quoted * math.sqrt(years / days), f"{name} {strike:.4f} {expiry}"
        return Entry(day, "quote", own, option.kind, strike, expiry.item(), 0.0, price, vol=vol)


_LOGS: Mapping[type, type[_Log]] = {
    OptionMarket: _OptionLog,
    PanelMarket: _PanelLog,
    HedgingMarket: _HedgingLog,
}
