"""Reads back what an evaluation left in a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from agents.strict_json import read_json
from experiments.run_config import config_hash
from experiments.run_folder import MANIFEST, resolve_run, shown_path
from experiments.runinfo import load_manifest, load_run_config
from risk.errors import InputError

FloatArray = NDArray[np.float64]

METRICS = "metrics.json"


@dataclass(frozen=True)
class Evaluated:
    """One book of one run on one split."""

    name: str  # the run's folder
    conditions: str  # what the books were subject to: data, surface, costs, risk, contracts
    seed: int
    recipe: str  # what the run was configured to be, but for its seed
    first: np.datetime64  # the close that the first return starts from is before it
    dates: NDArray[np.datetime64]  # (T,)
    equity: FloatArray  # (T + 1,) dollars
    risk_free: FloatArray  # (T,)
    metrics: Mapping[str, float | None]


def daily_file(split: str, book: str) -> str:
    """Name of the table of one book's days."""
    return f"daily_{split}.parquet" if book == "policy" else f"daily_{split}_{book}.parquet"


def expand_runs(text: str) -> list[Path]:
    """Run folders named in a comma-separated list; the folder of a multirun stands for its runs."""
    runs: list[Path] = []
    for name in (part.strip() for part in text.split(",")):
        sweep = [path for path in (Path(name), Path("outputs") / name) if path.is_dir()]
        inside = (
            sorted((found.parent for found in sweep[0].glob(f"*/{MANIFEST}")), key=_by_job_number)
            if sweep and not (sweep[0] / MANIFEST).exists()
            else []
        )
        runs += [path.resolve() for path in inside] or [resolve_run(name)]
    twice = [path for path in runs if runs.count(path) > 1]
    if twice:
        raise InputError(f"run {shown_path(twice[0])} was named twice", "Name each run once")
    return runs


def _by_job_number(path: Path) -> tuple[int, str]:
    return (int(path.name), "") if path.name.isdigit() else (1 << 30, path.name)


def load_evaluated(run: Path, evaluation: str, split: str, book: str) -> Evaluated:
    """InputError where the run was not evaluated so."""
    folder = run / evaluation
    if not (folder / METRICS).is_file():
        raise InputError(
            f"{shown_path(run)} has no {evaluation}/{METRICS}",
            _how_to_evaluate(run),
        )
    written = read_json(folder / METRICS)
    try:
        metrics = written["splits"][split]["books"][book]
        equity_start = float(written["splits"][split]["initial_equity_usd"])
        paths = int(written["splits"][split]["paths"])
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
    path = folder / daily_file(split, book)
    try:
        daily = pd.read_parquet(path, columns=["equity", "risk_free"])
    except Exception as error:
        raise InputError(f"{shown_path(path)} cannot be read ({error})", "Evaluate again") from None
    config = {name: value for name, value in load_run_config(run).items() if name != "seed"}
    return Evaluated(
        name=shown_path(run).removeprefix("outputs/"),
        conditions=str(written["conditions"]),
        seed=int(load_manifest(run)["seed"]),
        recipe=config_hash(config),
        first=np.datetime64(written["splits"][split]["first"]),
        dates=daily.index.to_numpy().astype("datetime64[D]"),
        equity=np.concatenate([[equity_start], daily["equity"].to_numpy(np.float64)]),
        risk_free=daily["risk_free"].to_numpy(np.float64),
        metrics=metrics,
    )


def has_book(run: Path, evaluation: str, split: str, book: str) -> bool:
    """Was this book of the run evaluated?"""
    return (run / evaluation / daily_file(split, book)).is_file()


def _how_to_evaluate(run: Path) -> str:
    others = sorted(path.parent.name for path in run.glob(f"evaluation*/{METRICS}"))
    if others:
        return f"Choose what is there: evaluation={others[0]}"
    return f"Evaluate it first: python -m experiments.evaluate run={shown_path(run)}"
