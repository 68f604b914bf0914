"""Trains the windows of a walk-forward: one after another, or some side by side."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO

from agents.persistence.policy_file import DESCRIPTION, WEIGHTS
from conf.errors import InputError
from conf.files import new_folder, remove_leftovers
from experiments.runs.cli import quoted
from experiments.runs.folder import MANIFEST, RunLock, shown_path
from experiments.runs.training import START, Plan, prepare_torch, refuse_other_data, run
from experiments.windows.folder import WalkForwardRun
from experiments.windows.windows import YearWindow

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 0.1


def train_window(walk: WalkForwardRun, window: YearWindow, *, allow_inexact: bool = False) -> None:
    """Train a window to its end, from its newest checkpoint where there is one.

    Nothing is done for a window that is finished. Raises InputError where another process trains
    it, or where it goes on from a window that is not finished.
    """
    folder = walk.run_folder(window)
    if walk.is_finished(window):
        return
    previous = walk.before(window)
    if previous is not None and not walk.is_finished(previous):
        raise InputError(
            f"window {window.name} goes on from the policy of {previous.name}, which is not "
            "finished",
            f"Train that one first: walk_forward.window={previous.name}",
        )
    place = walk.windows.index(window) + 1
    log.info("window %s, %d of %d", window.name, place, len(walk.windows))
    settings, setup = walk.settings_of(window), walk.setup_of(window)
    prepare_torch(settings.top)
    with RunLock(folder):
        resumed = (folder / MANIFEST).is_file()
        if resumed:
            refuse_other_data(folder, setup)
        elif previous is not None:
            _begin_with_policy_of(walk, previous, window)
        run(Plan(folder, walk.config_of(window), settings, setup, resumed, allow_inexact))


def train_in_parallel(
    walk: WalkForwardRun, windows: Sequence[YearWindow], jobs: int, *, allow_inexact: bool = False
) -> None:
    """Train windows in `jobs` processes of their own; their output is in the log.

    After a failure no further window is begun, and those under way are waited for. Raises
    InputError with the reason of the first failure.
    """
    if walk.request.retrain == "fine_tune":
        raise InputError(
            "windows that are fine-tuned follow one another", "Use walk_forward.jobs=1"
        )
    waiting, running = list(windows), list[_Job]()
    failures: list[str] = []
    with ExitStack() as at_the_end:
        while running or (waiting and not failures):
            while waiting and not failures and len(running) < jobs:
                complaints = at_the_end.enter_context(tempfile.TemporaryFile())
                job = _start(walk, waiting.pop(0), complaints, allow_inexact)
                at_the_end.callback(_stop, job.process)
                running.append(job)
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            for job in [job for job in running if job.process.poll() is not None]:
                running.remove(job)
                failures += job.failure()
    if failures:
        raise InputError(failures[0], f"Go on with resume={shown_path(walk.folder)}")


@dataclass(frozen=True)
class _Job:
    """A process that trains one window."""

    window: YearWindow
    process: subprocess.Popen[bytes]
    complaints: IO[bytes]

    def failure(self) -> list[str]:
        """Why it failed, if it did."""
        code = self.process.returncode
        self.complaints.seek(0)
        said = self.complaints.read().decode(errors="replace").strip().splitlines()
        if code == 0:
            log.info("window %s is finished", self.window.name)
            return []
        reason = said[-1].removeprefix("error: ") if said else f"exit code {code}"
        return [f"window {self.window.name} failed: {reason.rstrip('.')}"]


def _start(
    walk: WalkForwardRun, window: YearWindow, complaints: IO[bytes], allow_inexact: bool
) -> _Job:
    command = [
        *(sys.executable, "-m", "experiments.walk_forward"),
        f"resume={quoted(walk.folder)}",
        f"walk_forward.window={window.name}",
        f"allow_inexact_resume={str(allow_inexact).lower()}",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=complaints)
    log.info("window %s: process %d", window.name, process.pid)
    return _Job(window, process, complaints)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that still runs; what it has saved stays."""
    process.terminate()
    process.wait()


def _begin_with_policy_of(walk: WalkForwardRun, previous: YearWindow, window: YearWindow) -> None:
    folder, chosen = walk.run_folder(window), walk.chosen_policy(previous)
    remove_leftovers(folder)
    with new_folder(folder / START) as temporary:
        for name in (WEIGHTS, DESCRIPTION):
            shutil.copyfile(chosen / name, temporary / name)
    log.info("window %s begins with the policy of %s", window.name, previous.name)
