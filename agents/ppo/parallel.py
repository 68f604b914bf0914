"""How many threads torch takes, and two calculations at the same time on half of them each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

Calculation = Callable[[], torch.Tensor]
RunPair = Callable[[Calculation, Calculation], tuple[torch.Tensor, torch.Tensor]]


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads for what the calling thread computes inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def parallel_pairs(parallel: bool) -> Iterator[RunPair]:
    """A function that runs two calculations, at once if `parallel` and torch has two threads.

    A matrix product of a few rows gains little from a second thread, two products at once gain
    nearly twofold. Each calculation always gets the same number of threads, so results repeat bit
    for bit. An error in either is raised by the function.
    """
    threads = torch.get_num_threads()
    if not parallel or threads < 2:
        yield lambda first, second: (first(), second())
        return
    half = threads // 2
    # Torch keeps the number by thread: the worker and this thread each set their own.
    worker = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(half,))
    with worker, torch_threads(half):

        def run(first: Calculation, second: Calculation) -> tuple[torch.Tensor, torch.Tensor]:
            later = worker.submit(second)
            return first(), later.result()

        yield run
