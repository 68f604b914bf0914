"""Stress a trained policy: crises and shocks.

The policy goes through every crisis that its data covers and through shocks that are put into its
test years at several dates, without and with the risk module. The index, cash and a few benchmarks
are its benchmarks. Tables and a report go to `stress/` in the run folder.

Examples:
    python -m experiments.stress run=outputs/production/<date>/<time>
    python -m experiments.stress run=<run> shocks=[fall_20,vol_crush] starts=10
    python -m experiments.stress run=<run> crises=false split=validation
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from omegaconf import DictConfig
from pydantic import Field
from rich.console import Console

from callbacks.progress import Meter
from conf.errors import InputError
from conf.files import new_folder, write_json
from conf.settings import build_settings, settings
from experiments.environments.setup import MarketSetup
from experiments.evaluation.open_run import open_run, own_keys
from experiments.reporting.page import write_report
from experiments.reporting.terminal import say_where
from experiments.runs.cli import launch
from experiments.runs.config import plain_config
from experiments.runs.folder import shown_path
from experiments.scenarios.page import build_page, headline_table, returns_table
from experiments.scenarios.shocks import SHOCKS, Shock
from experiments.scenarios.trials import CRISES, Trial, crisis_trials, shock_trials

DEFAULT_BENCHMARKS = ("put_write", "protective_put")  # of an option book


@settings
class StressSettings:
    """Which crises and shocks the policy goes through, and which benchmarks beside it."""

    run: Annotated[str, Field(min_length=1)]
    policy: Literal["best", "last"] = "best"
    split: Literal["validation", "test"] = "test"  # whose dates shocks are put at
    starts: Annotated[int, Field(ge=1, le=100)] = 5  # dates of each shock
    shocks: tuple[str, ...] | None = None  # null: all
    crises: bool = True
    beside: tuple[str, ...] | None = None  # benchmarks; null: DEFAULT_BENCHMARKS
    report: bool = True  # the page and its pictures


def stress(config: DictConfig) -> float:
    """Go through everything, print and write; the headline book's worst return."""
    torch.set_num_threads(1)  # a few books at a time
    plain = plain_config(config)
    request: StressSettings = build_settings(StressSettings, own_keys(plain))
    shocks = _chosen(request.shocks)
    tested = open_run(request.run, request.policy, plain)
    benchmarks = _benchmarks(tested.setup, request.beside)
    with Meter(len(shocks) + len(CRISES) * request.crises, "scenario") as meter:
        crises, left_out = (
            crisis_trials(tested, benchmarks, meter.advance) if request.crises else ([], [])
        )
        shocked, starts, impossible = shock_trials(
            tested, benchmarks, shocks, request.split, request.starts, meter.advance
        )
    trials = [*crises, *shocked]
    left_out = [*left_out, *impossible]
    if not trials:
        raise _no_trials(request, left_out)
    header = {**tested.header(), "split": request.split, "starts": starts, "left_out": left_out}
    numbers = {
        **header,
        "crises": {trial.name: trial.plain() for trial in crises},
        "shocks": {trial.name: trial.plain() for trial in shocked},
    }
    folder = tested.folder("stress")
    with new_folder(folder) as temporary:
        write_json(temporary / "stress.json", numbers)
        if request.report:
            write_report(temporary, build_page(header, trials))
    _print(header, crises, shocked)
    say_where(folder, f"python -m experiments.monte_carlo run={shown_path(tested.run)}")
    return min(trial.worst_return(trial.headline) for trial in trials)


def _chosen(names: tuple[str, ...] | None) -> tuple[Shock, ...]:
    known = {shock.name: shock for shock in SHOCKS}
    wrong = [name for name in names or () if name not in known]
    if wrong:
        raise InputError(f"there is no shock {wrong[0]!r}", f"Known: {', '.join(known)}")
    return SHOCKS if names is None else tuple(known[name] for name in names)


def _benchmarks(setup: MarketSetup, names: tuple[str, ...] | None) -> tuple[str, ...]:
    """The requested benchmarks; a wrong name of an option book is refused where they are built."""
    if setup.trades_options:
        return DEFAULT_BENCHMARKS if names is None else names
    if names:
        raise InputError(
            f"there is no benchmark {names[0]!r} of an allocation",
            "Leave out beside=: the index and cash are always there",
        )
    return ()


def _no_trials(request: StressSettings, left_out: Sequence[str]) -> InputError:
    if request.shocks != ():
        hint = "Choose other shocks, or give data= with a longer history"
    elif request.crises:
        hint = "Name shocks, or leave out shocks=[] for all of them: they need no crisis"
    else:
        hint = "Set crises=true, or leave out shocks=[] for all shocks"
    return InputError(" ".join(["there is nothing to go through.", *left_out]).rstrip("."), hint)


def _print(header: Mapping[str, Any], crises: Sequence[Trial], shocked: Sequence[Trial]) -> None:
    console = Console()
    console.print(f"{header['run']}: {header['policy']} policy (step {header['policy_step']})")
    for title, trials in (("crises", crises), ("shocks, from the worst start", shocked)):
        if trials:
            console.print(returns_table(title, trials))
            console.print(headline_table(title, trials))
    for line in header["left_out"]:
        console.print(f"left out: {line}")


def main() -> int:
    """Entry point of the command."""
    return launch(stress, "stress")


if __name__ == "__main__":
    sys.exit(main())
