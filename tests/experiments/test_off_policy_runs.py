"""Runs of TQC by the commands: trained, stopped, resumed, evaluated and refused as any other."""

import json

import pytest

from callbacks.validation import Validation
from experiments import evaluate, train
from tests.experiments.conftest import TINY

MARKET = [text for text in TINY if not text.startswith("agent.")]
AGENT = (
    *("agent=tqc", "agent.rollout_steps=64", "agent.gradient_steps=2", "agent.learning_starts=64"),
    *("agent.batch_size=32", "agent.net_arch=[8]", "agent.critic_arch=[8]"),
    *("agent.replay.size=256", "agent.features=[volatility_20d,drawdown]"),
)
GOAL = (
    *("env.observation.goal={sessions:10}", "reward.weights.goal_return=5"),
    *("agent.features=[volatility_20d,drawdown,goal.*,reached.*]", "agent.learning_starts=160"),
    *("agent.replay.size=320", "agent.replay.kind=hindsight"),
)
RUNS = {name: f"outputs/tiny/day/{name}" for name in ("alone", "stopped")}


@pytest.mark.parametrize(
    "kind", [pytest.param("uniform", marks=pytest.mark.slow), "prioritised", "hindsight"]
)
def test_a_stopped_run_ends_with_the_same_weights(command, stopped_and_resumed, tmp_path, kind):
    own = GOAL if kind == "hindsight" else (f"agent.replay.kind={kind}",)
    arguments = (*MARKET, *AGENT, *own)
    assert command(train, *arguments, f"hydra.run.dir={RUNS['alone']}")[0] == 0
    log = (tmp_path / RUNS["alone"] / "train.log").read_text()
    size = "320 transitions, up to 1 MB" if kind == "hindsight" else "256 transitions, up to 0 MB"
    assert f"replay buffer: {size}" in log
    alone = tmp_path / RUNS["alone"]
    stopped = stopped_and_resumed(RUNS["stopped"], arguments, Validation)
    assert "resuming from step_000000384" in (stopped / "train.log").read_text()
    for name in ("policy.safetensors", "best/policy.safetensors"):
        assert (stopped / name).read_bytes() == (alone / name).read_bytes()
    if kind == "prioritised":
        assert command(train, f"resume={RUNS['stopped']}", "total_timesteps=576")[0] == 0
        (change,) = json.loads((stopped / "manifest.json").read_text())["changes"]
        assert "prioritised replay" in change["inexact_because"]
        return
    once = ("report=false", "resamples=100", "split=test", "policy=last")
    code, out, _ = command(evaluate, f"run={RUNS['alone']}", *once)
    assert code == 0
    assert "Sharpe" in out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["pretrain=pathwise"], "agent=tqc begins without it"),
        (["agent.n_epochs=2"], "agent.n_epochs"),
        (["agent.replay.kind=greedy"], "agent.replay.kind"),
        (["agent.replay.alpha=2"], "agent.replay.alpha"),
        (["agent.replay.size=32"], "does not hold the 64 steps of a rollout"),
        (["agent.replay.kind=hindsight"], "learns from other goals, and there is none"),
        (["agent.replay.strategy=past"], "agent.replay.strategy"),
        ([*GOAL, "agent.learning_starts=64"], "Choose agent.learning_starts=160 or more"),
        ([*GOAL, "env.observation.goal=null"], "there is no goal: set env.observation.goal"),
        (["env.observation.goal={days:1}"], "env.observation.goal.days"),
    ],
)
def test_what_does_not_go_with_tqc_is_one_line_code_2(command, tmp_path, arguments, complaint):
    code, _, err = command(train, *MARKET, *AGENT, *arguments)
    assert (code, err.count("\n")) == (2, 1), err
    assert complaint in err
    assert not list(tmp_path.rglob("*.json"))
