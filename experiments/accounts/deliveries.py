"""What an account has beside its book: shares that options were paid out in, and adjustments.

The book knows options and cash. Shares are closed at the next opportunity; until then they are
worth their price beside it, and what they gain, and cost to finance, enters the book's cash as a
cost. So at all times, held shares at the last close's price,

    cash of the book = cash at the broker + value of the shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from envs.core.batch import StepRecord
from envs.core.market import BookMarket
from experiments.accounts.events import EventStore
from experiments.brokers.listed import Root
from experiments.brokers.orders import Execution

DELIVERED, ADJUSTED = "delivery", "adjustment"  # kinds of events
SHARES = -1  # the place of an order for shares: none of the book's


@dataclass(frozen=True)
class Delivered:
    """Contracts that became shares, as recorded."""

    id: str  # the broker's
    session: str  # after whose trades it happened
    symbol: str
    places: tuple[tuple[int, float], ...]  # instruments and their change in units
    shares: float  # change of the shares held
    usd: float  # change of the cash at the broker
    paid_usd: float  # what the book was paid for them already, at their expiry


@dataclass(frozen=True)
class Beside:
    """One session of it."""

    ratio: float = 0.0  # dollars a share over the index
    held: float = 0.0  # shares held into the session
    delivered: tuple[Delivered, ...] = ()
    executions: tuple[Execution, ...] = ()  # of orders for shares
    adjusted_usd: float = 0.0  # the broker's cash over the book's, taken over

    @property
    def shares(self) -> float:
        """Held after all that is known of the session."""
        traded = sum(execution.quantity for execution in self.executions)
        return self.held + sum(each.shares for each in self.delivered) + traded

    @property
    def assigned(self) -> list[tuple[int, float]]:
        """Instruments that lost contracts to an assignment, and their change in units."""
        return [change for each in self.delivered for change in each.places]

    def worth_usd(self, market: BookMarket, session: int) -> float:
        """The book's cash over the broker's before the session's trades."""
        before, _, growth = self.prices(market, session)
        claimed = sum(each.paid_usd - each.usd for each in self.delivered)
        return self.held * before * growth + claimed

    def prices(self, market: BookMarket, session: int) -> tuple[float, float, float]:
        """Dollars a share at the close before and at this one; growth of cash between them."""
        before, now = self.ratio * market.history.close[0, session - 1 : session + 1]
        return float(before), float(now), 1.0 + float(market.cash_return[session - 1])


def days_beside(
    store: EventStore,
    sessions: Sequence[str],
    root: Root | None,
    orders: Mapping[str, Mapping[str, int]],
    done: Mapping[str, Mapping[str, Execution]],
    before: int | None = None,
) -> list[Beside]:
    """What was beside the book at each session, by the events before one of that number.

    orders: of each session, order -> place; done: of each order, its executions.
    """
    delivered = [
        _read(event.content)
        for event in store.of(DELIVERED)
        if before is None or event.number <= before
    ]
    adjusted = {e.content["session"]: float(e.content["usd"]) for e in store.of(ADJUSTED)}
    days, held, ratio = [], 0.0, 0.0 if root is None else root.ratio
    for session in sessions:
        own = orders.get(session, {})
        executions = [
            execution
            for order, place in own.items()
            if place == SHARES
            for execution in done.get(order, {}).values()
        ]
        arrived = tuple(each for each in delivered if each.session == session)
        day = Beside(ratio, held, arrived, tuple(executions), adjusted.get(session, 0.0))
        days.append(day)
        held = day.shares
    return days


def beside_the_book(record: StepRecord, beside: Beside, market: BookMarket) -> float:
    """Dollars that what happened beside the book costs it, at the session and marks of a trade."""
    session = int(record.row[0])
    before, now, growth = beside.prices(market, session)
    gained = beside.held * (now - before * growth) + beside.adjusted_usd
    for each in beside.delivered:
        gained += each.usd + each.shares * now - each.paid_usd
    for place, units in beside.assigned:
        gained += units * float(record.price[0, place])
    for execution in beside.executions:
        gained -= execution.quantity * (execution.price - now) + execution.commission_usd
    return -gained


def _read(content: Mapping[str, Any]) -> Delivered:
    places = tuple((int(place), float(units)) for place, units in content["places"])
    return Delivered(**{**content, "places": places})
