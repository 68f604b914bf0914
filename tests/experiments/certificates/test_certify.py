"""The command: what it prints and writes, its exit codes, and a run that is tested."""

import json
import shutil

import pandas as pd
import pytest

from conf.errors import InputError
from experiments import certify
from experiments.backtests.backtest import first_session, run_backtest
from experiments.backtests.trade_log import build_trade_log, read_trade_log, write_trade_log
from experiments.certificates import suite
from experiments.certificates.certificate import Certificate, CertifySettings
from experiments.certificates.ledger_replay import certificate_of, run_replays, saved_log_replays
from experiments.certificates.look_ahead import compare_futures, run_configurations
from experiments.evaluation.open_run import open_run


def certificate(passed):
    return Certificate("ledger.options", passed, 0.5, "of nothing [x]", {"books": {}})


@pytest.mark.parametrize(("passed", "code"), [(True, 0), (False, 1)])
def test_a_certificate_that_fails_is_exit_code_1(command, tmp_path, monkeypatch, passed, code):
    parts = {"ledger": lambda _: [certificate(passed)], "canary": lambda _: [certificate(False)]}
    monkeypatch.setattr(suite, "PARTS", parts)
    returned, out, err = command(certify, "certificates=[ledger]", "form=short")
    assert returned == code
    assert ("PASS" if passed else "FAIL") in out
    assert "of nothing [x]" in out
    assert err == ("" if passed else "failed: certificates failed: ledger.options\n")
    (path,) = tmp_path.glob("outputs/certificates/*/*/certificates_ledger_short.json")
    written = json.loads(path.read_text())
    assert written["complete"] is False
    assert written["passed"] is passed
    assert written["form"] == "short"
    assert [item["name"] for item in written["certificates"]] == ["ledger.options"]


BAD = {
    "certificates=[leger]": "setting certificates",
    "certificates=[]": "setting certificates",
    "form=long": "setting form",
    "paths=1": "setting paths",
    "+speed=1": "unknown setting speed",
    "run=nowhere": "was not found",
}


@pytest.mark.parametrize("argument", BAD)
def test_a_mistake_is_one_line_and_code_2(command, tmp_path, argument):
    code, _, err = command(certify, argument)
    assert code == 2
    assert BAD[argument] in err
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("**/certificates*.json"))


@pytest.mark.parametrize(
    ("chosen", "suffix"),
    [
        ({}, ""),
        ({"paths": 30_000}, ""),
        ({"paths": 100}, "_reduced"),
        ({"form": "short"}, "_short"),
        ({"certificates": ("ledger",)}, "_ledger"),
        ({"certificates": ("ledger", "canary"), "form": "short"}, "_canary_ledger_short"),
    ],
    ids=str,
)
def test_only_all_of_them_in_full_are_certificates_json(chosen, suffix):
    settings = CertifySettings(**chosen)
    assert settings.file_name == f"certificates{suffix}.json"
    assert settings.is_complete is not bool(suffix)


def test_given_counts_replace_those_of_the_form():
    profile = CertifySettings(form="short", paths=77, canary_seeds=4).profile
    assert (profile.paths, profile.canary_seeds, profile.moments) == (77, 4, 2)
    assert CertifySettings().profile.paths == 20_000
    assert CertifySettings().profile.canary_seeds == 20


def test_a_run_is_examined_with_its_policy_and_its_files(
    command, evaluated_run, tmp_path, monkeypatch
):
    run = tmp_path / "outputs" / "tiny" / "run"
    shutil.copytree(evaluated_run, run)
    tested = open_run(str(run), "best")
    result = compare_futures(next(run_configurations(tested)), 1, seed=0)
    assert list(result.values()) == [None]

    setup, window = tested.setup, tested.setup.window("test")
    backtest = run_backtest(tested.policy, setup.market, setup.settings.env, window)
    assert first_session(backtest, setup.market) == window.start
    lines = build_trade_log(backtest, setup.market, setup.settings.env)
    file = run / "evaluation" / "trades_test.parquet"
    # Evaluation charges realistic costs whatever the run was trained with: here they are the same.
    assert pd.read_parquet(file)["cost"].tolist() == lines["cost"].tolist()
    replays = dict(saved_log_replays(run))
    assert {f"evaluation/trades_{name}.parquet" for name in ("validation", "test")} <= set(replays)
    assert certificate_of("x", replays).passed
    write_trade_log(lines.assign(cost=lines["cost"] * 0.5), file)
    assert not certificate_of("x", dict(saved_log_replays(run))).passed

    def ledger_of_run(certification):
        return [certificate_of("ledger.run", dict(run_replays(certification.tested)))]

    monkeypatch.setattr(suite, "PARTS", {"ledger": ledger_of_run})
    code, out, err = command(certify, f"run={run}", "form=short")
    assert (code, err) == (0, "")
    assert "ledger.run" in out
    written = json.loads((run / "certificates_short.json").read_text())
    (ledger,) = written["certificates"]
    assert {"validation", "test", "test, risk module"} <= ledger["details"]["books"].keys()


def test_a_file_that_is_no_trade_log_is_refused(tmp_path):
    path = tmp_path / "trades_test.parquet"
    path.write_text("day,event")
    with pytest.raises(InputError, match="is no trade log"):
        read_trade_log(path)
