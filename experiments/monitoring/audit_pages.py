"""The pages of an audit: what decides for the account, and what it may lose, in plain words."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator

import numpy as np

from envs.market.panel import PanelHistory
from experiments.accounts.account import APPROVED, Account
from experiments.accounts.policies import appointed
from experiments.monitoring.checks import Level
from experiments.monitoring.view import AccountView
from experiments.reporting.contents import Report, Section, Table, Text
from experiments.reporting.model_card import settings_table, small_print
from experiments.reporting.style import dollars, number, percent
from experiments.statistics.triggers import deepest_fall
from risk import metrics

_FEWEST = 20  # returns behind a Sharpe ratio


def model_card_page(
    account: Account, view: AccountView, differences: int, now: dt.datetime
) -> Report:
    """What has decided for the account, what it was trained on, and under which settings.

    differences: of a replay of the whole account.
    """
    about, shares, history = account.opened, appointed(account.store).shares, account.history()
    facts = (
        ("Opened with", f"{about['policy']} policy of {about['run']}"),
        ("First and newest session", f"{view.dates[0]} to {view.session}"),
        ("Broker", account.settings.broker.kind),
        ("Real money", account.settings.broker.confirm or "no"),
        ("Market", f"{history.name}, fingerprint {history.fingerprint[:12]}"),
        ("Last event", f"{len(account.store.events)}, hash {account.store.head}"),
    )
    rows = []
    for name, loaded in account.policies.items():
        known = loaded.metadata
        trained, chosen = (
            " to ".join(known.get("splits", {}).get(split, ("-",)))
            for split in ("train", "validation")
        )
        share, step = percent(shares.get(name, 0.0), 0), str(known.get("step", "-"))
        rows.append((name, share, str(known.get("source", "-")), trained, chosen, step))
    columns = ("policy", "decides now", "trained on", "trained", "chosen on", "steps")
    return Report(
        title=f"Model card of account {account.name}",
        verdict_text="What decides for this account, and what must not be concluded from it. All "
        f"of it was played again from its events: {differences} differences.",
        outcome=(Level.ALERT if differences else Level.OK).value,
        sections=(
            Section("The account", (Table("Facts", ("fact", "value"), facts, folded=False),)),
            Section("Policies", (Table("All that have decided", columns, tuple(rows)),)),
            Section("Settings", (settings_table("Of the market and the book", about["config"]),)),
            Section("Limits", small_print(options=not isinstance(history, PanelHistory))),
        ),
        footer=(_written(now),),
    )


def disclosure_page(account: Account, view: AccountView, now: dt.datetime) -> Report:
    """What the account may lose, with its own numbers."""
    options = not isinstance(account.history(), PanelHistory)
    _, disclosure = small_print(options=options)
    return Report(
        title=f"Risk disclosure of account {account.name}",
        verdict_text="Read this before you give this account money, or more of it.",
        outcome=Level.WARNING.value,
        sections=(
            Section("What it has lost so far", (Text("\n\n".join(_record(view))),)),
            Section("What it may lose", (Text("\n\n".join(_dangers(account, view))), disclosure)),
            Section("What a person has to decide", (Text("\n\n".join(_people(account))),)),
        ),
        footer=(_written(now),),
    )


def _record(view: AccountView) -> Iterator[str]:
    now, sessions = float(view.equity[-1]), len(view.dates)
    total = percent(now / view.initial_usd - 1.0, 2, plus=True)
    yield (
        f"It began with {dollars(view.initial_usd)} on {view.dates[0]} and was worth "
        f"{dollars(now)} at the close of {view.session}: {total} in {sessions} sessions."
    )
    if sessions > 1:
        at, fall = int(np.argmin(view.returns)), float(deepest_fall(view.returns))
        worst = percent(float(view.returns[at]), 2)
        yield (
            f"Its worst session was {view.dates[at + 1]}, {worst}; its deepest fall from a peak "
            f"was {percent(fall, 2)}."
        )
    if len(view.returns) < _FEWEST:
        yield "That is too short to say anything of what it will earn."
        return
    year = view.sessions_per_year
    sharpe = float(metrics.sharpe_ratio(view.returns, view.risk_free, year))
    error = math.sqrt((year + 0.5 * sharpe**2) / len(view.returns))
    yield (
        f"Its Sharpe ratio of {number(sharpe)} has a standard error of {number(error)}: a true one "
        f"between {number(sharpe - 2 * error)} and {number(sharpe + 2 * error)} would not surprise."
    )


def _dangers(account: Account, view: AccountView) -> Iterator[str]:
    equity = float(view.equity[-1])
    if math.isfinite(view.scan_loss):
        loss = dollars(view.scan_loss * equity)
        yield (
            f"The worst of 16 moves of the market would take {loss} of it within a day "
            f"({percent(view.scan_loss, 1)}) as it stands. The market can move further than that."
        )
    used = [f"{u.name}: {percent(u.used, 1)} of {percent(u.limit, 0)}" for u in view.limits]
    yield f"What is used of its limits: {'; '.join(used) or 'there are none'}."
    yield (
        "Limits and circuit breakers act once a session, at its close. What happens between two "
        "closes is borne in full, and a broken line, a silent broker or a false price can keep "
        f"orders from being done: {len(view.alerts)} alerts were recorded, and {view.missed} "
        "sessions went by without a decision."
    )
    if account.settings.broker.kind != "alpaca":
        yield "No order has met a real market: prices and costs of its trades are a model's."


def _people(account: Account) -> Iterator[str]:
    approvals = [
        f"{e.content['at']} {e.content['by']}: {e.content['what']}"
        for e in account.store.of(APPROVED)
    ]
    yield f"Approvals on record: {'; '.join(approvals) or 'none'}."
    yield (
        "A name here is what was typed, not a signature. Whether this account may be run for "
        "anybody, under which licence, with which capital and disclosure, is for a person and the "
        "regulator to say; no file in this folder approves it."
    )


def _written(now: dt.datetime) -> str:
    return f"Written at {now:%Y-%m-%d %H:%M} UTC from the account's events."
