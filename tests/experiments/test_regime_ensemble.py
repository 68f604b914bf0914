"""Two runs merged into specialists by regime: an ordinary run, and nothing looks ahead."""

import dataclasses
import json
import shutil
from typing import Any

import numpy as np
import pytest
import torch

from agents.persistence.policy_file import load_policy, save_policy
from agents.regimes import RegimeFilter, RegimePolicy
from experiments import ensemble
from experiments.accounts.policies import plain_to_state, state_to_plain
from experiments.certificates import look_ahead
from experiments.certificates.look_ahead import (
    Configuration,
    certificate_of,
    compare_futures,
    run_configurations,
)
from experiments.certificates.small_environments import (
    index_history,
    option_settings,
    untrained_policy,
)
from experiments.certificates.sources import LoadedSource
from experiments.environments.opening import market_settings, open_market
from experiments.evaluation.open_run import open_run
from experiments.runs.merging import Specialists, _fitted
from experiments.runs.record import load_manifest, load_run_config
from tests.experiments.test_ensemble import change_config

RUNS = "runs=[tiny/day/seed0,tiny/day/seed1]"


@pytest.fixture
def runs(finished_run, tmp_path):
    """Two runs of other weights, beside the ledger of the first."""
    shutil.copytree(finished_run.parents[2], tmp_path / "outputs")
    made = []
    for seed in range(2):
        run = shutil.copytree(finished_run, tmp_path / "outputs" / "tiny" / "day" / f"seed{seed}")
        loaded = load_policy(run / "best")
        torch.manual_seed(seed)
        with torch.no_grad():
            for weight in loaded.policy.parameters():
                weight.add_(0.3 * torch.randn_like(weight))
        save_policy(loaded.policy, run / "best", loaded.metadata)
        made.append(run)
    return made


def test_specialists_by_regime_are_a_run_that_does_not_look_ahead(command, runs, tmp_path):
    code, out, err = command(ensemble, RUNS, "regime=volatility", "gating=soft")
    assert (code, err) == (0, "")
    assert "calm, " in out
    (manifest,) = tmp_path.glob("outputs/ensemble/*/*/manifest.json")
    merged = manifest.parent
    assert [(m["run"], m["regime"]) for m in load_manifest(merged)["merged_from"]] == [
        ("tiny/day/seed0", "calm"),
        ("tiny/day/seed1", "turbulent"),
    ]
    assert load_run_config(merged)["agent"] == load_run_config(runs[0])["agent"]
    tested = open_run(str(merged), "best")
    policy = tested.policy
    assert isinstance(policy, RegimePolicy)
    assert tested.setup.market.features[policy.regimes.column].name == "return"
    assert policy.regimes.variance[0] < policy.regimes.variance[1]
    certificate = certificate_of(
        "look_ahead.run",
        {each.name: compare_futures(each, 1, seed=0) for each in run_configurations(tested)},
    )
    assert certificate.passed
    assert certificate.details["differing"] == 0 < certificate.details["pairs"]

    # A paper account keeps the memory as JSON from one session to the next.
    rng, state, kept = np.random.default_rng(0), None, None
    for _ in range(5):
        seen = rng.normal(size=(1, 213)).astype(np.float32)
        action, state = policy.predict(seen, state, deterministic=True)
        again, after = policy.predict(seen, kept, deterministic=True)
        assert np.array_equal(again, action)
        kept = plain_to_state(json.loads(json.dumps(state_to_plain(after))))


class TomorrowsRegime:
    """A filter that reads the return of the day after from the kernel's market."""

    def __init__(self, regimes):
        self.regimes, self.column, self.shares = regimes, regimes.column, regimes.shares
        self.books: Any = None

    def update(self, before, observed):
        books, today = self.books, self.regimes.update(before, observed)
        seen = books.market.observed.before[books.path, books.session + 1, self.column]
        return self.regimes.update(today, seen.astype(np.float64))


@pytest.mark.usefixtures("one_thread")
def test_the_certificate_fails_where_the_regime_is_tomorrows(monkeypatch):
    history = index_history("gbm", 110)
    settings = option_settings(history, "vix", "expiry", managed=False)
    market = settings.build(history)
    members = [untrained_policy(settings, market, seed) for seed in (0, 1)]
    regimes = RegimeFilter(column=1, mean=(0.0, 0.0), variance=(0.5, 4.0), stay=(0.97, 0.9))
    policy = RegimePolicy(members, regimes, "soft")
    configuration = Configuration("x", LoadedSource("gbm", history), settings, policy)

    def certificate():
        return certificate_of("x", {"x": compare_futures(configuration, 2, seed=3)})

    assert certificate().passed
    policy.regimes = planted = TomorrowsRegime(regimes)  # type: ignore[assignment]
    right = look_ahead._episode

    def played(kernel, policy):
        planted.books = kernel
        return right(kernel, policy)

    monkeypatch.setattr(look_ahead, "_episode", played)
    failed = certificate()
    assert not failed.passed
    assert "first action (" in failed.what


def test_regimes_are_fitted_to_the_training_years_alone(finished_run):
    config = load_run_config(finished_run)
    setup = open_market(market_settings(config))
    history, window = setup.history, setup.window("train")
    later = {name: getattr(history, name).copy() for name in ("open", "high", "low", "close")}
    for prices in later.values():
        prices[:, window.stop :] *= 3.0
    changed: Any = setup.settings.build(dataclasses.replace(history, **later))
    other = dataclasses.replace(setup, market=changed)
    for regime in ("volatility", "trend"):
        asked = Specialists(regime, None, "hard")
        fitted = _fitted(asked, setup)
        assert fitted == _fitted(asked, other)
        observed = changed.observed.before[:, window.start : window.stop, fitted.column]
        mean, square = (
            fitted.shares @ np.array([fitted.mean, np.square(fitted.mean) + fitted.variance]).T
        )
        assert 0.7 < (square - mean**2) / observed.var() < 1.4


def test_what_shows_no_regimes_is_one_line_and_leaves_nothing(command, runs, tmp_path):
    def refusal(*arguments):
        code, _, err = command(ensemble, *arguments)
        assert code == 2
        assert err.count("\n") == 1
        assert not (tmp_path / "outputs" / "ensemble").exists()
        return err

    assert "Name two or more" in refusal("runs=[tiny/day/seed0]", "regime=trend")
    three = "runs=[tiny/day/seed0,tiny/day/seed1,tiny/day/run]"
    assert "two regimes. Name two, the falling one first" in refusal(three, "regime=trend")
    assert "'volatility' or 'trend'" in refusal(RUNS, "regime=calm")
    assert "Give regime= too" in refusal(RUNS, "feature=return")
    volatility = (RUNS, "regime=volatility")
    assert "Did you mean volatility_20d?" in refusal(*volatility, "feature=volatility_30d")
    assert "fits 20 features" in refusal(*volatility, "feature='*.price'")
    for of_the_book in ("drawdown", "log_price"):
        refused = refusal(*volatility, f"feature={of_the_book}")
        assert f"feature={of_the_book} shows no two regimes in the training years" in refused
    env = load_run_config(runs[1])["env"]
    change_config(runs[1], env={**env, "observation": {"extra_blocks": ["rates"]}})
    assert "seed1 differs from that of outputs/tiny/day/seed0 in env.obs" in refusal(*volatility)
