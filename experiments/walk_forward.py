"""Train and test through the years, an agent for each.

Each window trains on some years, chooses its policy on the next and is tested on the year after;
the test years are put together and judged as one record. A walk-forward that was killed goes on
with resume=<its folder>. Windows can be trained at the same time: `walk_forward.jobs=2`, or by any
Hydra launcher with `-m walk_forward.window=2005,2006,...`; the result is made when all are trained.
With `parallel.backend=dask parallel.address=tcp://host:8786` they are trained by a cluster.

Examples:
    python -m experiments.walk_forward +exp=production
    python -m experiments.walk_forward +exp=quickstart walk_forward.jobs=2
    python -m experiments.walk_forward resume=<walk_forward>
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from pydantic import Field
from rich.console import Console

from callbacks.progress import Meter
from conf.errors import InputError
from conf.settings import build_settings, settings
from experiments.environments.opening import section
from experiments.evaluation.split import AGENT, INDEX
from experiments.reporting.terminal import performance_table, say_where, verdict_text
from experiments.runs.cli import GateFailed, launch, quoted
from experiments.runs.config import plain_config
from experiments.runs.folder import check_run_name, is_walk, run_lock, shown_path
from experiments.runs.parallel import PARALLEL_KEYS, Workers, open_workers, parallel_settings
from experiments.runs.record import write_composition
from experiments.runs.training import INVOCATION_KEYS, refuse_other_overrides
from experiments.runs.trial_ledger import ledger_of, warn_of_defects
from experiments.runs.trials import record_start
from experiments.statistics.verdict import Outcome
from experiments.windows.folder import RESULT, WalkForwardRun, open_walk, reopen_walk, resolve_walk
from experiments.windows.page import build_walk_report, windows_table
from experiments.windows.results import record_walk, write_result
from experiments.windows.stitching import WalkForwardResult, run_test, stitch_windows
from experiments.windows.training import check_workers, train_windows
from experiments.windows.windows import find_window

log = logging.getLogger(__name__)

# Baselines shown on the terminal; the report has all.
SHOWN = (INDEX, "put_write", "weekend_seller", "minimum_variance")


@settings
class Invocation:
    """The part of the section `walk_forward` that may differ each time the command is called."""

    window: int | None = None  # calendar year in which its test begins; null: all windows
    jobs: Annotated[int, Field(ge=1, le=1024)] = 1
    stitch_only: bool = False
    report: bool = True
    gate: bool = False


_INVOCATION = tuple(Invocation.__dataclass_fields__)


def walk_forward(config: DictConfig) -> None:
    """Train what is not finished; put the test years together once everything is."""
    plain = plain_config(config)
    section_settings = section(plain, "walk_forward")
    chosen = {name: section_settings.pop(name) for name in _INVOCATION if name in section_settings}
    request: Invocation = build_settings(Invocation, chosen, "walk_forward")
    where = parallel_settings(plain)
    jobs = request.jobs if request.window is None else 1
    with ExitStack() as opened:
        workers = Workers()
        if not request.stitch_only:
            workers = opened.enter_context(open_workers(where, jobs))
        walk = _open(plain, section_settings, request, workers)
        log.info("%d windows in %s", len(walk.windows), shown_path(walk.folder))
        if request.window is None:
            opened.enter_context(run_lock(walk.folder))
            windows = walk.unfinished
        else:
            windows = (find_window(walk.windows, request.window),)
        if plain["resume"] is None:
            write_composition(Path(HydraConfig.get().runtime.output_dir), config)
        if not request.stitch_only:
            record_start(walk.folder, walk.config, walk.setup.loaded.history.fingerprint)
            inexact = bool(plain["allow_inexact_resume"])
            with Meter(len(windows), "window") as meter:
                train_windows(walk, windows, workers, allow_inexact=inexact, on_done=meter.advance)
        if not _is_complete(walk, request):
            return
        if request.window is not None:
            try:
                opened.enter_context(run_lock(walk.folder))
            except InputError:
                log.info("all windows are finished; another process puts them together")
                return
        finish(walk, request)


def finish(walk: WalkForwardRun, request: Invocation) -> None:
    """Test every window's policy, put the years together, write and print the result.

    It depends on nothing but the finished windows: called again it writes the same again.
    """
    # A few books at a time: handing them to a second core costs more than it brings.
    torch.set_num_threads(1)
    warn_of_defects(ledger_of(walk.folder))
    windows = []
    with Meter(len(walk.windows), "window") as meter:
        for window in walk.windows:
            log.info("testing %s", window.years)
            windows.append(run_test(walk, window))
            meter.advance()
    result = stitch_windows(windows, record_walk(walk, windows), walk.request.resamples)
    write_result(walk, result, build_walk_report(walk, result) if request.report else None)
    _print(walk, result)
    outcome = result.headline.verdict.outcome
    if request.gate and outcome is not Outcome.OUTPERFORMS:
        raise GateFailed(f"verdict on the test years of all windows: {outcome}")


def _open(
    plain: Mapping[str, Any],
    section_settings: Mapping[str, Any],
    request: Invocation,
    workers: Workers,
) -> WalkForwardRun:
    if plain["resume"] is not None:
        refuse_other_overrides(
            (*INVOCATION_KEYS, *PARALLEL_KEYS, *(f"walk_forward.{name}" for name in _INVOCATION)),
            "A walk-forward keeps its own settings; start a new one to change them",
        )
        walk = reopen_walk(resolve_walk(plain["resume"]))
        check_workers(walk.request.retrain, workers)
        return walk
    others = (*INVOCATION_KEYS, "walk_forward", "parallel")
    config = {name: value for name, value in plain.items() if name not in others}
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    if hydra.mode == RunMode.MULTIRUN and request.window is not None:
        folder = Path(hydra.sweep.dir).absolute()  # all jobs work on one walk-forward
    if request.stitch_only and not is_walk(folder):
        raise InputError("there is nothing yet to be put together", "Give resume=<its folder>")
    check_workers(section_settings.get("retrain"), workers)
    return open_walk(config, section_settings, folder, request.window)


def _is_complete(walk: WalkForwardRun, request: Invocation) -> bool:
    """Whether all windows are finished; InputError where they are not and nothing was trained."""
    unfinished = [window.name for window in walk.unfinished]
    if unfinished and request.stitch_only:
        raise InputError(
            f"{len(unfinished)} of {len(walk.windows)} windows are not finished: "
            f"{', '.join(unfinished)}",
            f"Train them: resume={shown_path(walk.folder)}",
        )
    if unfinished:
        log.info("not finished yet: %s", ", ".join(unfinished))
    return not unfinished


def _print(walk: WalkForwardRun, result: WalkForwardResult) -> None:
    console, raw, managed = Console(), result.raw, result.managed
    books = {AGENT: raw.performance[AGENT]}
    if managed is not None:
        books["managed"] = managed.performance[AGENT]
    books |= {name: raw.performance[name] for name in SHOWN if name in raw.performance}
    console.print(windows_table(result.windows))
    console.print(performance_table("all test years", raw.dates, books))
    for which, comparison in (("without", raw), ("under", managed)):
        if comparison is not None:
            title = f"all test years, the book {which} the risk module"
            console.print(verdict_text(title, comparison.verdict))
    say_where(walk.folder / RESULT)


def _prepared(arguments: Sequence[str]) -> list[str]:
    """The arguments with what Hydra has to know before it makes a folder and writes into it.

    A walk-forward that is resumed is logged into; in a multirun over windows each job logs into its
    window's folder.
    """
    prepared = list(arguments)
    given = dict(argument.partition("=")[::2] for argument in arguments)
    many = any(argument in ("-m", "--multirun") for argument in arguments)
    resume = given.get("resume", "").strip("'\"")
    if "experiment" in given:
        check_run_name(given["experiment"].strip("'\""))
    if resume not in ("", "null"):
        folder = quoted(resolve_walk(resume))
        kind = "sweep" if many else "run"
        prepared.append(f"hydra.{kind}.dir={folder}")
    if many and "walk_forward.window" in given:
        prepared.append("hydra.sweep.subdir=${walk_forward.window}")
    return prepared


def main() -> int:
    """Entry point of the command."""
    return launch(walk_forward, "walk_forward", prepare=_prepared)


if __name__ == "__main__":
    sys.exit(main())
