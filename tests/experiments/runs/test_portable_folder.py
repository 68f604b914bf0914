"""A run folder is handed on: it must not say where, on which host or by which process."""

import os
import re
import socket
import zipfile

import pandas as pd
import pytest

from experiments import evaluate, train
from experiments.evaluation.days_met import CHOSEN, LEARNED, caution, has_training_prices
from experiments.evaluation.open_run import open_run
from experiments.runs.folder import run_lock
from tests.experiments.conftest import TINY
from tests.markets import random_walk

RUN = "outputs/tiny/day/run"
ONE = "total_timesteps=128"  # rollout


def texts_of(folder):
    """Names and contents of all files, those inside zips too."""
    for path in sorted(folder.rglob("*")):
        yield path.name, path.name.encode()
        if path.is_file():
            yield path.name, path.read_bytes()
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    yield f"{path.name}/{name}", archive.read(name)


@pytest.fixture
def prices(tmp_path):
    """A file elsewhere, named by its absolute path."""
    history = random_walk(900, seed=8)
    columns = {name: getattr(history, name)[0] for name in ("open", "high", "low", "close")}
    table = pd.DataFrame({"Date": history.dates, **columns, "volume": 1000.0})
    path = tmp_path / "jane" / "prices.csv"
    path.parent.mkdir()
    table.to_csv(path, index=False)
    return path


def test_a_run_folder_carries_no_place_host_or_process_away(command, prices, tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "host-of-jane")
    tiny = [text for text in TINY if not text.startswith("data")]
    code, _, err = command(
        train, *tiny, ONE, "data=csv", f"data.path={prices}", f"hydra.run.dir={tmp_path / RUN}"
    )
    assert (code, err) == (0, "")
    assert command(evaluate, f"run={RUN}", "resamples=100", "split=test")[0] == 0
    secrets = [str(tmp_path), os.path.expanduser("~") + "/", "host-of-jane"]
    for name, content in texts_of(tmp_path / RUN):
        for secret in secrets:
            assert secret.encode() not in content, (name, secret)
        if name.endswith((".json", ".yaml", ".log", ".lock")) or b"tfevents" in content[:40]:
            assert not re.search(rf"(?<!\d){os.getpid()}(?!\d)".encode(), content), name
    assert {path.name for path in (tmp_path / RUN / ".hydra").iterdir()} == {
        "config.yaml",
        "overrides.yaml",
    }
    assert command(train, f"resume={RUN}", "total_timesteps=256")[0] == 0


def test_the_loser_of_a_race_for_a_folder_writes_nothing(command, tmp_path):
    folder = tmp_path / RUN
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text("of the winner\n")
    (folder / "train.log").write_text("of the winner\n")
    with run_lock(folder):
        before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        code, _, err = command(train, *TINY, f"hydra.run.dir={RUN}")
        assert code == 2
        assert "is writing into" in err
        assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert (folder / "run.lock").read_bytes() == b""


def test_days_that_the_agent_has_met_are_known_by_content_and_dates(command, prices, tmp_path):
    tiny = [text for text in TINY if not text.startswith("data")]
    dates = pd.read_csv(prices)["Date"]
    splits = [f"data.splits.train_end={dates[500]}", f"data.splits.validation_end={dates[650]}"]
    table = pd.read_csv(prices)
    table[:700].to_csv("known.csv", index=False)
    table[640:].to_csv("later.csv", index=False)
    table[200:480].to_csv("early.csv", index=False)
    other = random_walk(900, seed=9)
    table.assign(
        close=other.close[0], open=other.close[0], high=other.close[0], low=other.close[0]
    )[200:480].to_csv("other.csv", index=False)
    code, _, err = command(
        train, *tiny, ONE, "data=csv", "data.path=known.csv", *splits, f"hydra.run.dir={RUN}"
    )
    assert (code, err) == (0, "")

    def said(split, path=None):
        other = {} if path is None else {"data": {"source": "csv", "path": path}}
        tested = open_run(RUN, "best", other)
        window = tested.setup.window(split)
        dates = tested.setup.history.dates[window.start : window.stop]
        text = caution(tested, dates, same_prices=has_training_prices(tested))
        return LEARNED in text, CHOSEN in text

    assert said("test") == (False, False)
    assert said("validation") == (False, True)
    assert said("all") == (True, True)
    assert said("all", "later.csv") == (False, False)
    assert said("all", "early.csv") == (True, False)
    assert said("all", "other.csv") == (False, False)
    code, out, err = command(
        evaluate, f"run={RUN}", "resamples=100", "report=false", "split=validation"
    )
    assert (code, err) == (0, "")
    assert CHOSEN in " ".join(out.split())
