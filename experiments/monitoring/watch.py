"""Watching an account: what is due is checked, recorded and shown."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

from conf.files import write_atomically
from experiments.accounts.account import ALERT, Account
from experiments.accounts.verification import verify
from experiments.monitoring.checks import (
    PERIODS,
    Check,
    CheckSettings,
    Level,
    Period,
    daily,
    monthly,
    period_key,
    quarterly,
    undecided_sessions,
    weekly,
)
from experiments.monitoring.live_page import build_page
from experiments.monitoring.metrics import metrics_text
from experiments.monitoring.view import AccountView, read_account
from experiments.reporting.page import render

CHECKED = "checked"  # kind of event
LIVE, METRICS, REPORTS = "live.html", "metrics.prom", "reports"
NEW_YORK = ZoneInfo("America/New_York")
DECIDED_BY = dt.time(20, 0)  # of New York's day


def evening_of(session: str) -> dt.datetime:
    """The end of a session's day: the time that it is in a replay."""
    return dt.datetime.combine(dt.date.fromisoformat(session), dt.time(23, 59), NEW_YORK)


def due(account: Account) -> tuple[Period, ...]:
    """The day's checks, and those of the week, month and quarter that were not done in it."""
    session = account.newest
    done = {event.content["key"] for event in account.store.of(CHECKED)}
    return tuple(p for p in PERIODS if p == "daily" or period_key(p, session) not in done)


def run_checks(
    account: Account,
    view: AccountView,
    periods: Sequence[Period],
    now: dt.datetime,
    options: CheckSettings,
    decided_by: dt.time = DECIDED_BY,
) -> list[Check]:
    """Every check of these periods, at the time `now`."""

    def checks() -> Iterator[Check]:
        if "daily" in periods:
            late = undecided_sessions(view, now.astimezone(NEW_YORK), decided_by)
            yield from daily(view, late, options)
        if "weekly" in periods:
            yield from weekly(view, options)
        if "monthly" in periods:
            yield from monthly(view, options)
        if "quarterly" in periods:
            yield from quarterly(view, len(verify(account).differences), options)

    return list(checks())


def record(account: Account, view: AccountView, checks: Sequence[Check]) -> AccountView:
    """Record each alert once a session, and which checks were done; the view with these alerts."""
    store = account.store
    known = {(e.content["kind"], e.content["session"]) for e in store.of(ALERT)}
    for check in checks:
        session = check.session or view.session
        if check.level is Level.ALERT and (check.key, session) not in known:
            text = f"{check.title}: {check.found} (held against: {check.bound})"
            store.append(ALERT, {"session": session, "kind": check.key, "text": text})
    done = {event.content["key"] for event in store.of(CHECKED)}
    for period in dict.fromkeys(check.period for check in checks):
        key = period_key(period, view.session)
        levels = {check.key: str(check.level) for check in checks if check.period == period}
        if key not in done:
            content = {"session": view.session, "period": period, "key": key, "levels": levels}
            store.append(CHECKED, content)
    return replace(view, alerts=tuple(event.content for event in reversed(store.of(ALERT))))


def renew(account: Account, view: AccountView, checks: Sequence[Check], now: dt.datetime) -> None:
    """Write the live page and the metrics, each in one step."""
    page = render(build_page(view, checks, now.astimezone(dt.UTC)))
    write_atomically(account.folder / LIVE, page.encode())
    write_atomically(account.folder / METRICS, metrics_text(view, checks, now).encode())


def show_decision(account: Account, *, replayed: bool) -> None:
    """Renew page and metrics after a decision, by the checks of day and week."""
    view = read_account(account)
    now = evening_of(view.session) if replayed else dt.datetime.now(dt.UTC)
    renew(account, view, run_checks(account, view, ("daily", "weekly"), now, CheckSettings()), now)


def write_report(
    account: Account, view: AccountView, checks: Sequence[Check], now: dt.datetime
) -> Path:
    """The report of the newest session: the live page with how it has done so far."""
    path = account.folder / REPORTS / f"{view.session}.html"
    page = render(build_page(view, checks, now.astimezone(dt.UTC), full=True))
    write_atomically(path, page.encode())
    return path
