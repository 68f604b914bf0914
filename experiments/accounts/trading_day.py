"""One session of an account: one step of the kernel that the agent was trained in.

The session's row is recorded, the book is brought there, the policy sees it, the risk module has
its say, and what is to be traded goes out as orders. Everything is recorded before it is acted
upon, so a process that dies anywhere is followed by one that goes on from there: it asks what
became of an order before it sends it. A session is decided once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from conf.types import FloatArray
from envs.core.batch import StepRecord
from envs.core.market import BookHistory, BookMarket
from experiments.accounts.account import (
    ALERT,
    CLOSED,
    DECISION,
    ENDED,
    EXECUTED,
    ORDER,
    Account,
    Book,
    as_done,
    last_state,
    record_session,
    state_to_plain,
)
from experiments.accounts.events import decoded, encoded
from experiments.accounts.halts import as_halted, halt_reasons
from experiments.accounts.orders import (
    Broker,
    BrokerSilent,
    Order,
    OrderStatus,
    order_id,
    symbols_at,
)
from experiments.accounts.recorded import changed_columns
from experiments.accounts.simulated_broker import SimulatedBroker

log = logging.getLogger(__name__)

_ASKED_AGAIN = 5  # sessions after which executions are no longer asked for
_NOTHING = 1e-9  # units that are none
_SAME_USD = 1e-6  # what cash at the broker may differ by
_JUMP = 0.25  # change of a price in a session, beyond which nothing is opened without a person


@dataclass
class DayReport:
    """What a call did."""

    session: str
    decided: bool = False  # False: the session was decided before
    missed: list[str] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)
    equity_usd: float = float("nan")
    cash_usd: float = float("nan")
    orders: int = 0


def run_session(account: Account, fresh: BookHistory) -> DayReport:
    """Bring the account to the newest session of `fresh`, and decide there if that was not done.

    Sessions that were missed are recorded as such: what was held was kept, what expired was paid
    out, and the policy's memory sees them. Does nothing for a session that is closed already.
    """
    recorded = account.history()
    report = DayReport(session=str(recorded.dates[-1]))
    changed = changed_columns(recorded, fresh)
    new = np.flatnonzero(fresh.dates > recorded.dates[-1])
    for session in new.tolist():
        record_session(account.store, fresh, session)
    sessions = [event.content["session"] for event in account.sessions]
    report.session = sessions[-1]
    report.missed = [str(fresh.dates[session]) for session in new[:-1]]
    if any(e.content["session"] == report.session for e in account.store.of(CLOSED)):
        return report
    reasons = halt_reasons(account.folder, account.store, report.session)
    if report.missed:
        _alert(account, report, "missed", f"no decision on {', '.join(report.missed)}")
    if changed:
        text = f"the source now says otherwise: {', '.join(changed[:5])}"
        reasons.append(_alert(account, report, "contradiction", text))
    # What was done on earlier sessions and not reported then belongs to the book that comes now.
    book = account.book()
    broker = open_broker(account, book)
    if broker is not None:
        known = len(account.store.of(EXECUTED))
        reasons += _settle_open_orders(account, broker, report)
        if len(account.store.of(EXECUTED)) > known:
            book = account.book()
        reasons += _reconcile(account, broker, book, report)
    reasons += _jumps(account, book, report)
    planned = _decided(account, book, reasons)
    if broker is not None:
        _send_orders(account, broker, book, planned, report)
    _close(account, book, planned, report)
    report.decided = True
    return report


def open_broker(account: Account, book: Book) -> Broker | None:
    """The account's broker at the newest session; None where the kernel itself trades."""
    chosen = account.settings.broker
    if chosen.kind == "model":
        return None
    initial = account.market_settings.env.initial_equity_usd
    broker = SimulatedBroker(account.folder, initial, chosen.faults)
    market, t = book.market, book.session
    names = symbols_at(market, t)
    price, unit_cost = market.mark[0, t], _unit_costs(book)
    quotes = {
        name: (float(p), float(c)) for name, p, c in zip(names, price, unit_cost, strict=True)
    }
    days = market.history.dates.astype(str).tolist()
    behind = days.index(broker.settled) + 1 if broker.settled else t
    for session in range(min(behind, t), t + 1):  # missed ones too: a broker misses none
        interest = float(market.cash_return[session - 1])
        left = _paid_out(market, session)
        broker.open_session(days[session], quotes if session == t else {}, interest, left)
    return broker


def _paid_out(market: BookMarket, session: int) -> dict[str, float]:
    """What a unit of each contract that left the book at a session was worth there."""
    before, now = symbols_at(market, session - 1), symbols_at(market, session)
    return {
        name: float(value)
        for name, after, value in zip(before, now, market.aged[0, session], strict=True)
        if name != after
    }


def _unit_costs(book: Book) -> FloatArray:
    """Dollars that trading a unit of each instrument costs at the book's session, (M,)."""
    kernel, row = book.kernel, np.array([book.session])
    one = np.eye(len(book.market.instruments))
    mark = book.market.mark[0, book.session][None]
    return np.array([float(kernel.trading_cost(unit[None], mark, row)[0]) for unit in one])


# --- deciding ------------------------------------------------------------------------------------


def _decided(account: Account, book: Book, reasons: Sequence[str]) -> StepRecord:
    """What is to be traded: by the recorded decision, or by a new one that is recorded first."""
    session, kernel = book.day, book.kernel
    for event in account.store.of(DECISION):
        if event.content["session"] == session:
            return kernel.plan(decoded(event.content["requested"]))
    state, begins, unseen = _memory(account, book)
    policy = account.policy.policy
    for observation in unseen:  # sessions without a decision: the memory sees them all the same
        _, state = policy.predict(observation, state, begins, deterministic=True)
        begins = np.zeros(1, np.bool_)
    action, after = policy.predict(book.observation, state, begins, deterministic=True)
    requested = kernel.quantity_of(action)
    if reasons:
        requested = reduced_only(as_halted(requested, reasons), kernel.ledger.quantity)
    planned = kernel.plan(requested)
    bound = [] if planned.overlay is None else planned.overlay.bound[0].astype(int).tolist()
    content = {
        "session": session,
        "observation": encoded(book.observation),
        "policy": account.opened["sha256"]["policy"],
        "action": encoded(action),
        "requested": encoded(requested),
        "target": encoded(planned.quantity),
        "price": encoded(planned.price),
        "cost_usd": float(planned.cost[0]),
        "rules_bound": bound,
        "nothing_opened_because": list(reasons),
        "state": state_to_plain(after),
    }
    account.store.append(DECISION, content)
    return planned


def _memory(account: Account, book: Book) -> tuple[Any, Any, Sequence[Any]]:
    """The policy's memory, whether it begins, and the observations since that it did not act on."""
    state, since = last_state(account.store)
    sessions = [event.content["session"] for event in account.sessions]
    seen = 0 if since is None else sessions.index(since) + 1
    return state, np.array([since is None]), book.observed[seen:-1]


def reduced_only(requested: FloatArray, held: FloatArray) -> FloatArray:
    """What is asked for (1, M) as far as it makes a position smaller; nothing is turned round."""
    low, high = np.minimum(held, 0.0), np.maximum(held, 0.0)
    return np.minimum(np.maximum(np.nan_to_num(requested), low), high)


# --- orders --------------------------------------------------------------------------------------


def _send_orders(
    account: Account, broker: Broker, book: Book, planned: StepRecord, report: DayReport
) -> None:
    names, session = symbols_at(book.market, book.session), book.day
    change = planned.quantity[0] - book.kernel.ledger.quantity[0]
    recorded = {e.content["id"] for e in account.store.of(ORDER)}
    orders = [
        Order(order_id(account.name, session, names[i]), session, i, names[i], float(change[i]))
        for i in np.flatnonzero(np.abs(change) > _NOTHING).tolist()
    ]
    # What makes a position smaller goes first.
    held = book.kernel.ledger.quantity[0]
    orders.sort(key=lambda order: order.quantity * held[order.place] >= 0.0)
    for order in orders:
        if order.id not in recorded:
            account.store.append(ORDER, asdict(order))
    ended = {e.content["order"] for e in account.store.of(ENDED)}
    for order in orders:
        if order.id not in ended:
            _send(account, broker, order, report)
    report.orders = len(orders)


def _send(account: Account, broker: Broker, order: Order, report: DayReport) -> None:
    try:
        if broker.status(order.id) is None:
            broker.submit(order)
        _take_executions(account, broker, order)
        if broker.status(order.id) is OrderStatus.OPEN:
            broker.cancel(order.id)
            _take_executions(account, broker, order)
        _end(account, broker, order, report)
    except BrokerSilent:
        text = f"no answer about {order.symbol}: asked again at the next call"
        _alert(account, report, "silent", text)


def _settle_open_orders(account: Account, broker: Broker, report: DayReport) -> list[str]:
    """Ask what became of the orders of the last sessions; reasons to hold back.

    Also of those that have ended: what was done of a cancelled order may be reported late.
    """
    ended = {e.content["order"] for e in account.store.of(ENDED)}
    recent = {event.content["session"] for event in account.sessions[-_ASKED_AGAIN - 1 : -1]}
    for event in account.store.of(ORDER):
        order = Order(**event.content)
        if order.session not in recent:
            continue
        try:
            if broker.status(order.id) is OrderStatus.OPEN:
                broker.cancel(order.id)
            _take_executions(account, broker, order)
            if order.id not in ended:
                _end(account, broker, order, report)
        except BrokerSilent:
            text = f"no answer about {order.symbol} of {order.session}"
            return [_alert(account, report, "silent", text)]
    return []


def _take_executions(account: Account, broker: Broker, order: Order) -> None:
    known = {e.content["id"] for e in account.store.of(EXECUTED) if e.content["order"] == order.id}
    for execution in broker.executions(order.id):
        if execution.id not in known:
            known.add(execution.id)
            account.store.append(EXECUTED, asdict(execution))


def _end(account: Account, broker: Broker, order: Order, report: DayReport) -> None:
    """Record how an order ended, once all that was done of it is known."""
    done = sum(
        e.content["quantity"] for e in account.store.of(EXECUTED) if e.content["order"] == order.id
    )
    status = broker.status(order.id)
    if status is OrderStatus.FILLED and abs(done - order.quantity) > _NOTHING:
        text = f"{order.symbol} is filled, its executions are not reported yet"
        _alert(account, report, "late", text)
        return
    how = "never received" if status is None else str(status)
    account.store.append(ENDED, {"order": order.id, "status": how, "done": done})
    if status is not OrderStatus.FILLED:
        _alert(account, report, how, f"{order.symbol}: {done:g} of {order.quantity:g} units done")


def _reconcile(account: Account, broker: Broker, book: Book, report: DayReport) -> list[str]:
    """Compare what the broker holds with the book; reasons to hold back."""
    ledger, names = book.kernel.ledger, symbols_at(book.market, book.session)
    ours = {name: q for name, q in zip(names, ledger.quantity[0], strict=True) if q != 0.0}
    try:
        theirs, cash = dict(broker.positions()), broker.cash()
    except BrokerSilent:
        return [_alert(account, report, "silent", "no answer about positions")]
    odd = [
        f"{name}: {theirs.get(name, 0.0):g} at the broker, {ours.get(name, 0.0):g} in the book"
        for name in sorted(ours.keys() | theirs.keys())
        if abs(theirs.get(name, 0.0) - ours.get(name, 0.0)) > _NOTHING
    ]
    if abs(cash - float(ledger.cash[0])) > _SAME_USD:
        odd.append(f"cash: {cash:.2f} at the broker, {float(ledger.cash[0]):.2f} in the book")
    if not odd:
        return []
    return [_alert(account, report, "difference", "; ".join(odd[:5]))]


# --- watching ------------------------------------------------------------------------------------


def _jumps(account: Account, book: Book, report: DayReport) -> list[str]:
    close = book.market.history.close[0]
    if len(account.sessions) < 2:
        return []
    change = np.max(np.abs(close[-1] / close[-2] - 1.0))
    if change <= _JUMP:
        return []
    text = f"a price moved by {100 * change:.0f} % since the session before"
    return [_alert(account, report, "jump", text)]


def _alert(account: Account, report: DayReport, kind: str, text: str) -> str:
    """Record an alert of this session, once."""
    content = {"session": report.session, "kind": kind, "text": text}
    if content not in [dict(e.content) for e in account.store.of(ALERT)]:
        account.store.append(ALERT, content)
    report.alerts.append(text)
    log.warning("%s: %s", report.session, text)
    return text


def _close(account: Account, book: Book, planned: StepRecord, report: DayReport) -> None:
    """Record where the account stands after its trades, and export the head of its events."""
    as_done(book.kernel, planned, account.days()[-1])
    ledger = book.kernel.ledger
    report.equity_usd, report.cash_usd = float(ledger.equity[0]), float(ledger.cash[0])
    account.store.append(
        CLOSED,
        {
            "session": report.session,
            "equity_usd": report.equity_usd,
            "cash_usd": report.cash_usd,
            "quantity": encoded(ledger.quantity),
        },
    )
    account.store.export_head(report.session)
