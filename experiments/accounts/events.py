"""The store of an account: every event in SQLite, each row with the hash of the one before.

One process writes at a time; what was appended survives a kill at any moment (write-ahead log,
synced at each commit). No event can be changed, removed or moved without breaking the chain after
it; that the end was not cut off is seen from the heads, which are exported to a file of their own
each day and are best copied elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.persistence.strict_json import parse_json
from conf.errors import InputError
from conf.files import write_atomically

STORE, HEADS = "events.sqlite", "heads.jsonl"
_FIRST = "0" * 64  # stands for the hash before the first event
_TABLE = """
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL, content TEXT NOT NULL, hash TEXT NOT NULL
) STRICT
"""

Row = tuple[int, str, str, str]  # number, kind, content as text, hash


@dataclass(frozen=True)
class Event:
    """What was recorded: a kind, plain data, and its place in the chain."""

    number: int  # from 1 on
    kind: str
    content: Mapping[str, Any]
    hash: str  # of everything up to it


class EventStore:
    """The events of one account, oldest first. Open it with `open_store`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path = connection, path
        self.events: list[Event] = []
        self._by_kind: dict[str, list[Event]] = {}
        self._waiting: list[Row] | None = None  # rows of a block that is under way
        for event in _read(connection, path):
            self._keep(event)

    @property
    def head(self) -> str:
        """The hash of the last event."""
        return self.events[-1].hash if self.events else _FIRST

    def append(self, kind: str, content: Mapping[str, Any]) -> Event:
        """Record an event; it is on the disk when this returns, but for a block `together`."""
        return self.append_together((kind, content))[-1]

    def append_together(self, *parts: tuple[str, Mapping[str, Any]]) -> list[Event]:
        """Record events by kind and content, all of them or none."""
        events, head = [], self.head
        rows: list[Row] = []
        for number, (kind, content) in enumerate(parts, start=len(self.events) + 1):
            text = _text(content)
            head = _hash(head, number, kind, text)
            events.append(Event(number, kind, json.loads(text), head))
            rows.append((number, kind, text, head))
        if self._waiting is None:
            self._write(rows)
        else:
            self._waiting += rows
        for event in events:
            self._keep(event)
        return events

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write in one step, when the block ends, what is appended while it runs.

        For what a process that dies would find out again; nothing may be acted upon in the block
        that it has appended.
        """
        if self._waiting is not None:
            yield
            return
        self._waiting = []
        try:
            yield
        finally:
            rows, self._waiting = self._waiting, None
            self._write(rows)

    def _write(self, rows: Sequence[Row]) -> None:
        with self._connection:
            self._connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)

    def of(self, *kinds: str) -> list[Event]:
        """The events of these kinds."""
        found = [event for kind in kinds for event in self._by_kind.get(kind, ())]
        return sorted(found, key=lambda event: event.number) if len(kinds) > 1 else found

    def _keep(self, event: Event) -> None:
        self.events.append(event)
        self._by_kind.setdefault(event.kind, []).append(event)

    def export_head(self, session: str) -> None:
        """Write the present head beside the store, once a session."""
        path = self._path.parent / HEADS
        lines = path.read_text().splitlines() if path.is_file() else []
        row = _text({"session": session, "number": len(self.events), "hash": self.head})
        if row not in lines:
            write_atomically(path, "\n".join([*lines, row, ""]).encode())


@contextmanager
def open_store(folder: Path) -> Iterator[EventStore]:
    """The store of the account in `folder`, created if there is none.

    InputError where it is damaged: an account whose past is not certain goes no further.
    """
    path = folder / STORE
    folder.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, isolation_level="IMMEDIATE")) as connection:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(_TABLE)
            store = EventStore(connection, path)
        except sqlite3.DatabaseError as error:
            raise _damaged(path, str(error)) from None
        check_heads(store, folder)
        yield store


def check_heads(store: EventStore, folder: Path) -> None:
    """InputError where an exported head is not in the store: its end was cut off or replaced."""
    path, hashes = folder / HEADS, [event.hash for event in store.events]
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        head = parse_json(line, str(path))
        number = head.get("number")
        if not isinstance(number, int) or [head.get("hash")] != hashes[number - 1 : number]:
            raise _damaged(
                folder / STORE, f"the head exported on {head.get('session')} is not in it"
            )


def encoded(values: NDArray[Any]) -> dict[str, Any]:
    """An array as JSON holds it, bit for bit."""
    values = np.ascontiguousarray(values)
    return {
        "dtype": values.dtype.str,
        "shape": list(values.shape),
        "base64": base64.b64encode(values.tobytes()).decode(),
    }


def decoded(plain: Mapping[str, Any]) -> NDArray[Any]:
    """The array that `encoded` wrote."""
    raw = base64.b64decode(plain["base64"])
    return np.frombuffer(raw, np.dtype(plain["dtype"])).reshape(plain["shape"]).copy()


def _read(connection: sqlite3.Connection, path: Path) -> list[Event]:
    query = "SELECT number, kind, content, hash FROM events ORDER BY number"
    previous, found = _FIRST, connection.execute(query).fetchall()
    for place, (number, kind, text, digest) in enumerate(found, start=1):
        if number != place or digest != _hash(previous, number, kind, text):
            raise _damaged(path, f"event {place} is not the one that was recorded")
        previous = digest
    try:  # all at once, which is several times as fast
        contents = json.loads(f"[{','.join(text for _, _, text, _ in found)}]")
        pairs = zip(found, contents, strict=True)
        return [Event(number, kind, content, h) for (number, kind, _, h), content in pairs]
    except (ValueError, RecursionError):
        raise _damaged(path, "an event is no JSON") from None


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _hash(previous: str, number: int, kind: str, text: str) -> str:
    return hashlib.sha256(f"{previous}\n{number}\n{kind}\n{text}".encode()).hexdigest()


def _damaged(path: Path, what: str) -> InputError:
    return InputError(
        f"{path.parent.name}/{path.name} was damaged or altered: {what}",
        "Put the account's folder back from a copy",
    )
