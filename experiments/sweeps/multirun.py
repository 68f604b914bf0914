"""A Hydra multirun (`-m`): its jobs ranked at its end, and those that are missing done later."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from conf.errors import InputError
from experiments.runs.folder import MANIFEST, MULTIRUN, is_walk, shown_path


def is_multirun(folder: Path) -> bool:
    """Whether it is the folder of a multirun, whose jobs are the runs in it."""
    return (folder / MULTIRUN).is_file() and not (folder / MANIFEST).is_file()


def arguments_of(folder: Path) -> list[str]:
    """The overrides that a multirun was begun with; InputError where they cannot be read."""
    try:
        recorded = OmegaConf.load(folder / MULTIRUN)
        return [str(text) for text in recorded.hydra.overrides.task]
    except Exception:
        raise InputError(
            f"{shown_path(folder / MULTIRUN)} does not say what was run", "Start a new multirun"
        ) from None


class RankedJobs(Callback):
    """Prints a multirun's jobs by their validation score, and what to do with them."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Of all runs in its folder, also those of an earlier, killed call."""
        # Hydra makes every callback of a command, also where there is one job.
        from rich.console import Console

        from experiments.reporting.style import number
        from experiments.reporting.terminal import terminal_table
        from experiments.runs.record import load_manifest
        from experiments.runs.training import validation_score

        folder = Path(config.hydra.sweep.dir)
        runs = [path.parent for path in folder.glob(f"*/{MANIFEST}")]
        if is_walk(folder) or not runs:
            return
        scores = {run: validation_score(run) for run in runs}
        runs.sort(key=lambda run: (scores[run] is None, -(scores[run] or 0.0), run.name))
        given = {run: list(OmegaConf.load(run / ".hydra" / "overrides.yaml")) for run in runs}
        shared = set.intersection(*map(set, given.values())) if len(runs) > 1 else set()
        rows = []
        for run in runs:
            own = shlex.join(str(text) for text in given[run] if text not in shared)
            rows.append([run.name, number(scores[run], 3), load_manifest(run)["status"], own])
        console = Console()
        columns = ("job", "score", "status", "its own settings")
        console.print(terminal_table(f"{len(runs)} jobs by validation score", columns, rows))
        shown = shlex.quote(shown_path(folder.absolute()))
        console.print(f"evaluate them, then: python -m experiments.compare run={shown}")
