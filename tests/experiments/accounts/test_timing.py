"""When an account decides, on what, and what it does not decide on."""

import datetime as dt
from dataclasses import fields, replace

import numpy as np
import pytest

from conf.errors import InputError
from conf.settings import build_settings
from envs.option_portfolio.market import OptionMarket
from envs.options.black_scholes import price
from experiments.accounts.account import ALERT, CLOSED, SESSION, Account
from experiments.accounts.brokers import opening_marks
from experiments.accounts.data_checks import doubts
from experiments.accounts.events import decoded, open_store
from experiments.accounts.settings import AccountSettings, moment_at, next_decision
from experiments.accounts.trading_day import run_session
from experiments.accounts.verification import verify


def at(text):
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("now", "decide", "session", "final", "due"),
    [
        # A common day of winter closes at 21:00 UTC, the day after Thanksgiving at 18:00.
        ("2026-11-25T20:44", "before_close", "2026-11-24", True, "2026-11-25T20:45"),
        ("2026-11-25T20:46", "before_close", "2026-11-25", False, "2026-11-27T17:45"),
        ("2026-11-25T21:14", "after_close", "2026-11-24", True, "2026-11-25T21:15"),
        ("2026-11-26T12:00", "close", "2026-11-25", True, "2026-11-27T18:15"),
        ("2026-11-28T12:00", "close", "2026-11-27", True, "2026-11-30T21:15"),
        ("2026-07-01T20:16", "close", "2026-07-01", True, "2026-07-02T20:15"),  # summer time
    ],
)
def test_sessions_are_the_exchanges(now, decide, session, final, due):
    assert moment_at(at(now), decide, 15) == (dt.date.fromisoformat(session), final)
    assert next_decision(at(now), decide, 15) == at(due)


def test_after_the_close_orders_are_filled_at_the_next_open(play, tested, tmp_path):
    """Without faults: the book of a backtest, but for the price of the night."""
    play(tmp_path / "close", tested, broker={"kind": "simulated"})
    play(tmp_path / "open", tested, decide="after_close", broker={"kind": "simulated"})
    with open_store(tmp_path / "open") as store:
        account = Account(tmp_path / "open", store)
        assert verify(account).differences == ()
        assert store.of(ALERT) == []
        book, equity = account.book(), [e.content["equity_usd"] for e in store.of(CLOSED)]
    with open_store(tmp_path / "close") as store:
        other = [e.content["equity_usd"] for e in store.of(CLOSED)]
    assert equity[0] == account.market_settings.env.initial_equity_usd
    assert np.abs(np.array(equity[1:]) - other[1:]).max() > 0.0
    # The price at the open, by hand.
    market, t = book.market, book.session - 1
    assert isinstance(market, OptionMarket)
    tape, history = market.tape, market.history
    still = replace(history, open=history.close[:, [0, *range(history.num_sessions - 1)]])
    marks = opening_marks(account, replace(market, history=still), t + 1)
    np.testing.assert_allclose(marks, tape.mark[0, t], rtol=1e-12)
    spot, tau = history.open[0, t + 1], tape.days_to_expiry[t] / 365.0
    rates = history.rate[t], history.dividend_yield[t]
    vol = vol_at(account.market_settings.surface, history, t, tape.strike[0, t] / spot, tau)
    expected = price(spot, tape.strike[0, t], tau, vol * tape.vol_scale[t], *rates, tape.is_call)
    np.testing.assert_allclose(opening_marks(account, market, t + 1), expected, rtol=1e-12)


def vol_at(surface, history, t, moneyness, tau):
    """Off the surface of an evening, at a strike over the spot of the morning after."""
    log_forward = (history.rate[t] - history.dividend_yield[t]) * tau
    return surface.vol(
        surface.drivers(history.implied_vol)[0, t], np.log(moneyness) - log_forward, tau
    )


def test_before_the_close_the_day_stays_as_it_was_seen(play, tested, tmp_path):
    """The source's last word on that day is no contradiction."""
    history = tested.setup.history
    play(tmp_path, tested, 2)
    t = history.num_sessions - 58
    low = history.close * 1.0
    low[:, t] *= 0.999
    provisional = replace(history, close=low, low=np.minimum(history.low, low))
    with open_store(tmp_path) as store:
        account = Account(tmp_path, store)
        report = run_session(account, provisional.sessions(0, t + 1), final=False)
        assert report.alerts == []
        assert store.of(SESSION)[-1].content["final"] is False
    with open_store(tmp_path) as store:
        account = Account(tmp_path, store)
        report = run_session(account, history.sessions(0, t + 2))
        assert report.alerts == []
        assert account.history().close[0, t] == low[0, t]
        assert verify(account).differences == ()
    with open_store(tmp_path) as store:
        report = run_session(Account(tmp_path, store), provisional.sessions(0, t + 3))
    assert report.alerts == []


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("contradiction", lambda h: replace(h, rate=h.rate + 0.01 * (h.dates == h.dates[-3]))),
        (
            "jump",
            lambda h: replace(
                h,
                **{
                    name: getattr(h, name) * np.where(h.dates == h.dates[-1], 1.3, 1.0)
                    for name in ("open", "high", "low", "close")
                },
            ),
        ),
        ("stale", lambda h: h),
    ],
)
def test_doubtful_data_open_nothing(play, tested, tmp_path, kind, change):
    play(tmp_path, tested, 2)
    history = tested.setup.history
    fresh = history.sessions(0, history.num_sessions - 57)
    today = fresh.dates[-1].item() + dt.timedelta(days=3 * (kind == "stale"))
    with open_store(tmp_path) as store:
        before = decoded(store.of(CLOSED)[-1].content["quantity"])
        run_session(Account(tmp_path, store), change(fresh), today)
        after = decoded(store.of(CLOSED)[-1].content["quantity"])
        assert [event.content["kind"] for event in store.of(ALERT)] == [kind]
    assert (np.abs(after) <= np.abs(before)).all()
    with open_store(tmp_path) as store:
        assert verify(Account(tmp_path, store)).differences == ()


def without(history, *days):
    """The history less those sessions."""
    kept = ~np.isin(history.dates, np.array(days))
    columns = {f.name: getattr(history, f.name) for f in fields(history)}
    arrays = {name: values for name, values in columns.items() if isinstance(values, np.ndarray)}
    return replace(history, **{name: values[..., kept] for name, values in arrays.items()})


def test_sessions_that_the_source_lacks_are_found():
    from envs.market.sources.index import Sp500Data, load_market

    history = load_market(Sp500Data(), embargo_days=0).history
    gone = history.dates[[4001, 4003]]
    fresh = without(history, *gone)
    first, second = fresh.sessions(0, 4002), fresh.sessions(0, 4003)

    def found(recorded, fresh):
        return [
            doubt.text for doubt in doubts(recorded, fresh, set(), str(recorded.dates[-1]), None)
        ]

    assert found(history.sessions(0, 4001), first) == [f"the source has no {gone[0]}"]
    assert found(first, second) == [f"the source has no {gone[1]}"]  # the one before is known
    assert found(history.sessions(0, 4001), history.sessions(0, 4005)) == []
    weekly = without(history, *np.delete(history.dates, np.s_[::5]))
    assert found(weekly.sessions(0, 800), weekly.sessions(0, 801)) == []


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"decide": "after_close"}, "after_close needs a broker"),
        ({"broker": {"backup": True}}, "backup needs a broker"),
    ],
)
def test_what_cannot_be_is_refused(chosen, message):
    with pytest.raises(InputError, match=message):
        build_settings(AccountSettings, {"name": "x", **chosen}, "account")


def test_after_days_off_what_was_filled_at_the_open_after_the_last_decision_is_taken_in(
    play, tested, tmp_path
):
    play(tmp_path, tested, 2, decide="after_close", broker={"kind": "simulated"})
    history = tested.setup.history
    with open_store(tmp_path) as store:
        run_session(Account(tmp_path, store), history.sessions(0, history.num_sessions - 40))
        assert [event.content["kind"] for event in store.of(ALERT)] == ["missed"]
        assert verify(Account(tmp_path, store)).differences == ()
