"""Two windows over a simulated market: 2001, and the first quarter of 2002."""

import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_module

from agents.persistence.checkpoint import read_checkpoint
from agents.persistence.policy_file import load_policy
from callbacks.checkpointing import Checkpointing
from envs.market.clock import estimate_closed_day_weight
from envs.market.sources.index import past_of
from experiments import evaluate, walk_forward
from experiments.backtests.backtest import run_backtest
from experiments.environments.opening import market_settings, open_market
from experiments.environments.option_book import OptionSetup
from experiments.reporting.style import DASH, percent
from experiments.runs.config import plain_config
from experiments.runs.folder import run_lock
from experiments.runs.record import load_run_config
from experiments.runs.training import INVOCATION_KEYS
from experiments.runs.trials import read_trials
from experiments.windows import training
from experiments.windows.folder import open_walk, reopen_walk
from experiments.windows.page import market_constants
from experiments.windows.stitching import chained, measured_intervals
from tests.experiments.conftest import TINY, _call
from tests.markets import random_walk, weekdays

WALK = (
    *(text for text in TINY if not text.startswith(("data.sessions", "total_timesteps"))),
    "data.sessions=870",
    "total_timesteps=256",
    "env.chain.maturities_days=[30]",
    "env.chain.moneyness=[0.95,1.00]",
    "experiment=tiny",
    "risk=none",
    "walk_forward.train_years=1",
    "walk_forward.resamples=100",
)
SHORT = "total_timesteps=128"
QUICK = (*WALK, "walk_forward.report=false")
FOLDER = Path("outputs/tiny/walk/it")
HERE = f"hydra.run.dir={FOLDER}"
WEIGHTS = [f"{year}/{which}policy.safetensors" for year in (2001, 2002) for which in ("", "best/")]


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """A walk-forward made by a multirun over its windows; do not write into it."""
    root = tmp_path_factory.mktemp("walked")
    over_windows = (f"hydra.sweep.dir={FOLDER}", "walk_forward.window=2001,2002")
    _call(walk_forward, root, "-m", *QUICK, *over_windows)
    return root / FOLDER


def result_of(folder):
    return json.loads((folder / "walk_forward" / "metrics.json").read_text())


def assert_same_result(folder, walked):
    for name in (*WEIGHTS, "walk_forward/metrics.json", "walk_forward/daily.parquet"):
        assert (folder / name).read_bytes() == (walked / name).read_bytes(), name
    assert not list(folder.rglob(".tmp-*"))


def test_every_window_is_an_ordinary_run_with_boundaries_of_its_own(walked):
    windows = result_of(walked)["windows"]
    assert [window["window"] for window in windows] == ["2001", "2002"]
    for window in windows:
        run = walked / window["window"]
        manifest = json.loads((run / "manifest.json").read_text())
        assert (manifest["status"], manifest["steps"]) == ("finished", 256)
        assert manifest["data"]["splits"] == window["spans"]
        setup = open_market(market_settings(load_run_config(run)))
        assert setup.describe_data()["splits"] == window["spans"]
        best = json.loads((run / "best" / "validation.json").read_text())
        assert window["validation_sharpe"] == best["metrics"]["sharpe"]


def test_stitched_equity_is_the_product_of_the_years_growth(walked):
    """Against a plain backtest of each run folder's best policy over its own test split."""
    daily = pd.read_parquet(walked / "walk_forward" / "daily.parquet")
    growth, returns, dates = 1.0, [], []
    torch.set_num_threads(1)
    for year in ("2001", "2002"):
        setup = open_market(market_settings(load_run_config(walked / year)))
        policy = load_policy(walked / year / "best").policy
        backtest = run_backtest(policy, setup.market, setup.settings.env, setup.window("test"))
        assert backtest.equity[0, 0] == 100_000
        growth *= backtest.equity[0, -1] / backtest.equity[0, 0]
        returns.append(backtest.equity[0, 1:] / backtest.equity[0, :-1] - 1)
        dates.append(backtest.dates[1:])
        (written,) = (w for w in result_of(walked)["windows"] if w["window"] == year)
        assert written["test"]["policy"]["total_return"] == pytest.approx(
            backtest.equity[0, -1] / 100_000 - 1
        )
    equity = daily["equity.policy"].to_numpy()
    assert equity[-1] / 100_000 == pytest.approx(growth, rel=1e-12)
    stitched = np.concatenate([[100_000], equity])
    stitched = stitched[1:] / stitched[:-1] - 1
    np.testing.assert_allclose(stitched, np.concatenate(returns), atol=1e-13)
    np.testing.assert_array_equal(daily.index.to_numpy(), np.concatenate(dates))
    measured = result_of(walked)["comparison"]["books"]["policy"]
    assert measured["total_return"] == pytest.approx(growth - 1, abs=1e-12)
    assert measured["sessions"] == len(daily)


def test_baselines_and_verdict_are_of_the_same_days(walked):
    comparison = result_of(walked)["comparison"]
    daily = pd.read_parquet(walked / "walk_forward" / "daily.parquet")
    cash = daily["equity.cash"].to_numpy()
    np.testing.assert_allclose(cash, 100_000 * np.cumprod(1 + daily["risk_free"]), rtol=1e-12)
    assert comparison["verdict"]["outcome"] in ("OUTPERFORMS", "UNDERPERFORMS", "INCONCLUSIVE")
    named = {difference["benchmark"] for difference in comparison["verdict"]["differences"]}
    assert named == comparison["books"].keys() - {"policy"}
    assert {"buy_and_hold", "put_write", "static_mean_variance"} <= named
    interval = comparison["intervals"]["sharpe"]
    assert interval["low"] <= interval["value"] <= interval["high"]
    assert interval["value"] == pytest.approx(comparison["books"]["policy"]["sharpe"])
    # The drawdowns of resamples are too small by construction.
    measures = {"sharpe", "annual_return", "annual_volatility", "sortino", "calmar"}
    assert comparison["intervals"].keys() == measures
    assert comparison["books"]["policy"]["max_drawdown"] > 0


def test_a_walk_forward_is_one_trial_and_its_windows_add_none(walked):
    rows = read_trials(walked.parents[2] / "trials.jsonl")
    assert list(rows["run"]) == ["tiny/walk/it"]
    assert list(rows["split"]) == ["walk_forward"]
    assert result_of(walked)["comparison"]["verdict"]["evidence"]["num_trials"] == 1
    kept = pd.read_parquet(walked.parents[2] / rows["returns_file"][0])
    daily = pd.read_parquet(walked / "walk_forward" / "daily.parquet")
    np.testing.assert_allclose(100_000 * np.cumprod(1 + kept["return"]), daily["equity.policy"])


def test_evaluating_a_window_adds_no_trial(command, walked, tmp_path):
    shutil.copytree(walked.parents[2], tmp_path / "outputs")
    ledger = tmp_path / "outputs" / "trials.jsonl"
    before, window = ledger.read_bytes(), tmp_path / FOLDER / "2001"
    code, _, _ = command(
        evaluate, f"run={FOLDER}/2001", "report=false", "resamples=100", "split=validation"
    )
    assert code == 0
    assert ledger.read_bytes() == before
    assert not list(window.glob("trial_*"))
    result = json.loads((window / "evaluation_validation/metrics.json").read_text())
    verdict = result["splits"]["validation"]["comparison"]["verdict"]
    assert verdict["evidence"]["num_trials"] == 1  # the walk-forward itself


def test_stopped_half_way_and_resumed_it_ends_the_same(command, walked, tmp_path, monkeypatch):
    folder = tmp_path / FOLDER
    save = Checkpointing._on_rollout_start

    def stop_in_the_second_window(self):
        save(self)
        if (folder / "2002/checkpoints/step_000000128").exists():
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Checkpointing, "_on_rollout_start", stop_in_the_second_window)
        code, _, err = command(walk_forward, *QUICK, HERE)
    assert code == 130
    assert f"Go on with: python -m experiments.walk_forward resume={FOLDER}" in err
    code, _, err = command(walk_forward, f"resume={FOLDER}", "walk_forward.stitch_only=true")
    assert code == 2
    assert "1 of 2 windows are not finished: 2002" in err
    first = (folder / "2001/manifest.json").read_bytes()
    code, out, err = command(walk_forward, f"resume={FOLDER}", "walk_forward.report=false")
    assert (code, err) == (0, "")
    assert "resuming from step_000000128" in out
    assert (folder / "2001/manifest.json").read_bytes() == first
    assert_same_result(folder, walked)


@pytest.mark.slow
def test_killed_and_resumed_with_two_jobs_it_ends_the_same(command, walked, tmp_path):
    folder, deadline = tmp_path / FOLDER, time.monotonic() + 90
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.walk_forward", *QUICK, HERE],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (folder / "2001/checkpoints/step_000000128").exists():
        assert process.stderr is not None
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = f"resume={FOLDER}", "walk_forward.jobs=2", "walk_forward.report=false"
    code, _, err = command(walk_forward, *again)
    assert (code, err) == (0, "")
    assert "resuming from step_000000128" in (folder / "walk_forward.log").read_text()
    assert_same_result(folder, walked)


@pytest.mark.slow
def test_a_window_that_fails_is_named_in_one_line_and_the_others_are_kept(command, tmp_path):
    folder = tmp_path / FOLDER
    with run_lock(folder / "2002"):
        code, _, err = command(walk_forward, *QUICK, HERE, "walk_forward.jobs=2")
    assert code == 2
    assert re.fullmatch(
        rf"error: window 2002 failed: process {os.getpid()} is writing into .*/2002.*"
        rf" Go on with resume={FOLDER}\n",
        err,
    )
    manifest = json.loads((folder / "2001/manifest.json").read_text())
    assert manifest["status"] == "finished"


def test_called_again_it_trains_nothing_and_writes_the_same_bytes(command, walked, tmp_path):
    shutil.copytree(walked.parents[2], tmp_path / "outputs")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / FOLDER).glob("20*/**/*")}
    code, _, err = command(walk_forward, *QUICK, HERE)
    assert (code, err) == (0, "")
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert_same_result(tmp_path / FOLDER, walked)


def write_prices(path, history, factor=1.0):
    columns = {n: getattr(history, n)[0] * factor for n in ("open", "high", "low", "close")}
    pd.DataFrame({"date": history.dates, **columns, "volume": 1e6}).to_csv(path, index=False)


def test_prices_after_a_windows_validation_do_not_change_its_policy(command, tmp_path):
    """Neither those after its test years nor those within them."""
    history = random_walk(870, seed=3)
    arguments = [text for text in QUICK if not text.startswith("data")]
    arguments += ["data=csv", "data.path=prices.csv", "walk_forward.window=2003", SHORT]
    policies = {}
    for name, first in (("true", 870), ("after", 600), ("within", 150)):
        factor = np.where(np.arange(870) < first, 1.0, 1.7)
        write_prices(tmp_path / "prices.csv", history, factor)
        assert command(walk_forward, *arguments, f"hydra.run.dir=outputs/{name}")[0] == 0
        run = tmp_path / "outputs" / name / "2003"
        policies[name] = [
            (run / which / "policy.safetensors").read_bytes() for which in (".", "best")
        ]
    spans = json.loads((tmp_path / "outputs/true/2003/manifest.json").read_text())["data"]["splits"]
    assert spans["validation"][1] < str(history.dates[600]) < spans["test"][1]
    assert policies["after"] == policies["true"]
    assert policies["within"] != policies["true"]


def test_a_fine_tuned_window_starts_from_the_policy_chosen_in_the_window_before(command, tmp_path):
    tuned = ("walk_forward.retrain=fine_tune", "walk_forward.fine_tune_timesteps=128")
    later = (*QUICK, *tuned, HERE, "walk_forward.window=2002")
    code, _, err = command(walk_forward, *later)
    assert code == 2
    assert "window 2002 goes on from the policy of 2001, which is not finished" in err
    assert command(walk_forward, *QUICK, *tuned, HERE, "walk_forward.window=2001")[0] == 0
    assert not (tmp_path / FOLDER / "walk_forward").exists()
    assert command(walk_forward, *later)[0] == 0
    best = load_policy(tmp_path / FOLDER / "2001/best").policy.state_dict()
    begin = read_checkpoint(tmp_path / FOLDER / "2002/checkpoints/step_000000000")
    arrays = [array for array in begin.arrays.values() if array.dtype == np.float32]
    for name, weights in best.items():
        assert any(np.array_equal(weights.numpy(), array) for array in arrays), name
    windows = result_of(tmp_path / FOLDER)["windows"]
    assert [window["policy_step"] for window in windows] == [256, 128]
    code, _, err = command(walk_forward, *QUICK, *tuned, "walk_forward.jobs=2")
    assert code == 2
    assert "follow one another" in err


def test_the_report_shows_both_books_and_its_pictures(command, tmp_path):
    guarded = [text for text in WALK if not text.startswith("risk")]
    anchored = ("walk_forward.mode=anchored", "walk_forward.first_test=2002")
    code, out, err = command(walk_forward, *guarded, *anchored, SHORT, HERE)
    assert (code, err) == (0, "")
    assert "nan" not in out.lower()
    for text in ("window by window", "managed", "verdict", "written to"):
        assert text in out
    result = tmp_path / FOLDER / "walk_forward"
    page = (result / "report.html").read_text()
    for title in ("Verdict", "Performance", "Windows", "How it was made"):
        assert f">{title}" in page
    text = re.sub(r"<[^>]+>|\n", "|", html.unescape(page))
    drawdown = result_of(tmp_path / FOLDER)["managed_comparison"]["books"]["policy"]["max_drawdown"]
    card, row = re.findall(r"\|Max drawdown\|+([^|]+)\|+([^|]+)\|", text)
    assert card[0] == row[0] == percent(drawdown)
    assert card[1].startswith("index ")
    assert row[1] == DASH
    assert "the peak that its drawdown limits count from, begin anew with each window" in text
    assert "surface on S&P 500 options of 1996–2020; option spreads on quotes of 2019." in text
    pictures = {path.stem for path in result.glob("*.png")}
    assert {"equity", "windows", "yearly", "rolling_sharpe", "sharpe_differences"} <= pictures
    written = result_of(tmp_path / FOLDER)
    managed = written["managed_comparison"]["books"]["policy"]
    assert managed["sessions"] == written["comparison"]["books"]["policy"]["sessions"] > 63
    assert written["windows"][0]["managed_test"]["policy"]["sharpe"] is not None
    assert written["windows"][0]["spans"]["train"][0] == "1999-03-16"  # anchored: not 2000


def test_the_page_names_the_constants_that_knew_the_years_tested():
    with initialize_config_module("conf", version_base="1.3"):
        chosen = ["data=sp500", "surface=vix", "costs=realistic"]
        setup = open_market(market_settings(plain_config(compose("config", overrides=chosen))))
        plainer = [*chosen[:1], "surface=flat", "costs=flat"]
        flat = open_market(market_settings(plain_config(compose("config", overrides=plainer))))
    every = market_constants(setup, 2005)
    for years in ("1996–2020", "1999–2013", "quotes of 2019"):
        assert years in every
    later = market_constants(setup, 2014)
    assert "1996–2020" in later
    assert "1999–2013" not in later
    assert market_constants(setup, 2021).endswith("not refitted for each window.")
    assert "1999–2013" in market_constants(flat, 2005)
    assert not re.search("1996|2019", market_constants(flat, 2005))


def test_where_no_policy_could_be_scored_the_last_is_tested(walked, tmp_path):
    walk = reopen_walk(walked)
    assert walk.chosen_policy(walk.windows[0]) == walked / "2001" / "best"
    (tmp_path / "2001").mkdir()
    moved = type(walk)(tmp_path, walk.config, walk.request, walk.setup, walk.windows, ())
    assert moved.chosen_policy(walk.windows[0]) == tmp_path / "2001"


def test_chained_curves_multiply_path_by_path():
    first, second = np.array([[100.0, 110, 121], [100, 90, 99]]), np.array([[50.0, 60], [80, 40]])
    np.testing.assert_allclose(
        chained([first, second]), [[100, 110, 121, 145.2], [100, 90, 99, 49.5]]
    )


def test_several_paths_have_the_range_of_their_measures():
    rng = np.random.default_rng(1)
    equity = (1 + rng.normal(0.0003, 0.01, (200, 253))).cumprod(axis=1)
    interval = measured_intervals(equity, weekdays(253), np.zeros(252), 100)["annual_volatility"]
    assert interval.low < interval.value < interval.high
    assert interval.value == pytest.approx(0.01 * np.sqrt(252), rel=0.02)


BAD = {
    "walk_forward.mod=rolling": "unknown setting walk_forward.mod. Did you mean walk_forward.mode",
    "+walk_forward.speed=2": "unknown setting walk_forward.speed = 2",
    "walk_forward.mode=sliding": "walk_forward.mode = 'sliding'",
    "walk_forward.window=1990": "there is no window 1990. Choose walk_forward.window",
    "walk_forward.train_years=5": "no year is left to be tested",
    "walk_forward.first_test=2000": "walk_forward.first_test = 2000 cannot be tested",
    "walk_forward.stitch_only=true": "nothing yet to be put together",
    "env.episode.sessions=600": "env.episode.sessions",
    "agent.learning_rate=-1": "agent.learning_rate = -1",
    "resume=outputs/nothing": "is not the folder of a walk-forward",
    "experiment=a/b": "run name 'a/b' is not allowed",
}


@pytest.mark.parametrize("argument", BAD)
def test_a_mistake_is_one_line_and_code_2(command, argument, tmp_path):
    code, _, err = command(walk_forward, *QUICK, argument)
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert BAD[argument] in err
    assert not list(tmp_path.glob("outputs/*"))


def test_fine_tuned_windows_are_not_trained_together_and_nothing_is_written(command, tmp_path):
    together = ("walk_forward.retrain=fine_tune", "walk_forward.jobs=2")
    code, _, err = command(walk_forward, *QUICK, *together)
    assert (code, err.count("\n")) == (2, 1)
    assert "windows that are fine-tuned follow one another. Use walk_forward.jobs=1" in err
    assert not list(tmp_path.glob("outputs/*"))


def test_a_folder_that_holds_another_walk_forward_is_not_written_into(command, walked):
    before = {path: path.read_bytes() for path in walked.rglob("*.json")}
    code, _, err = command(walk_forward, *QUICK, f"hydra.run.dir={walked}", "seed=4")
    assert code == 2
    assert "holds a walk-forward with other settings" in err
    code, _, err = command(walk_forward, f"resume={walked}", "seed=4")
    assert code == 2
    assert "'seed=4' was given together with resume=" in err
    assert before == {path: path.read_bytes() for path in walked.rglob("*.json")}


def test_data_that_has_changed_is_refused(command, monkeypatch, tmp_path):
    write_prices(tmp_path / "prices.csv", random_walk(870, seed=3))
    arguments = [text for text in QUICK if not text.startswith("data")]
    arguments += ["data=csv", "data.path=prices.csv", "walk_forward.window=2003", HERE]
    monkeypatch.setattr(training, "train_window", lambda *_, **__: None)
    assert command(walk_forward, *arguments)[0] == 0
    write_prices(tmp_path / "prices.csv", random_walk(870, seed=4))
    code, _, err = command(walk_forward, f"resume={FOLDER}")
    assert code == 2
    assert "has changed since it began" in err


@pytest.mark.parametrize("name", ["production", "allocation", "hedging"])  # each environment
def test_an_experiment_composes_as_in_training(name):
    with initialize_config_module("conf", version_base="1.3"):
        walk = plain_config(compose("walk_forward", overrides=[f"+exp={name}"]))
        run = plain_config(compose("config", overrides=[f"+exp={name}"]))
    assert walk.pop("walk_forward")["mode"] == "rolling"
    assert walk.pop("parallel")["backend"] == "loky"
    assert walk == run


def test_a_fitted_clock_is_that_of_each_windows_own_training_years(tmp_path):
    with initialize_config_module("conf", version_base="1.3"):
        plain = plain_config(compose("walk_forward", overrides=["data.closed_day_weight=fitted"]))
    others = (*INVOCATION_KEYS, "walk_forward", "parallel")
    config = {name: value for name, value in plain.items() if name not in others}
    request = {"train_years": 5, "first_test": 2006}
    walk = open_walk(config, request, tmp_path / "walk")
    weights = []
    for window in (walk.windows[0], walk.windows[-1]):
        setup = walk.setup_of(window)
        assert isinstance(setup, OptionSetup)
        past = past_of(setup.loaded, "train")
        weight = estimate_closed_day_weight(past.dates, past.close[0])
        assert setup.loaded.history.closed_day_weight == weight
        assert setup.market.history.closed_day_weight == weight
        weights.append(weight)
    whole: Any = walk.setup.history
    assert len({*weights, whole.closed_day_weight}) == 3
