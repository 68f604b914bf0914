"""Sends what alerts were recorded to people: mail, SMS gateways, chats, through apprise.

Addresses hold passwords, so they come from the environment alone, and nothing of them is ever
printed, logged or stored: an address is known by its number. One message a call holds all alerts
that an address has not had, so an address is never flooded. Before a message goes out it is
recorded, and after it whether it went: after a crash between the two it is sent once more, and no
third time.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from conf.errors import InputError
from experiments.accounts.account import ALERT
from experiments.accounts.events import EventStore

VARIABLE = "POLYHEDGERL_ALERTS"
SENDING, SENT, NOT_SENT = "sending", "sent", "not_sent"  # kinds of events
_TRIES = 2  # whose outcome is not known
_LINES = 20  # of a message


def addresses(environment: Mapping[str, str]) -> list[str]:
    """The addresses of apprise in the environment, separated by spaces or new lines."""
    return environment.get(VARIABLE, "").split()


def send_alerts(store: EventStore, account: str, urls: Sequence[str]) -> list[str]:
    """Send every address the alerts that it has not had; what went wrong, in words.

    InputError where apprise is not installed, and, after the others were served, where an address
    is none that it knows.
    """
    problems, unknown = [], []
    for number, url in enumerate(urls, start=1):
        keys = _unsent(store, number)
        sender = _sender(url) if keys else None
        if keys and sender is None:
            unknown.append(str(number))
        if sender is None:
            continue
        content = {"address": number, "alerts": [list(key) for key in keys]}
        title = f"account {account}: {len(keys)} alert{'s' * (len(keys) > 1)}"
        store.append(SENDING, content)
        went = _went(sender, title, _text(store, keys))
        store.append(SENT if went else NOT_SENT, content)
        if not went:
            problems.append(f"address {number} of {len(urls)} took no message; it is tried again")
    if unknown:
        raise InputError(
            f"{VARIABLE} holds what apprise does not know, at number {', '.join(unknown)}",
            "Write each address as apprise does, as mailto:// or json://",
        )
    return problems


def _unsent(store: EventStore, number: int) -> list[tuple[str, str]]:
    """(kind, session) of the alerts that an address has not had, oldest first."""
    tries: Counter[tuple[str, str]] = Counter()
    had = set()
    for event in store.of(SENDING, SENT, NOT_SENT):
        if event.content["address"] != number:
            continue
        keys = [(kind, session) for kind, session in event.content["alerts"]]
        if event.kind == SENT:
            had.update(keys)
        tries.update(dict.fromkeys(keys, {SENDING: 1, NOT_SENT: -1}.get(event.kind, 0)))
    alerts = [(e.content["kind"], e.content["session"]) for e in store.of(ALERT)]
    return [key for key in dict.fromkeys(alerts) if key not in had and tries[key] < _TRIES]


def _text(store: EventStore, keys: Sequence[tuple[str, str]]) -> str:
    lines = [
        f"{e.content['session']} {e.content['kind']}: {e.content['text']}"
        for e in store.of(ALERT)
        if (e.content["kind"], e.content["session"]) in keys
    ]
    earlier = [f"and {len(lines) - _LINES} earlier ones"] if len(lines) > _LINES else []
    return "\n".join([*reversed(lines[-_LINES:]), *earlier])


def _sender(url: str) -> Any:
    """What sends to an address; None for what is none."""
    try:
        import apprise
    except ImportError:
        raise InputError(
            "alerts are sent by apprise, which is not installed",
            "Install it with this project's extra: alerts",
        ) from None
    with _silent():
        try:
            sender = apprise.Apprise()
            return sender if sender.add(url) else None
        except Exception:  # whatever it says may hold the address
            return None


def _went(sender: Any, title: str, body: str) -> bool:
    with _silent():
        try:
            return bool(sender.notify(body, title, "failure", body_format="text"))
        except Exception:
            return False


@contextmanager
def _silent() -> Iterator[None]:
    """No log and no warning, of which some name the address."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
