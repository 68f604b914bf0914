"""The kill switch of an account: a file, a signal or a command stops it until a person resumes it.

All three leave a file `HALT` in the account's folder, which needs no lock and no store, so that a
running process cannot stand in its way. The next decision records it as an event and holds to it:
positions shrink and nothing is opened, or, where the file says flatten, everything is closed. That
the file is gone ends nothing: only `resume` does.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from conf.errors import InputError
from conf.files import write_json
from conf.types import FloatArray
from envs.core.kernel import BookKernel
from experiments.accounts.events import Event, EventStore
from experiments.runs.folder import shown_path

HALT = "HALT"
HALTED, RESUMED, ALERT = "halted", "resumed", "alert"  # kinds of events; the last also of others
REDUCE, FLATTEN = "reduce", "flatten"
REASONS = {REDUCE: "halted: nothing is opened", FLATTEN: "halted: everything is closed"}


def ask_to_halt(folder: Path, by: str, mode: str = REDUCE, why: str = "") -> None:
    """Leave the file; what it asks for holds from the next decision on.

    A stricter one that waits for that, and a folder, halt as they are.
    """
    asked = _asked(folder / HALT)
    flattens = asked is not None and asked["mode"] == FLATTEN
    if mode == REDUCE and (flattens or (folder / HALT).is_dir()):
        return
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    write_json(folder / HALT, {"mode": mode, "by": by, "why": why, "at": now})


@contextmanager
def halt_on_signal(folder: Path) -> Iterator[None]:
    """SIGUSR1 halts the account while the block runs, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def halt(number: int, frame: FrameType | None) -> None:
        ask_to_halt(folder, "signal")

    before = signal.signal(signal.SIGUSR1, halt)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def halted(store: EventStore) -> Event | None:
    """What halted the account; None where it may trade."""
    events = store.of(HALTED, RESUMED)
    return events[-1] if events and events[-1].kind == HALTED else None


def halt_reasons(folder: Path, store: EventStore, session: str) -> list[str]:
    """Record a file that was not seen before; why nothing is opened, one reason or none."""
    asked, present = _asked(folder / HALT), halted(store)
    if asked is not None and (present is None or _stricter(asked, present)):
        text = f"{REASONS[asked['mode']]}, by {asked['by']}. {asked['why']}".rstrip()
        alert = {"session": session, "kind": "halted", "text": text}
        present = store.append_together((HALTED, {"session": session, **asked}), (ALERT, alert))[0]
    return [] if present is None else [REASONS[present.content["mode"]]]


def resume(folder: Path, store: EventStore, session: str, why: str = "") -> None:
    """Let the account trade again from the decision after `session` on, its newest.

    The risk module's guard is reset too, where it halted the book.
    """
    halt_reasons(folder, store, session)
    path = folder / HALT
    if path.is_dir() and not path.is_symlink():
        raise InputError(f"{shown_path(path)} is a folder, and halts", "Remove it, then resume")
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    store.append(RESUMED, {"session": session, "why": why, "at": now})
    path.unlink(missing_ok=True)


def resumed_sessions(store: EventStore) -> set[str]:
    """The sessions after which a person let the account trade again."""
    return {event.content["session"] for event in store.of(RESUMED)}


def release_guard(kernel: BookKernel) -> None:
    """End a halt by the risk module's guard."""
    if kernel.overlay is not None:
        kernel.overlay.reset(np.ones(kernel.num_envs, np.bool_))


def as_halted(requested: FloatArray, reasons: Sequence[str]) -> FloatArray:
    """What is asked for (1, M): nothing where everything is to be closed."""
    return np.zeros_like(requested) if REASONS[FLATTEN] in reasons else requested


def _stricter(asked: dict[str, str], present: Event) -> bool:
    return asked["mode"] == FLATTEN and present.content["mode"] == REDUCE


def _asked(path: Path) -> dict[str, str] | None:
    """What the file asks for; it halts whatever it is and holds, as `touch HALT` does."""
    if not os.path.lexists(path):
        return None
    try:
        text = path.read_text(errors="replace")[:2000]
    except OSError:
        text = ""
    try:
        found: Any = json.loads(text)
    except ValueError:
        found = None
    plain = found if isinstance(found, dict) else {"by": "file", "why": text.strip()[:200]}
    mode = FLATTEN if FLATTEN in (str(plain.get("mode", "")) or text).lower() else REDUCE
    return {"mode": mode, **{key: str(plain.get(key, "")) for key in ("by", "why", "at")}}
