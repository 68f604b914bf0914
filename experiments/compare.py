"""Runs side by side: `python -m experiments.compare run=<folder>,<folder>` or run=<multirun>.

Every run must have been evaluated. Each is compared with the first on the same days; runs that
differ only in their seed are also summed up together.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from pydantic import Field
from rich.console import Console
from rich.table import Table

from conf.errors import InputError
from conf.files import new_folder, write_json
from conf.settings import build_settings, settings
from experiments.evaluation.results import (
    Evaluated,
    expand_runs,
    has_book,
    load_evaluated,
    plain,
)
from experiments.reporting.figures import equity_chart
from experiments.reporting.matplotlib_backend import chart_png
from experiments.reporting.terminal import measure_rows
from experiments.runs.cli import launch
from experiments.runs.config import plain_config
from experiments.runs.folder import shown_path
from experiments.statistics.comparison import Verdict, compare
from risk.bootstrap import Interval, stratified_bootstrap_interval
from risk.metrics import simple_returns

FEWEST_SEEDS = 5  # for an interval that covers what it says


@settings
class CompareSettings:
    """What to put side by side."""

    run: str = Field(min_length=1)
    split: Literal["train", "validation", "test", "all"] = "test"
    book: Literal["policy", "managed"] | None = None
    evaluation: Annotated[str, Field(pattern=r"^evaluation[A-Za-z0-9._-]*$")] = "evaluation"
    resamples: Annotated[int, Field(ge=100)] = 2000


def compare_runs(config: DictConfig) -> None:
    """Print and write the runs' measures, their differences and the seeds' summary."""
    request: CompareSettings = build_settings(CompareSettings, plain_config(config), "compare")
    folders = expand_runs(request.run)
    if len(folders) < 2:
        raise InputError(f"run={request.run} names a single run", "Name two or more to compare")
    book = request.book or _common_book(folders, request)
    runs = [load_evaluated(path, request.evaluation, request.split, book) for path in folders]
    _check_same_days(runs)
    verdict = against_the_first(runs, request.resamples)
    seeds = over_seeds(runs, request.resamples)
    folder = Path(HydraConfig.get().runtime.output_dir)
    write(folder, request.split, book, runs, verdict, seeds)
    console = Console()
    console.print(side_by_side(f"{request.split} split, {book} book", runs))
    console.print(_differences_table(verdict, runs[0].name))
    if seeds is not None:
        console.print(_seeds_sentence(seeds, runs))
    console.print(f"written to {shown_path(folder)}")


def against_the_first(runs: Sequence[Evaluated], resamples: int) -> Verdict:
    """The first run against every other, in pairs on the same days."""
    returns = {run.name: simple_returns(run.equity) for run in runs}
    first = runs[0]
    return compare(returns.pop(first.name), returns, first.risk_free, reps=resamples)


def over_seeds(runs: Sequence[Evaluated], resamples: int) -> Interval | None:
    """Interquartile mean of Sharpe over seeds, where the runs differ in nothing else."""
    if len({run.recipe for run in runs}) > 1:
        return None
    if len({run.seed for run in runs}) < len(runs):
        return None
    sharpes = np.array([run.metrics["sharpe"] for run in runs], dtype=np.float64)
    if not np.isfinite(sharpes).all():
        return None
    summary = stratified_bootstrap_interval(sharpes[:, None], reps=resamples)
    return summary if len(runs) >= FEWEST_SEEDS else Interval(summary.value, math.nan, math.nan)


def side_by_side(title: str, runs: Sequence[Evaluated]) -> Table:
    """Measures down, runs across."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for run in runs:
        table.add_column(f"{run.name} (seed {run.seed})", justify="right")
    for label, cells in measure_rows([run.metrics for run in runs]):
        table.add_row(label, *cells)
    return table


def write(
    folder: Path,
    split: str,
    book: str,
    runs: Sequence[Evaluated],
    verdict: Verdict,
    seeds: Interval | None,
) -> None:
    """`comparison.json` and a picture of the equity curves."""
    first = runs[0]
    chart = equity_chart(
        np.concatenate([[first.first], first.dates]), {run.name: run.equity for run in runs}
    )
    content: dict[str, Any] = {
        "split": split,
        "book": book,
        "runs": [{"run": r.name, "seed": r.seed, "metrics": dict(r.metrics)} for r in runs],
        "first_against_the_others": [asdict(d) for d in verdict.differences],
        "interquartile_mean_sharpe": None
        if seeds is None
        else {name: plain(value) for name, value in seeds._asdict().items()},
    }
    with new_folder(folder) as temporary:
        write_json(temporary / "comparison.json", content)
        (temporary / "equity.png").write_bytes(chart_png(chart))


def _common_book(folders: Sequence[Path], request: CompareSettings) -> str:
    managed = all(has_book(path, request.evaluation, request.split, "managed") for path in folders)
    return "managed" if managed else "policy"


def _check_same_days(runs: Sequence[Evaluated]) -> None:
    first = runs[0]
    for run in runs[1:]:
        if run.conditions != first.conditions:
            raise InputError(
                f"{run.name} and {first.name} were evaluated under different conditions: data, "
                "surface, costs, risk or contracts",
                "Evaluate them alike, and name the folder with evaluation=",
            )
        if not np.array_equal(run.dates, first.dates):
            raise InputError(
                f"{run.name} was evaluated on {run.dates[0]} to {run.dates[-1]}, {first.name} on "
                f"{first.dates[0]} to {first.dates[-1]}",
                "Compare runs on the same data and splits",
            )


def _differences_table(verdict: Verdict, first: str) -> Table:
    table = Table(title=f"{first} against the others, Sharpe ratio a year", title_justify="left")
    for name in ("", "difference", "95 % interval", ""):
        table.add_column(name, justify="right" if name else "left")
    for d in verdict.differences:
        table.add_row(
            d.benchmark, f"{d.difference:+.2f}", f"{d.low:+.2f} to {d.high:+.2f}", d.outcome
        )
    return table


def _seeds_sentence(seeds: Interval, runs: Sequence[Evaluated]) -> str:
    said = f"{len(runs)} seeds of one configuration: interquartile mean of Sharpe {seeds.value:.2f}"
    if math.isnan(seeds.low):
        return f"{said}; for an interval {FEWEST_SEEDS} are needed"
    return f"{said}, 95 % interval {seeds.low:.2f} to {seeds.high:.2f}"


def main() -> int:
    """Entry point of the command."""
    return launch(compare_runs, "compare")


if __name__ == "__main__":
    sys.exit(main())
