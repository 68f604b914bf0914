"""Trains the windows of a walk-forward, one after another or several at the same time."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence

from agents.persistence.policy_file import DESCRIPTION, WEIGHTS
from conf.errors import InputError
from conf.files import new_folder, remove_leftovers
from experiments.runs.folder import MANIFEST, log_into, run_lock, shown_path
from experiments.runs.parallel import Workers, run_tasks
from experiments.runs.training import (
    START,
    TrainingJob,
    configure_torch,
    refuse_other_data,
    train_agent,
)
from experiments.windows.folder import WalkForwardRun, reopen_walk
from experiments.windows.windows import YearWindow, find_window

log = logging.getLogger(__name__)

LOG = "walk_forward.log"  # as Hydra names that of the command


def check_workers(retrain: object, workers: Workers) -> None:
    """InputError where windows would be trained together of which each waits for the one before."""
    if retrain == "fine_tune" and not workers.is_this_process:
        raise InputError(
            "windows that are fine-tuned follow one another",
            "Use walk_forward.jobs=1 and no other parallel.backend",
        )


def train_windows(
    walk: WalkForwardRun,
    windows: Sequence[YearWindow],
    workers: Workers,
    *,
    allow_inexact: bool = False,
    on_done: Callable[[], object] = lambda: None,
) -> None:
    """Train these windows, as many at a time as there are workers; after each `on_done`."""
    if windows and not workers.is_this_process:
        _train_in_workers(walk, windows, workers, allow_inexact, on_done)
        return
    for window in windows:
        train_window(walk, window, allow_inexact=allow_inexact)
        on_done()


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


def _train_in_workers(
    walk: WalkForwardRun,
    windows: Sequence[YearWindow],
    workers: Workers,
    allow_inexact: bool,
    on_done: Callable[[], object],
) -> None:
    """Train each window in a worker, which logs into the walk-forward's log.

    A worker that is killed is replaced, and the window goes on from its newest checkpoint.
    InputError with the reason of the first window that failed.
    """
    folder = walk.folder

    def train(year: int) -> None:
        with log_into(folder / LOG):
            opened = reopen_walk(folder)
            window = find_window(opened.windows, year)
            try:
                train_window(opened, window, allow_inexact=allow_inexact)
            except InputError as error:
                raise InputError(
                    f"window {window.name} failed: {str(error).rstrip('.')}",
                    f"Go on with resume={shown_path(folder)}",
                ) from None
            log.info("window %s is finished", window.name)

    run_tasks(train, [window.first_test for window in windows], workers, on_done)


def _start_from(walk: WalkForwardRun, previous: YearWindow, window: YearWindow) -> None:
    """Copy the policy chosen in the previous window to where the window's run begins."""
    folder, chosen = walk.run_folder(window), walk.chosen_policy(previous)
    remove_leftovers(folder)
    with new_folder(folder / START) as temporary:
        for name in (WEIGHTS, DESCRIPTION):
            shutil.copyfile(chosen / name, temporary / name)
    log.info("window %s begins with the policy of %s", window.name, previous.name)
