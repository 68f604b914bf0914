"""Benchmark of the wait before learning begins: from the shell to the first step.

`python -m experiments.benchmarks.startup key=value …` is `experiments.train` that says so at its
first step, and ends there.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from conf.errors import InputError
from experiments.benchmarks.rows import Row, at_most
from experiments.benchmarks.settings import Bench
from experiments.runs.cli import quoted

SECONDS_TO_FIRST_STEP = 10.0
FIRST_STEP = "first step"


def startup_rows(bench: Bench) -> list[Row]:
    """Seconds from starting Python to the first step of the environment."""
    arguments = bench.request.train_arguments
    seconds = [seconds_to_first_step(arguments) for _ in range(bench.request.repeats)]
    what = " ".join(("python -m experiments.train", *arguments)) + ": until the first step"
    budget, details = at_most(SECONDS_TO_FIRST_STEP), {"each_repeat": seconds}
    return [Row("startup.first_step", what, min(seconds), "s", budget, details)]


def seconds_to_first_step(arguments: Sequence[str]) -> float:
    """Start a training run with these arguments and wait for its first step.

    Raises InputError where it ends before that, with its last line of output.
    """
    with tempfile.TemporaryDirectory() as folder:
        run_dir = f"hydra.run.dir={quoted(Path(folder) / 'run')}"
        command = [sys.executable, "-m", "experiments.benchmarks.startup", run_dir, *arguments]
        begin = time.perf_counter()
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        elapsed = time.perf_counter() - begin
    if FIRST_STEP not in process.stdout:
        lines = (process.stderr or process.stdout).strip().splitlines() or ["no output"]
        raise InputError(
            f"experiments.train ended with code {process.returncode} before its first step: "
            f"{lines[-1].removeprefix('error: ')}",
            "Correct train_arguments",
        )
    return elapsed


def main() -> None:
    """Train, but end at the first step."""
    from envs.sb3_vec_env import KernelVecEnv

    def stop(*_: object) -> None:
        print(FIRST_STEP, flush=True)
        os._exit(0)

    KernelVecEnv.step_wait = stop  # type: ignore[method-assign, assignment]
    runpy.run_module("experiments.train", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
