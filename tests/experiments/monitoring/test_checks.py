"""Each check says nothing where all is well, and speaks where it should."""

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest

from experiments.monitoring.checks import (
    CheckSettings,
    Level,
    daily,
    monthly,
    period_key,
    quarterly,
    undecided_sessions,
    weekly,
)
from experiments.monitoring.view import SentOrder, Use

OPTIONS = CheckSettings()
DAYS = 200
MOVED = 9.0 * (np.arange(DAYS) >= DAYS - 20)[:, None]


@pytest.fixture(scope="module")
def calm(view):
    """A long and quiet account, which earns a little every day."""
    rng = np.random.default_rng(0)
    returns = 0.001 + 0.001 * rng.standard_normal(DAYS)
    equity = 1e5 * np.concatenate([[1.0], np.cumprod(1.0 + returns)])
    dates = np.arange(DAYS + 1) + np.datetime64("2018-01-01")
    return replace(
        view, dates=dates, equity=equity, backtest=equity,
        risk_free=np.zeros(DAYS), index_return=0.01 * rng.standard_normal(DAYS),
        index_year=0.005 * rng.standard_normal(252), orders=(), alerts=(),
        actions=rng.standard_normal((DAYS, 3)),
        limits=(Use("gross", 0.5, 1.0),), breakers=(Use("loss", 0.0, 0.03),),
        scan_loss=0.05,
    )  # fmt: skip


def levels(view, undecided=(), differences=0):
    checks = [*daily(view, list(undecided), OPTIONS), *weekly(view, OPTIONS)]
    checks += [*monthly(view, OPTIONS), *quarterly(view, differences, OPTIONS)]
    return {check.key: check.level for check in checks}


def fallen(view, share):
    return {"equity": np.append(view.equity[:-1], view.equity.max() * (1.0 - share))}


def alerted(view, kind):
    return {"alerts": ({"session": view.session, "kind": kind, "text": ""},)}


def ordered(view, end):
    return {"orders": (SentOrder(view.session, "SPX", 1.0, 0.5, 2.0, end),)}


def test_a_calm_account_has_no_alert(calm):
    found = levels(calm)
    assert len(found) == 20
    assert {key for key, level in found.items() if level != Level.OK} == {"training_data"}


@pytest.mark.parametrize(
    ("key", "level", "change"),
    [
        ("drift", "WARNING", lambda v: {"backtest": 1.01 * v.equity}),
        ("drift", "ALERT", lambda v: {"backtest": 0.97 * v.equity}),
        ("day", "WARNING", lambda v: fallen(v, 0.012)),
        ("limits", "WARNING", lambda v: {"limits": (Use("a", 0.95, 1.0), Use("b", 0.1, 1.0))}),
        ("limits", "ALERT", lambda v: {"limits": (Use("a", 1.01, 1.0),)}),
        ("breakers", "ALERT", lambda v: {"breakers": (Use("a", 0.04, 0.03),)}),
        ("state", "WARNING", lambda v: {"guard": "REDUCING"}),
        ("state", "WARNING", lambda v: {"held_back": ("a jump",)}),
        ("state", "ALERT", lambda v: {"guard": "HALTED"}),
        ("state", "ALERT", lambda v: {"halt": {"mode": "reduce", "by": "file", "why": ""}}),
        ("regime", "WARNING", lambda v: {"index_year": np.append(v.index_year, [0.1, -0.1])}),
        ("regime", "ALERT", lambda v: {"index_year": 5.0 * v.index_year}),
        ("trades", "WARNING", lambda v: ordered(v, "rejected")),
        ("trades", "OK", lambda v: ordered(v, "filled")),
        ("data", "WARNING", lambda v: alerted(v, "missed")),
        ("data", "WARNING", lambda v: alerted(v, "stale")),
        ("data", "ALERT", lambda v: alerted(v, "contradiction")),
        ("data", "ALERT", lambda v: alerted(v, "gap")),
        ("sharpe", "WARNING", lambda v: {"risk_free": np.full(DAYS, 0.002)}),
        ("drawdown", "WARNING", lambda v: fallen(v, 0.11)),
        ("drawdown", "ALERT", lambda v: fallen(v, 0.21)),
        ("var", "WARNING", lambda v: {"equity": 1e5 * (1.0 + 0.05 * (np.arange(DAYS + 1) % 2))}),
        ("beta", "WARNING", lambda v: {"index_return": v.returns}),
        ("behaviour", "WARNING", lambda v: {"actions": v.actions + MOVED}),
        ("benchmarks", "WARNING", lambda v: {"risk_free": np.full(DAYS, 0.002)}),
        ("stress", "WARNING", lambda v: {"scan_loss": 0.3}),
        ("retrain", "ALERT", lambda v: {"risk_free": np.full(DAYS, 0.002)}),
    ],
)  # fmt: skip
def test_a_check_speaks_at_its_bound(calm, key, level, change):
    assert levels(replace(calm, **change(calm)))[key] == level


def test_the_dead_man_and_the_audit_alert(calm):
    assert levels(calm, undecided=["2018-01-16"])["undecided"] == Level.ALERT
    assert levels(calm, differences=1)["audit"] == Level.ALERT


def test_what_needs_more_sessions_says_so(view):
    found = {check.key: check.found for check in (*weekly(view, OPTIONS), *monthly(view, OPTIONS))}
    few = {key for key, text in found.items() if text == "too few sessions"}
    assert few == {"sharpe", "var", "beta", "behaviour", "retrain"}


@pytest.mark.parametrize(
    ("now", "missing"),
    [
        ("2018-01-12T23:00", []),
        ("2018-01-15T23:00", []),  # Martin Luther King's day
        ("2018-01-16T19:59", []),
        ("2018-01-16T20:00", ["2018-01-16"]),
        ("2018-01-20T12:00", ["2018-01-16", "2018-01-17", "2018-01-18", "2018-01-19"]),
    ],
)
def test_a_session_is_missed_once_its_deadline_has_passed(view, now, missing):
    friday = replace(view, decided=("2018-01-11", "2018-01-12"))
    moment = dt.datetime.fromisoformat(now)
    assert undecided_sessions(friday, moment, dt.time(20, 0)) == missing


def test_periods_are_those_of_the_calendar():
    keys = [period_key(p, "2019-12-31") for p in ("daily", "weekly", "monthly", "quarterly")]
    assert keys == ["2019-12-31", "2020-W01", "2019-12", "2019-Q4"]
