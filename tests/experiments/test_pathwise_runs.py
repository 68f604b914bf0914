"""Runs with a pathwise stage: before PPO and alone, left alone and killed."""

import json

import numpy as np
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.pathwise.trainer import PathwiseTrainer
from agents.persistence.checkpoint import read_checkpoint
from agents.persistence.packing import unpack
from agents.persistence.policy_file import load_policy
from experiments import evaluate, train
from experiments.runs.trials import read_trials
from tests.experiments.conftest import TINY

RUN = "outputs/tiny/day/run"
STAGE = ("updates=7", "stretches=8", "sessions=30")
BEFORE = (
    *TINY,
    "total_timesteps=256",
    "pretrain=pathwise",
    *(f"pretrain.{setting}" for setting in STAGE),
)
NETWORK = [given for given in TINY if given.startswith(("agent.lstm", "agent.n_lstm", "agent.net"))]
MARKET = [given for given in TINY if not given.startswith("agent.")]
WORLDS = ("markets=2", "paths=2", "sessions=200", "draws=3", "shares.garch=0.0")
FEW_YEARS = ("data.splits.train_end=2001-12-31", "data.splits.validation_end=2002-06-30")
ALONE = (*MARKET, *NETWORK, "agent=pathwise", *(f"agent.{setting}" for setting in STAGE))


def weights(folder):
    return load_policy(folder).policy.state_dict()


def test_a_killed_stage_ends_with_the_same_weights(command, tmp_path, monkeypatch):
    left_alone, run = tmp_path / "outputs/tiny/day/other", tmp_path / RUN
    assert command(train, *BEFORE, f"hydra.run.dir={left_alone}")[::2] == (0, "")
    kill_after_four_updates_and_go_on(command, BEFORE, run, monkeypatch)
    for name in ("", "best", "pathwise/policy"):
        assert policy_bytes(run / name) == policy_bytes(left_alone / name), name
    check_that_ppo_began_with_the_stage(left_alone)


def test_worlds_are_drawn_anew_and_a_killed_stage_goes_on_in_its_own(
    command, tmp_path, monkeypatch
):
    """Three draws in seven updates: the fifth, after which the next begins, was never reached."""
    left_alone, run = tmp_path / "outputs/tiny/day/other", tmp_path / RUN
    markets = [setting for setting in ALONE if not setting.startswith("data")]
    worlds = (f"data.worlds.{setting}" for setting in WORLDS)
    in_worlds = (*markets, "data=worlds", *worlds, *FEW_YEARS)
    learned_in, learn_in = [], PathwiseTrainer.learn_in

    def noted(trainer, twins, windows):
        learned_in.append(twins[0].market.history.fingerprint)
        learn_in(trainer, twins, windows)

    monkeypatch.setattr(PathwiseTrainer, "learn_in", noted)
    assert command(train, *in_worlds, f"hydra.run.dir={left_alone}")[::2] == (0, "")
    assert len(learned_in) == len(set(learned_in)) == 3
    kill_after_four_updates_and_go_on(command, in_worlds, run, monkeypatch)
    assert policy_bytes(run) == policy_bytes(left_alone)
    assert set(learned_in[3:]) == set(learned_in[:3])


def kill_after_four_updates_and_go_on(command, overrides, run, monkeypatch):
    update = PathwiseTrainer.update

    def killed(trainer):
        if trainer.updates_done == 4:
            raise KeyboardInterrupt
        return update(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(PathwiseTrainer, "update", killed)
        assert command(train, *overrides, f"hydra.run.dir={RUN}")[0] == 130
    assert not (run / "pathwise/policy").exists()
    assert command(train, f"resume={RUN}")[::2] == (0, "")
    assert "resuming pathwise training after update 4" in (run / "train.log").read_text()


def policy_bytes(folder):
    return (folder / "policy.safetensors").read_bytes()


def check_that_ppo_began_with_the_stage(run):
    state, stage = (
        read_checkpoint(run / "checkpoints/step_000000000"),
        weights(run / "pathwise/policy"),
    )
    began = unpack(state.values["policy"], state.arrays)
    assert all(np.array_equal(stage[name], value) for name, value in began.items())
    assert any(not torch.equal(stage[name], value) for name, value in weights(run).items())
    assert "step 0: Sharpe" in (run / "train.log").read_text()
    events = EventAccumulator(str(run / "tensorboard/pathwise"))
    events.Reload()
    assert {"pathwise/objective", "pathwise/grad_norm"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("pathwise/objective")] == list(range(1, 8))


def test_pathwise_training_alone_is_a_run_like_any_other(command, tmp_path):
    assert command(train, *ALONE, f"hydra.run.dir={RUN}", "experiment=tiny")[::2] == (0, "")
    run = tmp_path / RUN
    stage = weights(run / "pathwise/policy")
    for folder in (run, run / "best"):
        assert all(torch.equal(stage[name], value) for name, value in weights(folder).items())
    manifest = json.loads((run / "manifest.json").read_text())
    assert (manifest["status"], manifest["steps"]) == ("finished", 0)
    (trial,) = read_trials(tmp_path / "outputs/trials.jsonl").to_dict("records")
    assert (trial["policy_step"], trial["candidates"]) == (0, 1)
    code, out, _ = command(evaluate, f"run={RUN}", "report=false", "resamples=100", "split=test")
    assert code == 0, out


def test_a_stage_before_a_training_without_ppo_is_refused(command):
    code, _, err = command(train, *ALONE, "pretrain=pathwise", f"hydra.run.dir={RUN}")
    assert code == 2
    assert "agent=pathwise makes no step" in err


def test_a_window_too_short_for_a_stretch_is_refused_before_anything_is_written(command, tmp_path):
    code, _, err = command(train, *ALONE, "agent.sessions=5000", f"hydra.run.dir={RUN}")
    assert code == 2
    assert "a stretch of 5000 sessions does not fit" in err
    assert not (tmp_path / RUN / "manifest.json").exists()
