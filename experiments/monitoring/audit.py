"""What an auditor asks for: trades, decisions, alerts and approvals as files, and two pages.

Everything is read off the account's events and a replay of its book; the numbers of the events
stand in the files, so each row can be held against the chain. `columns.csv` says what each column
is and in which unit.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conf.files import new_folder
from conf.types import FloatArray
from envs.core.batch import StepRecord
from envs.core.kernel import BookKernel
from experiments.accounts.account import (
    ALERT,
    APPROVED,
    CLOSED,
    DECISION,
    ENDED,
    EXECUTED,
    ORDER,
    RETRAINING,
    Account,
    executed,
    settled,
)
from experiments.accounts.deliveries import SHARES
from experiments.accounts.events import Event
from experiments.accounts.halts import HALTED, RESUMED
from experiments.accounts.verification import verify
from experiments.brokers.orders import symbols_at
from experiments.monitoring.audit_pages import disclosure_page, model_card_page
from experiments.monitoring.view import MODEL, read_account
from experiments.reporting.page import render
from risk.overlay import OVERLAY_RULES

AUDIT = "audit"
_NOTHING = 1e-9  # units that are none

# Every table, its columns in order: unit and meaning.
COLUMNS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "trades": {
        "event": ("number", "of the order, or of the decision where the model trades"),
        "session": ("day", "on which it was decided"),
        "order": ("name", "of the order; empty where the model trades"),
        "symbol": ("name", "slot and contract, asset, or what the broker knows it by"),
        "asked_units": ("units", "to buy, negative to sell"),
        "done_units": ("units", "of them"),
        "price_usd": ("dollars a unit", "mean of what was done; empty where nothing was"),
        "book_price_usd": ("dollars a unit", "the model's at the decision; empty for shares"),
        "cost_usd": ("dollars", "beyond the model's price, commission included; empty for shares"),
        "commission_usd": ("dollars", "that the broker charged; empty where the model trades"),
        "end": ("word", "of the order; model: traded by the model"),
        "policies": ("shares", "which policies decided"),
        "reason": ("text", "what made it another trade than they asked for"),
    },
    "decisions": {
        "event": ("number", "of the decision"),
        "session": ("day", ""),
        "policies": ("shares", "which policies decided"),
        "rules_bound": ("names", "of the risk module's rules that changed what they asked for"),
        "nothing_opened_because": ("text", ""),
        "planned_cost_usd": ("dollars", "of the trades as they were planned"),
        "equity_usd": ("dollars", "after its trades, as known that evening"),
        "cash_usd": ("dollars", "after its trades, as known that evening"),
    },
    "alerts": {
        "event": ("number", ""),
        "session": ("day", ""),
        "kind": ("word", ""),
        "text": ("text", ""),
    },
    "approvals": {
        "event": ("number", ""),
        "session": ("day", "newest session then"),
        "at": ("time, UTC", ""),
        "by": ("name", "who did it, as given"),
        "what": ("text", "what was approved, halted, let go on, or done by the protocol"),
    },
}


def write_audit(account: Account, now: dt.datetime) -> Path:
    """Write `audit/` into the account's folder, anew; where it is.

    Trades as CSV and Parquet, the other tables as CSV, a model card and a risk disclosure.
    """
    view, store, folder = read_account(account), account.store, account.folder / AUDIT
    decisions = {event.content["session"]: event for event in store.of(DECISION)}
    rows: dict[str, list[dict[str, Any]]] = {
        "trades": list(_trades(account, decisions)),
        "decisions": list(_decisions(account, decisions)),
        "alerts": [{"event": e.number, **e.content} for e in store.of(ALERT)],
        "approvals": [
            {"event": e.number, **e.content, **_person(e)}
            for e in store.of(APPROVED, HALTED, RESUMED, RETRAINING)
        ],
    }
    tables = {name: pd.DataFrame(rows[name], columns=list(COLUMNS[name])) for name in COLUMNS}
    about = [
        {"file": name, "column": column, "unit": unit, "meaning": meaning}
        for name, columns in COLUMNS.items()
        for column, (unit, meaning) in columns.items()
    ]
    differences = len(verify(account).differences)
    pages = {
        "model_card": model_card_page(account, view, differences, now),
        "risk_disclosure": disclosure_page(account, view, now),
    }
    with new_folder(folder) as temporary:
        for name, table in {**tables, "columns": pd.DataFrame(about)}.items():
            table.to_csv(temporary / f"{name}.csv", index=False)
        tables["trades"].to_parquet(temporary / "trades.parquet", index=False)
        for name, page in pages.items():
            (temporary / f"{name}.html").write_text(render(page), encoding="utf-8")
    return folder


def _trades(account: Account, decisions: Mapping[str, Event]) -> Iterator[dict[str, Any]]:
    """Every order; where the kernel trades, every change of a position."""
    kernel, _, market = account.kernel_at_opening()
    orders: dict[str, list[Event]] = {}
    for event in account.store.of(ORDER):
        orders.setdefault(event.content["session"], []).append(event)
    ends = {e.content["order"]: e.content["status"] for e in account.store.of(ENDED)}
    days = account.days()
    for day in days:
        held, decision = kernel.ledger.quantity.copy(), decisions.get(day.session)
        record = executed(kernel, day)
        if decision is not None:
            shared = {
                "session": day.session,
                "policies": _shares(decision),
                "reason": "; ".join([*_held_back(decision), *_rules(decision)]),
            }
            if day.executions is None:
                names = symbols_at(market, int(record.row[0]), account.root)
                lines = _by_the_model(kernel, record, held, names, decision.number)
            else:
                lines = _by_the_broker(account, record, orders.get(day.session, []), ends)
            for line in lines:
                yield {**line, **shared}
        if day is not days[-1]:
            settled(kernel, record, day)


def _by_the_model(
    kernel: BookKernel, record: StepRecord, held: FloatArray, names: tuple[str, ...], number: int
) -> Iterator[dict[str, Any]]:
    change = record.quantity - held
    for i in np.flatnonzero(np.abs(change[0]) > _NOTHING).tolist():
        alone, price = np.zeros_like(change), float(record.price[0, i])
        alone[0, i] = size = float(change[0, i])
        cost = float(kernel.trading_cost(alone, record.price, record.row)[0])
        line = {"event": number, "order": "", "symbol": names[i], "end": MODEL, "cost_usd": cost}
        prices = {"price_usd": price, "book_price_usd": price}
        yield {**line, **prices, "asked_units": size, "done_units": size}


def _by_the_broker(
    account: Account, record: StepRecord, orders: list[Event], ends: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    done: dict[str, list[Mapping[str, Any]]] = {}
    for event in account.store.of(EXECUTED):
        done.setdefault(event.content["order"], []).append(event.content)
    for event in orders:
        order, parts = event.content, done.get(event.content["id"], [])
        units = sum(part["quantity"] for part in parts)
        paid = sum(part["quantity"] * part["price"] for part in parts)
        commission = sum(part["commission_usd"] for part in parts)
        own = order["place"] != SHARES
        price = float(record.price[0, order["place"]]) if own else float("nan")
        yield {
            "event": event.number,
            "order": order["id"],
            "symbol": order["symbol"],
            "asked_units": order["quantity"],
            "done_units": units,
            "price_usd": paid / units if units else float("nan"),
            "book_price_usd": price,
            "cost_usd": paid - units * price + commission,
            "commission_usd": commission,
            "end": ends.get(order["id"], "open"),
        }


def _decisions(account: Account, decisions: Mapping[str, Event]) -> Iterator[dict[str, Any]]:
    closed = {event.content["session"]: event.content for event in account.store.of(CLOSED)}
    for session, event in decisions.items():
        yield {
            "event": event.number,
            "session": session,
            "policies": _shares(event),
            "rules_bound": "; ".join(_rules(event)),
            "nothing_opened_because": "; ".join(_held_back(event)),
            "planned_cost_usd": event.content["cost_usd"],
            **{name: closed.get(session, {}).get(name) for name in ("equity_usd", "cash_usd")},
        }


def _person(event: Event) -> dict[str, str]:
    """Who did what, of an event that is an approval, a halt, its end, or a retraining's step."""
    content = event.content
    if event.kind == APPROVED:
        return {"what": f"approved: {content['what']}"}
    if event.kind == RETRAINING:
        what = f"retraining {content['step']}: {content['text']}"
        return {"by": content.get("by", "protocol"), "what": what}
    by = content.get("by", "a person")
    mode = f" ({content['mode']})" if event.kind == HALTED else ""
    return {"by": by, "what": f"{event.kind}{mode}: {content['why']}".rstrip(": ")}


def _shares(decision: Event) -> str:
    return "; ".join(f"{name} {share:g}" for name, share in decision.content["shares"].items())


def _rules(decision: Event) -> list[str]:
    bound = decision.content["rules_bound"]
    return [OVERLAY_RULES[i] for i in np.flatnonzero(bound)]


def _held_back(decision: Event) -> list[str]:
    return list(decision.content["nothing_opened_because"])
