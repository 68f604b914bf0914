import json

import pytest
from omegaconf import OmegaConf

from conf.errors import InputError
from conf.settings import build_settings
from envs.options.surface import SurfaceSettings
from experiments.runs.config import config_hash, plain_config
from experiments.runs.record import (
    RunRecord,
    as_it_was_trained,
    load_manifest,
    load_run_config,
)
from tests.markets import monthly_surface

CONFIG = {"seed": 3, "agent": {"learning_rate": 3e-5, "net": [128, 64]}, "note": None}
DATA = {"name": "sp500", "fingerprint": "ab" * 32}


def record(folder, **changes):
    return RunRecord(folder, {**CONFIG, **changes}, seed=3, data=DATA)


def test_the_manifest_follows_the_run(tmp_path):
    with record(tmp_path) as run:
        assert load_manifest(tmp_path)["status"] == "running"
        run.progress(2048)
        assert load_manifest(tmp_path)["steps"] == 2048
    manifest = load_manifest(tmp_path)
    assert manifest["status"] == "finished"
    assert manifest["seed"] == 3
    assert manifest["data"] == DATA
    assert manifest["config_hash"] == config_hash(CONFIG)
    assert manifest["packages"]["stable-baselines3"]
    assert manifest["machine"]["cores"] >= 1
    assert manifest["threads"] >= 1
    assert manifest["steps_per_second"] > 0
    assert set(manifest["code"] or {"commit": "", "dirty": False}) == {"commit", "dirty"}
    assert load_run_config(tmp_path) == CONFIG


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "failed"), (KeyboardInterrupt, "interrupted")]
)
def test_the_manifest_says_how_a_run_ended(tmp_path, error, status):
    with pytest.raises(error), record(tmp_path):
        raise error
    assert load_manifest(tmp_path)["status"] == status


def test_a_resumed_run_adds_to_the_manifest_and_must_have_the_same_settings(tmp_path):
    with record(tmp_path) as run:
        run.progress(1000)
    first = load_manifest(tmp_path)
    with pytest.raises(InputError, match="configuration differs"), record(tmp_path, seed=4):
        pass
    assert load_manifest(tmp_path) == first
    with record(tmp_path) as run:
        run.start_at(1000)
        run.progress(1500)
    second = load_manifest(tmp_path)
    assert (second["attempts"], second["steps"]) == (2, 1500)
    assert second["created"] == first["created"]
    assert second["wall_seconds"] >= first["wall_seconds"]


def test_no_environment_variable_reaches_the_run_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("BROKER_TOKEN", "hunter2-secret")
    with record(tmp_path):
        pass
    for file in tmp_path.iterdir():
        assert "hunter2-secret" not in file.read_text()
    for text in ("${oc.env:BROKER_TOKEN}", "x-${oc.env:BROKER_TOKEN,none}"):
        with pytest.raises(InputError, match="reads the environment") as refusal:
            plain_config(OmegaConf.create({"alerts": {"token": text}}))
        assert "hunter2" not in str(refusal.value)


def test_interpolations_are_resolved():
    config = OmegaConf.create({"seed": 3, "copy": "${seed}", "nested": {"list": [1, "${copy}"]}})
    assert plain_config(config) == {"seed": 3, "copy": 3, "nested": {"list": [1, 3]}}


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"name": "???"}, "setting name has no value"),
        ({"copy": "${nothing}"}, "setting copy cannot be resolved"),
        ({"x": float("nan")}, "config.x = nan is not a finite number"),
        ({"x": [1.0, float("inf")]}, r"config.x\[1\] = inf"),
        ({"x": b"bytes"}, "config.x is a bytes"),
        ({1: 2}, "the key 1"),
    ],
)
def test_a_configuration_that_json_cannot_hold_is_one_error(values, complaint):
    with pytest.raises(InputError, match=complaint):
        plain_config(OmegaConf.create(values))


EVIL = [
    {"agent": {"_target_": "os.system", "command": "touch x"}},
    {"seed": "${oc.env:HOME}"},
    {"list": [{"deep": "${seed}"}]},
    {"${x}": 1},
]


@pytest.mark.parametrize("config", EVIL)
def test_nothing_in_a_run_folder_is_evaluated(tmp_path, config):
    with record(tmp_path):
        pass
    (tmp_path / "config.json").write_text(json.dumps(config))
    manifest = load_manifest(tmp_path) | {"config_hash": config_hash(config)}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"interpolation|reserved name"):
        load_run_config(tmp_path)


def test_a_changed_or_damaged_configuration_is_refused(tmp_path):
    with record(tmp_path):
        pass
    original = (tmp_path / "config.json").read_text()
    for text in (original.replace("3e-05", "4e-05"), original[:-9], "[]", "{", '{"a":1,"a":2}', ""):
        assert text != original
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(InputError):
            load_run_config(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(InputError, match="not found"):
        load_run_config(tmp_path)


@pytest.mark.parametrize("change", [{"format": 99}, {"created": 5}, {"wall_seconds": "x"}])
def test_a_manifest_with_impossible_values_is_refused(tmp_path, change):
    with record(tmp_path):
        pass
    manifest = json.loads((tmp_path / "manifest.json").read_text()) | change
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError):
        load_manifest(tmp_path)


def test_a_run_from_before_the_business_clock_is_opened_in_the_market_that_it_met():
    data = {"source": "sp500", "rate": 0.025}
    surface = {"kind": "vix", "rho": -0.7, "eta": 0.7, "average_half_life": 126, "floor_days": 7}
    former = as_it_was_trained({"data": data, "surface": surface, "seed": 1})
    assert former["seed"] == 1
    assert former["data"] == {**data, "closed_day_weight": 1.0}
    built = build_settings(SurfaceSettings, former["surface"], "surface")
    assert built == monthly_surface()
    flat = as_it_was_trained({"data": data, "surface": {"kind": "flat", "vol_annual": 0.2}})
    assert flat["surface"] == {"kind": "flat", "vol_annual": 0.2}
    assert flat["data"]["closed_day_weight"] == 1.0
    for untouched in (
        {"data": {"source": "panel_stocks"}, "surface": {"kind": "none"}},
        {"data": {**data, "closed_day_weight": 0.13}, "surface": {"kind": "vix"}},
    ):
        assert as_it_was_trained(untouched) == untouched
