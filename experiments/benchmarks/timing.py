"""Timing so that it can be repeated: everything in turn, the best of several counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from torch.utils.benchmark import Timer


def in_turn(
    calls: Mapping[str, Callable[[], float]], repeats: int, *, warm_up: bool = True
) -> dict[str, list[float]]:
    """Call each in turn, `repeats` times over, so that all of them meet the same disturbances.

    Returns what each call gave, in order. To warm up each is called once more at first; that
    result is not kept.
    """
    if warm_up:
        for call in calls.values():
            call()
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            taken[name].append(call())
    return taken


def seconds_of(call: Callable[[], object]) -> float:
    """How long one call takes on the CPU."""
    begin = now()
    call()
    return now() - begin


def now(device: str = "cpu") -> float:
    """Seconds on a steady clock, once a GPU has finished its work."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()


def calls_per_second(call: Callable[[], object], seconds: float) -> float:
    """How often `call` can be made in a second, from calling it for at least so many seconds.

    Work on a GPU is waited for.
    """
    timer = Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
    return 1.0 / timer.blocked_autorange(min_run_time=seconds).mean


def matmul_rate(device: str, size: int, seconds: float) -> float:
    """Floating-point operations a second of float32 `torch.mm` of two (size, size) matrices."""
    left, right = torch.randn(2, size, size, device=device)
    out = torch.empty_like(left)
    rate = calls_per_second(lambda: torch.mm(left, right, out=out), seconds)
    return rate * 2.0 * size**3
