"""The trial ledger: one row for every run's result, so that results can be judged by their number.

`record_run` writes a row when a run was trained or evaluated; `count_trials` says how many trials a
result is the best of, which the deflated Sharpe ratio needs. The ledger is a Parquet file beside
the runs; many processes may write it.
"""

from __future__ import annotations

import fcntl
import math
from dataclasses import asdict, dataclass, fields
from io import BytesIO
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from conf.errors import InputError
from conf.files import write_atomically
from conf.types import DateArray, FloatArray
from experiments.backtests.backtest import Backtest
from experiments.environments.setup import MarketSetup
from experiments.runs.folder import MULTIRUN, is_walk, lock_file
from experiments.runs.record import load_manifest, load_run_config
from experiments.statistics.sharpe_inference import probability_of_backtest_overfitting
from risk.metrics import SESSIONS_PER_YEAR, sharpe_ratio, simple_returns

LEDGER = "trials.parquet"
ROOT = "outputs"
_LOCK = "trials.lock"
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


_TYPES = {"str": pa.string(), "int": pa.int64(), "float": pa.float64()}
_SCHEMA = pa.schema([(field.name, _TYPES[str(field.type)]) for field in fields(Trial)])
_key = itemgetter("run", "split", "data_fingerprint")


class TrialCount(NamedTuple):
    """How many trials a result is the best of, and the variance of their results."""

    num_trials: int
    variance_annual: float | None  # of annual Sharpe ratios; None with fewer than ten
    overfitting_probability: float = math.nan  # among the jobs of a multirun, NaN without one


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
        rows = read_trials(ledger)
        candidates = max(rows.loc[rows["run"] == name, "candidates"], default=1)
    file = run / f"trial_{split}.parquet"
    manifest = load_manifest(run)
    returns = simple_returns(backtest.equity)
    write_atomically(file, returns_file(backtest.dates[1:], returns, backtest.risk_free))
    risk_free = np.broadcast_to(backtest.risk_free, returns.shape)
    record_trial(
        ledger,
        Trial(
            run=name,
            finished=str(manifest["updated"]),
            experiment=str(load_run_config(run)["experiment"]),
            config_hash=str(manifest["config_hash"]),
            seed=int(manifest["seed"]),
            split=split,
            data_fingerprint=setup.loaded.history.fingerprint,
            policy_step=step,
            candidates=int(candidates),
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


def ledger_of(run: Path) -> Path:
    """The ledger that a run belongs to: in the nearest `outputs` above it, else in its parent."""
    folder = run.resolve()
    root = next((above for above in folder.parents if above.name == ROOT), folder.parent)
    return root / LEDGER


def record_trial(ledger: Path, trial: Trial) -> None:
    """Add a row, or replace that of the same run, split and data; safe among many processes.

    Rows are sorted by these, so the content does not depend on the order of writing. Raises
    InputError if the ledger is damaged, and leaves it as it is.
    """
    with lock_file(ledger.parent / _LOCK) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # waits for other writers
        rows = {_key(row): row for row in [*_load(ledger).to_pylist(), asdict(trial)]}
        table = pa.Table.from_pylist([rows[key] for key in sorted(rows)], schema=_SCHEMA)
        buffer = BytesIO()
        pq.write_table(table, buffer)
        write_atomically(ledger, buffer.getvalue())


def read_trials(ledger: Path) -> pd.DataFrame:
    """All rows, with the columns of `Trial`; none if there is no ledger yet.

    Raises InputError for a file that is damaged or is no ledger.
    """
    frame: pd.DataFrame = _load(ledger).to_pandas()
    return frame


def trials_on(
    ledger: Path, data_fingerprint: str, split: str, annual: float = SESSIONS_PER_YEAR
) -> TrialCount:
    """Trials made on one set of data, and the variance of their annual Sharpe ratios on a split.

    A run counts once, whichever split was recorded. On `validation` each run counts with all its
    candidates, since its policy was chosen there as the best of them. The variance (ddof=1) is
    over the rows of that split with a finite Sharpe ratio, if there are ten, and never less than
    that of a Sharpe ratio without skill: repeating a run must not lower the bar.
    """
    rows = read_trials(ledger)
    rows = rows[rows["data_fingerprint"] == data_fingerprint]
    by_run = rows.groupby("run")["candidates"].max()
    count = int(by_run.sum()) if split == "validation" else len(by_run)
    on_split = rows[(rows["split"] == split) & np.isfinite(rows["sharpe"])]
    if len(on_split) < _FEWEST_TO_VARY:
        return TrialCount(count, None)
    without_skill = annual / float(on_split["sessions"].mean())
    variance = float(on_split["sharpe"].to_numpy(np.float64).var(ddof=1))
    return TrialCount(count, max(variance, without_skill))


def _load(ledger: Path) -> pa.Table:
    try:
        table = pq.ParquetFile(BytesIO(ledger.read_bytes())).read()
        table.validate(full=True)
    except FileNotFoundError:
        return _SCHEMA.empty_table()
    except (pa.ArrowException, OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or f"not readable, {type(error).__name__}"
        raise _damaged(ledger, why) from None
    if not table.schema.equals(_SCHEMA):
        raise _damaged(ledger, "its columns are not those of a ledger")
    if any(column.null_count for column in table.columns):
        raise _damaged(ledger, "it has empty cells")
    return table.replace_schema_metadata(None)


def _damaged(ledger: Path, why: str) -> InputError:
    return InputError(
        f"the trial ledger {ledger} is damaged: {why}",
        "Move it away and evaluate the runs again: each evaluation writes its rows anew",
    )


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
