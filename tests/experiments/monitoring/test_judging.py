"""What an account's record proves, and what is recommended for it."""

import numpy as np
import pytest

from conf.errors import InputError
from conf.settings import build_settings
from experiments import paper
from experiments.accounts.account import CLOSED, Account, open_account, record_session
from experiments.accounts.events import open_store
from experiments.accounts.settings import AccountSettings
from experiments.evaluation.open_run import open_run
from experiments.monitoring.judging import JUDGED, Ramp, judge, record_judgement

PAPER = {"capital_usd": [100_000, 1_000_000], "months": [3, 6], "min_sharpe": 1.0}
LIVE = {"capital_usd": [10_000, 50_000], "months": [2, 2]}
RAMP: Ramp = build_settings(
    Ramp,
    {
        "paper": {**PAPER, "max_drawdown": 0.2, "no_failures": True, "cost_tolerance": 0.1},
        **dict.fromkeys(("small", "moderate", "full"), LIVE),
        "retraining": {"min_sharpe": 0.8, "sessions": 30},
    },
    "stages",
)


@pytest.fixture
def judged_with(finished_run, tmp_path):
    """An account that earned this above cash in each of so many sessions; a judgement of it."""
    tested = open_run(str(finished_run), "best")
    history = tested.setup.history
    cash = tested.setup.market.cash_return

    def judged(excess):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        first, equity = history.num_sessions - 120, 100_000.0
        with open_store(folder) as store:
            open_account(folder, store, AccountSettings(name="mine"), tested, first)
            store.append(CLOSED, {"session": str(history.dates[first]), "equity_usd": equity})
            for session, day in enumerate(excess, first + 1):
                record_session(store, history, session)
                equity *= 1.0 + cash[session - 1] + day
                closed = {"session": str(history.dates[session]), "equity_usd": equity}
                store.append(CLOSED, closed)
            return judge(Account(folder, store), RAMP)

    return judged


def outcomes(judgement):
    return {criterion.name: criterion.outcome for criterion in judgement.criteria}


def test_what_is_recommended_follows_the_e_processes_and_not_the_documented_criteria(judged_with):
    """A lucky half year passes as documented, and proves nothing yet."""
    noise = np.random.default_rng(0).standard_normal(100)
    lucky = 0.01 * ((noise - noise.mean()) / noise.std() + 2.0 / np.sqrt(252))
    judgement = judged_with(lucky)
    assert outcomes(judgement)["Sharpe ratio"] == "met"
    asked = next(c for c in judgement.criteria if c.name == "Sharpe ratio")
    assert float(asked.measured) == pytest.approx(2.0, abs=0.05)
    assert judgement.recommended == "hold"
    assert 1.0 < judgement.promotion[1] < 20.0
    sure = judged_with(0.003 + 0.0003 * np.resize([1.0, -1.0], 119))
    assert (sure.recommended, sure.documented) == ("promote", "promote")
    assert sure.promotion[0] > 20.0
    bad = judged_with(np.full(119, -0.003))
    assert (bad.recommended, bad.documented) == ("demote", "retrain")
    assert outcomes(bad)["drawdown"] == "not met"
    assert judged_with(0.01 * (noise - noise.mean()) - 0.001).documented == "retrain"


def test_a_short_record_is_too_early(judged_with):
    judgement = judged_with(np.full(19, 0.003))
    assert (judgement.documented, judgement.recommended) == ("hold", "hold")
    early = {name for name, outcome in outcomes(judgement).items() if outcome == "too early"}
    assert early == {"time", "Sharpe ratio", "drawdown", "Sharpe ratio, 30 sessions"}
    assert judgement.promotion == (1.0, 1.0)


def test_the_command_judges_once_a_session_and_moves_nothing(command, finished_run, tmp_path):
    days = open_run(str(finished_run), "best").setup.history.dates
    opening = (f"run={finished_run}", "feed=replay", f"start={days[-60]}", f"until={days[-56]}")
    broker = ("broker.kind=simulated", "broker.faults.partial=0.5")
    assert command(paper, "account=a", *opening, *broker)[0] == 0
    for _ in range(2):
        code, out, err = command(paper, "account=a", "action=judge")
        assert (code, err) == (0, "")
        assert f"stage paper, {days[-60]} to {days[-56]}" in out
        assert "e-process" in out
        assert "recommended: hold" in out
    folder = tmp_path / "outputs" / "accounts" / "a"
    with open_store(folder) as store:
        assert [e.content["sessions"] for e in store.of(JUDGED)] == [5]
        assert store.events[-1].kind == JUDGED
        criteria = {c["name"]: c for c in store.events[-1].content["criteria"]}
        account = Account(folder, store)
        small = judge(account, RAMP, "small")
        record_judgement(account, small)
        assert (small.since, small.sessions) == (str(days[-56]), 0)
        again = judge(account, RAMP)
        assert (again.stage, again.since) == ("small", small.since)
    assert criteria["capital"]["outcome"] == "met"
    assert criteria["failures"]["measured"].startswith("cancelled ")
    assert criteria["costs"]["outcome"] == criteria["backtest"]["outcome"] == "met"
    paid, expected = (
        float(part.strip("$").replace(",", ""))
        for part in criteria["costs"]["measured"].split(" of ")
    )
    assert paid == pytest.approx(expected)
    assert paid > 0.0
    assert command(paper, "account=a", "action=verify")[0] == 0
    for months in ("[0,6]", "[6,3]"):
        code, _, err = command(paper, "account=a", "action=judge", f"stages.paper.months={months}")
        assert (code, err.count("\n")) == (2, 1)
        assert "months" in err


def test_an_account_without_a_close_is_not_judged(finished_run, tmp_path):
    tested = open_run(str(finished_run), "best")
    with open_store(tmp_path) as store:
        account = open_account(tmp_path, store, AccountSettings(name="mine"), tested, 600)
        with pytest.raises(InputError, match="has closed no session"):
            judge(account, RAMP)
