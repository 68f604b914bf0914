"""A slow ledger in plain Python that replays a trade log, without anything of the project.

It is given (see `EVENTS`): what was traded, when, at what price and cost; the closes of the index,
the rate that cash earned and the dividend yield from each close on; what each contract held was
quoted at; and the numbers of the fee schedule. It works out itself: interest by the calendar days
between two closes, settlement at intrinsic value at the first close on or after expiry, what is
held, and the equity.

It also prices every quoted option anew from its strike, its days to expiry and the quoted
volatility (Black, Scholes and Merton), so that a quote cannot belong to another contract; works
out what every trade costs by the schedule; and holds the index with its dividends, against which
the book is judged.

Equity at a close is that after what expired was paid out and what was quoted was revalued, before
the trades of that close that open or close positions anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

# In this order within a day. Quantity is signed and in units of the index or shares.
EVENTS = (
    "index",  # price: close of the index
    "rate",  # price: continuous annual rate, earned by cash until the next close
    "dividend_yield",  # price: continuous annual yield of the index until the next close
    "index_vol",  # price: annual volatility that the spread follows
    "fee",  # instrument: name of a number of the fee schedule, price: the number
    "quote",  # price of an instrument held into this close, vol it is implied by
    "close",  # quantity bought or sold at the price of the old contract, and its cost
    "equity",  # price: what the account claims to be worth
    "benchmark",  # price: what holding the index, dividends reinvested, is claimed to be worth
    "trade",  # quantity bought or sold, its price and cost
)
DAYS_PER_YEAR = 365.0
BPS = 1e-4
DUST = 1e-12


class Entry(NamedTuple):
    """One line of a trade log; what does not apply is empty, 0 or None."""

    day: date
    event: str  # one of EVENTS
    instrument: str = ""  # a contract has another name than the one listed after it
    kind: str = ""  # call, put or spot
    strike: float | None = None  # index points
    expiry: date | None = None
    quantity: float = 0.0
    price: float = 0.0  # dollars a unit, or what the event says
    cost: float = 0.0  # dollars, of the whole line
    vol: float | None = None  # annual, of an option's price


@dataclass
class Holding:
    """One instrument in the account."""

    contract: tuple[str, float | None, date | None]  # kind, strike, expiry
    quantity: float = 0.0
    price: float = 0.0
    quoted: date | None = None
    largest: float = 0.0  # absolute quantity so far

    @property
    def is_held(self) -> bool:
        """More than the rounding that is left when everything was sold in parts."""
        return abs(self.quantity) > DUST * self.largest


@dataclass
class LargestGap:
    """The largest of several gaps, and where it was; NaN counts as infinite."""

    gap: float = 0.0
    where: str = ""

    def add(self, gap: float, where: str) -> None:
        """Take one more gap into account."""
        gap = math.inf if math.isnan(gap) else gap
        if gap > self.gap:
            self.gap, self.where = gap, where


@dataclass
class Replay:
    """The result of replaying an account; `where` is an instrument and a day."""

    equity: list[tuple[date, float, float]] = field(default_factory=list)  # day, claimed, replayed
    benchmark: list[tuple[date, float, float]] = field(default_factory=list)  # likewise
    quotes: LargestGap = field(default_factory=LargestGap)  # |quote - model| over the index
    costs: LargestGap = field(default_factory=LargestGap)  # |cost - schedule| over initial cash
    complaints: list[str] = field(default_factory=list)

    @property
    def equity_gap(self) -> float:
        """Largest |claimed - replayed| as a share of what was replayed; infinite without any."""
        return max(_gaps(self.equity), default=math.inf)

    @property
    def benchmark_gap(self) -> float:
        """The same of the index; 0 where the trade log says nothing of it."""
        return max(_gaps(self.benchmark), default=0.0)


def _gaps(pairs: list[tuple[date, float, float]]) -> Iterator[float]:
    for _, claimed, own in pairs:
        gap = abs(claimed - own) / abs(own) if own else math.inf
        yield math.inf if math.isnan(gap) else gap


def replay(entries: Iterable[Entry], initial_cash: float) -> Replay:
    """Keep the account from its first day, by the lines in their order."""
    account = _Account(initial_cash)
    for entry in entries:
        account.enter(entry)
    return account.result


class _Account:
    def __init__(self, cash: float) -> None:
        self.cash = self.initial_cash = cash
        self.fees: dict[str, float] = {}
        self.last: tuple[date, float, float] | None = None  # of the index: day, close, dividends
        self.held: dict[str, Holding] = {}
        self.day: date | None = None
        self.index = self.rate = self.dividend_yield = self.index_vol = 0.0
        self.result = Replay()

    def enter(self, entry: Entry) -> None:
        if self.day is not None and entry.day != self.day:
            self.cash *= math.exp(self.rate * (entry.day - self.day).days / DAYS_PER_YEAR)
        self.day = entry.day
        if entry.event in ("index", "rate", "dividend_yield", "index_vol"):
            setattr(self, entry.event, entry.price)
        elif entry.event == "fee":
            self.fees[entry.instrument] = entry.price
        elif entry.event == "benchmark":
            self.hold_index(entry)
        elif entry.event == "equity":
            self.settle_expired(entry.day)
            self.result.equity.append((entry.day, entry.price, self.equity()))
        elif entry.event in ("quote", "close", "trade"):
            self.revalue_and_trade(entry)
        else:
            self.complain(f"unknown event {entry.event}")

    def complain(self, text: str) -> None:
        self.result.complaints.append(f"{self.day}: {text}")

    def revalue_and_trade(self, entry: Entry) -> None:
        contract = (entry.kind, entry.strike, entry.expiry)
        held = self.held.setdefault(entry.instrument, Holding(contract))
        if held.contract != contract:
            self.complain(f"{entry.instrument} is not what it was")
        self.check_quote(entry)
        if self.fees:
            owed = trade_cost(self.fees, entry, self.index, self.index_vol)
            gap = abs(owed - entry.cost) / self.initial_cash
            self.result.costs.add(gap, f"{entry.instrument} on {entry.day}")
        held.price, held.quoted = entry.price, entry.day
        self.cash -= entry.quantity * entry.price + entry.cost
        held.quantity += entry.quantity
        held.largest = max(held.largest, abs(held.quantity))
        if entry.event == "close":
            if held.is_held:
                self.complain(f"{entry.instrument} was not closed")
            del self.held[entry.instrument]

    def check_quote(self, entry: Entry) -> None:
        if entry.strike is None or entry.expiry is None or entry.vol is None:
            return
        years = (entry.expiry - entry.day).days / DAYS_PER_YEAR
        worth = option_price(
            entry.kind, self.index, entry.strike, years, entry.vol, self.rate, self.dividend_yield
        )
        gap = abs(worth - entry.price) / self.index
        self.result.quotes.add(gap, f"{entry.instrument} on {entry.day}")

    def settle_expired(self, day: date) -> None:
        for name, held in list(self.held.items()):
            kind, strike, expiry = held.contract
            if expiry is not None and strike is not None and day >= expiry:
                gap = self.index - strike
                self.cash += held.quantity * max(gap if kind == "call" else -gap, 0.0)
                del self.held[name]

    def equity(self) -> float:
        total = self.cash
        for name, held in self.held.items():
            if held.is_held and held.quoted != self.day:
                self.complain(f"{name} is held and not quoted")
            total += held.quantity * held.price
        return total

    def hold_index(self, entry: Entry) -> None:
        own = entry.price
        if self.last is not None:
            day, close, dividends = self.last
            earned = math.exp(dividends * (entry.day - day).days / DAYS_PER_YEAR)
            own = self.result.benchmark[-1][2] * self.index / close * earned
        self.result.benchmark.append((entry.day, entry.price, own))
        self.last = (entry.day, self.index, self.dividend_yield)


def trade_cost(fees: Mapping[str, float], entry: Entry, spot: float, index_vol: float) -> float:
    """Dollars by the schedule: a share of what is traded, or half the spread, slippage and impact.

    With `spot_rate_bps` the share is of the underlying alone, beside half a spread in dollars of
    the index; of options those that are listed have the costs that follow, and others none.

    The half-spread of an option in the money is a share of its price; of any other it is a power
    of its price, both in basis points of spot, with a floor. It widens with the volatility above a
    calm one. Impact is charged on what an order has beyond a threshold; closing at the end of a
    contract's day has none.
    """
    size, price = abs(entry.quantity), entry.price
    if "spot_rate_bps" in fees:
        if entry.kind == "spot":
            half_spread = fees["spot_half_spread_usd"] / spot
            return size * price * (fees["spot_rate_bps"] * BPS + half_spread)
        if not entry.instrument.startswith("listed_"):
            return 0.0
    if "rate_bps" in fees:
        return size * (price * fees["rate_bps"] * BPS + fees.get("half_spread_usd", 0.0))
    strike = entry.strike or 0.0
    if (spot - strike if entry.kind == "call" else strike - spot) > 0.0:
        half_spread = fees["in_the_money_share"] * price
    else:
        relative = price / (spot * BPS) / fees["spread_pivot_bps"]
        wide = fees["spread_scale_bps"] * relative ** fees["spread_exponent"]
        half_spread = max(fees["spread_floor_bps"], wide) * BPS * spot
    half_spread *= max(1.0, index_vol / fees["calm_vol"])
    cost = size * (half_spread + fees["slippage_bps"] * BPS * price)
    if entry.event == "trade":
        beyond = max(size - fees["impact_threshold_units"], 0.0)
        cost += beyond * price * fees["impact_bps"] * BPS
    return fees["multiplier"] * cost


def option_price(
    kind: str, spot: float, strike: float, years: float, vol: float, rate: float, dividends: float
) -> float:
    """Black, Scholes and Merton (1973): price of a European call or put."""
    spot_part, strike_part = spot * math.exp(-dividends * years), strike * math.exp(-rate * years)
    sign = 1.0 if kind == "call" else -1.0
    deviation = vol * math.sqrt(max(years, 0.0))
    if deviation == 0.0:
        return max(sign * (spot_part - strike_part), 0.0)
    d1 = math.log(spot_part / strike_part) / deviation + deviation / 2.0
    return sign * (spot_part * _normal(sign * d1) - strike_part * _normal(sign * (d1 - deviation)))


def _normal(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))
