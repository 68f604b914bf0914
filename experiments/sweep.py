"""Search settings: `python -m experiments.sweep +exp=quickstart sweep=quickstart jobs=2`.

Optuna draws points of a space (`conf/sweep/*.yaml`); each is trained with several seeds and judged
by the interquartile mean of their validation scores. Every run is an ordinary run folder, and every
one that is started counts as a trial. A sweep that was killed goes on with resume=<its folder>.
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
from tqdm import tqdm

from conf.errors import InputError
from conf.files import write_json
from conf.settings import build_settings, settings
from experiments.environments.opening import section
from experiments.runs.cli import launch, quoted
from experiments.runs.config import plain_config
from experiments.runs.folder import SWEEP, check_run_name, run_lock, shown_path
from experiments.runs.parallel import PARALLEL_KEYS, parallel_settings
from experiments.runs.training import refuse_other_overrides
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
    request: Invocation = build_settings(Invocation, given, "sweep")
    where, folder = parallel_settings(plain), Path(HydraConfig.get().runtime.output_dir)
    with run_lock(folder):
        if plain["resume"] is not None:
            refuse_other_overrides(
                _INVOCATION, "A sweep keeps its own settings; start a new one to change them"
            )
            opened = reopen_sweep(folder, request.storage)
        else:
            chosen = sweep_settings(section(plain, "sweep"))
            base = [text for text in HydraConfig.get().overrides.task if not _is_own(text)]
            check_space(base, chosen)
            opened = begin_sweep(folder, base, chosen, request.storage)
        log.info("%d trials in %s", opened.settings.trials, shown_path(folder))
        runs = opened.settings.trials * len(opened.settings.seeds)
        with tqdm(total=runs, unit="run", disable=None) as bar:
            search(opened, request.jobs, where, bar.update)
        write_json(folder / RESULT, sweep_numbers(opened))
        page = write_page(opened)
    return _print(opened, page)


def _print(opened: Sweep, page: Path) -> float | None:
    console = Console()
    console.print(terminal_lines(opened))
    best = ranked(opened)[0]
    value = value_of(best)
    if value is None:
        console.print("no trial has a finite score")
    else:
        seed = opened.settings.seeds[0]
        arguments = shlex.join(opened.arguments(best.number, seed))
        console.print(f"the best by hand: python -m experiments.train {arguments}", soft_wrap=True)
    console.print(f"written to {shown_path(page)}")
    return value


def _is_own(override: str) -> bool:
    """Whether it is about the sweep, and none of a run's settings."""
    key = override.lstrip("+~").partition("=")[0]
    return key in (*_INVOCATION, "sweep", "allow_inexact_resume") or key.startswith("sweep.")


def _prepared(arguments: Sequence[str]) -> list[str]:
    """The arguments with the folder of a sweep that goes on, which is logged into."""
    prepared = list(arguments)
    for argument in arguments:
        key, _, value = argument.partition("=")
        value = value.strip("'\"")
        if key == "experiment":
            check_run_name(value)
        elif key == "resume" and value not in ("", "null"):
            folders = (Path(value), Path("outputs") / value)
            found = next((path for path in folders if (path / SWEEP).is_file()), None)
            if found is None:
                raise InputError(
                    f"{value!r} is not the folder of a sweep: it has no {SWEEP}",
                    "Start one with python -m experiments.sweep",
                )
            prepared.append(f"hydra.run.dir={quoted(found.resolve())}")
    return prepared


def main() -> int:
    """Entry point of the command."""
    return launch(sweep, "sweep", prepare=_prepared)


if __name__ == "__main__":
    sys.exit(main())
