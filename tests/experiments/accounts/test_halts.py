"""A file, a signal and a command stop an account; only a person lets it go on."""

import os
import signal

import numpy as np
import pytest

from conf.errors import InputError
from experiments import paper
from experiments.accounts.account import CLOSED, DECISION, Account
from experiments.accounts.events import EventStore, decoded, open_store
from experiments.accounts.halts import (
    ALERT,
    HALT,
    HALTED,
    ask_to_halt,
    halt_on_signal,
    halt_reasons,
    halted,
    resume,
)
from experiments.accounts.trading_day import run_session
from experiments.accounts.verification import verify
from experiments.evaluation.open_run import open_run
from experiments.monitoring.view import read_account


@pytest.fixture
def going_on(play, finished_run, tmp_path, request):
    """An account of three sessions; gives its folder and a function for the next session."""
    risk = {"guard": {"halt_at_drawdown": getattr(request, "param", 0.2)}}
    tested = open_run(str(finished_run), "best", {"risk": risk})
    play(tmp_path, tested, 3)
    stops = iter(range(tested.setup.history.num_sessions - 56, tested.setup.history.num_sessions))

    def decide():
        with open_store(tmp_path) as store:
            run_session(Account(tmp_path, store), tested.setup.history.sessions(0, next(stops)))
            reasons = store.of(DECISION)[-1].content["nothing_opened_because"]
            return [decoded(e.content["quantity"])[0] for e in store.of(CLOSED)], reasons

    return tmp_path, decide


def test_a_touched_file_lets_positions_shrink_until_a_person_resumes(going_on):
    folder, decide = going_on
    (folder / HALT).touch()
    held, reasons = decide()
    assert reasons == ["halted: nothing is opened"]
    assert (np.abs(held[-1]) <= np.abs(held[-2])).all()
    (folder / HALT).unlink()  # which ends nothing
    assert decide()[1] == reasons
    with open_store(folder) as store:
        assert len(store.of(HALTED)) == 1
        resume(folder, store, store.of(CLOSED)[-1].content["session"])
        assert halted(store) is None
    held, reasons = decide()
    assert reasons == []
    assert (np.abs(held[-1]) > np.abs(held[-2])).any()
    with open_store(folder) as store:
        result = verify(Account(folder, store))
    assert (result.differences, result.backtest_sessions) == ((), 3)


def test_flatten_closes_everything_and_is_stricter_than_reduce(going_on):
    folder, decide = going_on
    ask_to_halt(folder, "command")
    decide()
    ask_to_halt(folder, "command", "flatten", "a test")
    ask_to_halt(folder, "signal")  # asks for less, and takes nothing back
    held, reasons = decide()
    assert reasons == ["halted: everything is closed"]
    assert np.abs(held[-2]).max() > 0
    assert (held[-1] == 0.0).all()
    with open_store(folder) as store:
        assert [e.content["mode"] for e in store.of(HALTED)] == ["reduce", "flatten"]
        assert verify(Account(folder, store)).differences == ()


def test_a_process_that_dies_loses_no_alert(tmp_path, monkeypatch):
    """Killed after its first write: what halted the account and the alert are written at once."""
    ask_to_halt(tmp_path, "command")
    write = EventStore._write

    def killed(store, rows):
        write(store, rows)
        raise KeyboardInterrupt

    monkeypatch.setattr(EventStore, "_write", killed)
    with open_store(tmp_path) as store, pytest.raises(KeyboardInterrupt):
        halt_reasons(tmp_path, store, "2026-01-05")
    monkeypatch.undo()
    with open_store(tmp_path) as store:
        halt_reasons(tmp_path, store, "2026-01-05")
        assert [event.kind for event in store.events] == [HALTED, ALERT]


@pytest.mark.parametrize(
    ("text", "mode"),
    [(b"", "reduce"), (b"\xff\xfe", "reduce"), (b"FLATTEN now", "flatten"), (b"[1]", "reduce")],
)
def test_the_file_halts_whatever_it_holds(going_on, text, mode):
    folder, decide = going_on
    (folder / HALT).write_bytes(text)
    decide()
    with open_store(folder) as store:
        halt = halted(store)
    assert halt is not None
    assert (halt.content["mode"], halt.content["by"]) == (mode, "file")


def test_a_folder_and_a_dead_link_halt_too_and_a_folder_is_for_a_person_to_remove(going_on):
    folder, decide = going_on
    (folder / HALT).symlink_to("nowhere")
    assert decide()[1] == ["halted: nothing is opened"]
    with open_store(folder) as store:
        session = store.of(CLOSED)[-1].content["session"]
        resume(folder, store, session)
        (folder / HALT).mkdir()
        ask_to_halt(folder, "signal")
        with pytest.raises(InputError, match="HALT is a folder, and halts"):
            resume(folder, store, session)
        halt = halted(store)
        assert halt is not None
        assert halt.content["by"] == "file"


def test_a_signal_leaves_the_file(tmp_path):
    before = signal.getsignal(signal.SIGUSR1)
    with halt_on_signal(tmp_path):
        os.kill(os.getpid(), signal.SIGUSR1)
    assert '"by": "signal"' in (tmp_path / HALT).read_text()
    assert signal.getsignal(signal.SIGUSR1) is before


def test_a_signal_also_halts_a_process_that_waits_for_the_next_session(
    command, finished_run, tested, tmp_path, monkeypatch
):
    def wait(until):
        os.kill(os.getpid(), signal.SIGUSR1)
        raise KeyboardInterrupt

    monkeypatch.setattr(paper, "_wait", wait)
    newest = tested.setup.history.dates[-1]
    assert (
        command(paper, "account=a", f"run={finished_run}", "feed=replay", f"start={newest}")[0] == 0
    )
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        assert command(paper, "account=a", "every=session")[0] == 130
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert (tmp_path / "outputs/accounts/a" / HALT).exists()


@pytest.mark.parametrize("going_on", [1e-6], indirect=True)
def test_a_person_releases_what_the_guard_halted(going_on):
    """It is halted again by its next loss: here sessions of any loss close the book."""
    folder, decide = going_on
    with open_store(folder) as store:
        before = read_account(Account(folder, store))
        assert (before.guard, before.positions) == ("HALTED", ())
        resume(folder, store, before.session)
    held, reasons = decide()
    assert reasons == []
    assert np.abs(held[-1]).max() > 0
    with open_store(folder) as store:
        account = Account(folder, store)
        assert verify(account).differences == ()
        assert read_account(account).equity_after == store.of(CLOSED)[-1].content["equity_usd"]
