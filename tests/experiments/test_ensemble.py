"""Runs merged into one that every other command can open."""

import json
import shutil

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module

from agents.persistence.policy_file import load_policy, save_policy
from agents.ppo.policies import MaskedMlpLstmPolicy
from experiments import ensemble, evaluate, train
from experiments.runs.config import config_hash, plain_config
from experiments.runs.merging import _environment
from experiments.runs.record import load_manifest, load_run_config
from experiments.runs.trials import read_trials


def change_config(run, **changes):
    config = json.loads((run / "config.json").read_text()) | changes
    (run / "config.json").write_text(json.dumps(config))
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(manifest | {"config_hash": config_hash(config)}))


@pytest.fixture
def runs(finished_run, tmp_path):
    """Three runs of other seeds and weights, beside the ledger of the first."""
    outputs = tmp_path / "outputs"
    shutil.copytree(finished_run.parents[2], outputs)
    made = []
    for seed in range(3):
        run = outputs / "tiny" / "day" / f"seed{seed}"
        shutil.copytree(finished_run, run)
        reward = {**load_run_config(run)["reward"], "ruin_penalty": 1.0 + seed}
        change_config(run, seed=seed, reward=reward)  # what it was paid for does not matter
        loaded = load_policy(run / "best")
        torch.manual_seed(seed)
        with torch.no_grad():
            for weight in loaded.policy.parameters():
                weight.add_(0.1 * torch.randn_like(weight))
        save_policy(loaded.policy, run / "best", loaded.metadata)
        made.append(run)
    return made


def listed(runs):
    return f"runs=[{','.join(f'tiny/day/{run.name}' for run in runs)}]"


def test_a_merged_run_is_a_run(command, runs, tmp_path):
    code, out, err = command(ensemble, listed(runs))
    assert (code, err) == (0, "")
    assert "merged 3 policies: validation Sharpe" in out
    (manifest,) = tmp_path.glob("outputs/ensemble/*/*/manifest.json")
    merged = manifest.parent
    described, steps = load_manifest(merged), load_policy(runs[0] / "best").metadata["step"]
    assert described["status"] == "finished"
    assert described["steps"] == 3 * steps
    assert described["merged_from"] == [
        {"run": f"tiny/day/seed{seed}", "seed": seed, "policy_step": steps} for seed in range(3)
    ]
    assert str(tmp_path) not in manifest.read_text()
    agent = load_run_config(merged)["agent"]
    assert (agent["lstm_hidden_size"], agent["net_arch"]) == (24, [24])

    obs = np.random.default_rng(0).normal(size=(4, 213)).astype(np.float32)
    members = [load_policy(run / "best").policy.predict(obs, deterministic=True) for run in runs]
    action = load_policy(merged / "best").policy.predict(obs, deterministic=True)[0]
    np.testing.assert_allclose(action, np.mean([m[0] for m in members], axis=0), atol=1e-6)

    code, _, err = command(evaluate, f"run={merged}", "split=test", "report=false", "resamples=100")
    assert (code, err) == (0, "")
    rows = read_trials(tmp_path / "outputs" / "trials.jsonl")
    own = rows[rows["run"].str.startswith("ensemble/")]
    assert list(zip(own["split"], own["candidates"], strict=True)) == [
        ("test", 1),
        ("validation", 1),
    ]
    code, _, err = command(train, f"resume={merged}")
    assert code == 2
    assert "is an ensemble, of which nothing was trained" in err


def test_what_cannot_be_merged_is_one_line_and_leaves_nothing(command, runs, tmp_path):
    def refusal(*arguments):
        code, _, err = command(ensemble, *arguments)
        assert code == 2
        assert err.count("\n") == 1
        assert not (tmp_path / "outputs" / "ensemble").exists()
        return err

    assert "Name two or more" in refusal(listed(runs[:1]))
    assert "was not found" in refusal("runs=[nothing,tiny/day/seed0]")
    assert "has no value" in refusal()
    env = load_run_config(runs[1])["env"]
    change_config(runs[1], env={**env, "sizing": {**env["sizing"], "unit": "notional"}})
    assert "seed1 differs from that of outputs/tiny/day/seed0 in env.sizing" in refusal(
        listed(runs)
    )
    change_config(runs[1], env=env)
    best = load_policy(runs[2] / "best")
    spaces = best.policy.observation_space, best.policy.action_space
    other = MaskedMlpLstmPolicy(*spaces, lambda _: 0.0, lstm_hidden_size=9, net_arch=[8])
    save_policy(other, runs[2] / "best", best.metadata)
    assert "policy 3 differs from the first in " in refusal(listed(runs))
    manifest = json.loads((runs[0] / "manifest.json").read_text())
    (runs[0] / "manifest.json").write_text(json.dumps(manifest | {"status": "failed"}))
    assert "seed0 is failed, not finished" in refusal(listed(runs))


def test_runs_that_learned_in_other_worlds_are_of_one_environment():
    with initialize_config_module("conf", version_base="1.3"):
        first, second, other = (
            plain_config(compose("config", overrides=["+exp=quickstart", *more]))
            for more in (["seed=0"], ["seed=1"], ["data.closed_day_weight=1"])
        )
    assert first["data"]["worlds"]["seed"] == 0
    assert second["data"]["worlds"]["seed"] == 1
    assert _environment(first) == _environment(second) != _environment(other)
