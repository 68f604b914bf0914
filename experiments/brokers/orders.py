"""What an account and a broker say to each other: orders, executions, positions.

An order has an identifier that follows from the account, the session and the instrument, so sending
it twice is sending it once, and what became of it can be asked for before anything is sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from conf.types import FloatArray
from envs.core.market import BookMarket
from envs.option_portfolio.market import OptionMarket
from experiments.brokers.listed import INDEX, Root


class BrokerSilent(Exception):
    """The broker did not answer: whether it took what was sent nobody knows."""


class OrderStatus(StrEnum):
    """What a broker says of an order."""

    OPEN = "open"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Order:
    """To buy (or sell, where negative) units of one instrument, good for one session."""

    id: str
    session: str  # the day on which it was decided
    place: int  # of the instrument in the book
    symbol: str  # what the broker knows it by
    quantity: float  # units
    round: int = 0  # 1 and up: brings the book back within its limits after partial fills
    backup: bool = False  # goes to the backup broker: a reduction that the first one did not do


@dataclass(frozen=True)
class Execution:
    """Part of an order, done."""

    id: str  # the broker's; the same one may be reported twice
    order: str
    quantity: float  # units, negative where sold
    price: float  # dollars a unit
    commission_usd: float = 0.0


@dataclass(frozen=True)
class Delivery:
    """An option on shares that was exercised, by the account at expiry or against it."""

    id: str  # the broker's; the same one may be reported twice
    day: str  # on which it happened; early exercise: the night after that day
    symbol: str  # of the contract
    contracts: float  # change of the position: positive where the account was assigned


class Broker(Protocol):
    """Where orders go. Every call may raise `BrokerSilent`."""

    def status(self, order: str) -> OrderStatus | None:
        """What became of an order; None: it was never received."""

    def submit(self, order: Order) -> None:
        """Send an order; a second time it is the same one."""

    def cancel(self, order: str) -> None:
        """Let what is open of an order be; an ended one stays as it is."""

    def executions(self, order: str) -> Sequence[Execution]:
        """All that was done of an order so far."""

    def positions(self) -> Mapping[str, float]:
        """Units held of each symbol, where it is not 0."""

    def cash(self) -> float:
        """Dollars."""

    def deliveries(self) -> Sequence[Delivery]:
        """Contracts that became shares lately."""


class BrokerPair:
    """A broker, and a second one for reductions that the first one did not do.

    What both hold is one book: a position may be long here and short there.
    """

    def __init__(self, first: Broker, backup: Broker) -> None:
        self._first, self._backup = first, backup

    def status(self, order: str) -> OrderStatus | None:
        """What became of an order, at whichever of the two."""
        known = self._first.status(order)
        return self._backup.status(order) if known is None else known

    def submit(self, order: Order) -> None:
        """Send an order to the one that it is for."""
        (self._backup if order.backup else self._first).submit(order)

    def cancel(self, order: str) -> None:
        """Let what is open of an order be."""
        for broker in (self._first, self._backup):
            if broker.status(order) is not None:
                broker.cancel(order)

    def executions(self, order: str) -> Sequence[Execution]:
        """All that was done of an order so far."""
        return [*self._first.executions(order), *self._backup.executions(order)]

    def positions(self) -> Mapping[str, float]:
        """Units held of each symbol, at both together."""
        total = dict(self._first.positions())
        for symbol, units in self._backup.positions().items():
            total[symbol] = total.get(symbol, 0.0) + units
        return {symbol: units for symbol, units in total.items() if units != 0.0}

    def cash(self) -> float:
        """Dollars at both together."""
        return self._first.cash() + self._backup.cash()

    def deliveries(self) -> Sequence[Delivery]:
        """Contracts that became shares, at either."""
        return [*self._first.deliveries(), *self._backup.deliveries()]


def order_id(account: str, session: str, symbol: str, round_: int = 0) -> str:
    """The same for the same decision and round, whenever it is asked for; 32 characters."""
    text = f"{account}\n{session}\n{symbol}\n{round_}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def symbols_at(market: BookMarket, session: int, root: Root | None = None) -> tuple[str, ...]:
    """What each instrument of the book is called at a session, M names.

    Without a root contracts are the model's, on the index itself.

    A contract has the symbol of the Options Clearing Corporation (root, expiry, C or P, strike in
    thousandths), with the slot before it: two slots may hold the same contract.
    """
    if not isinstance(market, OptionMarket):
        return tuple(market.instruments)
    tape, strikes = market.tape, market.tape.strike[0, session]
    expiries = market.history.dates[session].astype("datetime64[D]") + tape.days_to_expiry[
        session
    ].astype("timedelta64[D]")
    symbol = (root or INDEX).symbol
    return tuple(
        f"{slot.name}:{symbol(str(expiry), slot.is_call, strike)}"
        for slot, expiry, strike in zip(tape.slots, expiries, strikes, strict=True)
    )


def total_cost(
    executions: Sequence[Execution], mark: FloatArray, places: Mapping[str, int]
) -> float:
    """Dollars paid beyond the book's own prices `mark` (M,), commissions included."""
    cost = 0.0
    for execution in executions:
        beyond = execution.price - float(mark[places[execution.order]])
        cost += execution.quantity * beyond + execution.commission_usd
    return cost
