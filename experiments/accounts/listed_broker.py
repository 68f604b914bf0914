"""Brokers of listed contracts: they know symbols and lots, the account slots and index units.

Shares that contracts were paid out in lie beside the book (`deliveries`); what the account learns
of them, of assignments and of small gaps of cash is recorded here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np

from conf.types import FloatArray
from envs.core.market import BookMarket
from experiments.accounts.account import (
    DECISION,
    ORDER,
    Account,
    taken_through,
)
from experiments.accounts.deliveries import ADJUSTED, DELIVERED, SHARES, Beside
from experiments.brokers.listed import (
    MULTIPLIER,
    Contract,
    Root,
    contract_of,
    exercised,
    read_symbol,
)
from experiments.brokers.orders import (
    Broker,
    Delivery,
    Execution,
    Order,
    OrderStatus,
    order_id,
    symbols_at,
)

_NOTHING = 1e-9
SAME_USD = 1e-6  # what cash at a broker may differ by


class ListedBroker:
    """A broker of contracts, in the account's units: index units, and dollars for each.

    Contracts that ended by the book and are not settled yet count as the cash that they will be;
    shares that the account knows of as the cash that the book has for them.
    """

    def __init__(self, broker: Broker, root: Root, account: Account) -> None:
        self._broker, self._root, self._account = broker, root, account
        self._places: dict[str, int] = {}  # of orders

    def status(self, order: str) -> OrderStatus | None:
        """What became of an order; None: it was never received."""
        return self._broker.status(order)

    def submit(self, order: Order) -> None:
        """Send an order, in contracts."""
        if order.place != SHARES:
            contracts = float(round(order.quantity / self._root.lot))
            order = replace(order, symbol=contract_of(order.symbol), quantity=contracts)
        self._broker.submit(order)

    def cancel(self, order: str) -> None:
        """Let what is open of an order be."""
        self._broker.cancel(order)

    def executions(self, order: str) -> Sequence[Execution]:
        """All that was done of an order so far, in units."""
        if order not in self._places:
            orders = self._account.store.of(ORDER)
            self._places = {e.content["id"]: e.content["place"] for e in orders}
        lot = 1.0 if self._places[order] == SHARES else self._root.lot
        return [
            replace(each, quantity=lot * each.quantity, price=each.price / lot)
            for each in self._broker.executions(order)
        ]

    def positions(self) -> Mapping[str, float]:
        """Units held of each symbol, and shares that the account does not know of."""
        shares = self._beside.shares
        held: dict[str, float] = {self._root.name: -shares} if shares else {}
        for symbol, amount in self._broker.positions().items():
            contract = read_symbol(symbol)
            if contract is None:
                held[symbol] = held.get(symbol, 0.0) + amount
            elif not self._has_ended(contract):
                held[symbol] = self._root.lot * amount
        return held

    def cash(self) -> float:
        """Dollars that the book should have."""
        market = self._account.market()
        newest = market.history.num_sessions - 1
        cash = self._broker.cash() + self._beside.worth_usd(market, newest)
        for symbol, amount in self._broker.positions().items():
            contract = read_symbol(symbol)
            if contract is not None and self._has_ended(contract):
                cash += paid_at_expiry(market, self._root, contract, amount)
        return cash

    def deliveries(self) -> Sequence[Delivery]:
        """Contracts that became shares lately."""
        return self._broker.deliveries()

    def _has_ended(self, contract: Contract) -> bool:
        return contract.expiry <= date.fromisoformat(self._account.newest)

    @property
    def _beside(self) -> Beside:
        return self._account.days()[-1].beside


def paid_at_expiry(market: BookMarket, root: Root, contract: Contract, contracts: float) -> float:
    """Dollars that the book was paid for contracts (negative: paid) when they ended."""
    history = market.history
    session = int(np.searchsorted(history.dates, np.datetime64(contract.expiry)))
    price = root.ratio * float(history.close[0, session])
    return contracts * MULTIPLIER * contract.in_the_money(price)


# --- what is recorded beside the orders ----------------------------------------------------------


def take_deliveries(account: Account, broker: Broker) -> list[str]:
    """Record what became shares since the last call; one line for each that is new.

    Not of days before the account was opened, and of those after its newest session later.
    """
    root = account.root
    if root is None or not root.american:
        return []
    known = {event.content["id"] for event in account.store.of(DELIVERED)}
    first, newest = account.sessions[0].content["session"], account.newest
    return [
        _record(account, root, each)
        for each in broker.deliveries()
        if each.id not in known and first <= _day(each) <= newest
    ]


def _day(delivery: Delivery) -> str:
    """On which it happened; brokers may date what ended later."""
    contract = read_symbol(delivery.symbol)
    return delivery.day if contract is None else min(delivery.day, str(contract.expiry))


def _record(account: Account, root: Root, delivery: Delivery) -> str:
    contract = read_symbol(delivery.symbol)
    if contract is None:
        return f"{delivery.symbol} was delivered, which is no contract"
    sessions = [event.content["session"] for event in account.sessions]
    decided = [event.content["session"] for event in account.store.of(DECISION)]
    expired = delivery.day >= str(contract.expiry)
    if expired:
        at = int(np.searchsorted(sessions, str(contract.expiry)))
    else:  # overnight: after the trades of a session that is over
        at = min(int(np.searchsorted(sessions, delivery.day, "right")), len(sessions) - 1) - 1
    # A decision that was made stays as it was made: what is learnt late belongs to its session.
    before = [day for day in decided if day < sessions[-1]]
    at = max(at, sessions.index(before[-1]) if before else 0)
    shares, usd = exercised(contract, delivery.contracts)
    paid = 0.0
    if expired:
        paid = paid_at_expiry(account.market(), root, contract, -delivery.contracts)
    places = [] if expired else _places(account, root, delivery, at)
    content: dict[str, Any] = {
        **{"id": delivery.id, "session": sessions[at], "symbol": delivery.symbol},
        **{"places": places, "shares": shares, "usd": usd, "paid_usd": paid},
    }
    account.store.append(DELIVERED, content)
    how = "ended" if expired else "was assigned"
    return f"{delivery.symbol} {how}: {shares:+g} shares of {root.name} for ${usd:+,.2f}"


def _places(account: Account, root: Root, delivery: Delivery, at: int) -> list[list[float]]:
    """Which slots an assignment takes its contracts from, held after the trades of session `at`."""
    kernel, _, market = account.kernel_at_opening()
    days = account.days()
    for day in days[:at]:
        taken_through(kernel, day)
    held = days[at].quantity_done(kernel.ledger.quantity)[0]
    names = symbols_at(market, market.history.num_sessions - len(days) + at, root)
    own = [i for i, name in enumerate(names) if contract_of(name) == delivery.symbol]
    return taken_from(own, held, root.lot * delivery.contracts)


def taken_from(places: Sequence[int], held: FloatArray, units: float) -> list[list[float]]:
    """Short positions (M,) that lose so many units: one place after the other, up to all it has.

    What is left of them was short at one broker and long at another: the first place takes it.
    """
    taken = []
    for place in places:
        part = min(max(-float(held[place]), 0.0), units)
        if part > _NOTHING:
            taken.append([place, part])
            units -= part
    if places and units > _NOTHING:
        taken.append([places[0], units])
    return taken


def in_parts(orders: Sequence[Order], held: FloatArray) -> list[Order]:
    """Orders that would turn a position (M,) round in two: close it, then open the other one.

    Brokers refuse to sell more contracts than are held in one order.
    """
    parts = []
    for order in orders:
        closing = -float(held[order.place])
        if closing * order.quantity > _NOTHING and abs(order.quantity) > abs(closing) + _NOTHING:
            opening = order_id(order.id, order.session, "opening")
            parts.append(replace(order, quantity=closing))
            parts.append(replace(order, id=opening, quantity=order.quantity - closing))
        else:
            parts.append(order)
    return parts


def share_orders(account: Account) -> list[Order]:
    """The order that closes what is held of shares, none where there are none."""
    root = account.root
    if root is None:
        return []
    beside = account.days()[-1].beside
    if beside.shares == 0.0:
        return []
    name = order_id(account.name, account.newest, root.name)
    return [Order(name, account.newest, SHARES, root.name, -beside.shares)]


def adjusted(account: Account, gap_usd: float) -> bool:
    """Whether the session takes over the broker's cash: a gap is small enough, and recorded."""
    session = account.newest
    for event in account.store.of(ADJUSTED):
        if event.content["session"] == session:  # by a process that died
            return abs(gap_usd - float(event.content["usd"])) <= SAME_USD
    if abs(gap_usd) > account.settings.broker.adjust_usd:
        return False
    account.store.append(ADJUSTED, {"session": session, "usd": gap_usd})
    return True
