"""Timing so that it can be repeated: best of several, in turn, and growth on logarithmic scales."""

from __future__ import annotations

import math
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch

from conf.errors import InputError

Key = TypeVar("Key")


def in_turn(
    calls: Mapping[Key, Callable[[], float]], repeats: int, *, warm_up: bool = True
) -> dict[Key, list[float]]:
    """Call each in turn, `repeats` times over, so that all of them meet the same disturbances.

    Returns what each call gave, in order. To warm up each is called once more at first; that
    result is not kept.
    """
    if warm_up:
        for call in calls.values():
            call()
    taken: dict[Key, list[float]] = {key: [] for key in calls}
    for _ in range(repeats):
        for key, call in calls.items():
            taken[key].append(call())
    return taken


def seconds_of(call: Callable[[], object], device: str = "cpu") -> float:
    """How long one call takes, work on a GPU included."""
    finish(device)
    begin = time.perf_counter()
    call()
    finish(device)
    return time.perf_counter() - begin


def finish(device: str) -> None:
    """Wait for what a GPU still has to do."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def calls_per_second(call: Callable[[], object], seconds: float) -> float:
    """How often `call` can be made in a second, from calling it for at least so many seconds."""
    count, begin = 0, time.perf_counter()
    while True:
        call()
        count += 1
        elapsed = time.perf_counter() - begin
        if elapsed >= seconds:
            return count / elapsed


def peak_bytes(call: Callable[[], object]) -> int:
    """The most that Python and NumPy held at once for `call`, beyond what was there before.

    What torch allocates is not seen. It slows the call down, so never time what this measures.
    """
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def growth_exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope of log(value) over log(size) by least squares: 1 is linear, 2 quadratic.

    Raises InputError unless there are two or more different positive sizes and positive values.
    """
    if len(sizes) != len(values) or len(set(sizes)) < 2:
        raise InputError(f"a growth over sizes {list(sizes)} cannot be fitted", "Give two or more")
    if min(sizes) <= 0.0 or min(values) <= 0.0:
        raise InputError("sizes and values of a growth must be positive")
    x = np.log(np.asarray(sizes, np.float64))
    y = np.log(np.asarray(values, np.float64))
    x = x - x.mean()
    return float((x * (y - y.mean())).sum() / (x * x).sum())


def median(values: Sequence[float]) -> float:
    """The middle of some values."""
    return float(np.median(np.asarray(values)))


def matmul_rate(device: str, size: int, seconds: float) -> float:
    """Floating-point operations a second of float32 `torch.mm` of two (size, size) matrices."""
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(size, size, generator=generator).to(device)
    right = torch.randn(size, size, generator=generator).to(device)
    out = torch.empty_like(left)
    one = seconds_of(lambda: torch.mm(left, right, out=out), device)
    rounds = max(1, math.ceil(seconds / max(one, 1e-6)))

    def multiply() -> None:
        for _ in range(rounds):
            torch.mm(left, right, out=out)

    return rounds * 2.0 * size**3 / seconds_of(multiply, device)
