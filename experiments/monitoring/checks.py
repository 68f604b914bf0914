"""The checks of an account that are due each day, week, month and quarter.

Each compares one number of the `AccountView` with a bound. What a person has to do stands among
them as a reminder. A check without enough sessions behind it says so and is no warning.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from pydantic import Field

from conf.settings import settings
from envs.market.exchange_calendar import exchange_sessions
from experiments.monitoring.view import MODEL, AccountView, Use
from experiments.reporting.figures import rolling_sharpe
from experiments.reporting.style import DASH, dollars, number, percent
from risk import metrics
from risk.guard import GuardState

Period = Literal["daily", "weekly", "monthly", "quarterly"]
PERIODS: tuple[Period, ...] = ("daily", "weekly", "monthly", "quarterly")
Share = Annotated[float, Field(gt=0.0)]
Sessions = Annotated[int, Field(ge=2)]

_MONTH = 20  # sessions
_LEAST_SPREAD = 1e-3  # of an action
_TOO_FEW = "too few sessions"


class Level(StrEnum):
    """What a check says."""

    OK = "OK"
    WARNING = "WARNING"
    ALERT = "ALERT"


@settings
class CheckSettings:
    """Bounds of the checks; shares are decimals."""

    near_limit: Share = 0.9  # of a limit or circuit breaker: a warning above
    drift_warning: Share = 0.005  # equity less that of the backtest, over equity
    drift_alert: Share = 0.02
    unusual_day: Share = 4.0  # deviations of the last `window` sessions
    max_volatility: Share = 0.3  # of the index, annual, over 20 sessions
    sustained_sessions: Sessions = 20  # above it: an alert
    window: Sessions = 60  # of Sharpe ratio, VaR, beta
    min_sharpe: float = 0.8  # annual
    degraded_sessions: Sessions = 30  # below it: retrain
    drawdown_warning: Share = 0.1
    drawdown_alert: Share = 0.2
    max_var: Share = 0.03  # 95 %, one session
    max_beta: Share = 0.5
    behaviour_shift: Share = 3.0  # of a mean action, in deviations
    max_scan_loss: Share = 0.2  # over equity
    max_training_age: Sessions = 63  # sessions since the opening, or the retraining that decides


@dataclass(frozen=True)
class Check:
    """One check's outcome."""

    period: Period
    key: str  # under which an alert of it is known
    title: str
    level: Level
    found: str  # the number, with its unit
    bound: str  # what it is held against
    session: str = ""  # that it is about, where that is not the newest


def daily(view: AccountView, undecided: list[str], options: CheckSettings) -> Iterator[Check]:
    """P&L against what was expected, limits, regime, trades, breakers, data, and the dead man."""
    late = ", ".join(undecided[-5:])
    last = f"last on {view.decided[-1]}" if view.decided else "never"
    found = f"nothing was decided on {late}" if undecided else last
    bound = "every session of the exchange"
    level, missed = _level(alert=bool(undecided)), (undecided or [""])[-1]
    yield Check("daily", "undecided", "decided in time", level, found, bound, missed)

    shift, warning, alert = view.drift_share, options.drift_warning, options.drift_alert
    level = _level(abs(shift) > warning, abs(shift) > alert)
    found = f"{dollars(view.drift)} ({percent(shift, 2)})"
    bound = f"±{percent(warning)}, alert ±{percent(alert)}"
    yield Check("daily", "drift", "equity against the backtest", level, found, bound)

    yield _usual_day(view, options)
    yield _use("limits", "limits", view.limits, options)
    yield _use("breakers", "circuit breakers", view.breakers, options)
    yield _state(view)
    yield _regime(view, options)
    yield _trades(view)

    odd = {alert["kind"] for alert in view.alerts if alert["session"] == view.session}
    odd &= {"contradiction", "gap", "jump", "missed", "stale"}
    # A source that is late is common; a day that goes by undecided has a check of its own.
    level = _level(bool(odd), bool(odd - {"missed", "stale"}))
    found, bound = ", ".join(sorted(odd)) or "sound", "no contradiction, gap or jump; up to date"
    yield Check("daily", "data", "data", level, found, bound)


def _usual_day(view: AccountView, options: CheckSettings) -> Check:
    past, found, level = view.returns[-options.window - 1 : -1], dollars(view.day_pnl), Level.OK
    if len(past) >= options.window and past.std(ddof=1) > metrics.NEGLIGIBLE:
        size = float((view.returns[-1] - past.mean()) / past.std(ddof=1))
        found += f", {number(size, 1, plus=True)} deviations"
        level = _level(abs(size) > options.unusual_day)
    bound = f"{options.unusual_day:g} deviations"
    return Check("daily", "day", "P&L of the day", level, found, bound)


def _use(key: str, title: str, uses: Sequence[Use], options: CheckSettings) -> Check:
    bound = f"{percent(options.near_limit, 0)} used"
    if not uses:
        return Check("daily", key, title, Level.OK, "no risk module", bound)
    most = max(uses, key=lambda use: use.share)
    level = _level(most.share > options.near_limit, most.share > 1.0 + 1e-6)
    return Check("daily", key, title, level, f"{percent(most.share, 0)} used ({most.name})", bound)


def _state(view: AccountView) -> Check:
    level = _level(
        view.guard == GuardState.REDUCING.name or bool(view.held_back),
        view.guard == GuardState.HALTED.name or view.halt is not None,
    )
    found = "halted by a person" if view.halt is not None else view.guard.lower()
    if view.guard_reason:
        found += f" ({view.guard_reason.replace('_', ' ')})"
    return Check("daily", "state", "state of the book", level, found, "active")


def _regime(view: AccountView, options: CheckSettings) -> Check:
    bound = f"{percent(options.max_volatility, 0)} a year, {_MONTH} sessions"
    if len(view.index_year) < _MONTH:
        return Check("daily", "regime", "market regime", Level.OK, _TOO_FEW, bound)
    windows = sliding_window_view(view.index_year, _MONTH)
    rolling = metrics.annual_volatility(windows, view.sessions_per_year)
    above, days = rolling > options.max_volatility, options.sustained_sessions
    level = _level(bool(above[-1]), len(above) >= days and bool(above[-days:].all()))
    rank = percent(float((rolling <= rolling[-1]).mean()), 0)
    found = f"{percent(float(rolling[-1]))}, a year's {rank} quantile"
    return Check("daily", "regime", "market regime", level, found, bound)


def _trades(view: AccountView) -> Check:
    orders = [order for order in view.orders if order.session == view.session]
    odd = sorted({order.end for order in orders} - {"filled", MODEL})
    found = f"{len(orders)} orders, cost {dollars(float(view.cost[-1]), 2)}"
    found += f"; not done in full: {', '.join(odd)}" if odd else ""
    bound = f"all done, for {dollars(view.planned_cost, 2)}"
    return Check("daily", "trades", "executed trades", _level(bool(odd)), found, bound)


def weekly(view: AccountView, options: CheckSettings) -> Iterator[Check]:
    """Sharpe ratio, drawdown, what the model does, VaR and beta."""
    window, known = options.window, len(view.returns) >= options.window
    recent = view.returns[-window:]
    sharpe = var = beta = math.nan
    if known:
        sharpe = float(
            metrics.sharpe_ratio(recent, view.risk_free[-window:], view.sessions_per_year)
        )
        var = float(metrics.value_at_risk(recent))
        beta = float(metrics.beta(recent, view.index_return[-window:]))
    of = f"{window} sessions"
    least, low = options.min_sharpe, sharpe < options.min_sharpe
    yield _measured("weekly", "sharpe", f"Sharpe ratio, {of}", number(sharpe), low, f"≥ {least:g}")
    fall, warning, alert = view.drawdown, options.drawdown_warning, options.drawdown_alert
    level = _level(fall > warning, fall > alert)
    bound = f"{percent(warning, 0)}, alert {percent(alert, 0)}"
    yield Check("weekly", "drawdown", "drawdown from the peak", level, percent(fall), bound)
    high, bound = var > options.max_var, f"≤ {percent(options.max_var)}"
    yield _measured("weekly", "var", f"VaR 95 % of a session, {of}", percent(var, 2), high, bound)
    high, bound = beta > options.max_beta, f"≤ {options.max_beta:g}"
    yield _measured("weekly", "beta", f"beta, {of}", number(beta), high, bound)
    yield _behaviour(view, options)


def _behaviour(view: AccountView, options: CheckSettings) -> Check:
    """The mean action of a month beside those before; the largest shift of a component."""
    shift = math.nan
    if len(view.actions) >= _MONTH + options.window:
        before, now = view.actions[:-_MONTH], view.actions[-_MONTH:]
        spread = np.maximum(before.std(axis=0, ddof=1), _LEAST_SPREAD)
        shift = float(np.abs((now.mean(axis=0) - before.mean(axis=0)) / spread).max())
    bound = f"≤ {options.behaviour_shift:g} deviations in {_MONTH} sessions"
    far, found = shift > options.behaviour_shift, f"{number(shift, 1)} deviations"
    return _measured("weekly", "behaviour", "change of the model's mean action", found, far, bound)


def monthly(view: AccountView, options: CheckSettings) -> Iterator[Check]:
    """Benchmarks, a stress test of the book, and whether to retrain."""
    total = float(view.equity[-1] / view.initial_usd - 1.0)
    cash, index = (float(np.prod(1.0 + x) - 1.0) for x in (view.risk_free, view.index_return))
    bound = f"cash {percent(cash, plus=True)}, index {percent(index, plus=True)}"
    found = percent(total, plus=True)
    level = _level(total < cash)
    yield Check("monthly", "benchmarks", "return since the opening", level, found, bound)

    loss, most = view.scan_loss, options.max_scan_loss
    title, bound = "stress: worst of 16 moves of the market", f"≤ {percent(most, 0)} of equity"
    found = percent(loss) if math.isfinite(loss) else "no options"
    yield Check("monthly", "stress", title, _level(loss > most), found, bound)

    rolling = rolling_sharpe(view.returns, view.risk_free, options.window, view.sessions_per_year)
    days, least = options.degraded_sessions, options.min_sharpe
    recent = rolling[-days:]
    known = len(recent) == days and bool(np.isfinite(recent).all())
    below = int((recent < least).sum())
    level = _level(alert=known and below == days)
    found = f"Sharpe ratio below {least:g} on {below} of {days} sessions" if known else _TOO_FEW
    found += ": retrain" if level is Level.ALERT else ""
    yield Check("monthly", "retrain", "performance", level, found, "not on all of them")


def quarterly(view: AccountView, differences: int, options: CheckSettings) -> Iterator[Check]:
    """The audit of the whole account, the age of the training data, and a person's review."""
    found = f"{differences} differences" if differences else "as recorded"
    level = _level(alert=differences > 0)
    yield Check("quarterly", "audit", "audit: all played again", level, found, "no difference")

    since, most, what = len(view.dates) - 1, options.max_training_age, "opening"
    if view.retrained is not None:  # its market ended there
        since, what = int((view.dates > np.datetime64(view.retrained)).sum()), "retraining"
    until = f", trained until {view.trained_until}" if view.trained_until else ""
    found, bound = f"{since} sessions since the {what}{until}", f"≤ {most} sessions"
    level = _level(since > most)
    yield Check("quarterly", "training_data", "training data", level, found, bound)

    found = "due now: hyperparameters, architecture, these bounds"
    yield Check("quarterly", "review", "a person's review", Level.OK, found, "once a quarter")


def period_key(period: Period, session: str) -> str:
    """What names the day, week, month or quarter of a session."""
    day = dt.date.fromisoformat(session)
    year, week, _ = day.isocalendar()
    return {
        "daily": session,
        "weekly": f"{year}-W{week:02d}",
        "monthly": session[:7],
        "quarterly": f"{day.year}-Q{(day.month + 2) // 3}",
    }[period]


def undecided_sessions(view: AccountView, now: dt.datetime, deadline: dt.time) -> list[str]:
    """Sessions of the exchange since the last decision that should have been decided by `now`.

    deadline: of New York's day; `now` in New York's time.
    """
    last_day = now.date() if now.time() >= deadline else now.date() - dt.timedelta(days=1)
    since = view.decided[-1] if view.decided else str(view.dates[0] - np.timedelta64(1, "D"))
    first = dt.date.fromisoformat(since) + dt.timedelta(days=1)
    if first > last_day:
        return []
    return [str(day) for day in exchange_sessions(first, last_day)]


def _measured(period: Period, key: str, title: str, found: str, warns: bool, bound: str) -> Check:
    """A check of a number that may be undefined, which warns of nothing."""
    found = _TOO_FEW if found.startswith(DASH) else found
    return Check(period, key, title, _level(warns), found, bound)


def _level(warning: bool = False, alert: bool = False) -> Level:
    return Level.ALERT if alert else Level.WARNING if warning else Level.OK
