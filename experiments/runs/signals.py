"""Ctrl-C and SIGTERM, which clusters send: both end a command in order."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SECONDS_TO_END = 5.0


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived."""


@contextmanager
def orderly_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt at Ctrl-C and `Terminated` at SIGTERM while the block runs.

    A second signal within five seconds is ignored, so that what the first one began is not
    disturbed. Signals that the process was started to ignore stay ignored. Outside of the main
    thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    last = -_SECONDS_TO_END

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal last
        if time.monotonic() - last < _SECONDS_TO_END:
            return
        last = time.monotonic()
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        interrupted = time.monotonic() - last < _SECONDS_TO_END
        for number, handler in before.items():
            # A process that is about to end for one signal does not end by another.
            ending = interrupted and handler is signal.SIG_DFL
            signal.signal(number, signal.SIG_IGN if ending else handler)
