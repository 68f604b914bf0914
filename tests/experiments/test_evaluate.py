import json
import os
import pickle
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from conf.errors import InputError
from experiments import evaluate
from experiments.evaluation import evaluation, skill
from experiments.evaluation.evaluation import evaluate_run
from experiments.evaluation.open_run import open_run
from experiments.evaluation.skill import skill_worlds
from experiments.reporting.contents import Table
from experiments.reporting.evaluation_page import build_report
from experiments.reporting.style import dollars, number, percent
from experiments.runs.folder import run_lock
from experiments.runs.trial_ledger import ledger_of
from experiments.runs.trials import read_trials
from tests.markets import random_walk


@pytest.fixture
def run(finished_run, tmp_path):
    """A copy of the finished run to write into."""
    folder = tmp_path / "outputs" / "tiny" / "day" / "run"
    shutil.copytree(finished_run, folder)
    shutil.copy(ledger_of(finished_run), tmp_path / "outputs")
    return folder


# What most tests need: everything but the page, on few resamples.
QUICK = ("report=false", "resamples=100")


def result_of(run, pattern="evaluation"):
    (folder,) = run.glob(pattern)
    return json.loads((folder / "metrics.json").read_text())


def test_validation_and_test_are_measured_with_their_benchmarks(evaluated_run):
    run = evaluated_run
    written = json.loads((run / "evaluation" / "metrics.json").read_text())
    assert written["costs"] == "realistic"
    assert written["same_data_as_training"] is True
    for split in ("validation", "test"):
        numbers = written["splits"][split]
        books = numbers["books"]
        assert {"policy", "managed", "buy_and_hold", "cash", "put_write"} <= books.keys()
        assert numbers["risk"]["guard_days"].keys() == {"ACTIVE", "REDUCING", "HALTED"}
        assert books["cash"]["sharpe"] == 0
        assert books["cash"]["annual_return"] == pytest.approx(0.025, abs=0.001)
        assert books["buy_and_hold"]["beta"] == pytest.approx(1)
        daily = pd.read_parquet(run / "evaluation" / f"daily_{split}.parquet")
        final = daily["equity"].iloc[-1]
        assert books["policy"]["total_return"] == pytest.approx(final / 100_000 - 1)
        assert len(daily) == books["policy"]["sessions"]
    assert not (run.parents[3] / "evaluate.log").exists()


def test_each_split_has_a_verdict_with_its_numbers(evaluated_run):
    numbers = result_of(evaluated_run)["splits"]["test"]
    for comparison, books in (("comparison", "books"), ("managed_comparison", "managed_books")):
        verdict = numbers[comparison]["verdict"]
        assert verdict["outcome"] in ("OUTPERFORMS", "UNDERPERFORMS", "INCONCLUSIVE")
        assert verdict["evidence"]["num_trials"] == 1
        named = [d["benchmark"] for d in verdict["differences"]]
        assert set(named) == numbers[books].keys() - {"policy", "managed"}
        for difference in verdict["differences"]:
            sharpe = numbers[books][difference["benchmark"]]["sharpe"]
            assert difference["sharpe_opponent"] == pytest.approx(sharpe, abs=1e-9)
            assert difference["low"] <= difference["difference"] <= difference["high"]
        terms = dict(numbers[comparison]["attribution_usd"])
        book = numbers[books]["policy"]
        assert terms.pop("total") == pytest.approx(sum(terms.values()), abs=1e-6)
        assert sum(terms.values()) == pytest.approx(100_000 * book["total_return"], abs=1e-4)
        assert {line["table"] for line in numbers[comparison]["scorecard"]} >= {"MVP, critical"}
        assert sum(numbers[comparison]["strategies"].values()) == book["sessions"]
        assert numbers[comparison]["last_book"]["portfolio_value"] > 0


def numbers_in(value):
    """Every number and text in nested plain data."""
    if isinstance(value, dict):
        return [x for item in [*value.keys(), *value.values()] for x in numbers_in(item)]
    if isinstance(value, list):
        return [x for item in value for x in numbers_in(item)]
    return [] if value is None else [value]


def as_shown(value):
    """Every form that the report writes a number in."""
    if isinstance(value, str):
        return re.findall(TOKEN, f"{value} {value[:12]}")  # fingerprints are cut
    forms = [f"{value:g}", f"{value:,}", str(value)]
    for plus in (False, True):
        forms += [number(value, decimals, plus=plus) for decimals in range(4)]
        forms += [percent(value, decimals, plus=plus) for decimals in range(2)]
    return [token for form in [*forms, dollars(value)] for token in re.findall(TOKEN, form)]


TOKEN = r"[+−]?\$?\d+(?:,\d{3})*(?:\.\d+)?(?:\u00a0%)?"


def assert_every_number_is_written(evaluation, metrics):
    written = numbers_in(json.loads(metrics.read_text()))
    known = {token for value in written for token in as_shown(value)}
    report = build_report(evaluation)
    items = [item for section in report.sections for item in section.items]
    tables = [item for item in items if isinstance(item, Table)]
    assert len(tables) > 15
    cells = [(t.title, cell) for t in tables for row in t.rows for cell in row]
    cells += [("key numbers", text) for k in report.key_numbers for text in (k.value, k.note)]
    missing = {
        (title, token)
        for title, cell in cells
        if cell is not None
        for token in re.findall(TOKEN, cell if isinstance(cell, str) else number(cell, 2))
        if token not in known and (isinstance(cell, str) or number(cell, 0) not in known)
    }
    assert missing == set()


@pytest.fixture
def evaluations(monkeypatch):
    """What the command evaluates, to build its report from."""
    kept = []

    def evaluated(*given, **named):
        kept.append(evaluate_run(*given, **named))
        return kept[-1]

    monkeypatch.setattr(evaluate, "evaluate_run", evaluated)
    return kept


def test_all_numbers_of_the_report_are_written_some_printed_and_the_gate_fails(
    command, run, evaluations
):
    code, out, err = command(evaluate, f"run={run}", *QUICK, "gate=true")
    outcome = result_of(run)["splits"]["test"]["managed_comparison"]["verdict"]["outcome"]
    assert outcome != "OUTPERFORMS"
    assert code == 1
    assert outcome in err
    for text in ("validation", "test", "Sharpe", "buy and", "put write", "verdict", "flatters"):
        assert text in out
    assert "nan" not in out.lower()
    assert_every_number_is_written(evaluations[0], run / "evaluation" / "metrics.json")


def test_an_evaluation_of_the_runs_own_market_is_a_trial(evaluated_run):
    run = evaluated_run
    rows = read_trials(ledger_of(run))
    assert sorted(rows["split"]) == ["test", "validation"]
    assert set(rows["run"]) == {"tiny/day/run"}
    assert set(rows["candidates"]) == {rows["candidates"].max()}
    daily = pd.read_parquet(run / "evaluation" / "daily_test.parquet")
    (file,) = rows.loc[rows["split"] == "test", "returns_file"]
    kept = pd.read_parquet(ledger_of(run).parent / file)
    equity = np.concatenate([[100_000], daily["equity"]])
    np.testing.assert_allclose(kept["return"], equity[1:] / equity[:-1] - 1, rtol=1e-12)


def test_the_report_shows_every_section_and_is_the_same_to_the_byte_each_time(command, run):
    arguments = (f"run={run}", "resamples=100", "split=test")
    assert command(evaluate, *arguments)[0] == 0
    folder = run / "evaluation_test"
    page = (folder / "report.html").read_text()
    for title in ("Verdict", "Performance", "The book", "Scorecard", "Model card", "Regimes"):
        assert f">{title}" in page
    pictures = sorted(path.stem for path in folder.glob("*.png"))
    assert {"equity", "returns", "rolling_sharpe", "positions", "exposures"} <= set(pictures)
    for name in pictures:
        assert (folder / f"{name}.png").stat().st_size > 5_000
    events = EventAccumulator(str(run / "tensorboard" / "evaluation_test"))
    events.Reload()
    assert sorted(events.Tags()["images"]) == [f"evaluation/{name}" for name in pictures]
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert command(evaluate, *arguments)[0] == 0
    assert first == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_policy_can_be_tried_on_any_file(command, run, tmp_path):
    history = random_walk(150, seed=8)
    columns = {name: getattr(history, name)[0] for name in ("open", "high", "low", "close")}
    table = pd.DataFrame({"Date": history.dates, **columns, "volume": 1000.0})
    table.to_csv(tmp_path / "prices.csv", index=False)
    code, _, err = command(
        evaluate,
        f"run={run}",
        "data=csv",
        "data.path=prices.csv",
        "split=all",
        "costs=flat",
        *QUICK,
    )
    assert (code, err) == (0, "")
    written = result_of(run, "evaluation_csv_flat_all_*")
    assert written["same_data_as_training"] is False
    assert written["splits"]["all"]["last"] == str(history.dates[-1])
    assert written["splits"]["all"]["books"]["policy"]["sessions"] == 150 - 49 - 1


def test_the_last_policy_on_another_surface_is_no_trial_and_replaces_no_evaluation(
    command, evaluated_run, tmp_path
):
    shutil.copytree(evaluated_run.parents[2], tmp_path / "outputs")
    run = tmp_path / "outputs" / "tiny" / "day" / "run"
    before = {path: path.read_bytes() for path in (run / "evaluation").iterdir()}
    trials = ledger_of(run).read_bytes()
    other = ("policy=last", "surface=vix", "surface.rho=-0.6", "split=test")
    assert command(evaluate, f"run={run}", *other, *QUICK)[0] == 0
    written = result_of(run, "evaluation_vix_last_test_*")
    assert written["policy_step"] == 512
    assert written["surface"] == "vix"
    assert list(written["splits"]) == ["test"]
    assert before == {path: path.read_bytes() for path in (run / "evaluation").iterdir()}
    assert ledger_of(run).read_bytes() == trials


def test_without_a_risk_module_there_is_no_managed_book(command, run):
    assert command(evaluate, f"run={run}", "risk=none", "split=test", *QUICK)[0] == 0
    written = result_of(run, "evaluation_risk_test_*")
    assert written["splits"]["test"]["risk"] is None
    assert "managed" not in written["splits"]["test"]["books"]


def test_a_run_without_a_best_policy_is_refused(command, run):
    shutil.rmtree(run / "best")
    code, _, err = command(evaluate, f"run={run}")
    assert code == 2
    assert "has no best policy. Let the run finish (resume=outputs/tiny/day/run)" in err
    with run_lock(run):
        _, _, err = command(evaluate, f"run={run}")
    assert f"has no best policy yet: process {os.getpid()} is writing it. Wait until" in err


class _Payload:
    def __reduce__(self):
        return exec, ("open('touched', 'w').write('x')",)


@pytest.mark.parametrize(
    "name", ["best/policy.safetensors", "best/policy.json", "config.json", "manifest.json"]
)
@pytest.mark.parametrize("content", [pickle.dumps(_Payload()), b"", b"{}", b"\x80\x04."])
def test_a_run_folder_that_was_tampered_with_runs_no_code(
    run, tmp_path, name, content, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (run / name).write_bytes(content)
    with pytest.raises(InputError):
        open_run(str(run), "best")
    assert not (tmp_path / "touched").exists()


def test_a_config_that_names_a_class_to_call_is_refused(command, run, tmp_path):
    config = json.loads((run / "config.json").read_text())
    config["agent"]["_target_"] = "os.system"
    (run / "config.json").write_text(json.dumps(config))
    code, _, err = command(evaluate, f"run={run}")
    assert code == 2
    assert "_target_" in err


BAD = {
    "run=outputs/none": "not found",
    "split=exam": "setting split = ",
    "+surfce=flat": "unknown setting surfce",
    "+env.chain.roll=daily": "unknown setting env",
    "policy=worst": "setting policy = ",
    "data=cvs": "Did you mean data=csv?",
    "data=csv": "data.path",
    "resamples=1": "setting resamples = ",
    "report=maybe": "setting report = ",
}


@pytest.mark.parametrize("argument", BAD)
def test_a_mistake_is_one_line_and_code_2(command, finished_run, argument):
    before = sorted(finished_run.iterdir())
    code, _, err = command(evaluate, f"run={finished_run}", argument)
    assert code == 2
    assert BAD[argument] in err
    assert err.count("\n") == 1
    assert sorted(finished_run.iterdir()) == before


def test_a_policy_made_for_other_observations_is_refused(command, run):
    config = json.loads((run / "config.json").read_text())
    config["env"]["observation"]["extra_blocks"] = ["rates"]
    (run / "config.json").write_text(json.dumps(config))
    manifest = json.loads((run / "manifest.json").read_text())
    from experiments.runs.config import config_hash

    manifest["config_hash"] = config_hash(config)
    (run / "manifest.json").write_text(json.dumps(manifest))
    code, _, err = command(evaluate, f"run={run}")
    assert code == 2
    assert "observations of shape (213,)" in err


def test_undefined_measures_are_written_as_null(evaluated_run):
    written = (evaluated_run / "evaluation" / "metrics.json").read_text()
    assert "NaN" not in written
    assert np.isfinite(json.loads(written)["splits"]["test"]["books"]["policy"]["sharpe"])


def test_on_request_skill_is_measured_printed_written_and_shown(
    command, run, evaluations, monkeypatch
):
    asked = []

    def few(settings, past, *, paths):
        asked.append((paths, past.dates[-1]))
        yield from skill_worlds(
            settings, past, ("regime", "fair"), paths=paths, training_paths=4, sessions=150
        )

    monkeypatch.setattr(evaluation, "skill_worlds", few)
    monkeypatch.setattr(skill, "fit_index_garch", lambda past: None)  # too short, and not asked for
    code, out, err = command(
        evaluate, f"run={run}", *QUICK, "split=test", "skill=true", "skill_paths=4"
    )
    assert (code, err) == (0, "")
    assert "skill, 4 paths of each world" in out
    written = result_of(run, "evaluation_test")["skill"]
    assert list(written["worlds"]) == ["regime", "fair"]
    assert (written["paths"], written["policies"]) == (4, 1)
    assert written["worlds"]["fair"]["ratio"] is None
    fair = written["worlds"]["fair"]
    assert fair["difference"]["value"] == pytest.approx(fair["policy"]["value"], abs=1e-12)
    assert "Skill in worlds whose law is known" in [
        section.title for section in build_report(evaluations[0]).sections
    ]
    splits = open_run(str(run), "best").setup.splits
    dates = open_run(str(run), "best").setup.history.dates
    assert asked == [(4, dates[splits[0].stop - 1])]


def test_unless_asked_no_skill_is_measured(evaluated_run):
    assert result_of(evaluated_run)["skill"] is None
