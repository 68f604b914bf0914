"""Several policies decide for one account, and what they did can be played again."""

import numpy as np
import pytest
import torch

from agents.persistence.policy_file import WEIGHTS, save_policy
from conf.errors import InputError
from experiments.accounts.account import ALERT, CLOSED, DECISION, Account
from experiments.accounts.difference import difference
from experiments.accounts.events import decoded, open_store
from experiments.accounts.policies import Appointed, appoint, appointed, copy_policy
from experiments.accounts.trading_day import run_session
from experiments.accounts.verification import verify
from experiments.evaluation.open_run import open_run
from experiments.monitoring.view import read_account

SHARES = {"policy": 0.75, "policy-2": 0.25}


@pytest.fixture(scope="module")
def other(finished_run, tmp_path_factory):
    """A policy that wants something else."""
    loaded, folder = open_run(str(finished_run), "best").loaded, tmp_path_factory.mktemp("other")
    with torch.no_grad():
        for weights in loaded.policy.parameters():
            weights.mul_(-3.0)
    save_policy(loaded.policy, folder, loaded.metadata)
    return folder


@pytest.fixture
def hand_over(request, play, tested, other, tmp_path):
    """An account of two policies; a function that takes it to its n-th session."""
    faults = {"partial": 0.3, "rejected": 0.3, "late": 0.5}
    simulated = {"kind": "simulated", "faults": faults}
    play(tmp_path, tested, 3, broker=(getattr(request, "param", False) and simulated) or {})

    def go_on(sessions, chosen=None):
        with open_store(tmp_path) as store:
            account = Account(tmp_path, store)
            if chosen is not None:
                files = copy_policy(other, tmp_path, "policy-2")
                appoint(store, account.sessions[-1].content["session"], chosen, "a test", files)
            stop = tested.setup.history.num_sessions - 60 + sessions
            run_session(account, tested.setup.history.sessions(0, stop))
        return tmp_path

    return go_on


def decisions(folder):
    with open_store(folder) as store:
        return [event.content for event in store.of(DECISION)]


def test_each_policy_has_its_share_and_the_account_is_still_a_backtest(hand_over, tested):
    before = decisions(hand_over(4))
    folder = hand_over(5, Appointed(SHARES))
    hand_over(6)
    hand_over(7, Appointed({"policy-2": 1.0}))
    hand_over(8, Appointed({"policy": 1.0}))
    assert decisions(folder)[:4] == before
    assert [each["shares"] for each in decisions(folder)[4:6]] == [SHARES, SHARES]
    with open_store(folder) as store:
        account = Account(folder, store)
        result = verify(account)
        assert (result.differences, result.backtest_sessions) == ((), 7)
        view = read_account(account)
        np.testing.assert_array_equal(view.equity, view.backtest)
        split = difference(account, tested.setup.history)
        assert (split.backtest_usd, split.account_usd) == (view.backtest[-1], view.equity[-1])
        kernel, _, _ = account.kernel_at_opening()
        actions = [decoded(each) for each in decisions(folder)[4]["actions"].values()]
    assert not np.allclose(actions[0], actions[1])
    asked = [kernel.quantity_of(action) for action in actions]
    assert not np.allclose(asked[0], asked[1])


@pytest.mark.parametrize("hand_over", [False, True], indirect=True)
def test_a_policy_that_comes_in_later_remembers_what_it_did_not_decide(hand_over, tested, other):
    """Sessions were missed in between: its memory is as if it had been there all along."""
    hand_over(5)
    folder = hand_over(20, Appointed({"policy-2": 1.0}))
    with open_store(folder) as store:
        account = Account(folder, store)
        observed, policy = account.book().observed, account.policies["policy-2"].policy
        assert verify(account).differences == ()
    assert len(observed) == 20
    state, begins = None, np.ones(1, np.bool_)
    for observation in observed:
        action, state = policy.predict(observation, state, begins, deterministic=True)
        begins = np.zeros(1, np.bool_)
    np.testing.assert_array_equal(decoded(decisions(folder)[-1]["actions"]["policy-2"]), action)
    cold, _ = policy.predict(observed[-1], None, np.ones(1, np.bool_), deterministic=True)
    assert not np.array_equal(action, cold)


def test_a_hand_over_that_loses_too_much_goes_back_by_itself(hand_over, tested):
    first = str(tested.setup.history.dates[-58])
    folder = hand_over(4, Appointed(SHARES, since=first, max_drawdown=1e-4))
    for sessions in range(5, 12):
        hand_over(sessions)
    with open_store(folder) as store:
        assert appointed(store) == Appointed({"policy": 1.0})
        (alert,) = [e.content for e in store.of(ALERT)]
        equity = {e.content["session"]: e.content["equity_usd"] for e in store.of(CLOSED)}
        assert verify(Account(folder, store)).differences == ()
    assert alert["kind"] == "rolled back"
    shares = [each["shares"] for each in decisions(folder)]
    back = [each["session"] for each in decisions(folder)].index(alert["session"])
    assert shares[3:back] == [SHARES] * (back - 3)
    assert shares[back:] == [{"policy": 1.0}] * (len(shares) - back)
    peak = max(value for day, value in equity.items() if first <= day < alert["session"])
    assert equity[alert["session"]] < (1.0 - 1e-4) * peak


def test_while_it_is_held_back_nothing_is_opened(hand_over):
    folder = hand_over(6, Appointed({"policy": 1.0}, held_back="retraining: nothing is opened"))
    with open_store(folder) as store:
        before, after = (decoded(e.content["quantity"]) for e in store.of(CLOSED)[-2:])
        assert verify(Account(folder, store)).differences == ()
    assert (np.abs(after) <= np.abs(before)).all()
    assert decisions(folder)[-1]["nothing_opened_because"] == ["retraining: nothing is opened"]


def test_another_policy_in_its_folder_is_found(hand_over, other):
    folder = hand_over(4, Appointed(SHARES))
    weights = folder / "policy-2" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0\0")
    with open_store(folder) as store, pytest.raises(InputError, match="policy-2/"):
        Account(folder, store)
