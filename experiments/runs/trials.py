"""The trial ledger: a row for every run that was started, so results can be judged by their number.

`record_start` writes a row when a run is launched, `record_run` when it was trained or evaluated;
`count_trials` says how many trials a result is the best of, which the deflated Sharpe ratio needs:
those that were killed, pruned or failed are among them. The ledger is a chained file beside the
runs (`trial_ledger.py`); many processes may write it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from conf.errors import InputError
from conf.files import write_atomically
from conf.types import DateArray, FloatArray
from experiments.backtests.backtest import Backtest
from experiments.environments.setup import MarketSetup
from experiments.runs.config import config_hash
from experiments.runs.folder import MULTIRUN, is_walk
from experiments.runs.record import load_manifest, load_run_config
from experiments.runs.trial_ledger import (
    RESULT,
    STARTED,
    UNPROVEN,
    Row,
    add_row,
    content_of,
    ledger_of,
    read_rows,
)
from experiments.statistics.sharpe_inference import probability_of_backtest_overfitting
from risk.metrics import SESSIONS_PER_YEAR, sharpe_ratio, simple_returns

_FEWEST_TO_VARY = 10


@dataclass(frozen=True)
class Trial:
    """One row: the result of a run's chosen policy on one split of the data."""

    run: str  # its folder, relative to the ledger's, as "production/2026-01-05/10-30-00"
    finished: str  # ISO 8601 time
    experiment: str
    config_hash: str
    seed: int
    split: str  # train, validation, test or all
    data_fingerprint: str
    policy_step: int  # environment steps trained when the policy was taken
    candidates: int  # policies that this one was chosen among by its validation score
    sessions: int
    sharpe: float  # annual; NaN where undefined
    returns_file: str  # Parquet with date, return, risk_free; path relative to the ledger's folder

    def __post_init__(self) -> None:
        for name in ("run", "returns_file"):
            path = PurePosixPath(getattr(self, name))
            if not path.parts or path.is_absolute() or ".." in path.parts:
                raise InputError(
                    f"{name} of a trial is {getattr(self, name)!r}",
                    "Give a path relative to the ledger's folder",
                )
        if not self.split or not self.data_fingerprint:
            raise InputError(f"trial of {self.run} lacks its split or fingerprint", "Give both")
        if self.candidates < 1 or self.sessions < 1:
            raise InputError(
                f"trial of {self.run} has {self.candidates} candidates, {self.sessions} sessions",
                "Give one or more of each; the policy itself is a candidate",
            )


_COLUMNS = {field.name: str(field.type) for field in fields(Trial)}
_key = itemgetter("run", "split", "data_fingerprint")


class TrialCount(NamedTuple):
    """How many trials a result is the best of, and the variance of their results."""

    num_trials: int
    variance_annual: float | None  # of annual Sharpe ratios; None with fewer than ten
    overfitting_probability: float = math.nan  # among the jobs of a multirun, NaN without one


def record_start(run: Path, config: Mapping[str, Any], data_fingerprint: str) -> None:
    """Put a run that is about to begin, or to go on, into the ledger, unless it is there already.

    config: its settings, plain. Windows of a walk-forward leave no row: it is one trial as a whole.
    """
    if is_walk(run.resolve().parent):
        return
    ledger = ledger_of(run)
    row = {
        "run": run.resolve().relative_to(ledger.parent).as_posix(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "experiment": str(config["experiment"]),
        "config_hash": config_hash(config),
        "seed": int(config["seed"]),
        "data_fingerprint": data_fingerprint,
    }
    # By the hash in its folder, not by its name: another run may have had the name before.
    add_row(ledger, run, STARTED, row, lambda rows, seal: any(row["hash"] in seal for row in rows))


def record_run(
    run: Path, setup: MarketSetup, split: str, backtest: Backtest, step: int, candidates: int | None
) -> None:
    """Save the daily returns of the run's policy on a split and put its row into the ledger.

    `candidates`: how many policies this one was chosen among; None takes what training recorded.
    Windows of a walk-forward leave no row: the walk-forward as a whole is one trial.
    """
    if is_walk(run.resolve().parent):
        return
    ledger = ledger_of(run)
    name = run.resolve().relative_to(ledger.parent).as_posix()
    if candidates is None:
        own = [rows for rows in _by_start(read_rows(ledger)) if rows[0]["run"] == name]
        candidates = _candidates(own[-1]) if own else 1
    file = run / f"trial_{split}.parquet"
    manifest = load_manifest(run)
    returns = simple_returns(backtest.equity)
    write_atomically(file, returns_file(backtest.dates[1:], returns, backtest.risk_free))
    risk_free = np.broadcast_to(backtest.risk_free, returns.shape)
    record_trial(
        run,
        Trial(
            run=name,
            finished=str(manifest["updated"]),
            experiment=str(load_run_config(run)["experiment"]),
            config_hash=str(manifest["config_hash"]),
            seed=int(manifest["seed"]),
            split=split,
            data_fingerprint=setup.loaded.history.fingerprint,
            policy_step=step,
            candidates=candidates,
            sessions=returns.shape[1],
            sharpe=float(
                sharpe_ratio(returns.ravel(), risk_free.ravel(), backtest.sessions_per_year)
            ),
            returns_file=f"{name}/{file.name}",
        ),
    )


def count_trials(run: Path, setup: MarketSetup, split: str) -> TrialCount:
    """The trials that the run's result on a split is one of.

    On other data than the run was trained on, the trials on those data or on the run's own,
    whichever are more: the policy was chosen among them.
    """
    ledger = ledger_of(run)
    fingerprints = (setup.loaded.history.fingerprint, load_manifest(run)["data"].get("fingerprint"))
    annual = setup.history.sessions_per_year
    counts = [trials_on(ledger, str(fingerprint), split, annual) for fingerprint in fingerprints]
    return max(counts, key=lambda trials: trials.num_trials)


def multirun_overfitting(run: Path, setup: MarketSetup, split: str) -> float:
    """Probability of backtest overfitting among the jobs of the run's multirun, on one split.

    How often the job that is best on half of the days is below the median of all jobs on the other
    half. NaN where the run is no job of a multirun, or fewer than two jobs have a record.
    """
    if not (run.parent / MULTIRUN).is_file():
        return math.nan
    ledger, jobs = ledger_of(run), run.resolve().parent
    rows = read_trials(ledger)
    rows = rows[(rows["split"] == split) & (rows["data_fingerprint"] == setup.history.fingerprint)]
    excess = []
    for name, file in zip(rows["run"], rows["returns_file"], strict=True):
        if (ledger.parent / name).parent == jobs and (ledger.parent / file).is_file():
            days = pd.read_parquet(ledger.parent / file)
            excess.append((days["return"] - days["risk_free"]).to_numpy(np.float64))
    if len(excess) < 2 or len({len(days) for days in excess}) > 1:
        return math.nan
    return probability_of_backtest_overfitting(np.stack(excess, axis=1))


def record_trial(run: Path, trial: Trial) -> None:
    """Add a result of the run in this folder, unless it is the newest one of that split and data.

    Raises InputError if the ledger is damaged, and leaves it as it is.
    """
    row = {**asdict(trial), "sharpe": trial.sharpe if math.isfinite(trial.sharpe) else None}

    def is_known(rows: Sequence[Row], _: Sequence[str]) -> bool:
        results = (content_of(other) for other in reversed(rows) if other["kind"] != STARTED)
        return next((other for other in results if _key(other) == _key(row)), None) == row

    add_row(ledger_of(run), run, RESULT, row, is_known)


def read_trials(ledger: Path) -> pd.DataFrame:
    """The newest result of each run, split and data, by these, with the columns of `Trial`.

    None if there is no ledger yet. Raises InputError for a file that is damaged or is no ledger.
    """
    rows = [content_of(row) for row in read_rows(ledger) if row["kind"] in (RESULT, UNPROVEN)]
    newest = {_key(row): row for row in rows}
    frame = pd.DataFrame([newest[key] for key in sorted(newest)], columns=list(_COLUMNS))
    return frame.astype(_COLUMNS)


def trials_on(
    ledger: Path, data_fingerprint: str, split: str, annual: float = SESSIONS_PER_YEAR
) -> TrialCount:
    """Trials made on one set of data, and the variance of their annual Sharpe ratios on a split.

    Every start counts once, whatever became of it, also where one run took the name of another, and
    so does a run of which there are only results. On `validation` each counts with all its
    candidates, since its policy was chosen there as the best of them. The variance (ddof=1) is over
    the newest finite Sharpe ratios on that split, if there are ten, and never less than that of a
    Sharpe ratio without skill: repeating a run must not lower the bar.
    """
    tries = [
        [row for row in rows if row["data_fingerprint"] == data_fingerprint]
        for rows in _by_start(read_rows(ledger))
    ]
    tries = [rows for rows in tries if rows]
    count = len(tries)
    if split == "validation":
        count += sum(_candidates(rows) - 1 for rows in tries)
    newest = [next((r for r in reversed(rows) if r.get("split") == split), None) for rows in tries]
    on_split = [row for row in newest if row is not None and row["sharpe"] is not None]
    if len(on_split) < _FEWEST_TO_VARY:
        return TrialCount(count, None)
    without_skill = annual / float(np.mean([row["sessions"] for row in on_split]))
    variance = float(np.var([row["sharpe"] for row in on_split], ddof=1))
    return TrialCount(count, max(variance, without_skill))


def _by_start(ledger_rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each start: its own, and results up to the next start of a run of that name."""
    newest: dict[str, list[Row]] = {}
    tries = []
    for row in ledger_rows:
        if row["kind"] == STARTED or row["run"] not in newest:
            newest[row["run"]] = []
            tries.append(newest[row["run"]])
        newest[row["run"]].append(row)
    return tries


def _candidates(rows: Sequence[Row]) -> int:
    """The policies that those of one start were chosen among."""
    return max((int(row.get("candidates", 1)) for row in rows), default=1)


def returns_file(dates: DateArray, returns: FloatArray, risk_free: FloatArray) -> bytes:
    """A Parquet file of daily returns (P, T): date, return, risk_free; `path` first if P > 1."""
    paths, days = returns.shape
    table = pd.DataFrame(
        {
            "date": np.tile(dates, paths),
            "return": returns.ravel(),
            "risk_free": np.tile(risk_free, paths),
        }
    )
    if paths > 1:
        table.insert(0, "path", np.repeat(np.arange(paths), days))
    content: bytes = table.to_parquet(index=False)
    return content
