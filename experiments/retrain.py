"""Retrain an account.

Call it once a session, say by cron: it does the steps that are due and says where the protocol
stands: pause, train on newer data, certify, compare in pairs, shadow, hand over share by share, or
go back. A request is made by the documented triggers, or by reason="...". action=approve by=NAME
lets the hand-over begin, action=cancel ends it, action=status shows it.

Examples:
    python -m experiments.retrain account=mine
    python -m experiments.retrain account=mine reason="new data"
    python -m experiments.retrain account=mine action=approve by=jane
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import torch
from omegaconf import DictConfig
from pydantic import Field
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from conf.settings import build_settings, settings
from experiments.accounts.account import APPROVED, RETRAINING, Account, existing_account
from experiments.accounts.events import open_store
from experiments.accounts.policies import appointed
from experiments.retraining.protocol import advance, approve, cancel, standing
from experiments.retraining.steps import APPROVED_STEP, SHADOWED, RetrainSettings
from experiments.runs.cli import launch
from experiments.runs.config import plain_config
from experiments.runs.folder import run_lock


@settings
class RetrainRequest:
    """What one call does."""

    account: Annotated[str, Field(min_length=1)]
    action: Literal["advance", "status", "approve", "cancel"] = "advance"
    reason: Annotated[str, Field(max_length=500)] = ""
    by: Annotated[str, Field(max_length=100)] = ""
    what: Annotated[str, Field(min_length=1, max_length=500)] = APPROVED_STEP


def retrain(config: DictConfig) -> None:
    """Do what the action says, and show where the protocol stands."""
    torch.set_num_threads(1)
    plain, own = plain_config(config), RetrainRequest.__dataclass_fields__
    request: RetrainRequest = build_settings(RetrainRequest, {name: plain[name] for name in own})
    options: RetrainSettings = build_settings(
        RetrainSettings, {name: plain[name] for name in plain if name not in own}
    )
    folder = existing_account(request.account)

    @contextmanager
    def opened() -> Iterator[Account]:
        with run_lock(folder, wait=True), open_store(folder) as store:
            yield Account(folder, store)

    if request.action == "advance":
        for event in advance(opened, request.reason, options):
            print(f"{event.content['step']}: {event.content['text']}", flush=True)
    with opened() as account:
        if request.action == "approve":
            approve(account, request.by, request.what)
        elif request.action == "cancel":
            cancel(account, request.by, request.reason)
        _show(account)


def _show(account: Account) -> None:
    now, session = standing(account.store), account.newest
    table = Table(title=f"account {account.name}, close of {session}")
    for name in ("session", "step", "what"):
        table.add_column(name, overflow="fold")
    for event in account.store.of(RETRAINING, APPROVED)[-15:]:
        content = event.content
        is_step = event.kind == RETRAINING
        what = content["text"] if is_step else f"{content['what']}, by {content['by']}"
        table.add_row(content["session"], content["step"] if is_step else event.kind, escape(what))
    Console().print(table)
    present = appointed(account.store)
    parts = ", ".join(f"{name} {100 * share:g} %" for name, share in present.shares.items())
    print(f"decides: {parts}{f'; {present.held_back}' if present.held_back else ''}")
    if now is None:
        print('nothing is under way; a trigger or reason="..." begins a retraining')
    elif now.content["step"] == SHADOWED:
        print(f"waits for a person: account={account.name} action=approve by=NAME")


def main() -> int:
    """Entry point of the command."""
    return launch(retrain, "retrain")


if __name__ == "__main__":
    sys.exit(main())
