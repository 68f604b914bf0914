"""A resumed run may be made longer and go on on another device; the manifest says so."""

import json
import shutil
from typing import Any

import pytest
import torch

from experiments import train
from experiments.runs.config import config_hash
from experiments.runs.record import load_run_config
from experiments.runs.settings import run_settings
from experiments.runs.training import TrainingJob, _inexact_because
from tests.experiments.conftest import FINISHED, TINY, _call

RUN = "outputs/tiny/day/run"
SHORT = (*FINISHED, "total_timesteps=256", f"hydra.run.dir={RUN}")
POLICIES = ("policy.safetensors", "best/policy.safetensors")


def manifest_of(run):
    return json.loads((run / "manifest.json").read_text())


@pytest.fixture(scope="module")
def short_outputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("short")
    _call(train, root, *SHORT)
    return root / "outputs"


@pytest.fixture
def run(short_outputs, tmp_path):
    """A finished run of 256 steps to go on with."""
    shutil.copytree(short_outputs, tmp_path / "outputs")
    return tmp_path / RUN


def made_with(run, path, value):
    """The run folder as with another value of a setting, by which its 256 steps do not differ."""
    config = json.loads((run / "config.json").read_text())
    *groups, name = path.split(".")
    own = config
    for group in groups:
        own = own[group]
    own[name] = value
    (run / "config.json").write_text(json.dumps(config))
    manifest = manifest_of(run) | {"config_hash": config_hash(config)}
    (run / "manifest.json").write_text(json.dumps(manifest))


def test_a_run_made_longer_equals_one_that_was_longer_from_the_start(command, finished_run, run):
    assert command(train, f"resume={RUN}", "total_timesteps=512")[::2] == (0, "")
    for name in POLICIES:
        assert (run / name).read_bytes() == (finished_run / name).read_bytes(), name
    assert load_run_config(run) == load_run_config(finished_run)
    manifest = manifest_of(run)
    assert (manifest["status"], manifest["steps"]) == ("finished", 512)
    assert manifest["changes"] == [
        {
            "at_step": 256,
            "from": {"total_timesteps": 256},
            "to": {"total_timesteps": 512},
            "inexact_because": None,
        }
    ]
    # Once more, with nothing to change.
    assert command(train, f"resume={RUN}", "total_timesteps=512")[0] == 0
    assert manifest_of(run)["changes"] == manifest["changes"]


def test_what_depends_on_the_total_is_said(command, run):
    made_with(run, "callbacks.validate_every", 10_000)
    assert command(train, f"resume={RUN}", "total_timesteps=384")[::2] == (0, "")
    because = manifest_of(run)["changes"][0]["inexact_because"]
    assert "the policy of step 256 was scored" in because


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("learning_rate_end", 1e-4, "the learning rate falls with total_timesteps"),
        ("ent_coef", {"start": 0.1, "end": 0.0}, "ent_coef changes with total_timesteps"),
    ],
)
def test_schedules_that_depend_on_the_total_are_said(short_outputs, setting, value, reason):
    config = load_run_config(short_outputs / "tiny/day/run")
    config["agent"][setting] = value
    unread: Any = None
    job = TrainingJob(
        short_outputs, config, run_settings(config), unread, resumed=True, allow_inexact=False
    )
    assert reason in str(_inexact_because(job, unread, unread))


STAIRS = ("agent.learning_rate=[[0,1e-3],[200,1e-4]]", "agent.batch_size=[[0,32],[300,64]]")
ALLOCATION = (
    *("+exp=allocation", "data.assets=3", "data.paths=2", "data.sessions=400"),
    *(
        override
        for override in TINY
        if not override.startswith(("data", "agent.lstm", "agent.n_ls"))
    ),
)


@pytest.mark.parametrize(
    "overrides",
    [TINY, pytest.param(ALLOCATION, marks=pytest.mark.slow)],
    ids=["recurrent_ppo", "allocation"],
)
def test_stairs_of_absolute_steps_do_not_depend_on_the_total(command, tmp_path, overrides):
    runs = {name: f"outputs/tiny/day/{name}" for name in ("whole", "longer")}
    whole, longer = (tmp_path / folder for folder in runs.values())
    changes = (*overrides, *STAIRS)
    assert command(train, *changes, f"hydra.run.dir={runs['whole']}")[0] == 0
    short = (*changes, "total_timesteps=256", f"hydra.run.dir={runs['longer']}")
    assert command(train, *short)[0] == 0
    assert command(train, f"resume={runs['longer']}", "total_timesteps=512")[0] == 0
    assert manifest_of(longer)["changes"][0]["inexact_because"] is None
    for name in POLICIES:
        assert (longer / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ("total_timesteps=100", "total_timesteps = 100 is less than the run's own 256"),
        ("total_timesteps=long", "total_timesteps = 'long'"),
        ("total_timesteps=true", "total_timesteps = True is not valid: a number"),
        ("device=tpu", "device = 'tpu'"),
        ("allow_inexact_resume=maybe", "allow_inexact_resume is 'maybe'"),
        ("seed=3", "'seed=3' was given together with resume="),
    ],
)
def test_other_changes_are_refused_and_leave_the_run_as_it_is(command, argument, complaint, run):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    code, _, err = command(train, f"resume={RUN}", argument)
    assert (code, err.count("\n")) == (2, 1)
    assert complaint in err
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.mark.parametrize("argument", ["allow_inexact_resume=true", "device=cpu"])
def test_a_run_made_on_a_gpu_goes_on_without_one(command, run, monkeypatch, argument):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    made_with(run, "device", "cuda")
    code, _, err = command(train, f"resume={RUN}", "total_timesteps=384")
    assert code == 2
    assert "Go on with device=cpu beside resume=" in err
    assert command(train, f"resume={RUN}", argument, "total_timesteps=384")[0] == 0
    (change,) = manifest_of(run)["changes"]
    assert (change["from"]["device"], change["to"]["device"]) == ("cuda", "cpu")
    assert "device" in change["inexact_because"]
    assert load_run_config(run)["device"] == "cpu"
    assert manifest_of(run)["status"] == "finished"


def test_a_kill_between_manifest_and_configuration_loses_nothing(command, run):
    former = (run / "config.json").read_bytes()
    assert command(train, f"resume={RUN}", "total_timesteps=384")[0] == 0
    (run / "config.json").write_bytes(former)
    assert load_run_config(run)["total_timesteps"] == 384
    assert command(train, f"resume={RUN}")[0] == 0
    assert json.loads((run / "config.json").read_text())["total_timesteps"] == 384
