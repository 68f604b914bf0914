"""A run through the stages of a curriculum: killed and resumed it ends with equal weights."""

import json

import pytest

from callbacks.curriculum import StagedEpisodes
from experiments import train
from tests.experiments.conftest import TINY

PATHS = (*TINY, "data.paths=4", "curriculum.stages=[{calmest:0.5,until:0.5},{}]")
YEARS = (
    *TINY,
    "curriculum.stages=[{first:1999-03-01,last:1999-09-30,until:0.3,until_score:-9},{}]",
)
RUNS = {name: f"outputs/tiny/day/{name}" for name in ("alone", "stopped", "without")}


@pytest.mark.parametrize(
    ("overrides", "begins"),
    [pytest.param(PATHS, 256, marks=pytest.mark.slow), (YEARS, 256)],
    ids=["calm paths", "years"],
)
def test_a_stopped_run_ends_with_the_same_weights(
    command, stopped_and_resumed, finished_run, tmp_path, overrides, begins
):
    kind = "worlds" if overrides is PATHS else "years"
    arguments = (*overrides, f"curriculum={kind}")
    assert command(train, *arguments, f"hydra.run.dir={RUNS['alone']}")[0] == 0
    log = (tmp_path / RUNS["alone"] / "train.log").read_text()
    assert f"step {begins}: stage 2 of the curriculum begins" in log
    alone = tmp_path / RUNS["alone"]
    stopped = stopped_and_resumed(RUNS["stopped"], arguments, StagedEpisodes)
    weights = (alone / "policy.safetensors").read_bytes()
    assert (stopped / "policy.safetensors").read_bytes() == weights
    without = finished_run
    if overrides is PATHS:
        assert command(train, *TINY, "data.paths=4", f"hydra.run.dir={RUNS['without']}")[0] == 0
        without = tmp_path / RUNS["without"]
    assert (without / "policy.safetensors").read_bytes() != weights
    assert command(train, f"resume={RUNS['stopped']}", "total_timesteps=640")[0] == 0
    (change,) = json.loads((stopped / "manifest.json").read_text())["changes"]
    assert "shares of total_timesteps" in change["inexact_because"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["curriculum=years"], "stage 1 of the curriculum has 0 of the training sessions"),
        (["curriculum=worlds"], "has one path"),
        (["curriculum=years", "data=worlds"], "simulated worlds, whose days are made up"),
        (["curriculum=worlds", "agent=pathwise"], "agent=pathwise makes no step"),
        (["curriculum=wrolds"], "Did you mean curriculum=worlds?"),
    ],
)
def test_a_curriculum_that_does_not_fit_is_one_line_code_2(command, tmp_path, arguments, complaint):
    base = list(TINY)
    if "data=worlds" in arguments:
        base = [text for text in TINY if not text.startswith("data")]
    if "agent=pathwise" in arguments:
        base = [text for text in TINY if not text.startswith("agent")]
    code, _, err = command(train, *base, *arguments)
    assert (code, err.count("\n")) == (2, 1), err
    assert complaint in err
    assert not list(tmp_path.rglob("*.json"))
