"""What a walk-forward leaves behind: `metrics.json`, the stitched days, a report, and its trial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from conf.files import new_folder, remove_leftovers, write_atomically, write_json
from experiments.evaluation.results import means, plain, verdict_numbers
from experiments.evaluation.split import AGENT, INDEX, BenchmarkComparison
from experiments.reporting.contents import Report
from experiments.reporting.page import write_report
from experiments.runs.config import config_hash
from experiments.runs.folder import shown_path
from experiments.runs.record import load_manifest
from experiments.runs.settings import run_settings
from experiments.runs.trial_ledger import ledger_of
from experiments.runs.trials import (
    Trial,
    TrialCount,
    record_trial,
    returns_file,
    trials_on,
)
from experiments.windows.folder import RESULT, WalkForwardRun
from experiments.windows.stitching import (
    StitchedComparison,
    WalkForwardResult,
    WindowResult,
    stitched_equity,
)
from risk.metrics import sharpe_ratio, simple_returns

RESULT_FORMAT = 2  # 2: "managed_comparison" was "managed_contest"
SPLIT = "walk_forward"  # in the trial ledger
TRIAL_FILE = "trial_walk_forward.parquet"


def record_walk(walk: WalkForwardRun, windows: Sequence[WindowResult]) -> TrialCount:
    """Put the stitched record, which is one trial, into the ledger; all trials on its data.

    Its own row first, so that a second stitching finds the ledger as the first one did.
    """
    ledger, fingerprint = ledger_of(walk.folder), walk.setup.loaded.history.fingerprint
    name = walk.folder.resolve().relative_to(ledger.parent).as_posix()
    comparisons = [window.result.raw for window in windows]
    returns = simple_returns(stitched_equity(comparisons)[AGENT])
    risk_free = np.concatenate([comparison.agent.risk_free for comparison in comparisons])
    dates = np.concatenate([comparison.agent.dates[1:] for comparison in comparisons])
    manifests = [load_manifest(walk.run_folder(window)) for window in walk.windows]
    top = run_settings(walk.config).top
    write_atomically(walk.folder / TRIAL_FILE, returns_file(dates, returns, risk_free))
    sharpe = sharpe_ratio(returns.ravel(), np.broadcast_to(risk_free, returns.shape).ravel())
    record_trial(
        walk.folder,
        Trial(
            run=name,
            finished=max(str(manifest["updated"]) for manifest in manifests),
            experiment=top.experiment,
            config_hash=config_hash(walk.config),
            seed=top.seed,
            split=SPLIT,
            data_fingerprint=fingerprint,
            policy_step=sum(int(manifest["steps"]) for manifest in manifests),
            candidates=1,  # no window's choice was made on the years of this record
            sessions=returns.shape[1],
            sharpe=float(sharpe),
            returns_file=f"{name}/{TRIAL_FILE}",
        ),
    )
    return trials_on(ledger, fingerprint, SPLIT)


def write_result(walk: WalkForwardRun, result: WalkForwardResult, report: Report | None) -> None:
    """Numbers, days, and the report with its pictures, in one step; an earlier result goes."""
    remove_leftovers(walk.folder)
    with new_folder(walk.folder / RESULT) as temporary:
        write_json(temporary / "metrics.json", walk_numbers(walk, result))
        daily_table(result).to_parquet(temporary / "daily.parquet")
        if report is not None:
            write_report(temporary, report)


def walk_numbers(walk: WalkForwardRun, result: WalkForwardResult) -> dict[str, Any]:
    """Everything measured, as JSON can hold it: undefined is null."""
    raw, managed, history = result.raw, result.managed, walk.setup.loaded.history
    return {
        "format": RESULT_FORMAT,
        "walk_forward": shown_path(walk.folder),
        "mode": walk.request.mode,
        "retrain": walk.request.retrain,
        "data": history.name,
        "data_fingerprint": history.fingerprint,
        "resamples": walk.request.resamples,
        "notices": list(walk.notices),
        "first": str(raw.dates[0]),
        "last": str(raw.dates[-1]),
        "paths": len(raw.equity[AGENT]),
        "windows": [_window_numbers(window) for window in result.windows],
        "comparison": _comparison_numbers(raw),
        "managed_comparison": None if managed is None else _comparison_numbers(managed),
    }


def daily_table(result: WalkForwardResult) -> pd.DataFrame:
    """The stitched days of the first path: equity of every book, and which window it was."""
    raw, managed = result.raw, result.managed
    columns: dict[str, Any] = {
        "window": np.repeat(
            [window.window.first_test for window in result.windows],
            [len(window.result.raw.agent.risk_free) for window in result.windows],
        ),
        "risk_free": raw.risk_free,
        **{f"equity.{name}": curve[0, 1:] for name, curve in raw.equity.items()},
    }
    if managed is not None:
        columns["equity.managed"] = managed.equity[AGENT][0, 1:]
    return pd.DataFrame(columns, index=pd.DatetimeIndex(raw.dates[1:], name="date"))


def _window_numbers(window: WindowResult) -> dict[str, Any]:
    """One window: its spans, what its policy was chosen by, and its test."""
    raw, managed = window.result.raw, window.result.managed
    return {
        "window": window.window.name,
        "years": window.window.years,
        "spans": {name: list(span) for name, span in window.spans.items()},
        "policy": "last" if window.validation_sharpe is None else "best",
        "policy_step": window.policy_step,
        "validation_sharpe": window.validation_sharpe,
        "test": _test_numbers(raw),
        "managed_test": None if managed is None else _test_numbers(managed),
    }


def _test_numbers(comparison: BenchmarkComparison) -> dict[str, Any]:
    return {
        "policy": means(comparison.performance[AGENT]),
        "buy_and_hold": means(comparison.performance[INDEX]),
        "ruined": int(comparison.agent.ruined.sum()),
    }


def _comparison_numbers(comparison: StitchedComparison) -> dict[str, Any]:
    return {
        "verdict": verdict_numbers(comparison.verdict),
        "ruined": comparison.ruined,
        "intervals": {
            name: {key: plain(value) for key, value in interval._asdict().items()}
            for name, interval in comparison.intervals.items()
        },
        "books": {name: means(measured) for name, measured in comparison.performance.items()},
    }
