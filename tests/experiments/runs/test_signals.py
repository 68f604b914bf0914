"""Ctrl-C and SIGTERM end a training in order, and a foreign package is named."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.experiments.conftest import TINY

RUN = "outputs/tiny/day/run"
# No checkpoint is due for long: what an interrupted run goes on from was saved on interruption.
LONG = (
    *(*TINY, "total_timesteps=200000"),
    *("callbacks.checkpoint_every=150000", "callbacks.validate_every=128"),
)
ROOT = Path(__file__).parents[3]


def start(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.train", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # Tests that run in the background ignore Ctrl-C, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        text=True,
    )


def wait_for_a_rollout(run, process):
    """Until one was kept: that of the step before the one that was scored last."""
    deadline, log = time.monotonic() + 60, run / "train.log"
    while not (log.exists() and " step 256: " in log.read_text()):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("number", "times", "code", "word"),
    [
        (signal.SIGINT, 3, 130, "interrupted"),
        pytest.param(signal.SIGTERM, 1, 143, "terminated", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 1, 130, "interrupted", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 3, 143, "terminated", marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_the_last_rollout_and_says_how_to_go_on(tmp_path, number, times, code, word):
    process = start(tmp_path, *LONG, f"hydra.run.dir={RUN}")
    run = tmp_path / RUN
    wait_for_a_rollout(run, process)
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.02)
    err = process.communicate(timeout=60)[1]
    assert err == f"{word}. Go on with: python -m experiments.train resume={RUN}\n"
    assert process.returncode == code
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["status"] == "interrupted"
    saved = max(int(path.name[5:]) for path in run.glob("checkpoints/step_*"))
    assert saved == manifest["steps"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_command_starts_gives_no_traceback(tmp_path, number):
    for delay in (0.3, 0.8, 1.5, 2.2):
        process = start(tmp_path, *LONG, f"hydra.run.dir=outputs/{number}-{delay}")
        time.sleep(delay)
        for _ in range(3):
            process.send_signal(number)
        errors = process.communicate(timeout=60)[1]
        # Before our packages are imported Python itself shows where it was.
        assert "Traceback" not in errors or str(ROOT) not in errors, errors
        assert process.returncode in (-number, 128 + number)


@pytest.mark.slow
def test_packages_of_the_same_names_in_the_working_directory_are_passed_over(tmp_path):
    for name in ("conf", "envs", "callbacks"):
        (tmp_path / name).mkdir()
    (tmp_path / "conf" / "__init__.py").write_text("raise SystemExit('a foreign conf')\n")
    (tmp_path / "conf" / "config.yaml").write_text("seed: 99\n")
    (tmp_path / "agents.py").write_text("raise SystemExit('foreign agents')\n")
    (tmp_path / "risk").mkdir()
    (tmp_path / "risk" / "__init__.py").write_text("")
    # As installed: our own root comes behind the working directory.
    completed = subprocess.run(
        [sys.executable, "-m", "experiments.train", "--cfg", "job"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert completed.returncode == 0
    assert "seed: 0" in completed.stdout
    notes = completed.stderr.splitlines()
    assert "note: conf/__init__.py is not used: it has the name of this project's conf" in notes
    assert "note: agents.py is not used: it has the name of this project's agents" in notes
    assert len([line for line in notes if line.startswith("note: ")]) == len(notes) >= 3
