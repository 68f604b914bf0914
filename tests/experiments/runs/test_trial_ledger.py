"""The ledger of trials: written at launch, and nothing can be taken back."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conf.errors import InputError
from experiments.certificates.certificate import PROFILES, Certification
from experiments.certificates.trial_chain import trial_chain
from experiments.runs.record import RunRecord
from experiments.runs.trial_ledger import (
    SEAL,
    add_row,
    chained,
    check_ledger,
    content_of,
    read_rows,
    sealed_rows,
)
from experiments.runs.trials import read_trials, record_start, record_trial, trials_on
from tests.experiments.runs.test_trials import DATA, trial

CONFIG = {"experiment": "quick", "seed": 1}
EDITS = 1000


@pytest.fixture
def outputs(tmp_path):
    return tmp_path / "outputs"


def start(outputs, name, **config):
    record_start(outputs / name, {**CONFIG, **config}, DATA)


def test_a_run_counts_from_its_start_on_whether_or_not_it_has_a_result(outputs):
    for name in ("a", "b", "c"):
        start(outputs, f"quick/{name}")
    record_trial(outputs / "quick/a", trial("quick/a", "validation", candidates=5))
    ledger = outputs / "trials.jsonl"
    assert trials_on(ledger, DATA, "test").num_trials == 3
    assert trials_on(ledger, DATA, "validation").num_trials == 2 + 5
    assert trials_on(ledger, "other", "test").num_trials == 0


def test_to_go_on_is_no_new_start_but_to_begin_anew_under_the_name_is(outputs):
    start(outputs, "quick/a")
    start(outputs, "quick/a", total_timesteps=2)  # resumed, and made longer
    assert trials_on(outputs / "trials.jsonl", DATA, "test").num_trials == 1
    record_trial(outputs / "quick/a", trial("quick/a", "validation", candidates=9))
    record_trial(outputs / "quick/a", trial("quick/a", "test", candidates=9))
    (outputs / "quick/a" / SEAL).unlink()  # its folder was removed
    start(outputs, "quick/a")
    record_trial(outputs / "quick/a", trial("quick/a", "validation", candidates=4))
    assert trials_on(outputs / "trials.jsonl", DATA, "test").num_trials == 2
    assert trials_on(outputs / "trials.jsonl", DATA, "validation").num_trials == 9 + 4


def killed_before(step, work):
    """Whether `work` was killed, in a process of its own, before its step-th change of a file."""
    child = os.fork()
    if child == 0:
        left = step

        def count(change):
            def changed(*args, **options):
                nonlocal left
                left -= 1
                if left < 0:
                    os._exit(9)
                return change(*args, **options)

            return changed

        for name in ("replace", "unlink"):
            setattr(Path, name, count(getattr(Path, name)))
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_killed_at_any_moment_of_its_launch_a_run_counts_once(outputs):
    """Also where another run begins before it goes on, and where it is killed as it does."""
    ledger = outputs / "trials.jsonl"
    for step in range(100):
        name = f"quick/{step}"
        killed = killed_before(step, lambda: start(outputs, name))  # noqa: B023
        start(outputs, f"quick/other-{step}")
        for again in range(100):
            if not killed_before(again, lambda: start(outputs, name)):  # noqa: B023
                break
        start(outputs, name)
        started = [row["run"] for row in read_rows(ledger)]
        assert started.count(name) == 1
        assert len(sealed_rows(outputs / name)) == 1
        if not killed:
            break
    assert step > 5  # intent, ledger and seal were each renamed, and leftovers removed
    assert check_ledger(ledger).defects == ()
    assert not list(outputs.rglob("*.pending"))


def edited(lines, rng):
    """One edit of the file by somebody who may know how to calculate the hashes."""
    kind = rng.integers(6)
    place = int(rng.integers(len(lines)))
    if kind == 0:  # any bit
        content = bytearray(b"".join(lines))
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        return bytes(content)
    if kind == 1:
        return b"".join(lines)[: rng.integers(sum(map(len, lines)))]
    rows = [json.loads(line) for line in lines]
    if kind == 2:
        del rows[place]
    elif kind == 3:
        rows = rows[:place]
    elif kind == 4:
        other = int((place + rng.integers(1, len(rows))) % len(rows))
        rows[place], rows[other] = rows[other], rows[place]
    else:
        rows[place]["seed"] += int(rng.integers(1, 9))
    if rng.random() < 0.5:  # chained anew, as if they had been written so
        contents, rows = rows, []
        for row in contents:
            previous = rows[-1]["hash"] if rows else "0" * 64
            rows.append(chained(row["kind"], content_of(row), previous))
    return b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows)


def cut(outputs, lines, rng):
    """The end is cut off, and the folders of what was there are altered to hide it."""
    place, replaced = int(rng.integers(1, len(lines))), rng.random() < 0.5
    rows = [json.loads(line) for line in lines]
    gone = {row["hash"] for row in rows[place:]}
    for name in {row["run"] for row in rows[place:]}:
        seal = outputs / name / SEAL
        kept = [entry for entry in json.loads(seal.read_text())["rows"] if entry not in gone]
        if replaced:  # by that of another run, as if this one had never begun
            seal.write_text(json.dumps({"format": 1, "rows": [rows[0]["hash"]]}))
            (outputs / name / "manifest.json").unlink()
        elif kept:
            seal.write_text(json.dumps({"format": 1, "rows": kept}))
        else:
            seal.unlink()
    return b"".join(lines[:place])


def test_a_thousand_edits_are_all_found(outputs):
    for i in range(6):
        start(outputs, f"quick/{i}", seed=i)
        with RunRecord(outputs / f"quick/{i}", CONFIG, seed=i):
            if i % 2:
                record_trial(outputs / f"quick/{i}", trial(f"quick/{i}", "validation"))
    ledger, rng = outputs / "trials.jsonl", np.random.default_rng(0)
    original = {path: path.read_bytes() for path in outputs.rglob("*.json*")}
    lines = original[ledger].splitlines(keepends=True)
    assert check_ledger(ledger).defects == ()
    missed = []
    for number in range(EDITS):
        hidden = number % 10 == 0
        content = cut(outputs, lines, rng) if hidden else edited(lines, rng)
        assert content != original[ledger]
        ledger.write_bytes(content)
        if not check_ledger(ledger).defects:
            missed.append(number)
        if hidden:
            for path in original.keys() - {ledger}:
                if not path.is_file() or path.read_bytes() != original[path]:
                    path.write_bytes(original[path])
    assert missed == []
    ledger.write_bytes(original[ledger])
    assert check_ledger(ledger).defects == ()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-20],
        lambda content: content[:-1],
        lambda content: b"",
        lambda content: bytes(100) + content[100:],
        lambda content: content.replace(b'"seed":1', b'"seed":null'),
        lambda content: content.replace(b'"seed":1', b'"seed": 1'),
        lambda content: content.replace(b'"seed":1', b'"seed":NaN'),
        lambda content: content.replace(b'"seed":1', b'"seed":1e999'),
        lambda content: b"[" * 100_000 + b"\n" + content,
        lambda content: b"[]\n" + content,
    ],
)
def test_a_damaged_ledger_is_refused_and_left_alone(outputs, damage):
    start(outputs, "quick/a")
    ledger = outputs / "trials.jsonl"
    content = damage(ledger.read_bytes())
    ledger.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged: .*Put back an untouched copy"):
        read_trials(ledger)
    with pytest.raises(InputError, match="damaged"):
        start(outputs, "quick/b")
    assert ledger.read_bytes() == content


def test_a_ledger_without_hashes_is_counted_but_certified_by_nobody(outputs, caplog, monkeypatch):
    outputs.mkdir()
    rows = [trial(f"quick/{i}", sharpe=float("nan") if i else 1.0) for i in range(3)]
    pd.DataFrame([asdict(row) for row in rows]).to_parquet(outputs / "trials.parquet")
    ledger = outputs / "trials.jsonl"
    assert trials_on(ledger, DATA, "test").num_trials == 3
    assert "nothing shows whether there were more" in caplog.text
    start(outputs, "quick/new")
    (outputs / "trials.parquet").unlink()
    assert [row["kind"] for row in read_rows(ledger)] == ["unproven"] * 3 + ["started"]
    assert trials_on(ledger, DATA, "test").num_trials == 4
    monkeypatch.chdir(outputs.parent)
    (certificate,) = trial_chain(Certification(PROFILES["short"], 0, None))
    assert certificate.passed
    assert "3 rows are from a ledger without hashes and prove nothing" in certificate.what
    (outputs / "trials.parquet").write_bytes(b"PAR1")
    ledger.unlink()
    with pytest.raises(InputError, match="damaged: not readable"):
        read_trials(ledger)


def test_the_certificate_fails_where_a_tail_was_cut_and_names_the_run(outputs, monkeypatch):
    for name in ("a", "b"):
        start(outputs, f"quick/{name}")
    ledger = outputs / "trials.jsonl"
    ledger.write_bytes(ledger.read_bytes().splitlines(keepends=True)[0])
    monkeypatch.chdir(outputs.parent)
    (certificate,) = trial_chain(Certification(PROFILES["short"], 0, None))
    assert not certificate.passed
    assert certificate.what.startswith("1 row(s) of quick/b are not in the ledger")
    (outputs / "quick/a" / SEAL).write_text("{}")
    (certificate,) = trial_chain(Certification(PROFILES["short"], 0, None))
    assert certificate.number == 2


def test_a_ledger_that_is_gone_or_lacks_the_folders_rows_is_said_when_a_row_is_added(
    outputs, caplog, monkeypatch
):
    start(outputs, "quick/a")
    start(outputs, "quick/b")
    assert caplog.text == ""
    ledger = outputs / "trials.jsonl"
    ledger.unlink()
    gone = f"{ledger} is missing, and 2 run folder(s) keep hashes of its rows"
    assert check_ledger(ledger).defects[0] == gone
    start(outputs, "quick/c")
    assert gone in caplog.text
    monkeypatch.chdir(outputs.parent)
    (certificate,) = trial_chain(Certification(PROFILES["short"], 0, None))
    assert (certificate.passed, certificate.number) == (False, 2)  # also with a new one
    caplog.clear()
    start(outputs, "quick/d")
    assert caplog.text == ""
    record_trial(outputs / "quick/a", trial("quick/a"))
    assert "1 row(s) of quick/a are not in the ledger, and 1 more defect(s)" in caplog.text


def test_a_run_folder_without_a_row_is_named(outputs):
    start(outputs, "quick/a")
    for run in ("quick/a", "quick/secret", "quick/a/checkpoints/step_1"):
        (outputs / run).mkdir(parents=True, exist_ok=True)
        (outputs / run / "manifest.json").write_text("{}")
    assert check_ledger(outputs / "trials.jsonl").uncounted == ("quick/secret",)


def test_rows_are_added_under_the_lock(outputs):
    """Each writer sees the rows of those before it."""
    seen = []

    def noted(rows, seal):
        seen.append((len(rows), len(seal)))
        return False

    for i in range(3):
        row = {"run": "quick/a", "i": i}
        add_row(outputs / "trials.jsonl", outputs / "quick/a", "started", row, noted)
    assert seen == [(0, 0), (1, 1), (2, 2)]
