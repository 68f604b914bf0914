"""A retraining as a state machine in the account's store: its newest event says where it stands.

Every step is one `retraining` event, recorded once it is done. Nothing else is kept, so a killed
call is followed by one that goes on with the same step. While a run is trained or certified the
account is free: it decides meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from conf.errors import InputError
from experiments.accounts.account import APPROVED, RETRAINING, Account
from experiments.accounts.events import Event, EventStore
from experiments.accounts.policies import Appointed
from experiments.monitoring.checks import CheckSettings, Level, daily, monthly, quarterly
from experiments.monitoring.view import read_account
from experiments.retraining.steps import (
    APPROVED_STEP,
    CANCELLED,
    ENDS,
    REFUSED,
    SHADOWED,
    Content,
    Due,
    Retraining,
    RetrainSettings,
    request,
    stamped,
)

# The checks that are documented triggers, and from which level on.
_TRIGGERS = {("retrain", Level.ALERT), ("regime", Level.ALERT), ("training_data", Level.WARNING)}


def standing(store: EventStore) -> Event | None:
    """The newest event of the retraining that is under way; None where none is."""
    events = store.of(RETRAINING)
    return events[-1] if events and events[-1].content["step"] not in ENDS else None


def triggers(account: Account, checks: CheckSettings) -> list[str]:
    """Why the account should be retrained, by its record: performance, regime, new data.

    After a retraining has ended nothing triggers one for `max_training_age` sessions.
    """
    ended = [e.content["session"] for e in account.store.of(RETRAINING)]
    sessions = [event.content["session"] for event in account.sessions]
    if ended and len(sessions) - 1 - sessions.index(ended[-1]) < checks.max_training_age:
        return []
    view = read_account(account)
    found = [*daily(view, [], checks), *monthly(view, checks), *quarterly(view, 0, checks)]
    return [f"{each.title}: {each.found}" for each in found if (each.key, each.level) in _TRIGGERS]


def advance(
    opened: Callable[[], AbstractContextManager[Account]], why: str, options: RetrainSettings
) -> Iterator[Event]:
    """Do every step that is due, and give each as it was recorded.

    opened: holds the account while a block runs. why: a person's reason to begin; without one the
    triggers decide. InputError where one is under way already.
    """
    asks = True
    while True:
        with opened() as account:
            now, due = standing(account.store), _due(account, why, options, asks=asks)
            if due is None:
                return
            event = None if callable(due) else record(account, due)
        if event is None and callable(due):
            content = due()
            with opened() as account:
                if standing(account.store) == now:  # or else another call has done it
                    event = record(account, content)
        asks = False
        if event is not None:
            yield event


def _due(account: Account, why: str, options: RetrainSettings, *, asks: bool) -> Due:
    if standing(account.store) is not None:
        if asks and why:
            raise InputError(
                f"account {account.name} is being retrained already",
                "Leave out reason=, or end it: action=cancel",
            )
        return Retraining(account).due()
    why = why or "; ".join(triggers(account, options.checks))
    return request(account, why, options) if asks and why else None


def record(account: Account, content: Content) -> Event:
    """Record a step; the champion decides alone again where it ends without a new policy."""
    session = account.newest
    if content["step"] in (REFUSED, CANCELLED):
        retraining = Retraining(account)
        retraining.appoint(Appointed({retraining.champion: 1.0}), content["step"])
    return account.store.append(RETRAINING, stamped(content, session))


def cancel(account: Account, by: str, why: str) -> Event:
    """End the retraining that is under way."""
    if standing(account.store) is None:
        raise InputError(f"account {account.name} is not being retrained")
    by = by or "a person"
    return record(account, {"step": CANCELLED, "by": by, "text": f"by {by}. {why}".strip()})


def approve(account: Account, by: str, what: str) -> Event:
    """Record that a person approved something; InputError where nobody says who."""
    if not by.strip():
        raise InputError("nobody approves", "Say who: by=NAME")
    now = standing(account.store)
    if what == APPROVED_STEP and (now is None or now.content["step"] != SHADOWED):
        raise InputError(
            f"account {account.name} has nothing to hand over yet",
            "Approve it once its challenger has been shadowed",
        )
    session = account.newest
    return account.store.append(APPROVED, stamped({"by": by.strip(), "what": what}, session))
