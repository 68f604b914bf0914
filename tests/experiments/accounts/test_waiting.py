"""A process that keeps deciding asks again for what a session lacks, until the next one is due."""

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments import paper
from experiments.accounts.account import ALERT, DECISION, SESSION
from experiments.accounts.events import open_store

MINUTE = dt.timedelta(minutes=1)


@pytest.fixture
def market(tested, tmp_path):
    """Write the market up to a day where a file of the user's is; None: there is no file."""
    history, file = tested.setup.history, tmp_path / "prices.csv"
    names = ("open", "high", "low", "close", "volume", "implied_vol")
    columns = {name: getattr(history, name)[0] for name in names}
    table = pd.DataFrame({"date": history.dates, **columns, "rate": history.rate})

    def known_until(day, **more):
        file.unlink(missing_ok=True)
        if day is not None:
            table.assign(**more)[table["date"] <= np.datetime64(day)].to_csv(file, index=False)

    return known_until


def test_it_asks_again_the_same_evening_and_for_no_longer_than_until_the_next_deadline(
    command, finished_run, tested, market, monkeypatch, tmp_path
):
    days = [str(day) for day in tested.setup.history.dates[-60:-56]]
    first, second, third, _ = days
    evenings = [dt.datetime.fromisoformat(f"{day}T20:15+00:00") for day in days]
    clock, pauses = [evenings[0] + MINUTE], []
    then = {
        1: lambda: market(None),  # gone before the second session is due
        5: lambda: market(first),  # back, but late with the day's row
        7: lambda: market(second),
        8: lambda: market(None),
        9: lambda: clock.append(evenings[3] - MINUTE),
    }

    def wait(until):
        pauses.append(until - clock[-1])
        clock.append(until)
        then.get(len(pauses), lambda: None)()
        if len(pauses) == 10:
            raise KeyboardInterrupt

    monkeypatch.setattr(paper, "_now", lambda: clock[-1])
    monkeypatch.setattr(paper, "_wait", wait)
    market(first)
    opening = (f"run={finished_run}", "data=csv", "data.path=prices.csv", "every=session")
    code, out, _ = command(paper, "account=a", *opening)
    assert code == 130
    day = evenings[1] - evenings[0]
    minutes = [MINUTE * n for n in (1, 2, 4, 8, 15, 15)]
    assert pauses[:7] == [day - MINUTE, *minutes]
    assert clock[8] == evenings[2]  # decided at last, and the next session waited for
    assert pauses[8:] == [MINUTE, MINUTE]  # what is due next is not slept through
    assert out.count("not decided: there is no file prices.csv") == 6
    assert out.count(f"not decided: the source has no {second} yet") == 2
    with open_store(Path("outputs/accounts/a")) as store:
        decided = [
            (e.content["session"], e.content["nothing_opened_because"]) for e in store.of(DECISION)
        ]
        alerts = [(e.content["session"], e.content["kind"]) for e in store.of(ALERT)]
    assert decided == [(first, []), (second, [])]
    assert alerts == [(second, "unavailable"), (first, "stale"), (third, "unavailable")]


def test_a_source_that_lost_a_column_is_waited_for(
    command, finished_run, tested, market, monkeypatch
):
    first, second, third = tested.setup.history.dates[-60:-57]
    codes, errors = [], []
    for day, more in ((first, {"vix9d": 0.2}), (second, {}), (third, {"vix9d": 0.2})):
        market(day, **more)
        clock = dt.datetime.fromisoformat(f"{day}T22:00+00:00")
        monkeypatch.setattr(paper, "_now", lambda clock=clock: clock)
        opening = (f"run={finished_run}", "data=csv", "data.path=prices.csv")
        code, _, err = command(paper, "account=a", *opening)
        codes.append(code)
        errors.append(err)
    assert codes == [0, 2, 0]
    assert errors[1].count("\n") == 1
    assert "file prices.csv no longer has vix9d as it was recorded" in errors[1]
    with open_store(Path("outputs/accounts/a")) as store:
        assert [e.content["session"] for e in store.of(DECISION)] == [str(first), str(third)]
        assert [e.content["kind"] for e in store.of(ALERT)] == ["missed"]


def test_an_account_opens_on_no_session_that_is_still_to_come(
    command, finished_run, tested, market, monkeypatch, tmp_path
):
    """Not at noon of a day of which the file has a row already, and not later."""
    before, day, later = tested.setup.history.dates[-60:-57]
    market(later)
    noon = dt.datetime.fromisoformat(f"{day}T16:00+00:00")
    monkeypatch.setattr(paper, "_now", lambda: noon)
    for start in (day, later):
        opening = (f"run={finished_run}", "data=csv", "data.path=prices.csv", f"start={start}")
        code, _, err = command(paper, "account=a", *opening)
        assert (code, err.count("\n")) == (2, 1)
        assert f"would open on {start}, and {before} is the newest session to be decided" in err
    assert not (tmp_path / "outputs/accounts/a").exists()


def test_only_the_session_that_goes_on_is_recorded_as_provisional(
    command, finished_run, tested, market, monkeypatch
):
    """Neither an older one that the account opens on, nor the newest of a source that is late."""
    days = [str(day) for day in tested.setup.history.dates[-60:-56]]
    opening = (f"run={finished_run}", "data=csv", "data.path=prices.csv", f"start={days[0]}")
    for newest, now in ((days[1], days[1]), (days[2], days[3])):
        market(newest)
        clock = dt.datetime.fromisoformat(f"{now}T19:50+00:00")
        monkeypatch.setattr(paper, "_now", lambda clock=clock: clock)
        assert command(paper, "account=a", *opening, "decide=before_close")[0] == 0
    with open_store(Path("outputs/accounts/a")) as store:
        final = [event.content["final"] for event in store.of(SESSION)]
    assert final == [True, False, True]
