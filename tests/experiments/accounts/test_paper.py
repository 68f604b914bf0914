"""A paper account is the backtest of its sessions, whatever stops it or the broker does."""

import contextlib
import json
import os
import re
import shutil
import sqlite3
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conf.errors import InputError
from experiments import paper, train
from experiments.accounts import trading_day
from experiments.accounts.account import (
    ALERT,
    CLOSED,
    DECISION,
    SESSION,
    Account,
    open_account,
)
from experiments.accounts.events import EventStore, decoded, open_store
from experiments.accounts.recorded import load_history, save_history, session_row, with_sessions
from experiments.accounts.settings import AccountSettings, check_as_opened, opening_keys
from experiments.accounts.trading_day import run_session
from experiments.accounts.verification import verify
from experiments.brokers.listed import occ_symbol
from experiments.brokers.simulated import SimulatedBroker
from experiments.evaluation.open_run import open_run
from tests.experiments.conftest import TINY


def contents(folder, kind):
    with open_store(folder) as store:
        return [event.content for event in store.of(kind)]


def equities(folder):
    return [content["equity_usd"] for content in contents(folder, CLOSED)]


def test_an_account_is_the_backtest_of_its_sessions(play, tested, tmp_path):
    play(tmp_path, tested)
    held = [decoded(content["quantity"]) for content in contents(tmp_path, CLOSED)]
    assert np.abs(held).max() > 0
    with open_store(tmp_path) as store:
        result = verify(Account(tmp_path, store))
    assert (result.sessions, result.decisions, result.backtest_sessions) == (8, 8, 7)
    assert result.differences == ()


@pytest.mark.parametrize("kind", ["model", "simulated"])
def test_called_again_it_does_nothing_and_after_days_off_it_says_what_was_missed(
    play, tested, tmp_path, kind
):
    """What expired in between was paid out, at the broker too."""
    play(tmp_path, tested, 3, broker={"kind": kind})
    history = tested.setup.history
    last = history.num_sessions - 60 + 2
    with open_store(tmp_path) as store:
        before = store.head
        report = run_session(Account(tmp_path, store), history.sessions(0, last + 1))
        assert (report.decided, store.head) == (False, before)
        report = run_session(Account(tmp_path, store), history.sessions(0, last + 46))
        assert report.missed == [str(day) for day in history.dates[last + 1 : last + 45]]
        assert [e.content["kind"] for e in store.of(ALERT)] == ["missed"]
        assert verify(Account(tmp_path, store)).differences == ()


def test_a_process_that_dies_at_any_event_is_followed_by_one_that_goes_on(
    play, tested, tmp_path, monkeypatch
):
    """Before any of the session's writes, the broker's too: the same book, no order twice."""
    play(tmp_path / "whole", tested, 2, broker={"kind": "simulated"})
    expected = equities(tmp_path / "whole")
    left = [0]

    class Killed(Exception):
        pass

    def counted(write):
        def written(*arguments):
            if left[0] == 0:  # and whatever it tries to write while it falls is lost too
                raise Killed
            left[0] -= 1
            write(*arguments)

        return written

    play(tmp_path / "before", tested, 1, broker={"kind": "simulated"})
    for moment in (0, 1, 2, 3, 4, 9, 16, 23, 29):
        folder, left[0] = tmp_path / str(moment), moment
        shutil.copytree(tmp_path / "before", folder)
        history = tested.setup.history.sessions(0, tested.setup.history.num_sessions - 58)
        with monkeypatch.context() as patch, open_store(folder) as store:
            for owner in (EventStore, SimulatedBroker):
                patch.setattr(owner, "_write", counted(owner._write))
            with contextlib.suppress(Killed):
                run_session(Account(folder, store), history)
        with open_store(folder) as store:
            run_session(Account(folder, store), history)
        assert equities(folder) == expected
        assert contents(folder, ALERT) == []  # its own orders are nothing that the book misses
        sent = json.loads((folder / "broker.json").read_text())
        assert sent["cash"] == json.loads((tmp_path / "whole/broker.json").read_text())["cash"]


def test_a_broker_without_faults_gives_the_book_of_the_model(play, tested, tmp_path):
    play(tmp_path / "model", tested)
    play(tmp_path / "broker", tested, broker={"kind": "simulated"})
    np.testing.assert_allclose(
        equities(tmp_path / "broker"), equities(tmp_path / "model"), rtol=1e-9
    )
    assert contents(tmp_path / "broker", ALERT) == []


def test_every_changed_event_and_every_cut_tail_is_found(play, tested, tmp_path):
    play(tmp_path, tested, 3)
    path, original = tmp_path / "events.sqlite", tmp_path / "copy.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        rows = connection.execute("SELECT number, content FROM events").fetchall()
    shutil.copyfile(path, original)
    rng = np.random.default_rng(0)
    for number, text in rows:
        place = int(rng.integers(len(text)))
        changed = text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :]
        for statement, values in (
            ("UPDATE events SET content = ? WHERE number = ?", (changed, number)),
            ("DELETE FROM events WHERE number >= ?", (number,)),
        ):
            shutil.copyfile(original, path)
            with sqlite3.connect(path) as connection:
                connection.execute(statement, values)
            connection.close()
            with pytest.raises(InputError, match="was damaged or altered"), open_store(tmp_path):
                pass


def test_a_source_that_says_otherwise_opens_nothing(play, tested, tmp_path):
    play(tmp_path, tested, 2)
    history = tested.setup.history
    at = history.num_sessions - 58
    row = session_row(history, at - 1)
    other = with_sessions(history.sessions(0, at - 1), [{**row, "rate": [row["rate"][0] + 0.01]}])
    later = with_sessions(other, [session_row(history, at)])
    with open_store(tmp_path) as store:
        before = decoded(store.of(CLOSED)[-1].content["quantity"])
        report = run_session(Account(tmp_path, store), later)
        after = decoded(store.of(CLOSED)[-1].content["quantity"])
    assert any(f"rate of {history.dates[at - 1]}" in text for text in report.alerts)
    assert (np.abs(after) <= np.abs(before)).all()


def test_a_value_that_was_revised_holds_one_session_back(play, tested, tmp_path):
    """Until the source revises another one; also where the process died before it decided."""
    play(tmp_path, tested, 2)
    history, revised = tested.setup.history, []
    at = history.num_sessions - 58
    for session, value in ((at, 100), (at + 1, 100), (at + 2, 101)):
        revised.append(value)
        high = history.high.copy()
        high[0, list(set(revised))] *= 1.001
        fresh = replace(history, high=high).sessions(0, session + 1)
        with open_store(tmp_path) as store, pytest.MonkeyPatch.context() as patch:
            patch.setattr(trading_day, "_decided", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                run_session(Account(tmp_path, store), fresh)
        with open_store(tmp_path) as store:
            run_session(Account(tmp_path, store), fresh)
            assert verify(Account(tmp_path, store)).differences == ()
    first, second = (
        f"the source now says otherwise: high of {history.dates[i]}" for i in (100, 101)
    )
    why = [content["nothing_opened_because"] for content in contents(tmp_path, DECISION)]
    assert why == [[], [], [first], [], [second]]
    assert [content["text"] for content in contents(tmp_path, ALERT)] == [first, second]


def test_a_revision_that_is_seen_after_the_decision_holds_back_the_next_one(
    play, tested, tmp_path, monkeypatch
):
    play(tmp_path, tested, 1)
    history = tested.setup.history
    high = history.high.copy()
    high[0, 100] *= 1.001
    stop, revised = history.num_sessions - 58, replace(history, high=high)
    with monkeypatch.context() as patch, open_store(tmp_path) as store:
        patch.setattr(trading_day, "_close", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_session(Account(tmp_path, store), history.sessions(0, stop))
    for end in (stop, stop + 1, stop + 2):
        with open_store(tmp_path) as store:
            run_session(Account(tmp_path, store), revised.sessions(0, end))
    why = [content["nothing_opened_because"] for content in contents(tmp_path, DECISION)]
    assert [len(reasons) for reasons in why] == [0, 0, 1, 0]


def test_another_series_holds_back_as_long_as_it_stands(play, tested, tmp_path):
    play(tmp_path, tested, 2)
    history = tested.setup.history
    other = replace(history, high=1.001 * history.high)
    for stop in range(history.num_sessions - 57, history.num_sessions - 54):
        with open_store(tmp_path) as store:
            run_session(Account(tmp_path, store), other.sessions(0, stop))
    why = [content["nothing_opened_because"] for content in contents(tmp_path, DECISION)]
    assert [len(reasons) for reasons in why] == [0, 0, 1, 1, 1]


def test_a_history_is_recorded_bit_for_bit(tested, tmp_path):
    history = tested.setup.history
    save_history(history.sessions(0, 400), tmp_path / "history")
    rows = [session_row(history, session) for session in range(400, history.num_sessions)]
    rows = json.loads(json.dumps(rows))
    assert (
        with_sessions(load_history(tmp_path / "history"), rows).fingerprint == history.fingerprint
    )


def test_symbols_are_those_of_the_options_clearing_corporation():
    assert occ_symbol("SPX", "2014-11-22", False, 19.5) == "SPX   141122P00019500"
    assert occ_symbol("LAMR", "2015-01-17", True, 52.5) == "LAMR  150117C00052500"


def test_the_command_opens_decides_and_verifies(command, finished_run, tested, tmp_path):
    day = tested.setup.history.dates[-60]
    opening = (f"run={finished_run}", "feed=replay", f"start={day}")
    code, out, err = command(paper, "account=a", *opening)
    assert (code, err) == (0, "")
    assert re.search(rf"{day}: equity \$[\d,.]+, [1-9]\d* trades for \$\d+\.\d\d\n", out)
    code, out, _ = command(paper, "account=a", *opening, "policy=best", "decide=close")
    assert f"{tested.setup.history.dates[-59]}: equity $" in out  # opened with just these
    code, out, _ = command(paper, "account=a", "feed=replay", f"until={day}")
    assert (
        f"nothing to do: account a is at {tested.setup.history.dates[-59]}, and until={day}" in out
    )
    code, out, _ = command(paper, "account=a", "action=verify")
    assert code == 0
    assert "verified: 2 sessions, 2 decisions to the last bit, 1 sessions as in a backtest" in out
    for arguments, message in (
        (("account=b",), "there is no account b; there are a. Open it: give run=<run folder> too"),
        (("account=a",), "replay what there is: feed=replay"),
        (("account=a", "run=another"), "run is "),
        (("account=a", "broker.faults.late=0.5"), "broker.faults.late is 0.5, and account a was"),
        (("account=../x", *opening), "setting account = '../x' is not valid"),
        (("account=c", *opening, "start=1970-01-01"), "Choose another start="),
        (("account=c", *opening, "broker.faults.late=0.5"), "Give broker.kind=simulated, or leave"),
    ):
        code, _, err = command(paper, *arguments)
        assert (code, err.count("\n")) == (2, 1), err
        assert message in err
    with open_store(tmp_path / "outputs/accounts/a") as store:
        assert len(store.of(SESSION)) == 2
    assert not (tmp_path / "outputs/accounts/c").exists()


def test_what_it_was_opened_with_stays_and_what_goes_on_with_the_calendar_may_differ():
    was = {"policy": "best", "data": {"source": "yahoo", "end": "2026-01-05", "rate": "bills"}}
    data: dict[str, Any] = {"source": "yahoo", "end": "2025-10-17", "rate": "bills"}
    now = {"policy": "best", "data": data}
    given = opening_keys(
        ["account=a", "policy=best", "data=yahoo", "minutes=5", "+data.rate=bills"]
    )
    assert given == ["policy", "data", "data.rate"]
    check_as_opened("a", was, now, given)
    data["rate"] = 0.01
    with pytest.raises(InputError, match=r"data\.rate is 0\.01, and .* was opened with bills"):
        check_as_opened("a", was, now, ["data"])


def test_an_opening_that_dies_leaves_an_account_with_a_session_or_none(
    play, tested, tmp_path, monkeypatch
):
    class Killed(Exception):
        pass

    def killed(store, event):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(EventStore, "_keep", killed)  # right after the first commit
        with pytest.raises(Killed):
            play(tmp_path, tested, 0)
    with open_store(tmp_path) as store:
        assert len(store.of(SESSION)) == 1
        run_session(
            Account(tmp_path, store),
            tested.setup.history.sessions(0, tested.setup.history.num_sessions - 59),
        )


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["options", "allocation"])
def test_250_sessions_fed_one_a_day_each_by_a_process_of_its_own(command, experiment, tmp_path):
    """Nothing lives on in the process: the decisions are the backtest's, to the last bit."""
    chosen: tuple[str, ...] = ("data=synthetic",)
    if experiment == "allocation":
        chosen = ("+exp=allocation", "data=panel_simulated", "data.assets=3", "pretrain.updates=5")
    small = [text for text in TINY if "lstm" not in text or experiment != "allocation"]
    arguments = (*chosen, *small[1:], "hydra.run.dir=outputs/run")
    code, _, err = command(train, *arguments)
    assert (code, err) == (0, "")
    tested = open_run("outputs/run", "last")
    history = tested.setup.history
    first = history.num_sessions - 251
    account = tmp_path / "account"
    with open_store(account) as store:
        open_account(account, store, AccountSettings(name="mine"), tested, first)
    for session in range(first, first + 250):
        child = os.fork()
        if child == 0:
            try:
                with open_store(account) as store:
                    run_session(Account(account, store), history.sessions(0, session + 1))
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
    with open_store(account) as store:
        result = verify(Account(account, store))
    assert (result.sessions, result.decisions, result.backtest_sessions) == (250, 250, 249)
    assert result.differences == ()
