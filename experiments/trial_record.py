"""Writes a finished run into the trial ledger, so that luck can be counted."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.backtest import Backtest
from experiments.run_folder import is_walk
from experiments.runinfo import load_manifest, load_run_config
from experiments.session import Session
from experiments.trials import (
    Trial,
    TrialCount,
    ledger_of,
    read_trials,
    record_trial,
    trials_on,
)
from risk.files import write_atomically
from risk.metrics import sharpe_ratio, simple_returns


def record_run(
    run: Path, session: Session, split: str, done: Backtest, step: int, candidates: int | None
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
    write_atomically(file, _returns_file(done))
    manifest = load_manifest(run)
    returns = simple_returns(done.equity)
    risk_free = np.broadcast_to(done.risk_free, returns.shape)
    record_trial(
        ledger,
        Trial(
            run=name,
            finished=str(manifest["updated"]),
            experiment=str(load_run_config(run)["experiment"]),
            config_hash=str(manifest["config_hash"]),
            seed=int(manifest["seed"]),
            split=split,
            data_fingerprint=session.loaded.history.fingerprint,
            policy_step=step,
            candidates=candidates,
            sessions=returns.shape[1],
            sharpe=float(sharpe_ratio(returns.ravel(), risk_free.ravel())),
            returns_file=f"{name}/{file.name}",
        ),
    )


def count_trials(run: Path, session: Session, split: str) -> TrialCount:
    """The trials that the run's result on a split has to be measured against.

    In another market than the run's own, those made there or on the run's own data: whichever are
    more, for the policy was chosen among them.
    """
    ledger, data = ledger_of(run), load_manifest(run)["data"]
    here = trials_on(ledger, session.loaded.history.fingerprint, split)
    own = trials_on(ledger, str(data.get("fingerprint")), split)
    return max(here, own, key=lambda trials: trials.num_trials)


def _recorded_candidates(ledger: Path, name: str) -> int:
    rows = read_trials(ledger)
    known = rows.loc[rows["run"] == name, "candidates"]
    return int(known.max()) if len(known) else 1


def _returns_file(done: Backtest) -> bytes:
    """Days by path; a single path's file has one row a day."""
    returns = simple_returns(done.equity)
    paths, days = returns.shape
    table = pd.DataFrame(
        {
            "date": np.tile(done.dates[1:], paths),
            "return": returns.ravel(),
            "risk_free": np.tile(done.risk_free, paths),
        }
    )
    if paths > 1:
        table.insert(0, "path", np.repeat(np.arange(paths), days))
    buffer = BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()
