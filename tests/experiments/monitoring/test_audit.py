"""The files of an audit add up to the account, and each column is described."""

import datetime as dt
import shutil

import numpy as np
import pandas as pd
import pytest

from experiments import monitor
from experiments.accounts.account import APPROVED, CLOSED, DECISION, EXECUTED, Account
from experiments.accounts.events import decoded, open_store
from experiments.accounts.halts import ask_to_halt, halt_reasons, resume
from experiments.monitoring.audit import AUDIT, write_audit
from experiments.monitoring.view import read_account

NOW = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)


@pytest.fixture(scope="module", params=["model", "simulated"])
def audited(request, play, tested, tmp_path_factory):
    """The folder of an account that was audited after it was halted."""
    folder = tmp_path_factory.mktemp("accounts") / "mine"
    faults = {"partial": 0.5, "seed": 1} if request.param == "simulated" else {}
    play(folder, tested, 8, broker={"kind": request.param, "faults": faults})
    ask_to_halt(folder, "Ada", why="a drill")
    with open_store(folder) as store:
        account = Account(folder, store)
        session = account.sessions[-1].content["session"]
        halt_reasons(folder, store, session)
        resume(folder, store, session, "over")
        at = {"session": session, "at": "2026-01-05T10:00:00+00:00"}
        store.append(APPROVED, {**at, "by": "Grace", "what": "<b>a review</b>"})
        assert write_audit(account, NOW) == folder / AUDIT
    return folder


def read(folder, name):
    return pd.read_csv(folder / AUDIT / f"{name}.csv", keep_default_na=False)


def test_the_trades_add_up_to_what_is_held_and_paid(audited):
    trades = pd.read_parquet(audited / AUDIT / "trades.parquet")
    from_csv = pd.read_csv(audited / AUDIT / "trades.csv")
    np.testing.assert_allclose(trades["done_units"], from_csv["done_units"], rtol=1e-12)
    with open_store(audited) as store:
        view = read_account(Account(audited, store))
        first = decoded(store.of(CLOSED)[0].content["quantity"])[0]
        executions = [event.content for event in store.of(EXECUTED)]
        planned = {e.content["session"]: e.content["cost_usd"] for e in store.of(DECISION)}
    opening = trades[trades["session"] == str(view.dates[0])]
    assert opening["done_units"].abs().sum() == pytest.approx(np.abs(first).sum())
    paid = trades.groupby("session")["cost_usd"].sum().reindex([str(d) for d in view.dates])
    np.testing.assert_allclose(paid.fillna(0.0), view.cost, atol=1e-7)
    if executions:
        commission = sum(each["commission_usd"] for each in executions)
        assert trades["commission_usd"].sum() == pytest.approx(commission)
        assert set(trades["end"]) == {"filled", "cancelled"}
        assert (trades["done_units"].abs() < trades["asked_units"].abs() - 1e-9).any()
    else:
        assert paid.fillna(0.0).to_dict() == pytest.approx(planned)


def test_who_approved_what_when_stands_in_a_table(audited):
    people = read(audited, "approvals")
    assert list(zip(people["by"], people["what"], strict=True)) == [
        ("Ada", "halted (reduce): a drill"),
        ("a person", "resumed: over"),
        ("Grace", "approved: <b>a review</b>"),
    ]
    assert people["event"].is_monotonic_increasing
    decisions = read(audited, "decisions")
    assert set(decisions["policies"]) == {"policy 1"}
    assert len(decisions) == 8
    assert "halted" in set(read(audited, "alerts")["kind"])


def test_what_the_model_trades_in_listed_contracts_has_their_names(play, tested, tmp_path):
    play(tmp_path, tested, 1, equity_usd=1e6, broker={"contracts": "XSP"})
    with open_store(tmp_path) as store:
        account = Account(tmp_path, store)
        write_audit(account, NOW)
        orders = read_account(account).orders
    assert orders
    assert list(read(tmp_path, "trades")["symbol"]) == [order.symbol for order in orders]


def test_every_column_has_its_unit(audited):
    described = read(audited, "columns")
    for name, own in described.groupby("file"):
        assert list(read(audited, name).columns) == list(own["column"])
    assert (described["unit"] != "").all()


def test_the_pages_say_what_decides_and_what_it_may_lose(audited):
    card, disclosure = (
        (audited / AUDIT / f"{name}.html").read_text() for name in ("model_card", "risk_disclosure")
    )
    assert "best policy of tiny/day/run" in card
    assert "0 differences" in card
    assert "Options can lose more than was paid for them" in disclosure
    assert "Grace: &lt;b&gt;a review&lt;/b&gt;" in disclosure
    assert "no file in this folder approves it" in disclosure


def test_the_command_writes_it(command, audited, tmp_path):
    target = tmp_path / "outputs" / "accounts" / "mine"
    shutil.copytree(audited, target)
    shutil.rmtree(target / AUDIT)
    code, out, err = command(monitor, "account=mine", "action=audit")
    assert (code, err) == (0, "")
    assert out.endswith("audit: outputs/accounts/mine/audit\n")
    assert len(list((target / AUDIT).iterdir())) == 8
