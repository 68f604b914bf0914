"""What a walk-forward leaves behind: `metrics.json`, the stitched days, and a row in the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd

from conf.files import write_atomically
from experiments.evaluation.results import means, plain, verdict_numbers
from experiments.evaluation.split import AGENT, INDEX, BenchmarkComparison
from experiments.runs.config import config_hash
from experiments.runs.folder import shown_path
from experiments.runs.record import load_manifest
from experiments.runs.settings import run_settings
from experiments.runs.trials import Trial, TrialCount, ledger_of, record_trial, trials_on
from experiments.windows.folder import WalkForwardRun
from experiments.windows.stitching import StitchedComparison, WindowResult, stitched_equity
from risk.metrics import sharpe_ratio, simple_returns

SPLIT = "walk_forward"  # in the trial ledger
TRIAL_FILE = "trial_walk_forward.parquet"


def record_walk(walk: WalkForwardRun, results: Sequence[WindowResult]) -> TrialCount:
    """Put the stitched record, which is one trial, into the ledger; all trials on its data.

    Its own row first, so that a second stitching finds the ledger as the first one did.
    """
    ledger = ledger_of(walk.folder)
    name = walk.folder.resolve().relative_to(ledger.parent).as_posix()
    comparisons = [result.result.raw for result in results]
    returns = simple_returns(stitched_equity(comparisons)[AGENT])
    risk_free = np.concatenate([comparison.agent.risk_free for comparison in comparisons])
    dates = np.concatenate([comparison.agent.dates[1:] for comparison in comparisons])
    manifests = [load_manifest(walk.run_folder(window)) for window in walk.windows]
    top = run_settings(walk.config).top
    write_atomically(walk.folder / TRIAL_FILE, _returns_file(dates, returns, risk_free))
    record_trial(
        ledger,
        Trial(
            run=name,
            finished=max(str(manifest["updated"]) for manifest in manifests),
            experiment=top.experiment,
            config_hash=config_hash(walk.config),
            seed=top.seed,
            split=SPLIT,
            data_fingerprint=walk.setup.loaded.history.fingerprint,
            policy_step=sum(int(manifest["steps"]) for manifest in manifests),
            candidates=1,  # no window's choice was made on the years of this record
            sessions=returns.shape[1],
            sharpe=float(
                sharpe_ratio(returns.ravel(), np.broadcast_to(risk_free, returns.shape).ravel())
            ),
            returns_file=f"{name}/{TRIAL_FILE}",
        ),
    )
    return trials_on(ledger, walk.setup.loaded.history.fingerprint, SPLIT)


def walk_numbers(
    walk: WalkForwardRun,
    results: Sequence[WindowResult],
    raw: StitchedComparison,
    managed: StitchedComparison | None,
) -> dict[str, Any]:
    """Everything measured, as JSON can hold it: undefined is null."""
    data = walk.setup.describe_data()
    return {
        "walk_forward": shown_path(walk.folder),
        "mode": walk.request.mode,
        "retrain": walk.request.retrain,
        "data": data["source"],
        "data_fingerprint": data["fingerprint"],
        "resamples": walk.request.resamples,
        "notices": list(walk.notices),
        "first": str(raw.dates[0]),
        "last": str(raw.dates[-1]),
        "paths": len(raw.equity[AGENT]),
        "windows": [window_numbers(result) for result in results],
        "comparison": _contest_numbers(raw),
        "managed_contest": None if managed is None else _contest_numbers(managed),
    }


def window_numbers(result: WindowResult) -> dict[str, Any]:
    """One window: its spans, what its policy was chosen by, and its test."""
    found = result.result
    return {
        "window": result.window.name,
        "years": result.window.years,
        "spans": {name: list(span) for name, span in result.spans.items()},
        "policy": "last" if result.validation_sharpe is None else "best",
        "policy_step": result.policy_step,
        "validation_sharpe": result.validation_sharpe,
        "test": _test_numbers(found.raw),
        "managed_test": None if found.managed is None else _test_numbers(found.managed),
    }


def daily_table(
    results: Sequence[WindowResult], raw: StitchedComparison, managed: StitchedComparison | None
) -> pd.DataFrame:
    """The stitched days of the first path: equity of everybody, and which window it was."""
    columns: dict[str, Any] = {
        "window": np.repeat(
            [result.window.first_test for result in results],
            [len(result.result.raw.agent.risk_free) for result in results],
        ),
        "risk_free": raw.risk_free,
        **{f"equity.{name}": curve[0, 1:] for name, curve in raw.equity.items()},
    }
    if managed is not None:
        columns["equity.managed"] = managed.equity[AGENT][0, 1:]
    return pd.DataFrame(columns, index=pd.DatetimeIndex(raw.dates[1:], name="date"))


def _test_numbers(comparison: BenchmarkComparison) -> dict[str, Any]:
    return {
        "policy": means(comparison.performance[AGENT]),
        "buy_and_hold": means(comparison.performance[INDEX]),
        "ruined": int(comparison.agent.ruined.sum()),
    }


def _contest_numbers(comparison: StitchedComparison) -> dict[str, Any]:
    return {
        "verdict": verdict_numbers(comparison.verdict),
        "ruined": comparison.ruined,
        "intervals": {
            name: {key: plain(value) for key, value in interval._asdict().items()}
            for name, interval in comparison.intervals.items()
        },
        "books": {name: means(measured) for name, measured in comparison.performance.items()},
    }


def _returns_file(
    dates: np.ndarray[Any, Any], returns: np.ndarray[Any, Any], risk_free: np.ndarray[Any, Any]
) -> bytes:
    """Days by path, as in the files of single runs."""
    paths, days = returns.shape
    columns: Mapping[str, Any] = {
        **({"path": np.repeat(np.arange(paths), days)} if paths > 1 else {}),
        "date": np.tile(dates, paths),
        "return": returns.ravel(),
        "risk_free": np.tile(risk_free, paths),
    }
    buffer = BytesIO()
    pd.DataFrame(columns).to_parquet(buffer, index=False)
    return buffer.getvalue()
