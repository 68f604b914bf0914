"""Trains the windows of a walk-forward, one after another or several at the same time."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from agents.persistence.policy_file import DESCRIPTION, WEIGHTS
from conf.errors import InputError
from conf.files import new_folder, remove_leftovers
from experiments.runs.cli import quoted
from experiments.runs.folder import MANIFEST, run_lock, shown_path
from experiments.runs.parallel import run_tasks
from experiments.runs.training import (
    START,
    TrainingJob,
    configure_torch,
    refuse_other_data,
    train_agent,
)
from experiments.windows.folder import WalkForwardRun
from experiments.windows.windows import YearWindow

log = logging.getLogger(__name__)


def train_windows(
    walk: WalkForwardRun, windows: Sequence[YearWindow], jobs: int, *, allow_inexact: bool = False
) -> None:
    """Train these windows, `jobs` of them at a time."""
    if jobs > 1 and windows:
        _train_in_processes(walk, windows, jobs, allow_inexact)
        return
    for window in windows:
        train_window(walk, window, allow_inexact=allow_inexact)


def train_window(walk: WalkForwardRun, window: YearWindow, *, allow_inexact: bool = False) -> None:
    """Train a window to its end, from its newest checkpoint where there is one.

    A finished window is left as it is. Raises InputError where another process trains the window,
    or where it continues from a window that is not finished.
    """
    folder = walk.run_folder(window)
    if walk.is_finished(window):
        return
    previous = walk.previous(window)
    if previous is not None and not walk.is_finished(previous):
        raise InputError(
            f"window {window.name} goes on from the policy of {previous.name}, which is not "
            "finished",
            f"Train that one first: walk_forward.window={previous.name}",
        )
    place = walk.windows.index(window) + 1
    log.info("window %s, %d of %d", window.name, place, len(walk.windows))
    settings, setup = walk.settings_of(window), walk.setup_of(window)
    configure_torch(settings.top)
    with run_lock(folder):
        resumed = (folder / MANIFEST).is_file()
        if resumed:
            refuse_other_data(folder, setup)
        elif previous is not None:
            _start_from(walk, previous, window)
        config = walk.config_of(window)
        train_agent(TrainingJob(folder, config, settings, setup, resumed, allow_inexact))


def _train_in_processes(
    walk: WalkForwardRun, windows: Sequence[YearWindow], jobs: int, allow_inexact: bool
) -> None:
    """Train each window by a call of the command in a process of its own.

    Each call logs into the walk-forward's log. A process that is killed, as for want of memory,
    fails its own window alone. InputError with the reason of the first window that failed.
    """
    if walk.request.retrain == "fine_tune":
        raise InputError(
            "windows that are fine-tuned follow one another", "Use walk_forward.jobs=1"
        )
    with ExitStack() as at_exit:

        def train(window: YearWindow) -> None:
            command = [
                *(sys.executable, "-m", "experiments.walk_forward"),
                f"resume={quoted(walk.folder)}",
                f"walk_forward.window={window.name}",
                f"allow_inexact_resume={str(allow_inexact).lower()}",
            ]
            process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, errors="replace"
            )
            at_exit.callback(process.wait)
            at_exit.callback(process.terminate)  # after Ctrl-C; what it has saved stays
            log.info("window %s begins in a process of its own", window.name)
            errors = process.communicate()[1].strip().splitlines()
            if process.returncode:
                reason = errors[-1] if errors else f"exit code {process.returncode}"
                raise InputError(
                    f"window {window.name} failed: {reason.removeprefix('error: ').rstrip('.')}",
                    f"Go on with resume={shown_path(walk.folder)}",
                )
            log.info("window %s is finished", window.name)

        run_tasks(train, windows, jobs)


def _start_from(walk: WalkForwardRun, previous: YearWindow, window: YearWindow) -> None:
    """Copy the policy chosen in the previous window to where the window's run begins."""
    folder, chosen = walk.run_folder(window), walk.chosen_policy(previous)
    remove_leftovers(folder)
    with new_folder(folder / START) as temporary:
        for name in (WEIGHTS, DESCRIPTION):
            shutil.copyfile(chosen / name, temporary / name)
    log.info("window %s begins with the policy of %s", window.name, previous.name)
