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
from experiments.benchmarks.rows import Budget, Row, at_least
from experiments.benchmarks.settings import Bench
from experiments.benchmarks.timing import calls_per_second, in_turn
from experiments.benchmarks.training import training_kernel
from experiments.runs.settings import section

ONE_STEPS_A_SECOND = 10_000.0
MANY = 1024
MANY_STEPS_A_SECOND = 500_000.0
_DRAWN = 64  # different actions, drawn in advance


def environment_rows(bench: Bench) -> list[Row]:
    """Steps a second: one episode through gymnasium, many through the VecEnv and without it."""
    request = bench.request
    steppers: dict[str, tuple[int, Callable[[], object]]] = {"gymnasium_1": (1, _gymnasium(bench))}
    for size in request.batches:
        steppers[f"vec_env_{size}"] = size, _vec_env(bench, size)
        steppers[f"kernel_{size}"] = size, _kernel(bench, size)

    def measure(episodes: int, step: Callable[[], object]) -> Callable[[], float]:
        return lambda: episodes * calls_per_second(step, request.seconds)

    taken = in_turn(
        {name: measure(*stepper) for name, stepper in steppers.items()}, request.repeats
    )
    return [
        Row(
            f"environment.{name}",
            _what(name, steppers[name][0]),
            max(values),
            "steps/s",
            _budget(name),
            {"each_repeat": values},
        )
        for name, values in taken.items()
    ]


def _what(name: str, episodes: int) -> str:
    way = {"gymnasium": "gymnasium", "vec_env": "VecEnv", "kernel": "kernel alone"}
    return f"environment, N = {episodes}, {way[name.rpartition('_')[0]]}"


def _budget(name: str) -> Budget | None:
    bounds = {"gymnasium_1": ONE_STEPS_A_SECOND, f"vec_env_{MANY}": MANY_STEPS_A_SECOND}
    return at_least(bounds[name]) if name in bounds else None


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
    env = KernelVecEnv(training_kernel(bench, size))
    env.reset()
    actions = _actions((size, *(env.action_space.shape or ())))
    return lambda: env.step(next(actions))


def _kernel(bench: Bench, size: int) -> Callable[[], object]:
    kernel = training_kernel(bench, size)
    kernel.reset()
    actions = _actions((size, *(kernel.action_space.shape or ())))

    def step() -> None:
        result = kernel.step(next(actions))
        done = result.terminated | result.truncated
        if done.any():
            kernel.restart(done)

    return step


def _actions(shape: tuple[int, ...]) -> cycle[ObsArray]:
    rng = np.random.default_rng(0)
    return cycle([rng.uniform(-1.0, 1.0, shape).astype(np.float32) for _ in range(_DRAWN)])
