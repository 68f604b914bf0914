"""How many threads torch takes, and two calculations at the same time on half of them each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import TypeVar

import torch

First = TypeVar("First")
Second = TypeVar("Second")


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use so many threads for what this thread asks of it inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class SideBySide:
    """Runs pairs of functions, at once where `parallel` and torch has two threads or more.

    A matrix product of a few rows gains little from a second thread, two products at once gain
    nearly twofold. Each function always gets the same number of threads, so results repeat bit
    for bit. Use it as a context manager.
    """

    def __init__(self, parallel: bool) -> None:
        self._threads = torch.get_num_threads()
        self._pool: ThreadPoolExecutor | None = None
        self._parallel = parallel and self._threads >= 2

    def __enter__(self) -> SideBySide:
        if self._parallel:
            half = self._threads // 2
            self._pool = ThreadPoolExecutor(1)
            # Torch keeps the number by thread: the worker and this thread each set their own.
            self._pool.submit(torch.set_num_threads, half).result()
            torch.set_num_threads(half)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
            torch.set_num_threads(self._threads)

    def run(self, first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
        """Both results; an error in either is raised here."""
        if self._pool is None:
            return first(), second()
        later = self._pool.submit(second)
        return first(), later.result()
