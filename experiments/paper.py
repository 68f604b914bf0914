"""Trade on paper.

An account is opened once with run=; from then on `account=mine` is enough. Each call brings it to
the newest session and decides there, once: called again it does nothing, called after days off it
says what was missed. It trades through the kernel that the agent was trained in. action=verify
plays the whole account again and compares it with what was recorded; action=status shows it.

Examples:
    python -m experiments.paper account=mine run=<run> feed=replay
    python -m experiments.paper account=mine
    python -m experiments.paper account=mine action=verify
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from omegaconf import DictConfig
from pydantic import Field
from rich.console import Console

from conf.errors import InputError
from conf.settings import build_settings, settings
from envs.core.market import BookHistory
from envs.market.splits import Day
from experiments.accounts.account import (
    ALERT,
    CLOSED,
    Account,
    AccountSettings,
    BrokerSettings,
    open_account,
)
from experiments.accounts.events import STORE, open_store
from experiments.accounts.trading_day import DayReport, run_session
from experiments.accounts.verification import verify
from experiments.evaluation.open_run import REPLACEABLE, TestedRun, open_run
from experiments.reporting.terminal import terminal_table
from experiments.runs.cli import GateFailed, launch
from experiments.runs.config import plain_config
from experiments.runs.folder import run_lock, shown_path

ACCOUNTS = Path("outputs") / "accounts"


@settings
class PaperSettings:
    """What one call does."""

    account: Annotated[str, Field(min_length=1)]
    action: Literal["decide", "verify", "status"] = "decide"
    run: str | None = None  # to open the account with
    policy: Literal["best", "last"] = "best"
    feed: Literal["newest", "replay"] = "newest"  # all that the source has, or session by session
    start: Day | None = None  # of the first decision; null: the test split's first, or the newest
    until: Day | None = None  # of a replay: all sessions up to it; null: the next one alone
    broker: BrokerSettings = Field(default_factory=BrokerSettings)


def trade(config: DictConfig) -> None:
    """Open the account where run= is given, and decide at its newest session."""
    torch.set_num_threads(1)
    plain = plain_config(config)
    own = {name: value for name, value in plain.items() if name not in REPLACEABLE}
    request: PaperSettings = build_settings(PaperSettings, own, "paper")
    chosen = build_settings(
        AccountSettings, {"name": request.account, "broker": plain["broker"]}, "account"
    )
    folder = ACCOUNTS / chosen.name
    if request.run is None and not (folder / STORE).is_file():
        raise InputError(f"there is no account {chosen.name}", "Open it: give run=<run folder> too")
    tested = None if request.run is None else open_run(request.run, request.policy, plain)
    folder.mkdir(parents=True, exist_ok=True)
    with run_lock(folder), open_store(folder) as store:
        if tested is None:
            account = Account(folder, store)
        else:
            account = open_account(folder, store, chosen, tested, _first(request, tested))
        if request.action == "decide":
            _decide(account, request)
        elif request.action == "verify":
            _verify(account)
        _show(account)


def _first(request: PaperSettings, tested: TestedRun) -> int:
    """The session at which the account is opened."""
    dates = tested.setup.history.dates
    if request.start is not None:
        return int(np.searchsorted(dates, np.datetime64(request.start)))
    return tested.setup.window("test").start if request.feed == "replay" else len(dates) - 1


def _decide(account: Account, request: PaperSettings) -> None:
    source = account.market_settings.load().history
    console = Console()
    for fresh in _fed(account, source, request):
        report = run_session(account, fresh)
        console.print(_line(report))


def _fed(account: Account, source: BookHistory, request: PaperSettings) -> Iterator[BookHistory]:
    """The market as it stands at each session that is to be decided."""
    if request.feed == "newest":
        yield source
        return
    seen = np.datetime64(account.sessions[-1].content["session"])
    closed = account.store.of(CLOSED)
    is_closed = bool(closed) and closed[-1].content["session"] == str(seen)
    session = int(np.searchsorted(source.dates, seen)) + is_closed
    last = session
    if request.until is not None:
        last = int(np.searchsorted(source.dates, np.datetime64(request.until), "right")) - 1
    for stop in range(session, min(last, source.num_sessions - 1) + 1):
        yield source.sessions(0, stop + 1)


def _line(report: DayReport) -> str:
    if not report.decided:
        return f"{report.session}: decided before, nothing to do"
    missed = f", {len(report.missed)} sessions missed" if report.missed else ""
    return f"{report.session}: equity ${report.equity_usd:,.2f}, {report.orders} orders{missed}"


def _verify(account: Account) -> None:
    result = verify(account)
    console = Console()
    for text in result.differences[:20]:
        console.print(text)
    if not result.holds:
        raise GateFailed(f"account {account.name} is not what its events make of it")
    console.print(
        f"verified: {result.sessions} sessions, {result.decisions} decisions to the last bit, "
        f"{result.backtest_sessions} sessions as in a backtest"
    )


def _show(account: Account) -> None:
    closed = account.store.of(CLOSED)
    rows = [
        [e.content["session"], f"{e.content['equity_usd']:,.2f}", f"{e.content['cash_usd']:,.2f}"]
        for e in closed[-5:]
    ]
    console = Console()
    title = f"account {account.name}, {len(account.sessions)} sessions"
    console.print(terminal_table(title, ("session", "equity $", "cash $"), rows))
    for event in account.store.of(ALERT)[-5:]:
        console.print(
            f"{event.content['session']} {event.content['kind']}: {event.content['text']}"
        )
    console.print(f"in {shown_path(account.folder)}")


def main() -> int:
    """Entry point of the command."""
    return launch(trade, "paper")


if __name__ == "__main__":
    sys.exit(main())
