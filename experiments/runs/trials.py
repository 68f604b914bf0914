"""Writes a finished run into the trial ledger, so that luck can be counted."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from conf.errors import InputError
from conf.files import write_atomically
from experiments.backtests.backtest import Backtest
from experiments.runs.folder import is_walk
from experiments.runs.market_setup import MarketSetup
from experiments.runs.record import load_manifest, load_run_config
from risk.metrics import SESSIONS_PER_YEAR, sharpe_ratio, simple_returns

LEDGER = "trials.parquet"
ROOT = "outputs"
_LOCK = "trials.lock"
_SCHEMA = pa.schema(
    [
        ("run", pa.string()),
        ("finished", pa.string()),
        ("experiment", pa.string()),
        ("config_hash", pa.string()),
        ("seed", pa.int64()),
        ("split", pa.string()),
        ("data_fingerprint", pa.string()),
        ("policy_step", pa.int64()),
        ("candidates", pa.int64()),
        ("sessions", pa.int64()),
        ("sharpe", pa.float64()),
        ("returns_file", pa.string()),
    ]
)


_KEY = ("run", "split", "data_fingerprint")
_FEWEST_TO_VARY = 10


@dataclass(frozen=True)
class Trial:
    """One row: what a run's chosen policy earned on one split of the data."""

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
                "Count the policy itself, and one session or more",
            )


class TrialCount(NamedTuple):
    """How many trials a result is the best of, and how far their results lay apart."""

    num_trials: int
    variance_annual: float | None  # of annual Sharpe ratios; None with fewer than ten


def ledger_of(run: Path) -> Path:
    """The ledger that a run belongs to: in the nearest `outputs` above it, else in its parent."""
    folder = run.resolve()
    root = next((above for above in folder.parents if above.name == ROOT), folder.parent)
    return root / LEDGER


def record_trial(ledger: Path, trial: Trial) -> None:
    """Add a row, or replace that of the same run, split and data; safe among many processes.

    Rows are kept sorted by these, so the content does not depend on the order of writing.
    Raises InputError if the ledger there is damaged; it is then left as it is.
    """
    with _locked(ledger.parent):
        rows = {tuple(row[key] for key in _KEY): row for row in _load(ledger).to_pylist()}
        row = asdict(trial)
        rows[tuple(row[key] for key in _KEY)] = row
        table = pa.Table.from_pylist([rows[key] for key in sorted(rows)], schema=_SCHEMA)
        buffer = BytesIO()
        pq.write_table(table, buffer)
        write_atomically(ledger, buffer.getvalue())


def read_trials(ledger: Path) -> pd.DataFrame:
    """All rows, with the columns of `Trial`; no rows if there is no ledger yet.

    Raises InputError for a file that is damaged or is no ledger.
    """
    frame: pd.DataFrame = _load(ledger).to_pandas()
    return frame


def trials_on(ledger: Path, data_fingerprint: str, split: str) -> TrialCount:
    """Trials made on one set of data, and the variance of their annual Sharpe ratios on a split.

    A run counts once, whichever split was recorded. On `validation` each run counts with all its
    candidates, since its policy was chosen there as the best of them. The variance (ddof=1) is
    over the rows of that split with a finite Sharpe ratio: from ten of them on, and never less
    than that of a Sharpe ratio without skill, or a second run like the first would lower the bar.
    """
    rows = read_trials(ledger)
    rows = rows[rows["data_fingerprint"] == data_fingerprint]
    by_run = rows.groupby("run")["candidates"].max()
    count = int(by_run.sum()) if split == "validation" else len(by_run)
    there = rows[(rows["split"] == split) & np.isfinite(rows["sharpe"])]
    if len(there) < _FEWEST_TO_VARY:
        return TrialCount(count, None)
    by_luck = SESSIONS_PER_YEAR / float(there["sessions"].mean())
    found = float(there["sharpe"].to_numpy(np.float64).var(ddof=1))
    return TrialCount(count, max(found, by_luck))


def _load(ledger: Path) -> pa.Table:
    try:
        content = ledger.read_bytes()
    except FileNotFoundError:
        return _SCHEMA.empty_table()
    except OSError as error:
        raise _damaged(ledger, error.strerror or str(error)) from None
    try:
        table = pq.ParquetFile(BytesIO(content)).read()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(ledger, f"not readable, {type(error).__name__}") from None
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


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the ledger's lock, waiting for whoever holds it; it ends with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def record_run(
    run: Path, setup: MarketSetup, split: str, backtest: Backtest, step: int, candidates: int | None
) -> None:
    """Keep the days of the run's policy on a split and put its row into the ledger.

    `candidates`: how many policies this one was chosen among; None takes what training recorded.
    Nothing is kept of a window of a walk-forward, which is one trial as a whole.
    """
    if is_walk(run.resolve().parent):
        return
    ledger = ledger_of(run)
    name = run.resolve().relative_to(ledger.parent).as_posix()
    if candidates is None:
        candidates = _recorded_candidates(ledger, name)
    file = run / f"trial_{split}.parquet"
    write_atomically(file, _returns_file(backtest))
    manifest = load_manifest(run)
    returns = simple_returns(backtest.equity)
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
            candidates=candidates,
            sessions=returns.shape[1],
            sharpe=float(sharpe_ratio(returns.ravel(), risk_free.ravel())),
            returns_file=f"{name}/{file.name}",
        ),
    )


def count_trials(run: Path, setup: MarketSetup, split: str) -> TrialCount:
    """The trials that the run's result on a split has to be measured against.

    In another market than the run's own, those made there or on the run's own data: whichever are
    more, for the policy was chosen among them.
    """
    ledger, data = ledger_of(run), load_manifest(run)["data"]
    here = trials_on(ledger, setup.loaded.history.fingerprint, split)
    own = trials_on(ledger, str(data.get("fingerprint")), split)
    return max(here, own, key=lambda trials: trials.num_trials)


def _recorded_candidates(ledger: Path, name: str) -> int:
    rows = read_trials(ledger)
    known = rows.loc[rows["run"] == name, "candidates"]
    return int(known.max()) if len(known) else 1


def _returns_file(backtest: Backtest) -> bytes:
    """Days by path; a single path's file has one row a day."""
    returns = simple_returns(backtest.equity)
    paths, days = returns.shape
    table = pd.DataFrame(
        {
            "date": np.tile(backtest.dates[1:], paths),
            "return": returns.ravel(),
            "risk_free": np.tile(backtest.risk_free, paths),
        }
    )
    if paths > 1:
        table.insert(0, "path", np.repeat(np.arange(paths), days))
    buffer = BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()
