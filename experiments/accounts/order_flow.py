"""Orders of a session: sent once, asked after, taken in, compared, and repaired.

Everything is recorded before it is acted upon, so a process that dies anywhere is followed by one
that goes on from there: it asks what became of an order before it sends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Protocol

import numpy as np

from conf.types import FloatArray
from envs.core.batch import StepRecord
from experiments.accounts.account import ENDED, EXECUTED, ORDER, Account, Book
from experiments.accounts.deliveries import SHARES
from experiments.accounts.listed_broker import (
    SAME_USD,
    adjusted,
    in_parts,
    share_orders,
    take_deliveries,
)
from experiments.accounts.settings import AFTER_CLOSE
from experiments.brokers.listed import by_symbol, contract_of
from experiments.brokers.orders import (
    Broker,
    BrokerSilent,
    Execution,
    Order,
    OrderStatus,
    order_id,
    symbols_at,
)


class Alert(Protocol):
    """Records an alert and returns its text."""

    def __call__(self, kind: str, text: str, order: str | None = None) -> str:
        """`order` is the one that it is about, if it is about one."""


# Units that are traded: what is left out must break no limit, and those are kept to 1e-10.
_SMALLEST = 1e-12
_SAME_UNITS = 1e-9  # what a position at the broker may differ by
_ASKED_AGAIN = 5  # sessions after which executions are no longer asked for
_TRIES = 3  # of an order about which the broker is silent
_REPAIRS = 3  # rounds of orders that bring a book back within its limits


class OrderFlow:
    """The orders of an account at its newest session."""

    def __init__(self, account: Account, broker: Broker, alert: Alert) -> None:
        self._account, self._store = account, account.store
        self._broker, self._alert = broker, alert
        self._at_open = account.settings.decide == AFTER_CLOSE
        self._known = {event.content["id"] for event in self._store.of(ORDER)}
        self._ended = {event.content["order"] for event in self._store.of(ENDED)}
        self._done: dict[str, dict[str, float]] = {}  # order -> execution -> units
        for event in self._store.of(EXECUTED):
            self._note_done(Execution(**event.content))
        root = account.root
        self._smallest = _SMALLEST if root is None else 0.5 * root.lot  # listed ones are whole
        self._apart: dict[str, float] = {}  # symbol -> units at the broker that the book has not
        self.sent = 0

    def settle_earlier(self) -> list[str]:
        """Ask what became of the orders of the last sessions; reasons to hold back.

        Also of those that have ended: what was done of a cancelled order may be reported late. And
        what became of contracts that were exercised.
        """
        sessions = [event.content["session"] for event in self._account.sessions]
        recent, newest = set(sessions[-_ASKED_AGAIN - 1 : -1]), sessions[-1]
        for event in self._store.of(ORDER):
            session, ended = event.content["session"], event.content["id"] in self._ended
            if session == newest or (session not in recent and ended):
                continue
            order = Order(**event.content)
            try:
                if self._broker.status(order.id) is OrderStatus.OPEN:
                    self._broker.cancel(order.id)
                self._take_executions(order)
                self._end(order)
            except BrokerSilent:
                return [self._alert("silent", f"no answer about {order.symbol} of {order.session}")]
        try:
            for text in take_deliveries(self._account, self._broker):
                self._alert("delivery", text)
        except BrokerSilent:
            return [self._alert("silent", "no answer about deliveries")]
        return []

    def reconcile(self, book: Book) -> list[str]:
        """Compare what the broker holds with the book; reasons to hold back.

        Not once the session has orders: what differs then are those.
        """
        if self._recorded(book.day):
            return []
        root, ledger = self._account.root, book.kernel.ledger
        ours = by_symbol(symbols_at(book.market, book.session, root), ledger.quantity[0], root)
        try:
            theirs, cash = dict(self._broker.positions()), self._broker.cash()
        except BrokerSilent:
            return [self._alert("silent", "no answer about positions")]
        self._apart = {
            name: theirs.get(name, 0.0)
            for name in sorted(ours.keys() | theirs.keys())
            if abs(theirs.get(name, 0.0) - ours.get(name, 0.0)) > _SAME_UNITS
        }
        odd = [
            f"{name}: {units:g} at the broker, {ours.get(name, 0.0):g} in the book"
            for name, units in self._apart.items()
        ]
        gap = cash - float(ledger.cash[0])
        if abs(gap) > SAME_USD and not adjusted(self._account, gap):
            odd.append(f"cash: {cash:.2f} at the broker, {float(ledger.cash[0]):.2f} in the book")
        if not odd:
            return []
        return [self._alert("difference", "; ".join(odd[:5]))]

    def send(self, book: Book, planned: StepRecord) -> None:
        """Send what was planned, and what brings the book back within its limits after that.

        An order for the next open is not known to be done before that: its limits are seen to then.
        """
        held = book.kernel.ledger.quantity[0]
        # What a process that died recorded is sent as it was, whatever was learnt since.
        orders = self._recorded(book.day)
        if not orders:
            shares = share_orders(self._account)
            shares = [order for order in shares if order.symbol not in self._apart]
            orders = [*shares, *self._orders(book, held, planned.quantity[0])]
        self._send_all(orders)
        first = max((order.round for order in orders), default=0) + 1
        for round_ in range(first, 0 if self._at_open else _REPAIRS + 2):
            now = self._held(book)
            if now is None or np.allclose(now, planned.quantity[0], rtol=0.0, atol=self._smallest):
                return
            left = book.kernel.within_limits(now[None])[0]
            orders = self._orders(book, now, left, round_)
            if not orders:
                return
            if round_ > _REPAIRS:
                self._alert("limits", f"the book breaks a limit still, after {_REPAIRS} rounds")
                return
            text = f"{len(orders)} orders to bring the book back within its limits, round {round_}"
            self._alert("limits", text)
            self._send_all(orders)

    def _recorded(self, session: str) -> list[Order]:
        """The orders of a session, as they were recorded."""
        orders = [Order(**event.content) for event in self._store.of(ORDER)]
        return [order for order in orders if order.session == session]

    def _orders(
        self, book: Book, held: FloatArray, target: FloatArray, round_: int = 0
    ) -> list[Order]:
        """From what is held to a target (M,): what makes a position smaller goes first."""
        root, session = self._account.root, book.day
        names = symbols_at(book.market, book.session, root)
        backup = round_ > 1 and self._account.settings.broker.backup
        change = target - held
        orders = [
            Order(
                order_id(self._account.name, session, names[i], round_),
                *(session, i, names[i], float(change[i]), round_, backup),
            )
            for i in np.flatnonzero(np.abs(change) > self._smallest).tolist()
        ]
        orders.sort(key=lambda order: order.quantity * held[order.place] >= 0.0)
        if self._apart:
            orders = self._of_what_is_there(orders)
        return orders if root is None else in_parts(orders, held)

    def _of_what_is_there(self, orders: Sequence[Order]) -> list[Order]:
        """Of what the broker holds otherwise than the book no more is closed than it holds."""
        left, kept = dict(self._apart), []
        for order in orders:
            symbol = order.symbol if self._account.root is None else contract_of(order.symbol)
            units = order.quantity
            if symbol in left:
                units = float(np.clip(units, min(-left[symbol], 0.0), max(-left[symbol], 0.0)))
                left[symbol] += units
            if abs(units) > self._smallest:
                kept.append(replace(order, quantity=units))
        return kept

    def _held(self, book: Book) -> FloatArray | None:
        """Units (M,) of each instrument at the broker; None where it does not say."""
        root, is_done = self._account.root, OrderStatus.FILLED
        orders = [] if root is None else self._recorded(book.day)
        try:
            held = self._broker.positions()
            filled = [order for order in orders if self._broker.status(order.id) is is_done]
        except BrokerSilent:
            self._alert("silent", "no answer about positions after the orders")
            return None
        names = symbols_at(book.market, book.session, root)
        if root is None:
            return np.array([held.get(name, 0.0) for name in names])
        # Slots may share a contract: by what was done of each.
        done = self._account.days()[-1].quantity_done(book.kernel.ledger.quantity)[0]
        for order in filled:
            if order.place != SHARES:
                done[order.place] += order.quantity - sum(self._done.get(order.id, {}).values())
        known = by_symbol(names, done, root)
        gaps = [held.get(name, 0.0) - known.get(name, 0.0) for name in map(contract_of, names)]
        if np.allclose(gaps, 0.0, rtol=0.0, atol=_SAME_UNITS):
            return np.asarray(done)
        self._alert("limits", "not looked at: the broker holds more or less than it has reported")
        return None

    def _send_all(self, orders: Sequence[Order]) -> None:
        new = [(ORDER, asdict(order)) for order in orders if order.id not in self._known]
        self._store.append_together(*new)  # a round is recorded whole, or not at all
        self._known |= {order.id for order in orders}
        with self._store.together():
            for order in orders:
                if order.id not in self._ended:
                    self._send(order)
        self.sent += len(orders)

    def _send(self, order: Order) -> None:
        for _ in range(_TRIES):
            try:
                if self._broker.status(order.id) is None:
                    self._broker.submit(order)
                if self._at_open:
                    return
                self._take_executions(order)
                if self._broker.status(order.id) is OrderStatus.OPEN:
                    self._broker.cancel(order.id)
                    self._take_executions(order)
                self._end(order)
                return
            except BrokerSilent:
                self._alert("silent", f"no answer about {order.symbol}: asked again", order.id)

    def _take_executions(self, order: Order) -> None:
        known = self._done.get(order.id, {})
        reported = [each for each in self._broker.executions(order.id) if each.id not in known]
        once = {execution.id: execution for execution in reported}
        if len(once) < len(reported):
            text = f"{order.symbol} of {order.session}: an execution came twice"
            self._alert("twice", text, order.id)
        if once and order.id in self._ended:
            text = f"{order.symbol} of {order.session}: more was done than was said at its end"
            self._alert("late", text, order.id)
        for execution in once.values():
            self._store.append(EXECUTED, asdict(execution))
            self._note_done(execution)

    def _note_done(self, execution: Execution) -> None:
        self._done.setdefault(execution.order, {})[execution.id] = execution.quantity

    def _end(self, order: Order) -> None:
        """Record how an order ended, once all that was done of it is known."""
        if order.id in self._ended:
            return
        done = sum(self._done.get(order.id, {}).values())
        status = self._broker.status(order.id)
        smallest = _SMALLEST if order.place == SHARES else self._smallest
        if status is OrderStatus.FILLED and abs(done - order.quantity) > smallest:
            text = f"{order.symbol} is filled, its executions are not reported yet"
            self._alert("late", text, order.id)
            return
        how = "never received" if status is None else str(status)
        self._store.append(ENDED, {"order": order.id, "status": how, "done": done})
        self._ended.add(order.id)
        if status is not OrderStatus.FILLED:
            text = f"{order.symbol}: {done:g} of {order.quantity:g} units done"
            self._alert(how, text, order.id)
