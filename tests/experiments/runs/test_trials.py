import math
import multiprocessing
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from conf.errors import InputError
from experiments.runs.trial_ledger import ledger_of
from experiments.runs.trials import (
    Trial,
    TrialCount,
    read_trials,
    record_trial,
    trials_on,
)

DATA = "ab" * 32


def trial(run: str = "quick/one", split: str = "test", **changes) -> Trial:
    row = Trial(
        run=run,
        finished="2026-01-05T10:30:00+00:00",
        experiment="quick",
        config_hash="c" * 64,
        seed=3,
        split=split,
        data_fingerprint=DATA,
        policy_step=20_480,
        candidates=7,
        sessions=750,
        sharpe=0.8,
        returns_file=f"{run}/evaluation/{split}.parquet",
    )
    return replace(row, **changes)


def record(ledger: Path, row: Trial) -> None:
    """As the run in its folder does."""
    record_trial(ledger.parent / row.run, row)


def test_a_run_belongs_to_the_ledger_of_its_outputs(tmp_path):
    outputs = tmp_path / "outputs"
    assert ledger_of(outputs / "quick" / "day" / "time") == outputs / "trials.jsonl"
    inner = outputs / "sweep" / "outputs"
    assert ledger_of(inner / "run") == inner / "trials.jsonl"
    assert ledger_of(tmp_path / "other" / "run") == tmp_path / "other" / "trials.jsonl"
    assert ledger_of(outputs) == tmp_path / "trials.jsonl"


def test_a_relative_run_is_found_from_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ledger_of(Path("outputs/quick")) == tmp_path / "outputs" / "trials.jsonl"


def test_what_was_recorded_is_read_back(tmp_path):
    ledger = tmp_path / "outputs" / "trials.jsonl"
    rows = [trial(), trial(split="validation", sharpe=math.nan), trial("quick/two", seed=2**40)]
    for row in rows:
        record(ledger, row)
    rows_read = read_trials(ledger)
    assert list(rows_read.columns) == [field.name for field in fields(Trial)]
    expected = pd.DataFrame([asdict(row) for row in rows])
    pd.testing.assert_frame_equal(rows_read, expected, check_dtype=False)
    names = {path.name for path in ledger.parent.iterdir() if path.is_file()}
    assert names == {"trials.jsonl", "trials.lock"}


def test_the_same_run_and_split_is_replaced(tmp_path):
    ledger = tmp_path / "outputs" / "trials.jsonl"
    record(ledger, trial(sharpe=0.1))
    record(ledger, trial("quick/two"))
    record(ledger, trial(sharpe=0.2))
    assert read_trials(ledger)["sharpe"].tolist() == [0.2, 0.8]


def test_a_result_that_is_there_already_adds_no_row(tmp_path):
    ledger = tmp_path / "outputs" / "trials.jsonl"
    for row in (trial(sharpe=0.1), trial(sharpe=math.nan), trial("quick/two")):
        record(ledger, row)
    before = ledger.read_bytes()
    record(ledger, trial(sharpe=math.nan))
    assert ledger.read_bytes() == before
    record(ledger, trial(sharpe=0.1))
    assert len(ledger.read_bytes().splitlines()) == 4


def test_a_missing_ledger_counts_as_empty(tmp_path):
    rows = read_trials(tmp_path / "outputs" / "trials.jsonl")
    assert len(rows) == 0
    assert list(rows.columns) == [field.name for field in fields(Trial)]
    assert trials_on(tmp_path / "outputs" / "trials.jsonl", DATA, "test") == TrialCount(0, None)
    assert not list(tmp_path.iterdir())


def test_trials_are_runs_on_the_same_data(tmp_path):
    ledger = tmp_path / "outputs" / "trials.jsonl"
    for row in (
        trial("one", sharpe=1.0),
        trial("one", "validation", sharpe=3.0),
        trial("two", sharpe=2.0, candidates=4),
        trial("three", "validation", sharpe=5.0, candidates=1),
        trial("four", sharpe=math.nan, candidates=2),
        trial("five", sharpe=9.0, data_fingerprint="other"),
    ):
        record(ledger, row)
    assert trials_on(ledger, DATA, "test") == TrialCount(4, None)
    assert trials_on(ledger, DATA, "validation") == TrialCount(7 + 4 + 1 + 2, None)
    assert trials_on(ledger, "other", "test") == TrialCount(1, None)
    assert trials_on(ledger, DATA, "all") == TrialCount(4, None)


def test_ten_runs_give_a_variance_of_results(tmp_path):
    ledger = tmp_path / "outputs" / "trials.jsonl"
    sharpes = [float(i) for i in range(10)]
    for i, sharpe in enumerate(sharpes):
        record(ledger, trial(f"run{i}", sharpe=sharpe, sessions=504))
        if i == 8:
            assert trials_on(ledger, DATA, "test").variance_annual is None
    variance: Any = pytest.approx(55 / 6)
    assert trials_on(ledger, DATA, "test") == TrialCount(10, variance)


def test_equal_runs_do_not_lower_the_variance_below_that_of_luck(tmp_path):
    ledger = tmp_path / "outputs" / "trials.jsonl"
    for i in range(12):
        record(ledger, trial(f"run{i}", sharpe=0.9 + i / 1e4, sessions=504))
    variance: Any = pytest.approx(252 / 504)
    assert trials_on(ledger, DATA, "test") == TrialCount(12, variance)


def test_a_run_evaluated_on_newer_data_stays_a_trial_on_the_old(tmp_path):
    ledger = tmp_path / "outputs" / "trials.jsonl"
    record(ledger, trial("one"))
    record(ledger, trial("one", data_fingerprint="newer"))
    assert trials_on(ledger, DATA, "test").num_trials == 1
    assert trials_on(ledger, "newer", "test").num_trials == 1


def _append(ledger: Path, writer: int) -> None:
    for i in range(8):
        record(ledger, trial(f"sweep/{writer}/{i}"))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_many_processes_lose_no_row(tmp_path):
    ledger = tmp_path / "outputs" / "trials.jsonl"
    context = multiprocessing.get_context("fork")  # an interpreter of its own takes seconds
    writers = [context.Process(target=_append, args=(ledger, n)) for n in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    runs = read_trials(ledger)["run"]
    assert sorted(runs) == [f"sweep/{n}/{i}" for n in range(2) for i in range(8)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"run": "/etc"}, "run of a trial is '/etc'"),
        ({"run": "../other"}, "run of a trial"),
        ({"returns_file": "a/../../b"}, "returns_file of a trial"),
        ({"returns_file": ""}, "returns_file of a trial"),
        ({"split": ""}, "lacks its split"),
        ({"data_fingerprint": ""}, "or fingerprint"),
        ({"candidates": 0}, "0 candidates"),
        ({"sessions": 0}, "0 sessions"),
    ],
)
def test_an_impossible_trial_is_refused(changes, words):
    with pytest.raises(InputError, match=words):
        trial(**changes)
