"""Hedges timed until they are as good as a constant band. Nothing here looks at the time."""

import json
import math
import subprocess
import types
from typing import Any

import pytest
from hydra import initialize_config_module

from agents.factory import EpisodePPOSettings, PathwiseAgentSettings
from conf.errors import InputError
from experiments.benchmarks import hedging
from experiments.benchmarks.hedging import AGENTS, TARGET, Course, Learnt, hedging_run, learnt_rows
from experiments.benchmarks.settings import BenchmarkSettings

SMALL = ("data.paths=60", "data.sessions=130", "env.episode.sessions=4")


def clock(monkeypatch):
    """Ticks once a call: a lesson takes one, and so does a look, which is not counted."""
    ticks = iter(range(1000))
    monkeypatch.setattr("time.process_time", lambda: float(next(ticks)))


def test_looking_is_not_counted_and_ends_once_the_target_is_reached(monkeypatch):
    clock(monkeypatch)
    looks = iter([200.0, 130.0, 129.0])
    seen = []

    def look():
        seen.append(course.spent)
        return next(looks)

    course = Course(look)
    for _ in range(9):
        course.lesson()
    assert course.spent == 9.0
    assert seen == [1.0, 2.0, 3.0]  # a quarter apart, a lesson at least
    assert course.reached == 3.0


def test_looks_are_a_quarter_apart(monkeypatch):
    clock(monkeypatch)
    seen = []

    def look():
        seen.append(course.spent)
        return 200.0

    course = Course(look)
    for _ in range(30):
        course.lesson()
    assert seen == [1, 2, 3, 4, 5, 7, 9, 12, 15, 19, 24, 30]
    assert course.reached is None


@pytest.mark.parametrize("name", AGENTS)
def test_agents_learn_what_the_experiment_says(name, monkeypatch):
    monkeypatch.setattr(hedging, "TARGET", 1000.0)
    few = ("num_envs=16",) if name == "ppo" else ("agent.stretches=16",)
    with initialize_config_module("conf", version_base="1.3"):
        settings = hedging_run(*AGENTS[name], *SMALL, *few)
    assert (
        type(settings.agent) is {"pathwise": PathwiseAgentSettings, "ppo": EpisodePPOSettings}[name]
    )
    env: Any = settings.market.env
    assert env.objective.multiple == 1.5
    monkeypatch.setattr(hedging, "FIRST_LOOK", 0.0)
    effort = 0.02 if name == "pathwise" else 256 / 8_192_000
    learnt = hedging.learn(settings, effort, paths=100)
    assert learnt.reached is None or learnt.reached <= learnt.spent
    assert 50.0 < learnt.objective < 1000.0


def test_rows_say_what_was_never_reached():
    learnt = {"ppo": Learnt(None, 80.0, 140.0), "pfhedge": Learnt(2.0, 40.0, 119.0)}
    rows = {row.name: row for row in learnt_rows(learnt)}
    never = rows["hedging.ppo_to_band"]
    assert (never.value, never.details) == (80.0, {"reached": False})
    assert "never" in never.what
    assert rows["hedging.ppo_objective"].met is False
    assert rows["hedging.pfhedge_to_band"].value == 2.0
    assert rows["hedging.pfhedge"].value == 40.0
    assert rows["hedging.pfhedge_objective"].met is None
    assert BenchmarkSettings().pfhedge is False


def test_pfhedge_is_asked_in_an_environment_of_its_own(monkeypatch):
    commands = []

    def run(command, **_):
        commands.append(command)
        told = json.dumps({"reached": 1.0, "spent": 3.0, "objective": 120.0})
        return types.SimpleNamespace(returncode=0, stdout=told, stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    assert hedging.learn_with_pfhedge(0.001, 500) == Learnt(1.0, 3.0, 120.0)
    made, installed, asked = commands
    assert made[1:3] == ("-m", "venv")
    assert "pfhedge==0.23.0" in installed
    assert asked[0] == installed[0] != made[0]
    request = json.loads(asked[-1])
    assert (request["epochs"], request["paths"], request["target"]) == (1, 500, TARGET)
    assert math.isclose(request["looks_apart"], 1.25)


def test_pfhedge_that_cannot_be_installed_is_an_input_error(monkeypatch):
    failed = types.SimpleNamespace(
        returncode=1, stdout="", stderr="WARNING: retrying\nERROR: No matching distribution\nnotice"
    )
    monkeypatch.setattr(subprocess, "run", lambda command, **_: failed)
    with pytest.raises(InputError, match="No matching distribution"):
        hedging.learn_with_pfhedge(1.0, 500)
