"""Search settings with Optuna.

It draws points of a space (`conf/sweep/*.yaml`); each is trained with several seeds and judged by
the interquartile mean of their validation scores. Every run is an ordinary run folder, and every
one that is started counts as a trial. A sweep that was killed goes on with resume=<its folder>.

Examples:
    python -m experiments.sweep +exp=quickstart sweep=quickstart jobs=2
    python -m experiments.sweep +exp=allocation sweep=allocation sweep.trials=40
    python -m experiments.sweep resume=outputs/quickstart/<sweep>/<time>
"""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from pydantic import Field
from rich.console import Console

from callbacks.progress import Meter
from conf.files import write_json
from conf.settings import build_settings, settings
from experiments.environments.opening import section
from experiments.reporting.terminal import say_where
from experiments.runs.cli import launch
from experiments.runs.config import plain_config
from experiments.runs.folder import SWEEP, run_lock, shown_path
from experiments.runs.parallel import PARALLEL_KEYS, open_workers, parallel_settings
from experiments.runs.record import finished_runs
from experiments.runs.training import refuse_other_overrides
from experiments.sweeps.arguments import of_runs, prepared
from experiments.sweeps.page import terminal_lines, write_page
from experiments.sweeps.search import (
    Sweep,
    begin_sweep,
    ranked,
    reopen_sweep,
    search,
    sweep_numbers,
    value_of,
)
from experiments.sweeps.space import check_space, sweep_settings

log = logging.getLogger(__name__)

RESULT = "result.json"
_INVOCATION = ("resume", "jobs", "storage", *PARALLEL_KEYS)


@settings
class Invocation:
    """What may differ each time that a sweep goes on."""

    jobs: Annotated[int, Field(ge=1, le=1024)] = 1
    storage: str | None = None


def sweep(config: DictConfig) -> float | None:
    """Do the trials that are missing; print and write all of them; the best score."""
    plain = plain_config(config)
    given = {name: plain[name] for name in Invocation.__dataclass_fields__}
    request: Invocation = build_settings(Invocation, given)
    where, folder = parallel_settings(plain), Path(HydraConfig.get().runtime.output_dir)
    with run_lock(folder), open_workers(where, request.jobs) as workers:
        if plain["resume"] is not None:
            refuse_other_overrides(
                _INVOCATION, "A sweep keeps its own settings; start a new one to change them"
            )
            opened = reopen_sweep(folder, request.storage)
        else:
            chosen = sweep_settings(section(plain, "sweep"))
            base = of_runs(HydraConfig.get().overrides.task, _INVOCATION, "sweep")
            check_space(base, chosen)
            opened = begin_sweep(folder, base, chosen, request.storage)
        log.info("%d trials in %s", opened.settings.trials, shown_path(folder))
        runs = opened.settings.trials * len(opened.settings.seeds)
        with Meter(runs, "run", line_after=finished_runs(folder)) as meter:
            search(opened, workers, meter.advance)
        write_json(folder / RESULT, sweep_numbers(opened))
        write_page(opened)
    return _print(opened)


def _print(opened: Sweep) -> float | None:
    console = Console()
    console.print(terminal_lines(opened))
    best = ranked(opened)[0]
    value = value_of(best)
    if value is None:
        console.print("no trial has a finite score")
        say_where(opened.folder)
    else:
        arguments = shlex.join(opened.arguments(best.number, opened.settings.seeds[0]))
        say_where(opened.folder, f"the best by hand: python -m experiments.train {arguments}")
    return value


def _prepared(arguments: Sequence[str]) -> list[str]:
    return prepared(arguments, SWEEP, "a sweep", "sweep")


def main() -> int:
    """Entry point of the command."""
    return launch(sweep, "sweep", prepare=_prepared)


if __name__ == "__main__":
    sys.exit(main())
