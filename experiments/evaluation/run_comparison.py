"""Evaluated runs side by side: read back, checked to be comparable, and compared with the first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from agents.persistence.strict_json import read_json
from conf.errors import InputError
from conf.types import DateArray, FloatArray
from experiments.evaluation.open_run import MANAGED
from experiments.evaluation.results import FORMAT, METRICS, plain, table_file
from experiments.evaluation.split import AGENT
from experiments.runs.config import leaves
from experiments.runs.folder import MANIFEST, resolve_run, shown_path
from experiments.runs.record import load_manifest, load_run_config
from experiments.statistics.verdict import Verdict, compare
from risk.bootstrap import Interval, stratified_bootstrap_interval
from risk.metrics import sessions_per_year, simple_returns

FEWEST_SEEDS = 5  # for an interval that covers what it says
GREEKS = ("delta", "gamma", "vega", "theta")  # of an option book's days


@dataclass(frozen=True)
class EvaluatedBook:
    """One book of one run on one split, as its evaluation wrote it."""

    name: str  # the run's folder
    conditions: str  # what the books were subject to: data, surface, costs, risk, contracts
    seed: int
    config: Mapping[str, Any]  # the run's
    dates: DateArray  # (T + 1,) closes
    equity: FloatArray  # (T + 1,) dollars
    risk_free: FloatArray  # (T,)
    metrics: Mapping[str, float | None]
    mean_greeks: Mapping[str, float]  # over the days; empty where the book has none


@dataclass(frozen=True)
class RunComparison:
    """The same book of several runs over the same days."""

    split: str
    book: str
    runs: tuple[EvaluatedBook, ...]
    verdict: Verdict  # the first run against every other
    seeds: Interval | None  # of the Sharpe ratio, where the runs differ in nothing but their seed


def compare_evaluated(
    folders: Sequence[Path], evaluation: str, split: str, book: str | None, resamples: int
) -> RunComparison:
    """Compare runs in pairs on the same days; `book` None: the managed one where all have one.

    InputError for fewer than two runs, and for runs that were not evaluated alike.
    """
    if len(folders) < 2:
        raise InputError(f"run={folders[0]} names a single run", "Name two or more to compare")
    if book is None:
        managed = table_file("daily", split, MANAGED)
        book = MANAGED if all((run / evaluation / managed).is_file() for run in folders) else AGENT
    runs = tuple(load_evaluated(run, evaluation, split, book) for run in folders)
    first, *others = runs
    for run in others:
        _check_same_days(run, first)
    verdict = compare(
        simple_returns(first.equity),
        {run.name: simple_returns(run.equity) for run in others},
        first.risk_free,
        reps=resamples,
        sessions_per_year=sessions_per_year(first.dates),
    )
    return RunComparison(split, book, runs, verdict, over_seeds(runs, resamples))


def over_seeds(runs: Sequence[EvaluatedBook], resamples: int) -> Interval | None:
    """Interquartile mean of Sharpe over seeds, where the runs differ in nothing else."""
    if set(differing(runs)) != {"seed"} or len({run.seed for run in runs}) < len(runs):
        return None
    sharpes = np.array([run.metrics["sharpe"] for run in runs], dtype=np.float64)
    if not np.isfinite(sharpes).all():
        return None
    summary = stratified_bootstrap_interval(sharpes[:, None], reps=resamples)
    return summary if len(runs) >= FEWEST_SEEDS else Interval(summary.value, math.nan, math.nan)


def differing(runs: Sequence[EvaluatedBook]) -> dict[str, tuple[Any, ...]]:
    """Settings that are not the same in all runs, by dotted name, in the order of the runs.

    None stands for a setting that a run does not have. Seeds of a part that follow the run's, as
    that of the worlds does, are left out.
    """
    configs, seeds = [dict(leaves(run.config)) for run in runs], tuple(run.seed for run in runs)
    names = dict.fromkeys(name for config in configs for name in config)
    found = {name: tuple(config.get(name) for config in configs) for name in names}
    return {
        name: values
        for name, values in found.items()
        if any(value != values[0] for value in values)
        and not (name.endswith(".seed") and values == seeds)
    }


def comparison_numbers(comparison: RunComparison) -> dict[str, Any]:
    """The comparison as JSON can hold it."""
    runs = comparison.runs
    return {
        "split": comparison.split,
        "book": comparison.book,
        "runs": [
            {
                "run": run.name,
                "seed": run.seed,
                "metrics": dict(run.metrics),
                "mean_greeks": dict(run.mean_greeks),
            }
            for run in runs
        ],
        "differs_in": {name: list(values) for name, values in differing(runs).items()},
        "first_against_the_others": plain(comparison.verdict.differences),
        "interquartile_mean_sharpe": plain(comparison.seeds),
    }


def find_runs(text: str) -> list[Path]:
    """Run folders named in a comma-separated list; the folder of a multirun stands for its runs."""
    runs: list[Path] = []
    for name in (part.strip() for part in text.split(",")):
        folder = next(
            (path for path in (Path(name), Path("outputs") / name) if path.is_dir()), None
        )
        jobs: list[Path] = []
        if folder is not None and not (folder / MANIFEST).exists():
            jobs = sorted((m.parent for m in folder.glob(f"*/{MANIFEST}")), key=_by_job_number)
        runs += [job.resolve() for job in jobs] or [resolve_run(name)]
    repeated = [run for run in runs if runs.count(run) > 1]
    if repeated:
        raise InputError(f"run {shown_path(repeated[0])} was named twice", "Name each run once")
    return runs


def _by_job_number(path: Path) -> tuple[int, str]:
    return (int(path.name), "") if path.name.isdigit() else (1 << 30, path.name)


def load_evaluated(run: Path, evaluation: str, split: str, book: str) -> EvaluatedBook:
    """One book as a run's evaluation wrote it; InputError where the run was not evaluated so."""
    folder = run / evaluation
    metrics = _read_metrics(run, folder)
    try:
        on_split = metrics["splits"][split]
        measures, first = on_split["books"][book], np.datetime64(on_split["first"])
        initial, paths = float(on_split["initial_equity_usd"]), int(on_split["paths"])
    except (KeyError, TypeError):
        raise InputError(
            f"{shown_path(folder)} has no book {book!r} on the {split} split",
            "Evaluate that split, or choose another split= or book=",
        ) from None
    if paths > 1:
        raise InputError(
            f"{shown_path(folder)} holds {paths} simulated paths",
            "Runs are compared on one history; give data= when evaluating",
        )
    path = folder / table_file("daily", split, book)
    try:
        daily = pd.read_parquet(path)
    except Exception as error:
        raise InputError(f"{shown_path(path)} cannot be read ({error})", "Evaluate again") from None
    has_greeks = set(GREEKS) <= set(daily)
    return EvaluatedBook(
        name=shown_path(run).removeprefix("outputs/"),
        conditions=str(metrics["conditions"]),
        seed=int(load_manifest(run)["seed"]),
        config=load_run_config(run),
        dates=np.concatenate([[first], daily.index.to_numpy().astype("datetime64[D]")]),
        equity=np.concatenate([[initial], daily["equity"].to_numpy(np.float64)]),
        risk_free=daily["risk_free"].to_numpy(np.float64),
        metrics=measures,
        mean_greeks={name: float(daily[name].mean()) for name in GREEKS if has_greeks},
    )


def _read_metrics(run: Path, folder: Path) -> dict[str, Any]:
    command = f"python -m experiments.evaluate run={shown_path(run)}"
    if not (folder / METRICS).is_file():
        others = sorted(path.parent.name for path in run.glob(f"evaluation*/{METRICS}"))
        raise InputError(
            f"{shown_path(run)} has no {folder.name}/{METRICS}",
            f"Choose what is there: evaluation={others[0]}"
            if others
            else f"Evaluate it first: {command}",
        )
    metrics: dict[str, Any] = read_json(folder / METRICS)
    if metrics.get("format") != FORMAT:
        raise InputError(
            f"{shown_path(folder / METRICS)} has format {metrics.get('format', 1)}, this version "
            f"reads {FORMAT}",
            f"Evaluate again: {command}",
        )
    return metrics


def _check_same_days(run: EvaluatedBook, first: EvaluatedBook) -> None:
    if run.conditions != first.conditions:
        raise InputError(
            f"{run.name} and {first.name} were evaluated under different conditions: data, "
            "surface, costs, risk or contracts",
            "Evaluate them alike, and name the folder with evaluation=",
        )
    if not np.array_equal(run.dates, first.dates):
        raise InputError(
            f"{run.name} was evaluated on {run.dates[1]} to {run.dates[-1]}, {first.name} on "
            f"{first.dates[1]} to {first.dates[-1]}",
            "Compare runs on the same data and splits",
        )
