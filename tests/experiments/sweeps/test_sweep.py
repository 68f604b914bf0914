"""A sweep: checked before it runs, the same whenever it is killed, and every start is counted."""

import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from conf.errors import Diverged, InputError
from experiments import sweep, train
from experiments.runs.parallel import Workers
from experiments.runs.record import load_run_config
from experiments.runs.training import validation_score
from experiments.runs.trial_ledger import check_ledger, read_rows
from experiments.sweeps.search import (
    begin_sweep,
    ranked,
    reopen_sweep,
    scores_of,
    search,
    train_one,
    value_of,
)
from experiments.sweeps.space import SweepSettings, sweep_settings
from tests.experiments.conftest import TINY

POINTS = {
    "a": {
        "rate": {"kind": "float", "low": 1e-4, "high": 1e-1, "log": True},
        "count": {"kind": "integer", "low": 1, "high": 9},
        "net": {"kind": "choice", "values": ["[8]", "[16,16]", None]},
    },
}
SEARCH = {"trials": 14, "together": 3, "random_trials": 4, "space": POINTS}
FOLDER = "outputs/tiny/sweep-day/time"


def settings(**changes) -> SweepSettings:
    return sweep_settings({**SEARCH, **changes})


class Stopped(Exception):
    pass


@pytest.fixture
def played(monkeypatch):
    """Runs whose score is known, and which can be stopped after any number of them."""
    done: list[str] = []

    def play(tasks, on_done, left):
        scores = []
        for folder, config in tasks:
            if left is not None and len(done) >= left:
                raise Stopped
            done.append(Path(folder).name)
            on_done()
            rate, count = config["a.rate"], config["a.count"]
            scores.append(None if count == 9 else count - abs(rate - 0.01) + config["seed"] / 100)
        return scores

    def configure(overrides):
        pairs = dict(text.split("=") for text in overrides)
        return {
            "a.rate": float(pairs["a.rate"]),
            "a.count": int(pairs["a.count"]),
            "seed": int(pairs["seed"]),
        }

    def limit(left):
        done.clear()
        monkeypatch.setattr(
            "experiments.sweeps.search.run_tasks",
            lambda _, tasks, workers, on_done: play(tasks, on_done, left),
        )
        return done

    monkeypatch.setattr("experiments.sweeps.search.configuration", configure)
    return limit


def trials_of(opened) -> list:
    return [
        (t.number, t.state.name, value_of(t), t.params, scores_of(t)) for t in opened.study.trials
    ]


def test_a_sweep_stopped_after_any_run_ends_with_the_same_trials(tmp_path, played):
    played(None)
    whole = begin_sweep(tmp_path / "whole", [], settings(), None)
    search(whole, Workers())
    expected = trials_of(whole)
    assert len(expected) == 14
    assert {state for _, state, *_ in expected} == {"COMPLETE", "PRUNED"}
    assert len({str(params) for *_, params, _ in expected}) == 14
    for left in (0, 1, 5, 8):
        folder = tmp_path / str(left)
        opened = begin_sweep(folder, [], settings(), None)
        played(left)
        with pytest.raises(Stopped):
            search(opened, Workers())
        played(None)
        opened = reopen_sweep(folder, None)
        steps: list[int] = []
        search(opened, Workers(), steps.append)
        assert trials_of(opened) == expected
        assert (
            sum(steps) == 14 * 3
        )  # those spared and those of before too: the bar comes to its end
    assert value_of(ranked(whole)[0]) == max(value for _, _, value, *_ in expected if value)


def test_a_trial_is_drawn_the_same_where_it_was_killed_between_two_values(tmp_path, played):
    played(None)
    whole = begin_sweep(tmp_path / "whole", [], settings(), None)
    search(whole, Workers())
    cut = begin_sweep(tmp_path / "cut", [], settings(), None)
    search(cut, Workers())
    journal = tmp_path / "cut" / "study.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    for keep in (*range(3, 12), len(lines) // 2, len(lines) - 2):
        journal.write_bytes(b"".join(lines[:keep]))
        again = reopen_sweep(tmp_path / "cut", None)
        search(again, Workers())
        assert trials_of(again) == trials_of(whole), keep


def test_the_score_is_the_mean_of_the_middle_half_and_a_ruined_seed_is_never_passed_over(
    tmp_path, played
):
    done = played(None)
    opened = begin_sweep(tmp_path, [], settings(seeds=[0, 1, 2, 7], prune=False), None)
    search(opened, Workers())
    assert len(done) == 14 * 4
    for trial in opened.study.trials:
        scores: list[Any] = scores_of(trial)
        if trial.params["a.count"] == 9:
            assert (value_of(trial), scores) == (None, [None] * 4)
        else:
            assert trial.value == pytest.approx((scores[1] + scores[2]) / 2)


def test_seeds_of_a_trial_below_the_median_are_spared(tmp_path, played):
    done = played(None)
    opened = begin_sweep(tmp_path, [], settings(trials=30), None)
    search(opened, Workers())
    pruned = [t for t in opened.study.trials if value_of(t) is None and t.params["a.count"] < 9]
    assert pruned
    assert all(len(scores_of(trial)) == 1 for trial in pruned)
    assert len(pruned) < 20
    assert len(done) == len(set(done)) == sum(len(scores_of(t)) for t in opened.study.trials)
    best: list[Any] = scores_of(ranked(opened)[0])
    spared: list[Any] = [scores_of(trial)[0] for trial in pruned[-3:]]
    assert min(best) > max(spared)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"space": {}}, r"sweep.space is empty. Say what is searched: \+sweep.space.agent"),
        ({"space": {"a": {}}}, "sweep.space is empty"),
        ({"space": None}, "sweep.space is empty"),
        (
            {"space": {"a": {"rate": {"kind": "float", "low": 2, "high": 1}}}},
            "the settings of sweep.space.a.rate do not go together: low 2 must be below high 1",
        ),
        ({"space": {"a": {"kind": "integer", "low": 1}}}, "setting sweep.space.a.high is missing"),
        ({"space": {"a": {"low": 1, "high": 2}}}, "sweep.space.a.low = 1 is no dimension"),
        ({"space": {"a": {"kind": "float", "low": 0, "high": 1, "log": True}}}, "above 0"),
        ({"space": {"a": {"kind": "integer", "low": 1, "high": 4.5}}}, "must be whole numbers"),
        ({"space": {"a": {"kind": "choice", "values": [1, 1]}}}, "must be different"),
        ({"space": {"a": {"kind": "normal", "mean": 0}}}, "sweep.space.a = .* is no dimension"),
        ({"space": {"a": {"kind": "choice", "values": [1]}}}, "a.values = .* give at least 2"),
        (
            {"space": {"a": {"kind": "choice", "values": [[1], [2]]}}},
            'a.values.0 = .* is not valid: write a number, true, false, null or "text"',
        ),
        ({"space": {"seed": {"kind": "integer", "low": 1, "high": 4}}}, "seed is no dimension"),
        ({"seeds": [1, 1]}, "a seed is named twice"),
        ({"seeds": []}, r"setting sweep.seeds = \[\] is not valid: give at least 1"),
    ],
)
def test_an_impossible_space_is_refused(changes, words):
    with pytest.raises(InputError, match=words):
        settings(**changes)


FEW = "sweep.space.agent.batch_size.values=[32,64]"  # than the steps of a rollout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sweep=nowhere"], "sweep=nowhere is not available"),
        (
            ["+sweep.space.agent.n_epoch={kind:integer,low:1,high:2}"],
            "unknown setting agent.n_ep",
        ),
        (["sweep.space.agent.n_epochs.low=0"], "a point of the space (agent.learning_rate=1e-06, "),
        (["sweep.space.agent.n_epochs.high=1"], "low 2 must be below high 1"),
        (["jobs=0"], "setting jobs = 0"),
        (["resume=nowhere"], "is not the folder of a sweep"),
        (["storage=foo"], "the storage of the sweep cannot be used: Could not parse"),
    ],
)
def test_a_mistake_is_said_before_anything_runs(command, tmp_path, arguments, words):
    code, _, err = command(sweep, *TINY, FEW, *arguments)
    assert code == 2
    assert words in err
    assert not list(tmp_path.glob("outputs/*"))


def test_a_database_keeps_the_records_of_several_sweeps_in_the_place_of_journals(tmp_path, played):
    played(None)
    storage = f"sqlite:///{tmp_path / 'record.db'}"
    opened = begin_sweep(tmp_path / "a", ["data.path=/there/x.csv"], settings(trials=3), storage)
    search(opened, Workers())
    again = reopen_sweep(tmp_path / "a", storage)
    assert trials_of(again) == trials_of(opened)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["sweep.json"]
    assert str(tmp_path) not in (tmp_path / "a" / "sweep.json").read_text()
    assert '"data.path=\\"../' in (tmp_path / "a" / "sweep.json").read_text()
    with pytest.raises(InputError, match="already holds a sweep"):
        begin_sweep(tmp_path / "a", [], settings(), storage)

    # Another search at a place of the same name, as on another day or machine.
    (tmp_path / "a").rename(tmp_path / "moved")
    other = begin_sweep(tmp_path / "a", [], settings(space={"a": {**POINTS["a"]}}), storage)
    assert other.study.trials == []
    assert trials_of(reopen_sweep(tmp_path / "moved", storage)) == trials_of(opened)
    with pytest.raises(InputError, match=r"no record of the sweep .* Give the storage="):
        reopen_sweep(tmp_path / "moved", None)
    record = tmp_path / "moved" / "sweep.json"
    record.write_text(record.read_text().replace('"trials": 3', '"trials": 4'))
    with pytest.raises(InputError, match="not what its record was begun with"):
        reopen_sweep(tmp_path / "moved", storage)
    with pytest.raises(InputError, match="cannot be used: Can't load plugin") as refused:
        begin_sweep(tmp_path / "b", [], settings(), "postgresql+none://me:secret@host/x")
    assert "secret" not in str(refused.value)
    assert not (tmp_path / "b").exists()


def test_after_ctrl_c_it_says_how_to_go_on_and_keeps_its_settings(command, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    arguments = [*SMALL, "~sweep.space.agent.clip_range", "sweep.space.agent.n_epochs.high=3"]
    with monkeypatch.context() as patched:
        patched.setattr(sweep, "search", stop)
        code, _, err = command(sweep, *arguments)
    assert code == 130
    assert err.endswith(f"Go on with: python -m experiments.sweep resume={FOLDER}\n")
    recorded = json.loads((Path(FOLDER) / "sweep.json").read_text())
    assert "agent.clip_range" not in recorded["sweep"]["space"]
    assert recorded["sweep"]["space"]["agent.n_epochs"]["high"] == 3
    assert not any("sweep" in text for text in recorded["overrides"])
    code, _, err = command(sweep, f"resume={FOLDER}", "sweep.trials=9")
    assert code == 2
    assert "'sweep.trials=9' was given together with resume=" in err


def test_a_finished_run_is_left_as_it_is_and_one_of_other_settings_is_refused(finished_run):
    config, before = load_run_config(finished_run), (finished_run / "manifest.json").read_bytes()
    assert train_one((str(finished_run), config)) == validation_score(finished_run)
    assert (finished_run / "manifest.json").read_bytes() == before
    with pytest.raises(InputError, match="holds a run with other settings"):
        train_one((str(finished_run), {**config, "seed": 99}))


def test_a_run_logs_into_its_folder_and_only_warnings_go_to_the_terminal(tmp_path, monkeypatch):
    def speak(folder, config):
        logging.getLogger("x").info("step 1")
        logging.getLogger("x").warning("odd")

    monkeypatch.setattr("experiments.sweeps.search.train_in", speak)
    terminal = logging.StreamHandler(io.StringIO())
    monkeypatch.setattr(logging.root, "handlers", [terminal])
    train_one((str(tmp_path / "run"), {}))
    assert terminal.stream.getvalue() == "odd\n"
    assert terminal.level == logging.NOTSET
    assert "INFO step 1" in (tmp_path / "run" / "train.log").read_text()


def test_a_run_that_diverges_is_a_try_without_a_score_and_every_other_error_is_a_mistake(
    tmp_path, finished_run, monkeypatch
):
    error: InputError = Diverged("a gradient is not finite")

    def fail(folder, config):
        raise error

    monkeypatch.setattr("experiments.sweeps.search.train_in", fail)
    assert train_one((str(tmp_path / "new"), {})) is None
    # As on a worker with another processor, where the run cannot go on.
    error = InputError("the checkpoint was made elsewhere")
    manifest = json.loads((finished_run / "manifest.json").read_text())
    (tmp_path / "new" / "manifest.json").write_text(json.dumps(manifest | {"status": "failed"}))
    with pytest.raises(InputError, match="elsewhere"):
        train_one((str(tmp_path / "new"), {}))


SMALL = (
    *(*TINY, "experiment=tiny", "total_timesteps=256", "sweep.trials=2", "sweep.seeds=[0,1]"),
    *(FEW, "sweep.together=2", "sweep.prune=false", f"hydra.run.dir={FOLDER}"),
)


def start(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.sweep", *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_killed_twice_it_completes_every_start_is_counted_and_the_best_can_be_done_by_hand(
    command, tmp_path
):
    """Once a worker is killed and once all."""
    process = start(tmp_path, *SMALL, "jobs=2")
    wait_for(process, lambda: list(tmp_path.glob(f"{FOLDER}/0*/run.lock")))
    victims = [int(path.read_text()) for path in running(tmp_path)]
    os.kill(victims[0], signal.SIGKILL)
    wait_for(process, lambda: len(list(tmp_path.glob(f"{FOLDER}/*/policy.safetensors"))) >= 2)
    process.kill()
    process.wait()
    code, out, err = command(sweep, f"resume={FOLDER}", "jobs=1")
    assert code == 0, err
    result = json.loads((tmp_path / FOLDER / "result.json").read_text())
    assert [trial["state"] for trial in result["trials"]] == ["complete"] * 2
    ledger = tmp_path / "outputs" / "trials.jsonl"
    started = [row["run"] for row in read_rows(ledger) if row["kind"] == "started"]
    assert sorted(started) == [f"tiny/sweep-day/time/{n:03d}-{s}" for n in (0, 1) for s in (0, 1)]
    assert check_ledger(ledger).defects == ()
    assert "Which setting" in (tmp_path / FOLDER / "report.html").read_text()
    by_hand = out.split("python -m experiments.train ")[1].splitlines()[0].replace("'", "")
    code, _, err = command(train, *by_hand.split(), "hydra.run.dir=outputs/tiny/day/hand")
    assert code == 0, err
    hand, best = tmp_path / "outputs/tiny/day/hand", f"{result['trials'][0]['trial']:03d}-0"
    for name in ("config.json", "policy.safetensors", "best/validation.json"):
        assert (hand / name).read_bytes() == (tmp_path / FOLDER / best / name).read_bytes()


def running(root):
    return [path for path in root.glob(f"{FOLDER}/0*/run.lock") if path.read_text().strip()]


def wait_for(process, condition):
    deadline = time.monotonic() + 240
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
