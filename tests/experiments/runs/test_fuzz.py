"""Damaged run folders and random command lines: used with sane values, or refused in one line."""

import copy
import hashlib
import json
import random
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from agents.persistence.checkpoint import list_checkpoints, newest_checkpoint, restore_checkpoint
from agents.persistence.policy_file import load_policy, policy_step
from conf.errors import InputError
from experiments import compare, evaluate, train, walk_forward
from experiments.environments.opening import open_market
from experiments.evaluation import open_run as open_run_module
from experiments.evaluation.days_met import caution, has_training_prices
from experiments.evaluation.open_run import MANAGED, open_run
from experiments.evaluation.results import table_file
from experiments.evaluation.run_comparison import load_evaluated
from experiments.evaluation.split import AGENT
from experiments.runs.config import config_hash
from experiments.runs.folder import resolve_run
from experiments.runs.record import RunRecord, load_manifest, load_run_config
from experiments.runs.settings import run_settings
from experiments.runs.training import build_model, configure_torch, refuse_other_data
from tests.experiments.conftest import TINY

FOLDERS, COMMAND_LINES = 2000, 300
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 10**9, 10**15, 10**30, -(10**30), 0.5, 1e-300, 1e308, -1e308),
    *("", "abc", "vix", "2001-01-05", "null", "${seed}", "a" * 5000, "../../x", "/etc/passwd"),
    *([], [None], ["a"], [[[]]], {}, {"a": 1}, {"_target_": "os.system"}, {"kind": None}),
)
LITERALS = (b"NaN", b"Infinity", b"1e999", b"1" + b"0" * 400, b"[" * 5000, b'"\\ud800"', b"\xff")


# --- damage --------------------------------------------------------------------------------------


def damage(folder: Path, rng: random.Random) -> str:
    """Damage one file of a run folder; what was done."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in SUFFIXES)
    path = rng.choice([p for p in files if "tensorboard" not in p.parts])
    name = str(path.relative_to(folder))
    way = rng.choice(("value", "value", "value", "bytes", "whole")) if is_json(path) else "bytes"
    if way == "value":
        return f"{name}: {change_value(path, rng)}"
    content = bytearray(path.read_bytes())
    kind = rng.randrange(8 if way == "whole" else 5)
    at = rng.randrange(len(content) + 1)
    if kind == 0:
        path.unlink()
    elif kind == 1:
        path.write_bytes(content[:at])
    elif kind == 2:
        for _ in range(rng.choice((1, 8, 64))):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)
    elif kind == 3:
        path.write_bytes(rng.choice((b"", b"{}", b"[]", b"null", rng.randbytes(200))))
    elif kind == 4:
        path.write_bytes(content[:at] + rng.randbytes(16) + content[at:])
    elif kind == 5:
        path.write_bytes(content[:at] + rng.choice(LITERALS) + content[at:])
    elif kind == 6:
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(path.read_bytes() * 2)
    return f"{name}: {kind} at {at}"


SUFFIXES = (".json", ".safetensors", ".parquet")


def is_json(path: Path) -> bool:
    return path.suffix == ".json"


def change_value(path: Path, rng: random.Random) -> str:
    values = json.loads(path.read_text())
    places = list(places_in(values))
    parent, key = rng.choice(places)
    way = rng.randrange(4)
    if way == 0:
        del parent[key]
        done: Any = "removed"
    elif way == 1 and isinstance(parent, dict):
        parent[f"{key}_"] = parent.pop(key)
        done = "renamed"
    else:
        done = copy.deepcopy(rng.choice(ODD))
        parent[key] = done
    path.write_text(json.dumps(values))
    return f"{key} {str(done)[:40]}"


def places_in(value):
    """(parent, key) of everything in nested plain data; the outer parts as likely as the inner."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(items):
        yield value, key
        if isinstance(item, dict | list) and len(item) < 200:
            yield from places_in(item)


def repair_checksums(folder: Path) -> None:
    """Make every checksum right again, as an attacker would."""
    for path in folder.rglob("policy.json"):
        description, weights = json_of(path), path.with_name("policy.safetensors")
        if description is None:
            continue
        if weights.is_file():
            description["weights_sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
        rest = {key: value for key, value in description.items() if key != "checksum"}
        text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
        description["checksum"] = hashlib.sha256(text.encode()).hexdigest()
        path.write_text(json.dumps(description))
    for path in folder.glob("checkpoints/*/manifest.json"):
        manifest = json_of(path)
        files: Any = (manifest or {}).get("files")
        for name in files if isinstance(files, dict) else ():
            file = path.with_name(name)
            if file.is_file():
                content = file.read_bytes()
                digest = hashlib.sha256(content).hexdigest()
                files[name] = {"bytes": len(content), "sha256": digest}
        if manifest is not None:
            path.write_text(json.dumps(manifest))
    manifest, config = json_of(folder / "manifest.json"), json_of(folder / "config.json")
    if manifest is not None and config is not None and "config_hash" in manifest:
        manifest["config_hash"] = config_hash(config)
        (folder / "manifest.json").write_text(json.dumps(manifest))


def json_of(path: Path):
    try:
        values = json.loads(path.read_text())
        json.dumps(values, allow_nan=False)
    except (OSError, ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


@pytest.fixture
def markets_opened_once(monkeypatch):
    """The same settings give the same market: most damage leaves them alone."""
    opened: dict[str, Any] = {}

    def once(settings):
        key = repr(settings)
        if not opened:  # the sound run's
            opened[key] = open_market(settings)
        return opened[key] if key in opened else open_market(settings)

    monkeypatch.setattr(open_run_module, "open_market", once)
    return once


# --- use -----------------------------------------------------------------------------------------


def evaluate_it(folder: Path) -> None:
    for which in ("best", "last"):
        tested = open_run(str(folder), which, {})
        assert 0 <= tested.step < 10**15
        policy: Any = tested.policy
        assert all(torch.isfinite(w).all() for w in policy.state_dict().values())
        assert isinstance(tested.header(), dict)
        prices = has_training_prices(tested)
        assert isinstance(caution(tested, tested.setup.history.dates, same_prices=prices), str)


def resume_it(folder: Path, opened) -> None:
    config = load_run_config(resolve_run(folder))
    settings = run_settings(config)
    configure_torch(settings.top)
    setup = opened(settings.market)
    refuse_other_data(folder, setup)
    model = build_model(setup, settings)
    newest = newest_checkpoint(folder / "checkpoints")
    assert newest is not None or list_checkpoints(folder / "checkpoints")
    if newest is not None:
        restore_checkpoint(model, {}, newest, allow_inexact=True)
        assert 0 <= model.num_timesteps < 10**15
        assert all(torch.isfinite(w).all() for w in model.policy.state_dict().values())
    with RunRecord(folder, config, seed=settings.top.seed):
        pass
    assert 0 <= load_manifest(folder)["wall_seconds"] < 10**15


def compare_it(folder: Path) -> None:
    for book in (AGENT, MANAGED):
        if (folder / "evaluation" / table_file("daily", "test", book)).is_file():
            load_evaluated(folder, "evaluation", "test", book)


def load_it(folder: Path) -> None:
    for place in (folder, folder / "best"):
        policy_step(load_policy(place))


@pytest.mark.slow
def test_a_damaged_run_folder_is_used_with_sane_values_or_refused_in_one_line(
    evaluated_run, kept_process, tmp_path, one_thread, markets_opened_once
):
    def resume(folder):
        resume_it(folder, markets_opened_once)

    sound = tmp_path / "outputs" / "sound"
    shutil.copytree(evaluated_run, sound)
    for checkpoint in list_checkpoints(sound / "checkpoints")[:-1]:
        shutil.rmtree(checkpoint)
    for use in (load_it, compare_it, evaluate_it, resume):
        use(sound)
    failures, refused = [], 0
    for seed in range(FOLDERS):
        rng = random.Random(seed)
        folder = tmp_path / "outputs" / "run"
        shutil.copytree(sound, folder)
        said = damage(folder, rng)
        if seed % 2:
            repair_checksums(folder)
        for use in (load_it, compare_it, evaluate_it, resume):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                try:
                    use(folder)
                except InputError as error:
                    refused += 1
                    if len(str(error)) > 6000:
                        failures.append(
                            f"{seed} {use.__name__} {said}: a message of {len(str(error))}"
                        )
                except Exception as error:
                    failures.append(
                        f"{seed} {use.__name__} {said}: {type(error).__name__}: {str(error)[:150]}"
                    )
        shutil.rmtree(folder)
    print(f"{FOLDERS} folders, {refused} refusals, {len(failures)} failures")
    assert not failures, "\n".join(failures[:60])


# --- command lines -------------------------------------------------------------------------------

KEYS = (
    *("seed", "total_timesteps", "num_envs", "device", "threads", "experiment", "resume"),
    *("data", "surface", "env", "costs", "reward", "risk", "agent", "callbacks", "exp", "+exp"),
    *("agent.batch_size", "agent.learning_rate", "agent.net_arch", "agent.gamma", "agent.nothing"),
    *("env.episode.sessions", "env.initial_equity_usd", "env.chain.moneyness", "env.lot"),
    *("env.observation.extra_blocks", "data.sessions", "data.start", "data.drift", "data.rate"),
    *("data.splits.train_end", "data.paths", "data.initial_price", "surface.rho", "costs.kind"),
    *("risk.guard.halt_at_drawdown", "risk.limits.max_gross", "callbacks.keep_last", "data.seed"),
    *("reward.weights.sharpe", "hydra.run.dir", "hydra.verbose", "hydra.job.name", "run", "split"),
    *("policy", "resamples", "report", "gate", "walk_forward.mode", "walk_forward.first_test"),
)
VALUES = (
    *(
        "",
        "0",
        "1",
        "-1",
        "true",
        "null",
        "???",
        "1e308",
        "-1e308",
        "1e-308",
        "nan",
        "inf",
        "1" * 400,
    ),
    *("abc", "x" * 5000, "[]", "[1,2]", "[", "{a:1}", "{", "'", "1,2", "${seed}", "${nothing}"),
    *(
        "0001-01-01",
        "9999-12-31",
        "2001-01-05",
        "../..",
        "/proc/x",
        "outputs",
        ".",
        "é",
        "a b",
        "a\\b",
    ),
    *(
        "sp500",
        "synthetic",
        "vix",
        "flat",
        "cuda",
        "cpu",
        "quickstart",
        "production",
        "ppo",
        "best",
    ),
)
FLAGS = (
    "-m",
    "--cfg",
    "--help",
    "job",
    "--info",
    "-c",
    "--package",
    "--nothing",
    "--config-name=x",
)


TRAINED = (
    *("seed=3", "total_timesteps=64", "num_envs=2", "agent=ppo", "agent=recurrent_ppo_stock"),
    *(
        "surface=flat",
        "costs=flat",
        "risk=conservative",
        "risk=none",
        "reward=standard",
        "threads=1",
    ),
    *("agent.gamma=0.9", "agent.learning_rate_end=1e-5", "env.chain.roll=daily", "data.drift=0.1"),
    *("data.model=heston", "data.model=regime", "data.seed=5", "data.initial_price=1e-6"),
    *(
        "env.initial_equity_usd=1e15",
        "env.initial_equity_usd=0.01",
        "data.rate=0.5",
        "data.rate=-0.5",
    ),
    *("data.gbm.vol_annual=3", "data.gbm.vol_annual=1e-9", "data.initial_price=1e12"),
    *("experiment=abc", "hydra.run.dir=elsewhere", "+exp=flat_vol", "callbacks.patience=1"),
)
TESTED = (
    *("split=test", "split=all", "policy=last", "surface=flat", "surface=vix", "costs=flat"),
    *("risk=none", "risk=conservative", "data=sp500", "data=synthetic", "costs.rate_bps=3"),
)


def command_line(rng: random.Random, run: Path) -> tuple[Any, list[str]]:
    module = rng.choice((train, train, train, evaluate, compare, walk_forward))
    usual = [*TINY[:2], *TINY[3:], "total_timesteps=128"]
    usual = usual if module in (train, walk_forward) else [f"run={run}"]
    if module is evaluate:
        usual += ["resamples=100", "report=false"]
    sane = TRAINED if module in (train, walk_forward) else TESTED
    arguments = []
    for _ in range(rng.randrange(1, 4)):
        if rng.random() < 0.6:
            arguments.append(rng.choice(sane))
        else:
            key, value = rng.choice(KEYS), rng.choice(VALUES)
            arguments.append(rng.choice(("", "", "", "+", "~", "++")) + f"{key}={value}")
    # Hydra reads from left to right: what is random comes last.
    arguments = usual + arguments
    if rng.random() < 0.15:
        arguments.insert(0, rng.choice(FLAGS))
    return module, arguments


@pytest.mark.slow
def test_a_random_command_line_ends_with_code_0_or_2_and_no_traceback(
    evaluated_run, kept_process, tmp_path, monkeypatch, capfd, one_thread
):
    run = tmp_path / "outputs" / "run"
    shutil.copytree(evaluated_run, run)
    failures, codes = [], []
    for seed in range(COMMAND_LINES):
        module, arguments = command_line(random.Random(seed), run)
        work = tmp_path / str(seed)
        work.mkdir()
        monkeypatch.chdir(work)
        monkeypatch.setattr(sys, "argv", [module.__name__, *arguments])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)
                codes.append(module.main())
            err = capfd.readouterr().err
            if codes[-1] not in (0, 2) or "Traceback" in err or err.count("\n") > 6:
                failures.append(f"{seed} {arguments}: code {codes[-1]}: {err[-300:]}")
            if len(err) > 3000:
                failures.append(f"{seed} {arguments}: {len(err)} characters")
        except BaseException as error:
            failures.append(f"{seed} {arguments}: {type(error).__name__}: {str(error)[:200]}")
    print(f"{COMMAND_LINES} command lines, {codes.count(0)} with code 0, {codes.count(2)} with 2")
    assert not failures, "\n".join(failures[:40])
