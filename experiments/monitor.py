"""Watch an account.

action=check does the checks that are due (each session, and once a week, month and quarter),
records alerts, renews the live page and sends what is new to the addresses in POLYHEDGERL_ALERTS.
action=serve shows page and metrics on this machine; action=report writes the report of the newest
session, action=audit what an auditor asks for; action=halt stops the account at once, whatever
runs, and action=resume lets it go on.

Examples:
    python -m experiments.monitor account=mine
    python -m experiments.monitor account=mine action=serve
    python -m experiments.monitor account=mine action=halt mode=flatten
"""

from __future__ import annotations

import datetime as dt
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import torch
from omegaconf import DictConfig
from pydantic import Field
from rich.console import Console
from rich.table import Table

from conf.errors import InputError
from conf.settings import build_settings, settings
from experiments.accounts.account import Account, existing_account
from experiments.accounts.events import open_store
from experiments.accounts.halts import HALT, ask_to_halt, halt_on_signal, halt_reasons, resume
from experiments.monitoring.audit import write_audit
from experiments.monitoring.checks import PERIODS, Check, CheckSettings, Level, Period
from experiments.monitoring.notify import VARIABLE, addresses, send_alerts
from experiments.monitoring.serving import LOOPBACK, open_server
from experiments.monitoring.view import read_account
from experiments.monitoring.watch import due, evening_of, record, renew, run_checks, write_report
from experiments.runs.cli import GateFailed, launch
from experiments.runs.config import plain_config
from experiments.runs.folder import run_lock, shown_path
from risk.guard import GuardState

_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.ALERT: "bold red"}


@settings
class MonitorSettings:
    """What one call does."""

    account: Annotated[str, Field(min_length=1)]
    action: Literal["check", "serve", "report", "audit", "halt", "resume"] = "check"
    period: Literal["due", "all"] = "due"
    now: str | None = None  # ISO, UTC; "session": the evening of the newest; null: as it is
    decided_by: dt.time = dt.time(20, 0)  # of New York's day
    gate: bool = False  # exit code 1 where a check alerts
    mode: Literal["reduce", "flatten"] = "reduce"  # of a halt
    why: Annotated[str, Field(max_length=200)] = ""  # of a halt or its end
    port: Annotated[int, Field(ge=1024, le=65535)] = 8765
    checks: CheckSettings = Field(default_factory=CheckSettings)


def monitor(config: DictConfig) -> None:
    """Do what the action says."""
    torch.set_num_threads(1)
    request: MonitorSettings = build_settings(MonitorSettings, plain_config(config))
    folder = existing_account(request.account)
    if request.action == "serve":
        _serve(folder, request.port)
    elif request.action == "halt":
        _halt(folder, request)
    elif request.action == "audit":
        with _opened(folder) as account:
            _say(f"audit: {shown_path(write_audit(account, dt.datetime.now(dt.UTC)))}")
    elif request.action == "resume":
        with _opened(folder) as account:
            view = read_account(account)
            asked = view.halt is not None or os.path.lexists(folder / HALT)
            if not asked and view.guard != GuardState.HALTED.name:
                raise InputError(f"account {account.name} is not halted")
            resume(folder, account.store, view.session, request.why)
            _say(f"account {account.name} trades again from its next decision on")
    else:
        _check(folder, request)


@contextmanager
def _opened(folder: Path) -> Iterator[Account]:
    """The account, once no other process writes into it."""
    with run_lock(folder, wait=True), halt_on_signal(folder), open_store(folder) as store:
        yield Account(folder, store)


def _halt(folder: Path, request: MonitorSettings) -> None:
    """Leaves the file, which nothing can keep it from; the event follows with the next decision."""
    ask_to_halt(folder, "command", request.mode, request.why)
    what = "closes everything" if request.mode == "flatten" else "opens nothing"
    _say(f"account {folder.name} is halted: its next decision {what}, until action=resume")


def _serve(folder: Path, port: int) -> None:
    with open_server(folder, port) as server:
        _say(f"serving http://{LOOPBACK}:{port}/ and /metrics, until Ctrl-C")
        server.serve_forever()


def _check(folder: Path, request: MonitorSettings) -> None:
    with _opened(folder) as account:
        halt_reasons(folder, account.store, account.newest)
        view = read_account(account)
        now = _now(request.now, view.session)
        every = request.period == "all" or request.action == "report"
        periods = PERIODS if every else due(account)
        checks = run_checks(account, view, periods, now, request.checks, request.decided_by)
        view = record(account, view, checks)
        others: tuple[Period, ...] = () if "weekly" in periods else ("weekly",)
        shown = [*checks, *run_checks(account, view, others, now, request.checks)]
        renew(account, view, shown, now)
        if request.action == "report" or "monthly" in periods:
            _say(f"report: {shown_path(write_report(account, view, shown, now))}")
        _show(f"account {account.name}, close of {view.session}", checks)
        urls = addresses(os.environ)
        for problem in send_alerts(account.store, account.name, urls):
            _say(f"alerts: {problem}")
        if view.alerts and not urls:
            _say(f"alerts go to nobody: {VARIABLE} holds no address")
        alerts = [check.key for check in checks if check.level is Level.ALERT]
        if alerts and request.gate:
            raise GateFailed(f"account {account.name} has alerts: {', '.join(alerts)}")


def _now(given: str | None, session: str) -> dt.datetime:
    if given is None:
        return dt.datetime.now(dt.UTC)
    if given == "session":
        return evening_of(session)
    try:
        moment = dt.datetime.fromisoformat(given)
    except ValueError:
        raise InputError(
            f"now is {given!r}", "Write it as 2026-01-05T21:00 (UTC), or session, or leave it out"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=dt.UTC)


def _show(title: str, checks: Sequence[Check]) -> None:
    table = Table(title=title, title_justify="left")
    for column in ("check", "result", "found", "held against", "due"):
        table.add_column(column)
    for check in checks:
        level = f"[{_COLOURS[check.level]}]{check.level}[/]"
        table.add_row(check.title, level, check.found, check.bound, check.period)
    Console().print(table)


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    """Entry point of the command."""
    return launch(monitor, "monitor")


if __name__ == "__main__":
    sys.exit(main())
