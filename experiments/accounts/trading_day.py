"""One session of an account: one step of the kernel that the agent was trained in.

The session's row is recorded, the book is brought there, the policy sees it, the risk module has
its say, and what is to be traded goes out as orders. Everything is recorded before it is acted
upon, so a process that dies anywhere is followed by one that goes on from there. A session is
decided once.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from conf.types import FloatArray
from envs.core.batch import StepRecord
from envs.core.market import BookHistory
from experiments.accounts.account import (
    ALERT,
    CLOSED,
    DECISION,
    ORDER,
    Account,
    Book,
    as_done,
    record_session,
)
from experiments.accounts.brokers import open_broker
from experiments.accounts.data_checks import REVISED, Doubt, doubts
from experiments.accounts.events import decoded, encoded
from experiments.accounts.halts import as_halted, halt_reasons
from experiments.accounts.order_flow import Alert, OrderFlow
from experiments.accounts.policies import (
    Appointed,
    act,
    appoint,
    appointed,
    asked_together,
    held_back,
    state_to_plain,
)
from experiments.accounts.recorded import at_recorded_level
from risk.book import reduced

log = logging.getLogger(__name__)


@dataclass
class DayReport:
    """What a call did."""

    session: str
    decided: bool = False  # False: the session was decided before
    missed: list[str] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)
    equity_usd: float = float("nan")
    cash_usd: float = float("nan")
    traded: str = ""  # how much


def run_session(
    account: Account, fresh: BookHistory, today: dt.date | None = None, final: bool = True
) -> DayReport:
    """Bring the account to the newest session of `fresh`, and decide there if that was not done.

    Sessions that were missed are recorded as such: what was held was kept, what expired was paid
    out, and the policy's memory sees them. Does nothing for a session that is closed already.
    today: the exchange's newest session, where it is known, or else the newest of `fresh`; `final`
    is False where it has not ended yet. Unavailable where `fresh` lacks a column; nothing is
    recorded then.
    """
    found = _record_new(account, fresh, today, final)
    sessions = [event.content["session"] for event in account.sessions]
    report = DayReport(session=sessions[-1])

    def alert(kind: str, text: str, order: str | None = None) -> str:
        return _alert(account, report, kind, text, order)

    if any(e.content["session"] == report.session for e in account.store.of(CLOSED)):
        account.store.export_head(report.session)  # the process may have died before it did
        for doubt in found:
            if doubt.kind == "stale":  # that nothing is decided today is worth knowing
                alert(doubt.kind, doubt.text)
        return report
    report.missed = _missed(account)
    for text in _not_done(account, report.missed):
        alert("missed", text)
    reasons = halt_reasons(account.folder, account.store, report.session)
    reasons += held_back(account.store)
    reasons += [alert(doubt.kind, doubt.text) for doubt in found]
    broker = open_broker(account)
    flow = None if broker is None else OrderFlow(account, broker, alert)
    with account.store.together():
        if flow is not None:
            reasons += flow.settle_earlier()
        # What was done on earlier sessions and is learnt only now belongs to this book.
        book = account.book()
        if flow is not None:
            reasons += flow.reconcile(book)
        _go_back(account, book, alert)
        revised = [value for doubt in found for value in doubt.values]
        planned = _decided(account, book, reasons, revised)
    if flow is not None:
        flow.send(book, planned)
        report.traded = f"{flow.sent} orders"
    else:
        changed = int(np.count_nonzero(planned.quantity != book.kernel.ledger.quantity))
        report.traded = f"{changed} trades for ${float(planned.cost[0]):,.2f}"
    _close(account, book, planned, report)
    report.decided = True
    return report


def replayed(account: Account, source: BookHistory, until: dt.date | None) -> Iterator[BookHistory]:
    """The market as it stood at each session that is to be decided; None: at the next one alone."""
    seen = np.datetime64(account.newest)
    closed = account.store.of(CLOSED)
    is_closed = bool(closed) and closed[-1].content["session"] == str(seen)
    session = int(np.searchsorted(source.dates, seen)) + is_closed
    last = session
    if until is not None:
        last = int(np.searchsorted(source.dates, np.datetime64(until), "right")) - 1
    for stop in range(session, min(last, source.num_sessions - 1) + 1):
        yield source.sessions(0, stop + 1)


def _record_new(
    account: Account, fresh: BookHistory, today: dt.date | None, final: bool
) -> list[Doubt]:
    """Record the sessions of `fresh` that are new; what speaks against deciding on it."""
    recorded = account.history()
    fresh = at_recorded_level(recorded, fresh, account.provisional)
    known = {value for e in account.store.of(REVISED) for value in e.content["values"]}
    found = doubts(recorded, fresh, account.provisional, _last_decided(account), today, known)
    new = np.flatnonzero(fresh.dates > recorded.dates[-1])
    newest = fresh.dates[-1].item() if today is None else today
    for session in new.tolist():
        ended = final or fresh.dates[session].item() < newest
        record_session(account.store, fresh, session, ended)
    return found


def _last_decided(account: Account) -> str:
    """The newest session that was decided; the opening one before the first."""
    days = [event.content["session"] for event in account.store.of(DECISION)]
    return str(days[-1] if days else account.sessions[0].content["session"])


def _missed(account: Account) -> list[str]:
    """Sessions since the last decision that went by without one, the newest left out."""
    decided = {event.content["session"] for event in account.store.of(DECISION)}
    missed: list[str] = []
    for event in account.sessions[:-1]:
        day = event.content["session"]
        missed = [] if day in decided else [*missed, day]
    return [] if account.newest in decided else missed


def _not_done(account: Account, missed: Sequence[str]) -> Iterator[str]:
    """What should have been done on sessions that are over, a line each."""
    if missed:
        yield f"no decision on {', '.join(missed)}"
    decided = [event.content["session"] for event in account.store.of(DECISION)]
    acted = {event.content["session"] for event in account.store.of(CLOSED, ORDER)}
    has_broker = account.settings.broker.kind != "model"
    if has_broker and decided and decided[-1] not in (account.newest, *acted):
        yield f"on {decided[-1]} the process died before it sent what was decided"


# --- deciding ------------------------------------------------------------------------------------


def _go_back(account: Account, book: Book, alert: Alert) -> None:
    """Let the policy before decide alone where a hand-over has lost too much."""
    chosen = appointed(account.store)
    if chosen.max_drawdown is None:
        return
    closed = [e.content for e in account.store.of(CLOSED)]
    now = float(book.kernel.ledger.equity[0])
    peak = max([now, *(c["equity_usd"] for c in closed if c["session"] >= chosen.since)])
    fall = 1.0 - now / peak
    if fall > chosen.max_drawdown:
        text = f"fell by {100 * fall:.1f} % since {chosen.since}: {chosen.back_to} decides again"
        alert("rolled back", text)
        appoint(account.store, book.day, Appointed({chosen.back_to: 1.0}), text)


def _decided(
    account: Account, book: Book, reasons: Sequence[str], revised: Sequence[str]
) -> StepRecord:
    """What is to be traded: by the recorded decision, or by a new one that is recorded first.

    revised: values that hold back this decision, and none that follows.
    """
    session, kernel = book.day, book.kernel
    decisions = {e.content["session"]: e.content for e in account.store.of(DECISION)}
    if session in decisions:
        return kernel.plan(decoded(decisions[session]["requested"]))
    sessions = [event.content["session"] for event in account.sessions]
    shares, actions, states = appointed(account.store).shares, {}, {}
    for name in shares:
        policy = account.policies[name].policy
        actions[name], states[name] = act(name, policy, decisions, sessions, book.observed)
    requested = asked_together(kernel, actions, shares)
    if reasons:
        requested = reduced_only(as_halted(requested, reasons), kernel.ledger.quantity)
    planned = kernel.plan(requested)
    bound = [] if planned.overlay is None else planned.overlay.bound[0].astype(int).tolist()
    content = {
        "session": session,
        "observation": encoded(book.observation),
        "shares": dict(shares),
        "actions": {name: encoded(action) for name, action in actions.items()},
        "requested": encoded(requested),
        "target": encoded(planned.quantity),
        "price": encoded(planned.price),
        "cost_usd": float(planned.cost[0]),
        "rules_bound": bound,
        "nothing_opened_because": list(reasons),
        "states": {name: state_to_plain(state) for name, state in states.items()},
    }
    account.store.append(DECISION, content)
    if revised:
        account.store.append(REVISED, {"session": session, "values": list(revised)})
    return planned


def reduced_only(requested: FloatArray, held: FloatArray) -> FloatArray:
    """What is asked for (1, M) as far as it makes a position smaller; nothing is turned round."""
    return reduced(held, np.nan_to_num(requested))


def _alert(
    account: Account, report: DayReport, kind: str, text: str, order: str | None = None
) -> str:
    """Record an alert of this session, once."""
    content = {"session": report.session, "kind": kind, "text": text, "order": order}
    if not any(event.content == content for event in account.store.of(ALERT)):
        account.store.append(ALERT, content)
        log.warning("%s: %s", report.session, text)
    report.alerts.append(text)
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
