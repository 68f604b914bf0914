"""Train and test through the years: `python -m experiments.walk_forward +exp=production`.

Each window trains on some years, chooses its policy on the next and is tested on the year after;
the test years are put together and judged as one record. A walk-forward that was killed goes on
with resume=<its folder>. Windows can be trained side by side: `walk_forward.jobs=2`, or by any
Hydra launcher with `-m walk_forward.window=2005,2006,...`. The result is made when all are there.
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

from conf.errors import InputError
from conf.files import new_folder, remove_leftovers, write_json
from conf.settings import build_settings, settings
from experiments.evaluation.split import AGENT, INDEX
from experiments.reporting.matplotlib_backend import chart_png
from experiments.reporting.page import render
from experiments.reporting.terminal import performance_table, verdict_text
from experiments.runs.cli import GateFailed, launch, quoted
from experiments.runs.config import plain_config
from experiments.runs.folder import RunLock, check_run_name, is_walk, shown_path
from experiments.runs.settings import section
from experiments.runs.training import INVOCATION_KEYS
from experiments.statistics.comparison import Outcome
from experiments.windows.folder import RESULT, WalkForwardRun, open_walk, reopen_walk, resolve_walk
from experiments.windows.page import build_walk_report, terminal_table
from experiments.windows.results import daily_table, record_walk, walk_numbers
from experiments.windows.stitching import StitchedComparison, WindowResult, run_test, stitch
from experiments.windows.training import train_in_parallel, train_window
from experiments.windows.windows import find_window

log = logging.getLogger(__name__)

# What stands on the terminal; the report has everybody.
SHOWN = (INDEX, "put_write", "weekend_seller", "minimum_variance")


@settings
class Invocation:
    """The part of the section `walk_forward` that may differ each time the command is called."""

    window: int | None = None  # calendar year in which its test begins; null: all windows
    jobs: Annotated[int, Field(ge=1, le=1024)] = 1
    stitch_only: bool = False
    report: bool = True
    gate: bool = False


_OWN = tuple(Invocation.__dataclass_fields__)


def walk_forward(config: DictConfig) -> None:
    """Train what is not finished; put the test years together once everything is."""
    plain = plain_config(config)
    request = section(plain, "walk_forward")
    own = {name: request.pop(name) for name in _OWN if name in request}
    invocation: Invocation = build_settings(Invocation, own, "walk_forward")
    walk = _open(plain, request, invocation)
    log.info("%d windows in %s", len(walk.windows), shown_path(walk.folder))
    inexact = bool(plain["allow_inexact_resume"])
    with ExitStack() as held:
        if invocation.window is None:
            held.enter_context(RunLock(walk.folder))
            _train_all(walk, invocation, inexact)
        elif not invocation.stitch_only:
            train_window(walk, find_window(walk.windows, invocation.window), allow_inexact=inexact)
        left = [window.name for window in walk.unfinished]
        if left and invocation.stitch_only:
            raise InputError(
                f"{len(left)} of {len(walk.windows)} windows are not finished: {', '.join(left)}",
                f"Train them: resume={shown_path(walk.folder)}",
            )
        if left:
            log.info("not finished yet: %s", ", ".join(left))
            return
        if invocation.window is not None:
            try:
                held.enter_context(RunLock(walk.folder))
            except InputError:
                log.info("all windows are finished; another process puts them together")
                return
        finish(walk, invocation)


def finish(walk: WalkForwardRun, invocation: Invocation) -> None:
    """Test every window's policy, put the years together, write and print what came out.

    It depends on nothing but the finished windows: called again it writes the same again.
    """
    # A few books at a time: handing them to a second core costs more than it brings.
    torch.set_num_threads(1)
    results = []
    for window in walk.windows:
        log.info("testing %s", window.years)
        results.append(run_test(walk, window))
    trials = record_walk(walk, results)
    raw = stitch([result.result.raw for result in results], trials, walk.request.resamples)
    guarded = [r.result.managed for r in results if r.result.managed is not None]
    managed = stitch(guarded, trials, walk.request.resamples) if guarded else None
    _write(walk, results, raw, managed, with_report=invocation.report)
    _print(walk, results, raw, managed)
    outcome = (managed or raw).verdict.outcome
    if invocation.gate and outcome is not Outcome.OUTPERFORMS:
        raise GateFailed(f"verdict on the test years of all windows: {outcome}")


def _open(
    plain: Mapping[str, Any], request: Mapping[str, Any], invocation: Invocation
) -> WalkForwardRun:
    if plain["resume"] is not None:
        _refuse_other_overrides()
        return reopen_walk(resolve_walk(plain["resume"]))
    others = (*INVOCATION_KEYS, "walk_forward")
    config = {name: value for name, value in plain.items() if name not in others}
    folder = _folder(invocation)
    if invocation.stitch_only and not is_walk(folder):
        raise InputError("there is nothing yet to be put together", "Give resume=<its folder>")
    return open_walk(config, request, folder, invocation.window)


def _folder(invocation: Invocation) -> Path:
    """In a multirun over windows all jobs work in one folder, that of the multirun."""
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN and invocation.window is not None:
        return Path(hydra.sweep.dir).absolute()
    return Path(hydra.runtime.output_dir)


def _train_all(walk: WalkForwardRun, invocation: Invocation, inexact: bool) -> None:
    unfinished = walk.unfinished
    if invocation.stitch_only or not unfinished:
        return
    if invocation.jobs > 1:
        train_in_parallel(walk, unfinished, invocation.jobs, allow_inexact=inexact)
        return
    for window in unfinished:
        train_window(walk, window, allow_inexact=inexact)


def _write(
    walk: WalkForwardRun,
    results: Sequence[WindowResult],
    raw: StitchedComparison,
    managed: StitchedComparison | None,
    *,
    with_report: bool,
) -> None:
    remove_leftovers(walk.folder)
    with new_folder(walk.folder / RESULT) as temporary:
        write_json(temporary / "metrics.json", walk_numbers(walk, results, raw, managed))
        daily_table(results, raw, managed).to_parquet(temporary / "daily.parquet")
        if with_report:
            report = build_walk_report(walk, results, raw, managed)
            (temporary / "report.html").write_text(render(report), encoding="utf-8")
            for chart in report.charts:
                (temporary / f"{chart.key}.png").write_bytes(chart_png(chart))


def _print(
    walk: WalkForwardRun,
    results: Sequence[WindowResult],
    raw: StitchedComparison,
    managed: StitchedComparison | None,
) -> None:
    console = Console()
    console.print(terminal_table(results))
    shown = {AGENT: raw.performance[AGENT]}
    if managed is not None:
        shown["managed"] = managed.performance[AGENT]
    shown |= {name: raw.performance[name] for name in SHOWN if name in raw.performance}
    console.print(performance_table("all test years", raw.dates, shown))
    console.print(verdict_text("all test years, the book without the risk module", raw.verdict))
    if managed is not None:
        console.print(
            verdict_text("all test years, the book under the risk module", managed.verdict)
        )
    console.print(f"written to {shown_path(walk.folder / RESULT)}")


def _refuse_other_overrides() -> None:
    """A walk-forward that goes on is what it was."""
    allowed = (*INVOCATION_KEYS, *(f"walk_forward.{name}" for name in _OWN))
    for override in HydraConfig.get().overrides.task:
        if override.lstrip("+~").partition("=")[0] not in allowed:
            raise InputError(
                f"{override!r} was given together with resume=",
                "A walk-forward keeps its own settings; start a new one to change them",
            )


def _prepared(arguments: Sequence[str]) -> list[str]:
    """What has to be settled before Hydra makes a folder and writes into it.

    Where one goes on, Hydra logs into its folder and leaves the .hydra folder alone; in a multirun
    over windows each job logs into its window's folder.
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
        prepared += [f"hydra.{kind}.dir={folder}", "hydra.output_subdir=null"]
    if many and "walk_forward.window" in given:
        prepared.append("hydra.sweep.subdir=${walk_forward.window}")
    return prepared


def main() -> int:
    """Entry point of the command."""
    return launch(walk_forward, "walk_forward", prepare=_prepared)


if __name__ == "__main__":
    sys.exit(main())
