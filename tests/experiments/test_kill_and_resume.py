"""A run killed at any moment, also several times, ends with the weights of one left alone."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments import train
from tests.experiments.conftest import TINY

LONGER = (*TINY, "total_timesteps=6144", "callbacks.validate_every=1024")
ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("KILLS", "60"))
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
KILLED_AFTER = (384, 1792, 3328)  # steps; far from the end, so that there is something to kill


def start(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.train", *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # Tests that run in the background ignore Ctrl-C, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        text=True,
    )


def kill_somewhere_after(process, run, step, rng):
    """Kill once that many steps are saved, at a random moment of the next rollouts and writes."""
    deadline = time.monotonic() + 60
    while not any(int(p.name[5:]) >= step for p in run.glob("checkpoints/step_*")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.2))
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_killed_run_ends_with_the_same_weights(command, tmp_path, kills):
    longer = (*LONGER, f"total_timesteps={KILLED_AFTER[kills - 1] + 768}")
    assert command(train, *longer, "hydra.run.dir=outputs/tiny/day/alone")[0] == 0
    run = tmp_path / "outputs/tiny/day/killed"
    rng = np.random.default_rng(time.time_ns())
    process = start(tmp_path, *longer, "hydra.run.dir=outputs/tiny/day/killed")
    for kill, step in enumerate(KILLED_AFTER[:kills], 1):
        kill_somewhere_after(process, run, step, rng)
        if kill < kills:
            process = start(tmp_path, "resume=outputs/tiny/day/killed")
    assert command(train, "resume=outputs/tiny/day/killed")[0] == 0
    assert (run / "train.log").read_text().count("resuming from") == kills
    for name in ("policy.safetensors", "best/policy.safetensors"):
        left_alone = (tmp_path / "outputs/tiny/day/alone" / name).read_bytes()
        assert (run / name).read_bytes() == left_alone, name
    assert not list(run.rglob(".tmp-*"))


@pytest.mark.slow
def test_kills_by_any_signal_at_any_moment_change_no_bit(tmp_path):
    """`KILLS=200` in the environment for more of them."""
    began = time.monotonic()
    alone = start(tmp_path, *LONGER, "hydra.run.dir=outputs/tiny/day/alone")
    assert alone.wait(300) == 0, alone.stderr.read()
    seconds = time.monotonic() - began
    expected = tmp_path / "outputs/tiny/day/alone"
    rng, kills, runs, by_signal = np.random.default_rng(0), 0, 0, dict.fromkeys(SIGNALS, 0)
    while kills < KILLS:
        runs += 1
        name = f"outputs/tiny/day/{runs}"
        run, hard = tmp_path / name, False
        while True:
            begun = (run / "manifest.json").exists()
            process = start(
                tmp_path, *([f"resume={name}"] if begun else [*LONGER, f"hydra.run.dir={name}"])
            )
            number = SIGNALS[rng.integers(3)]
            began = time.monotonic()
            try:
                process.wait(rng.uniform(0.1, 0.8 * seconds) if kills < KILLS else 300)
            except subprocess.TimeoutExpired:
                for _ in range(1 if number == signal.SIGKILL else rng.integers(1, 4)):
                    process.send_signal(number)
            errors = process.communicate(timeout=300)[1]
            # Before our packages are imported Python itself shows where it was.
            assert "Traceback" not in errors or str(ROOT) not in errors, errors
            if process.returncode == 0:
                if not begun:
                    seconds = min(seconds, time.monotonic() - began)
                break
            assert process.returncode in (-number, 128 + number), errors
            kills, by_signal[number] = kills + 1, by_signal[number] + 1
            hard |= number == signal.SIGKILL
            if process.returncode > 0 and not hard and (run / "manifest.json").exists():
                assert status_of(run) in ("interrupted", "finished")
        assert status_of(run) == "finished"
        assert not list(run.rglob(".tmp-*"))
        for file in ("policy.safetensors", "best/policy.safetensors"):
            assert (run / file).read_bytes() == (expected / file).read_bytes(), (runs, file)
    counts = ", ".join(f"{count} {number.name}" for number, count in by_signal.items())
    print(f"{kills} kills ({counts}) of {runs} runs: 0 differing bits")


def status_of(run):
    return json.loads((run / "manifest.json").read_text())["status"]
