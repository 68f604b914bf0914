"""Benchmark of the environment under random actions, one episode and many."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any

import gymnasium
import numpy as np

from conf.types import ObsArray
from envs.registration import OPTION_PORTFOLIO, register_environments
from envs.sb3_vec_env import KernelVecEnv
from experiments.benchmarks.rows import Row, at_least
from experiments.benchmarks.settings import Bench
from experiments.benchmarks.timing import calls_per_second, in_turn
from experiments.environments.opening import section

# Steps a second, by row.
BUDGETS = {
    "environment.gymnasium_1": at_least(10_000.0),
    "environment.vec_env_1024": at_least(500_000.0),
}
_DRAWN = 64  # different actions, drawn in advance


def environment_rows(bench: Bench) -> list[Row]:
    """Steps a second: one episode through gymnasium, and many through the VecEnv."""
    request, rows = bench.request, []
    steppers = {("gymnasium", 1): _gymnasium(bench)}
    steppers |= {("vec_env", size): _vec_env(bench, size) for size in request.batches}

    def measure(episodes: int, step: Callable[[], object]) -> Callable[[], float]:
        return lambda: episodes * calls_per_second(step, request.seconds)

    calls = {f"{way}_{size}": measure(size, step) for (way, size), step in steppers.items()}
    taken = in_turn(calls, request.repeats)
    for (way, size), values in zip(steppers, taken.values(), strict=True):
        name = f"environment.{way}_{size}"
        what = f"environment, N = {size}, {'VecEnv' if way == 'vec_env' else way}"
        details = {"each_repeat": values}
        rows.append(Row(name, what, max(values), "steps/s", BUDGETS.get(name), details))
    return rows


def _gymnasium(bench: Bench) -> Callable[[], object]:
    register_environments()
    plain = bench.plain
    sections: dict[str, Any] = {name: section(plain, name) for name in ("data", "surface", "env")}
    sections["env"] |= {name: section(plain, name) for name in ("costs", "reward")}
    env: Any = gymnasium.make(OPTION_PORTFOLIO, **sections)
    env.reset(seed=0)
    actions = _actions(env.action_space.shape)

    def step() -> None:
        _, _, terminated, truncated, _ = env.step(next(actions))
        if terminated or truncated:
            env.reset()

    return step


def _vec_env(bench: Bench, size: int) -> Callable[[], object]:
    env = KernelVecEnv(bench.kernel(size))
    env.reset()
    actions = _actions((size, *(env.action_space.shape or ())))
    return lambda: env.step(next(actions))


def _actions(shape: tuple[int, ...]) -> cycle[ObsArray]:
    rng = np.random.default_rng(0)
    return cycle([rng.uniform(-1.0, 1.0, shape).astype(np.float32) for _ in range(_DRAWN)])
