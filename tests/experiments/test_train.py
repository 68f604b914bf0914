import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_module
from sb3_contrib import RecurrentPPO
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.persistence.checkpoint import list_checkpoints
from agents.persistence.policy_file import load_policy
from conf.errors import InputError
from envs.market.sources import index as sources
from experiments import train
from experiments.runs.config import plain_config
from experiments.runs.settings import run_settings
from experiments.runs.training import INVOCATION_KEYS, validation_score
from tests.experiments.conftest import TINY

EXPERIMENTS = sorted(path.stem for path in (Path(__file__).parents[2] / "conf/exp").glob("*.yaml"))
SHORT = "total_timesteps=128"  # one rollout
TINY_ALLOCATION = (
    *("data=panel_simulated", "data.assets=3", "data.sessions=500", "num_envs=4", "threads=1"),
    *("env.episode.sessions=40", "agent.rollout_steps=128", "agent.batch_size=64"),
    *("agent.net_arch=[8]", "pretrain.updates=5"),
)
TINY_HEDGING = (
    *("data.paths=30", "data.sessions=130", "env.episode.sessions=6", "agent.updates=3"),
    "agent.stretches=16",
)
TINY_WORLDS = (
    *("data.worlds.markets=2", "data.worlds.paths=1", "data.worlds.draws=2"),
    "data.worlds.sessions=200",
)
TINY_PATHWISE = ("agent.updates=3", "agent.stretches=4", "agent.net_arch=[8]")
FEW_YEARS = ("data.splits.train_end=2001-12-31", "data.splits.validation_end=2002-06-30")
TRAINED = {
    "all_worlds": (
        *(*TINY_WORLDS, *TINY_PATHWISE, *FEW_YEARS),
        *("agent.sessions=40", "env.episode.sessions=40", "agent.learning_rate=0.1"),
    ),
    "allocation": TINY_ALLOCATION,
    "document": TINY,
    "hedging": TINY_HEDGING,
    "hedging_recurrent": TINY_HEDGING,
    "hedging_sp500": (*TINY_WORLDS[:3], *TINY_PATHWISE),
    "quickstart": (*TINY, "pretrain.updates=5"),
}
ALIKE = {  # in the kind of what is trained
    "allocation_stocks": "allocation",
    "extended": "document",
    "flat_vol": "document",
    "production": "quickstart",
    "validation": "document",
}
RUN = "hydra.run.dir=outputs/tiny/day/run"


@pytest.mark.parametrize("name", TRAINED)
def test_an_experiment_of_every_kind_trains(command, name, tmp_path, monkeypatch):
    """And gives Hydra's optimising sweepers what its policy was chosen by."""
    given, job = [], train.train
    monkeypatch.setattr(train, "train", lambda config: given.append(job(config)))
    code, _, err = command(train, f"+exp={name}", *TRAINED[name], SHORT)
    assert (code, err) == (0, "")
    (manifest,) = tmp_path.glob(f"outputs/{name}/*/*/manifest.json")
    assert json.loads(manifest.read_text())["status"] == "finished"
    chosen = manifest.parent / "best" / "validation.json"
    assert given == [json.loads(chosen.read_text())["score"] if chosen.is_file() else None]


def test_every_experiment_composes_and_is_of_a_kind_that_trains():
    kinds = {}
    with initialize_config_module("conf", version_base="1.3"):
        for name in EXPERIMENTS:
            plain = plain_config(compose("config", overrides=[f"+exp={name}"]))
            settings = run_settings({k: v for k, v in plain.items() if k not in INVOCATION_KEYS})
            assert settings.top.experiment == name
            kinds[name] = (type(settings.agent), type(settings.pretrain), plain["env"]["kind"])
    assert kinds.keys() == TRAINED.keys() | ALIKE.keys()
    assert all(kinds[name] == kinds[like] for name, like in ALIKE.items())


def test_a_run_leaves_what_the_readme_says(finished_run):
    manifest = json.loads((finished_run / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert manifest["steps"] == 512
    assert manifest["data"]["splits"].keys() == {"train", "validation", "test"}
    steps = [path.name for path in list_checkpoints(finished_run / "checkpoints")]
    assert steps == [f"step_{128 * i:09d}" for i in range(5)]
    best = load_policy(finished_run / "best")
    assert best.metadata["step"] in (256, 512)
    assert load_policy(finished_run).metadata["step"] == 512
    assert (finished_run / "train.log").read_text().count("Sharpe") == 3
    assert not list(finished_run.rglob(".tmp-*"))


def test_the_zip_loads_in_stock_sb3_contrib(finished_run):
    stock = RecurrentPPO.load(finished_run / "model.zip", device="cpu")
    own = load_policy(finished_run).policy
    assert type(stock.policy).__module__.startswith("sb3_contrib")
    for name, value in own.state_dict().items():
        assert torch.equal(value, stock.policy.state_dict()[name])


def test_tensorboard_shows_the_documented_scalars(finished_run):
    events = EventAccumulator(str(finished_run / "tensorboard"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {
        "episode/sharpe",
        "episode/max_drawdown",
        "episode/costs_share",
        "reward/portfolio_return",
        "reward/drawdown",
        "reward/total",
        "book/delta",
        "book/gamma",
        "book/vega",
        "book/theta",
        "book/gross_notional",
        "validation/sharpe",
        "validation/gap",
        "train_split/sharpe",
        "train/loss",
    } <= tags
    assert [event.step for event in events.Scalars("validation/sharpe")] == [256, 512]
    names = ("portfolio_return", "sharpe", "drawdown", "cost", "diversity", "concentration")
    parts = [events.Scalars(f"reward/{name}")[1].value for name in names]
    assert events.Scalars("reward/total")[1].value == pytest.approx(sum(parts), rel=1e-4)


def test_the_stock_agent_trains_and_is_saved_the_same_way(command, tmp_path):
    code, _, err = command(train, *TINY, "agent=recurrent_ppo_stock", SHORT, RUN)
    assert (code, err) == (0, "")
    load_policy(tmp_path / "outputs/tiny/day/run/best")


def test_a_multirun_makes_and_ranks_one_run_for_each_point_and_goes_on_with_what_is_missing(
    command, tmp_path
):
    many = ("-m", *TINY, "seed=1,2,3", "hydra.sweep.dir=outputs/tiny/many")
    code, out, err = command(train, *many, SHORT)
    assert (code, err) == (0, "")
    folder = tmp_path / "outputs/tiny/many"
    manifests = sorted(folder.glob("*/manifest.json"))
    assert [json.loads(path.read_text())["seed"] for path in manifests] == [1, 2, 3]
    assert "3 jobs by validation score" in out
    assert "python -m experiments.compare run=outputs/tiny/many" in out
    scores: dict[str, Any] = {run.name: validation_score(run) for run in folder.glob("?")}
    ranked = re.findall(r"^\W*(\d) .* (seed=\d)", out.partition("by validation score")[2], re.M)
    order = sorted(scores, key=lambda job: scores[job], reverse=True)
    assert ranked == [(job, f"seed={int(job) + 1}") for job in order]
    policies = [(folder / f"{job}/policy.safetensors").read_bytes() for job in range(3)]
    assert len(set(policies)) == 3
    finished = (folder / "0/manifest.json").read_bytes()
    shutil.rmtree(folder / "2")  # never begun
    for name in ("policy.safetensors", "model.zip"):  # killed
        (folder / "1" / name).unlink()
    manifest = json.loads((folder / "1/manifest.json").read_text())
    (folder / "1/manifest.json").write_text(json.dumps(manifest | {"status": "running"}))
    code, out, err = command(train, "resume=outputs/tiny/many")
    assert (code, err) == (0, "")
    assert (folder / "2/policy.safetensors").read_bytes() == policies[2]
    assert (folder / "0/manifest.json").read_bytes() == finished
    assert json.loads((folder / "1/manifest.json").read_text())["status"] == "finished"
    assert (folder / "1/policy.safetensors").read_bytes() == policies[1]
    assert out.count("3 jobs by validation score") == 1
    code, _, err = command(train, "resume=outputs/tiny/many", "seed=9")
    assert code == 2
    assert "'seed=9' was given together with resume=" in err


def test_the_risk_module_can_stand_inside_training(command, tmp_path):
    code, _, err = command(train, *TINY, SHORT, RUN, "risk=conservative", "risk.in_training=true")
    assert (code, err) == (0, "")
    again = tmp_path / "outputs/tiny/day/run"
    assert command(train, f"resume={again}", "total_timesteps=256")[0] == 0


def test_patience_stops_a_run_that_no_longer_improves(command, tmp_path):
    impatient = ("total_timesteps=100000", "callbacks.patience=2", "callbacks.validate_every=128")
    code, _, _ = command(train, *TINY, *impatient, "agent.learning_rate=1e-30", RUN)
    assert code == 0
    run = tmp_path / "outputs/tiny/day/run"
    assert (
        "stopping: no better validation score in 2 evaluations" in (run / "train.log").read_text()
    )
    # Scored after the first three rollouts, and stopped at the first step of the next.
    assert json.loads((run / "manifest.json").read_text())["steps"] == 3 * 128 + 4


def test_a_run_warns_when_yahoo_cannot_be_reached(command, tmp_path, monkeypatch):
    def unreachable(*_):
        raise InputError("Yahoo Finance gave no data (asked for ^GSPC)", "Use data=sp500")

    monkeypatch.setattr(sources, "load_yahoo", unreachable)
    tiny = [text for text in TINY if not text.startswith("data")]
    code, out, _ = command(train, "data=yahoo_or_sp500", *tiny, SHORT, RUN)
    assert code == 0
    assert "FALLBACK" in out
    run = tmp_path / "outputs/tiny/day/run"
    manifest = json.loads((run / "manifest.json").read_text())
    assert "FALLBACK" in manifest["data"]["notices"][0]
    assert json.loads((run / "config.json").read_text())["data"]["source"] == "sp500"
    # It resumes, although the data is had without a fallback now, and keeps its notice.
    assert command(train, "resume=outputs/tiny/day/run")[0] == 0
    manifest = json.loads((run / "manifest.json").read_text())
    assert "FALLBACK" in manifest["data"]["notices"][0]
    code, _, err = command(train, "data=yahoo", *tiny)
    assert code == 2
    assert err == "error: Yahoo Finance gave no data (asked for ^GSPC). Use data=sp500\n"


def test_a_run_that_ended_beyond_its_steps_resumes_to_the_same_weights(command, tmp_path):
    """Rollouts are whole: the last one may go beyond total_timesteps."""
    run = tmp_path / "outputs/tiny/day/run"
    assert command(train, *TINY, "total_timesteps=100", RUN)[0] == 0
    weights = (run / "policy.safetensors").read_bytes()
    (run / "policy.safetensors").unlink()
    assert command(train, "resume=outputs/tiny/day/run")[0] == 0
    assert (run / "policy.safetensors").read_bytes() == weights
    manifest = json.loads((run / "manifest.json").read_text())
    assert (manifest["status"], manifest["steps"]) == ("finished", 128)


def test_a_folder_that_holds_a_run_is_not_written_over(command, finished_run):
    before = {path: path.read_bytes() for path in finished_run.rglob("*") if path.is_file()}
    code, _, err = command(train, *TINY, f"hydra.run.dir={finished_run}", "seed=4")
    assert code == 2
    assert "already holds a run" in err
    assert before == {path: path.read_bytes() for path in finished_run.rglob("*") if path.is_file()}


def test_damaged_checkpoints_are_passed_over_loudly_and_never_all_ignored(
    command, finished_run, tmp_path
):
    run = tmp_path / "outputs/tiny/day/run"
    shutil.copytree(finished_run.parents[2], tmp_path / "outputs")
    saved = list_checkpoints(run / "checkpoints")
    (saved[-1] / "state.json").write_text("{}")
    code, out, _ = command(train, "resume=outputs/tiny/day/run")
    assert code == 0
    assert "step_000000512 is damaged and was passed over" in out
    for checkpoint in list_checkpoints(run / "checkpoints"):
        (checkpoint / "state.json").write_text("{}")
    code, _, err = command(train, "resume=outputs/tiny/day/run")
    assert code == 2
    assert "every checkpoint" in err


def test_paths_may_hold_any_character(command, tmp_path, monkeypatch):
    odd = tmp_path / "été, it's (1) run"
    odd.mkdir()
    monkeypatch.chdir(odd)
    assert command(train, *TINY, SHORT, "hydra.run.dir=outputs/a b/é")[0] == 0
    code, _, err = command(train, "resume=outputs/a b/é")
    assert (code, err) == (0, "")


def test_a_missing_gpu_is_an_error(command, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, _, err = command(train, *TINY, "device=cuda")
    assert code == 2
    assert "torch sees no GPU" in err


def test_a_run_name_outside_outputs_is_refused(command, tmp_path):
    code, _, err = command(train, *TINY, "experiment=../../zzz")
    assert code == 2
    assert "not allowed" in err
    assert not list(tmp_path.rglob("zzz"))
    assert not (tmp_path.parent / "zzz").exists()


BAD = {
    "sed=1": "unknown setting sed. Did you mean seed?",
    "+exp=prod": "exp=prod is not available. Choices: all_worlds, allocation, allocation_stocks",
    "agent.leraning_rate=1": "Did you mean agent.learning_rate or",
    "+agent.leraning_rate=1": "unknown setting agent.leraning_rate = 1. Did you mean",
    "+rewrd=1": "unknown setting rewrd",
    "agent.learning_rate=-1": "agent.learning_rate = -1",
    "agent.learning_rate=fast": "agent.learning_rate = 'fast'",
    "agent.batch_size=256": "the settings of agent do not go together: a batch_size of 256",
    "num_envs=3": "does not divide",
    "num_envs=0": "num_envs = 0",
    "total_timesteps=0": "total_timesteps = 0",
    "device=tpu": "setting device = 'tpu' is not valid: write cpu, cuda or auto",
    "seed=true": "setting seed = True is not valid: a number is expected",
    "agent.learning_rate=[[0,1e-3],[0,1e-4]]": "agent.learning_rate = [[0, 0.001], [0, 0.0001]]",
    "agent.ent_coef={start:1}": "write a number of at least 0, {start: a, end: b}",
    "agent.batch_size=[[0,64],[100,256]]": "a batch_size of 256 is more than the 128 steps",
    "agent.learning_rate=true": "agent.learning_rate = True",
    "agent.net_arch=[true]": "agent.net_arch[0] = True",
    "env.initial_equity_usd=1e308": "env.initial_equity_usd = 1e+308",
    "allow_inexact_resume=maybe": "allow_inexact_resume is 'maybe'",
    "exp=quickstart": "Did you mean +exp=quickstart?",
    "experiment=a/b": "run name 'a/b' is not allowed",
    "reward.weights.sharp=1": "Did you mean reward.weights.sharpe?",
    "env.chain.roll=weekly": "env.chain.roll",
    "env.chain.moneyness=[]": "env.chain.moneyness",
    "env.episode.sessions=600": "env.episode.sessions",
    "env.observation.extra_blocks=[vixx]": "unknown observation block 'vixx'",
    "risk.limits.max_gros=1": "Did you mean risk.limits.max_gross",
    "risk.guard.halt_at_drawdown=2": "setting risk.guard.halt_at_drawdown = 2 is not valid",
    "surface.rho=2": "setting surface.rho = 2 is not valid: Input should be less than 1",
    "data.sessions=100": "split",
    "data.drift=5": "data.drift = 5",
    "resume=outputs/nothing": "not found",
}


@pytest.mark.parametrize("argument", BAD)
def test_a_mistake_is_one_line_code_2_and_nothing_written(command, argument, tmp_path):
    code, _, err = command(train, *TINY, argument)
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert BAD[argument] in err
    assert not list(tmp_path.rglob("*.json"))
    assert not list(tmp_path.glob("outputs/*"))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["data=csv"], "setting data.path has no value"),
        (["data=csv", "data.path=nope.csv"], "nope.csv"),
        (["data.splits.train_end=2030-01-01"], "the settings of data.splits do not go together"),
    ],
)
def test_missing_data_is_one_line_code_2_and_nothing_written(
    command, arguments, complaint, tmp_path
):
    tiny = [text for text in TINY if not text.startswith("data")]
    code, _, err = command(train, *tiny, *arguments)
    assert code == 2
    assert complaint in err
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("outputs/*"))


def test_a_resumed_run_takes_no_other_settings(command, finished_run):
    code, _, err = command(train, f"resume={finished_run}", "seed=3")
    assert code == 2
    assert "'seed=3' was given together with resume=" in err


def test_training_that_diverges_stops_and_names_the_last_good_checkpoint(command, tmp_path):
    code, _, err = command(train, *TINY, RUN, "agent.learning_rate=1e30", "reward=standard")
    assert code == 2
    assert "training diverged" in err
    assert "step_000000000" in err
    assert err.count("\n") == 1
