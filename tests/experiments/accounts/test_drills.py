"""Whatever a broker does and whenever a process dies: the book is what was done, within limits."""

import json
import os
import signal
import time
from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pytest

from conf.errors import InputError
from experiments.accounts import trading_day
from experiments.accounts.account import (
    ALERT,
    CLOSED,
    ENDED,
    EXECUTED,
    ORDER,
    Account,
    check_opening,
    open_account,
)
from experiments.accounts.events import EventStore, open_store
from experiments.accounts.halts import ask_to_halt
from experiments.accounts.order_flow import OrderFlow
from experiments.accounts.settings import AccountSettings
from experiments.accounts.trading_day import run_session
from experiments.accounts.verification import verify
from experiments.brokers.orders import symbols_at
from experiments.brokers.settings import BrokerSettings
from experiments.brokers.simulated import SimulatedBroker
from experiments.evaluation.open_run import open_run

FAULTS = {"rejected": 0.1, "partial": 0.2, "late": 0.1, "twice": 0.1, "silent": 0.1, "lost": 0.1}
# What a fault is called in the alert about it.
ALERTS = {"partial": "cancelled", "lost": "silent"}


@pytest.fixture(scope="module")
def tested(finished_run):
    """With so little delta allowed that a hedge that is missing breaks the limit."""
    limits = {"limits": {"max_delta": 0.01, "max_gamma": 0.05}}
    return open_run(str(finished_run), "best", {"risk": limits})


def drill(play, tested, folder, seed, sessions, decide="close"):
    """An account with a broker full of faults; after each session the limits are looked at."""
    broken = []

    def within_limits(account):
        book = account.book()
        names, kernel = symbols_at(book.market, book.session), book.kernel
        brokers = [json.loads(path.read_text()) for path in folder.glob("*broker.json")]
        held = [sum(b["positions"].get(name, 0.0) for b in brokers) for name in names]
        left = kernel.within_limits(np.array([held]))[0]
        if not np.allclose(left, held, rtol=0.0, atol=1e-9):
            broken.append(book.day)

    broker = {"kind": "simulated", "backup": True, "faults": {**FAULTS, "seed": seed}}
    watch = within_limits if decide == "close" else None
    play(folder, tested, sessions, watch, decide=decide, broker=broker)
    assert broken == []
    with open_store(folder) as store:
        account = Account(folder, store)
        result = verify(account)
        alerts = [event.content for event in store.of(ALERT)]
        ended = [event.content["order"] for event in store.of(ENDED)]
        recent = [event.content["session"] for event in account.sessions[-2:]]
        last = {e.content["id"] for e in store.of(ORDER) if e.content["session"] in recent}
    assert result.differences == ()
    assert len(set(ended)) == len(ended)
    if decide == "close":  # what was filled at the open may be reported later than the positions
        assert "difference" not in {alert["kind"] for alert in alerts}
    # Each fault is said once, and nothing else is; of the last sessions not all is known yet.
    drawn = {
        (order, ALERTS.get(fault, fault))
        for path in folder.glob("*broker.json")
        for order, fault in json.loads(path.read_text())["faults"]
        if order not in last
    }
    said = Counter((a["order"], a["kind"]) for a in alerts if a["order"] and a["order"] not in last)
    assert set(said) == drawn
    assert set(said.values()) <= {1}


@pytest.mark.parametrize("decide", ["close", "after_close"])
def test_a_broker_full_of_faults(play, tested, tmp_path, decide):
    drill(play, tested, tmp_path, 1, 6, decide)


# Where orders of less than 1e-9 units were left out, those two broke a limit once in 60 sessions.
DUST = (74, 139)


@pytest.mark.slow
@pytest.mark.parametrize("seed", sorted({*range(int(os.environ.get("DRILLS", "20"))), *DUST}))
def test_many_brokers_full_of_faults(play, tested, tmp_path, seed):
    drill(play, tested, tmp_path, seed, 60)


def test_without_a_backup_what_breaks_a_limit_is_said_and_repaired_as_far_as_can_be(
    play, tested, tmp_path
):
    """Half of all orders are rejected, so that hedges are missing and repairs fall short."""
    faults = {"rejected": 0.5, "seed": 3}
    play(tmp_path, tested, 6, broker={"kind": "simulated", "faults": faults})
    with open_store(tmp_path) as store:
        alerts = [event.content for event in store.of(ALERT)]
        repairs = [e.content for e in store.of(ORDER) if e.content["round"] > 0]
    said = [alert["text"] for alert in alerts if alert["kind"] == "limits"]
    assert any("to bring the book back" in text for text in said)
    assert any(text == "the book breaks a limit still, after 3 rounds" for text in said)
    assert repairs
    assert not any(order["backup"] for order in repairs)


def test_what_was_recorded_is_sent_whatever_is_learnt_in_between(
    play, tested, tmp_path, monkeypatch
):
    """Killed before it sends; then fills of the session before are reported, and the book moves."""
    history = tested.setup.history.sessions(0, tested.setup.history.num_sessions - 57)
    play(tmp_path, tested, 2, broker={"kind": "simulated", "faults": {"late": 0.5, "seed": 1}})
    ask_to_halt(tmp_path, "a test", "flatten")
    submit, sent = SimulatedBroker.submit, []

    def recording(broker, order):
        sent.append(asdict(order))
        submit(broker, order)

    def called():
        with open_store(tmp_path) as store:
            run_session(Account(tmp_path, store), history)
            return verify(Account(tmp_path, store)).differences

    with monkeypatch.context() as patch:
        patch.setattr(SimulatedBroker, "executions", lambda *_: ())
        patch.delattr(SimulatedBroker, "submit")
        with pytest.raises(AttributeError, match="submit"):
            called()
    with open_store(tmp_path) as store:
        recorded = [e.content for e in store.of(ORDER) if e.content["session"] == newest(history)]
        known = len(store.of(EXECUTED))
    monkeypatch.setattr(SimulatedBroker, "submit", recording)
    assert called() == ()
    with open_store(tmp_path) as store:
        told = [e.content["order"] for e in store.of(EXECUTED)[known:]]
    assert set(told) - {order["id"] for order in recorded}
    assert recorded
    assert [order for order in sent if order["round"] == 0] == recorded


def test_sessions_that_went_by_before_the_first_decision_earn_interest_at_the_broker_too(
    tested, tmp_path
):
    history, broker = tested.setup.history, BrokerSettings(kind="simulated")
    first = history.num_sessions - 60
    with open_store(tmp_path) as store:
        chosen = AccountSettings(name="mine", broker=broker)
        run_session(
            open_account(tmp_path, store, chosen, tested, first), history.sessions(0, first + 4)
        )
        assert [event.content["kind"] for event in store.of(ALERT)] == ["missed"]


def test_a_decision_whose_orders_were_not_sent_is_said_the_day_after(
    play, tested, tmp_path, monkeypatch
):
    history = tested.setup.history
    stop = history.num_sessions - 58
    play(tmp_path, tested, 1, broker={"kind": "simulated"})
    with open_store(tmp_path) as store:
        with monkeypatch.context() as patch:
            patch.delattr(OrderFlow, "send")
            with pytest.raises(AttributeError, match="send"):
                run_session(Account(tmp_path, store), history.sessions(0, stop))
        report = run_session(Account(tmp_path, store), history.sessions(0, stop + 1))
        died = f"on {history.dates[stop - 1]} the process died before it sent what was decided"
        assert report.alerts == [died]
        assert verify(Account(tmp_path, store)).differences == ()


def test_without_a_broker_a_session_that_was_not_closed_is_passed_over_by_the_comparison(
    play, tested, tmp_path, monkeypatch
):
    history = tested.setup.history
    stop = history.num_sessions - 58
    play(tmp_path, tested, 1)
    with open_store(tmp_path) as store:
        with monkeypatch.context() as patch:
            patch.delattr(trading_day, "_close")
            with pytest.raises(NameError, match="_close"):
                run_session(Account(tmp_path, store), history.sessions(0, stop))
        run_session(Account(tmp_path, store), history.sessions(0, stop + 1))
        result = verify(Account(tmp_path, store))
    assert (result.backtest_sessions, result.differences) == (2, ())


@pytest.mark.parametrize(("decide", "contracts"), [("after_close", "model"), ("close", "XSP")])
def test_what_is_reported_late_is_not_traded_twice(play, tested, tmp_path, decide, contracts):
    """All that was ordered is filled; half of it is reported a session later."""
    history = tested.setup.history
    faults = {"late": 0.5, "seed": 1}
    broker = {"kind": "simulated", "contracts": contracts, "faults": faults}
    play(tmp_path, tested, 4, decide=decide, broker=broker, equity_usd=1e8)
    with open_store(tmp_path) as store:
        assert all(event.content["round"] == 0 for event in store.of(ORDER))
    ask_to_halt(tmp_path, "a test", "flatten")
    held = positions(tmp_path)
    assert held
    for stop in range(history.num_sessions - 55, history.num_sessions - 51):
        with open_store(tmp_path) as store:
            run_session(Account(tmp_path, store), history.sessions(0, stop))
        now = positions(tmp_path)
        assert all(0.0 <= units / held[name] <= 1.0 for name, units in now.items())
    assert not now


def positions(folder):
    held = json.loads((folder / "broker.json").read_text())["positions"]
    return {name: units for name, units in held.items() if abs(units) > 1e-9}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"env": {"chain": {"roll": "daily"}}}, "replaced by others every day"),
        ({"env": {"kind": "hedging"}}, "liabilities of env=hedging"),
    ],
)
def test_what_no_broker_trades_is_refused(tested, override, words):
    env = {**tested.config["env"], **override["env"]}
    other = replace(tested, config={**tested.config, "env": env})
    first = tested.setup.history.num_sessions - 60
    with pytest.raises(InputError, match=words):
        check_opening(
            AccountSettings(name="mine", broker=BrokerSettings(kind="simulated")), other, first
        )
    check_opening(AccountSettings(name="mine"), other, first)


def newest(history):
    return str(history.dates[-1])


def killed(folder, history, persists=None, seconds=None):
    """A session in a process of its own that is killed at a moment; whether it was."""
    child = os.fork()
    if child == 0:
        left = [persists]

        def counted(function):
            def persist(*arguments):
                if left[0] is not None:
                    if left[0] == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    left[0] -= 1
                return function(*arguments)

            return persist

        EventStore._write = counted(EventStore._write)  # type: ignore[method-assign]
        SimulatedBroker._write = counted(SimulatedBroker._write)  # type: ignore[method-assign]
        try:
            with open_store(folder) as store:
                run_session(Account(folder, store), history)
        finally:
            os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.slow
def test_killed_at_every_persist_point_and_at_200_random_moments(play, tested, tmp_path):
    """The same book, cash and orders as without; each session by a process of its own."""
    history = tested.setup.history
    last = history.num_sessions - 59
    play(tmp_path / "whole", tested, 2, broker={"kind": "simulated"})

    def state(folder):
        with open_store(folder) as store:
            closed = [event.content for event in store.of(CLOSED)]
            orders = [event.content["id"] for event in store.of(ORDER)]
        assert len(set(orders)) == len(orders)
        books = json.loads((folder / "broker.json").read_text())
        return closed, sorted(orders), books["cash"], books["positions"], sorted(books["orders"])

    expected = state(tmp_path / "whole")
    fresh = history.sessions(0, last + 1)
    begun = time.perf_counter()
    play(tmp_path / "timed", tested, 1, broker={"kind": "simulated"})
    killed(tmp_path / "timed", fresh)
    longest = time.perf_counter() - begun
    rng = np.random.default_rng(0)
    moments = [{"seconds": s} for s in rng.uniform(0.0, longest, 200)]
    point: int | None = 0
    kills = 0
    while moments or point is not None:
        by_point = point is not None
        how = {"persists": point} if by_point else moments.pop()
        folder = tmp_path / f"{by_point}{point}{len(moments)}"
        play(folder, tested, 1, broker={"kind": "simulated"})
        dead = killed(folder, fresh, **how)
        kills += dead
        if point is not None:
            point = point + 1 if dead else None
        with open_store(folder) as store:
            run_session(Account(folder, store), fresh)
        assert state(folder) == expected
    assert kills > 100
