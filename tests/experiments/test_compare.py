"""Runs side by side, from what their evaluations wrote."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from experiments import compare
from experiments.evaluation.evaluation import _header
from experiments.evaluation.open_run import open_run
from experiments.runs.config import config_hash


def change_config(run, **changes):
    config = json.loads((run / "config.json").read_text())
    config |= {name: merged(config[name], value) for name, value in changes.items()}
    (run / "config.json").write_text(json.dumps(config))
    manifest = json.loads((run / "manifest.json").read_text())
    changed = {"seed": config["seed"], "config_hash": config_hash(config)}
    (run / "manifest.json").write_text(json.dumps(manifest | changed))


def merged(old, new):
    if not isinstance(new, dict):
        return new
    return old | {name: merged(old[name], value) for name, value in new.items()}


@pytest.fixture
def runs(evaluated_run, tmp_path):
    """A multirun of three seeds, evaluated; the second one's book is a little better each day."""
    sweep = tmp_path / "outputs" / "tiny" / "sweep"
    for seed in range(3):
        shutil.copytree(evaluated_run, sweep / str(seed))
        change_config(sweep / str(seed), seed=seed)
    for name in ("daily_test.parquet", "daily_test_managed.parquet"):
        path = sweep / "1" / "evaluation" / name
        daily = pd.read_parquet(path)
        daily["equity"] *= np.exp(0.01 * np.arange(1, len(daily) + 1))
        daily.to_parquet(path)
    return sweep


def test_a_run_from_before_a_setting_existed_met_the_conditions_of_its_default(
    finished_run, tmp_path
):
    run = tmp_path / "older"
    shutil.copytree(finished_run, run)
    config = json.loads((run / "config.json").read_text())
    del config["env"]["sizing"]["unit"]
    (run / "config.json").write_text(json.dumps(config))
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(manifest | {"config_hash": config_hash(config)}))
    headers = [_header(open_run(str(folder), "best"), 100) for folder in (finished_run, run)]
    assert headers[0]["conditions"] == headers[1]["conditions"]


def written(tmp_path):
    (file,) = (tmp_path / "outputs" / "comparisons").glob("*/*/comparison.json")
    return json.loads(file.read_text()), file.parent


def test_runs_are_shown_side_by_side_with_their_differences(command, runs, tmp_path):
    change_config(runs / "1", reward={"weights": {"cost": 1e6}})
    code, out, err = command(compare, f"run={runs}/0,{runs}/1")
    assert (code, err) == (0, "")
    content, folder = written(tmp_path)
    assert [run["run"] for run in content["runs"]] == ["tiny/sweep/0", "tiny/sweep/1"]
    assert content["book"] == "managed"
    (difference,) = content["first_against_the_others"]
    assert difference["outcome"] == "UNDERPERFORMS"
    assert difference["difference"] < 0
    assert "UNDERPERFORMS" in out
    assert content["differs_in"] == {"reward.weights.cost": [1.0, 1e6], "seed": [0, 1]}
    assert "differs in: reward.weights.cost 1 -> 1e+06, seed 0 -> 1\n" in out
    days = pd.read_parquet(runs / "1" / "evaluation" / "daily_test_managed.parquet")
    assert content["runs"][1]["mean_greeks"]["vega"] == pytest.approx(days["vega"].mean())
    assert re.search(rf"mean vega, \$ a point .* {days['vega'].mean():.2f}\n", out)
    assert (folder / "equity.png").stat().st_size > 5_000


def test_a_multirun_is_summarised_over_its_seeds(command, runs, tmp_path):
    for seed in range(3):  # which that of the simulated market follows
        change_config(runs / str(seed), seed=seed, data={"seed": seed})
    code, out, _ = command(compare, f"run={runs}", "book=policy")
    assert code == 0
    content, _ = written(tmp_path)
    assert content["differs_in"] == {"seed": [0, 1, 2]}
    assert [run["seed"] for run in content["runs"]] == [0, 1, 2]
    summary = content["interquartile_mean_sharpe"]
    sharpe = content["runs"][0]["metrics"]["sharpe"]  # the evaluations were of the same weights
    assert summary == {"value": pytest.approx(sharpe), "low": None, "high": None}
    assert "3 seeds of one configuration" in out


def test_runs_of_different_configurations_are_not_summarised(command, runs, tmp_path):
    config = json.loads((runs / "2" / "config.json").read_text()) | {"num_envs": 7}
    (runs / "2" / "config.json").write_text(json.dumps(config))
    change_config(runs / "2", seed=2)
    assert command(compare, f"run={runs}")[0] == 0
    assert written(tmp_path)[0]["interquartile_mean_sharpe"] is None


def test_mistakes_are_one_line_and_leave_nothing(command, runs, tmp_path):
    shutil.rmtree(runs / "2" / "evaluation")
    for arguments, complaint in (
        ([f"run={runs}/0"], "names a single run"),
        ([f"run={runs}/0,{runs}/0"], "named twice"),
        ([f"run={runs}/0,{runs}/9"], "not found"),
        ([f"run={runs}/0,{runs}/2"], "Evaluate it first"),
        ([f"run={runs}/0,{runs}/1", "split=train"], "no book"),
        ([f"run={runs}/0,{runs}/1", "evaluation=../x"], "setting evaluation = "),
        ([f"run={runs}/0,{runs}/1", "book=cash"], "setting book = "),
    ):
        code, _, err = command(compare, *arguments)
        assert code == 2, arguments
        assert complaint in err
        assert err.count("\n") == 1
    assert not (tmp_path / "outputs" / "comparisons").exists()


def test_other_conditions_cannot_be_compared(command, runs):
    path = runs / "1" / "evaluation" / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"conditions": "another surface"}))
    code, _, err = command(compare, f"run={runs}/0,{runs}/1")
    assert code == 2
    assert "different conditions" in err


def test_the_error_names_an_evaluation_that_exists(command, runs):
    (runs / "1" / "evaluation").rename(runs / "1" / "evaluation_realistic_abc")
    code, _, err = command(compare, f"run={runs}/0,{runs}/1")
    assert code == 2
    assert "evaluation=evaluation_realistic_abc" in err


def test_other_days_cannot_be_compared(command, runs):
    path = runs / "1" / "evaluation" / "daily_test_managed.parquet"
    pd.read_parquet(path).iloc[:-1].to_parquet(path)
    code, _, err = command(compare, f"run={runs}/0,{runs}/1")
    assert code == 2
    assert "same data and splits" in err
