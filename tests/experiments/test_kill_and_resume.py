"""A run killed at any moment, also several times, ends with the weights of one left alone."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.experiments.conftest import TINY

LONGER = (*TINY, "total_timesteps=6144", "callbacks.validate_every=1024")
KILLED_AFTER = (384, 1792, 3328)  # steps; far from the end, so that there is something to kill


def start(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.train", *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
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
def test_a_killed_run_ends_with_the_same_weights(tmp_path, kills):
    alone = start(tmp_path, *LONGER, "hydra.run.dir=outputs/tiny/day/alone")
    assert alone.wait(120) == 0, alone.stderr.read()
    run = tmp_path / "outputs/tiny/day/killed"
    rng = np.random.default_rng(time.time_ns())
    process = start(tmp_path, *LONGER, "hydra.run.dir=outputs/tiny/day/killed")
    for step in KILLED_AFTER[:kills]:
        kill_somewhere_after(process, run, step, rng)
        process = start(tmp_path, "resume=outputs/tiny/day/killed")
    assert process.wait(120) == 0, process.stderr.read()
    assert (run / "train.log").read_text().count("resuming from") == kills
    for name in ("policy.safetensors", "best/policy.safetensors"):
        left_alone = (tmp_path / "outputs/tiny/day/alone" / name).read_bytes()
        assert (run / name).read_bytes() == left_alone, name
    assert not list(run.rglob(".tmp-*"))
