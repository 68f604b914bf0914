"""The live page of an account and its report: what matters first, in one file."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterator, Sequence

import numpy as np

from experiments.monitoring.checks import Check, Level
from experiments.monitoring.view import MODEL, AccountView, Use
from experiments.reporting.book_figures import exposures_chart, turnover_chart
from experiments.reporting.charts import Bars, Chart, Line, Mark, Panel
from experiments.reporting.contents import Item, KeyNumber, Report, Section, Table, Text
from experiments.reporting.figures import equity_chart, return_histogram, rolling_sharpe_chart
from experiments.reporting.style import (
    DASH,
    GAIN,
    INK,
    LOSS,
    dollars,
    number,
    percent,
    shown_name,
)

_ALERTS = 20  # shown
_CENT = 0.01  # dollars
_FULL = 0.9  # of a limit, from where its bar has another colour
_AT_MOST = 1.5  # of a limit that a bar shows
_OCC = re.compile(r"(?:.*:)?(\S+) +(\d\d)(\d\d)(\d\d)([CP])(\d{8})")


def build_page(
    view: AccountView, checks: Sequence[Check], now: dt.datetime, *, full: bool = False
) -> Report:
    """The page as it stands at `now` (UTC); `full`: the report, with how it has done so far."""
    levels = [check.level for check in checks]
    outcome = next(level for level in reversed(Level) if level in (*levels, Level.OK))
    about = view.about
    kind = "Report on account" if full else "Account"
    return Report(
        title=f"{kind} {view.name}",
        subtitle=f"Close of {view.session}, session {len(view.dates)} since {view.dates[0]} · "
        f"{about['policy']} policy of {about['run']}, step {about['policy_step']}",
        outcome=outcome.value,
        verdict_text=_in_words(view, checks),
        key_numbers=tuple(_key_numbers(view)),
        sections=(
            Section("Checks and alerts", (_checks_table(checks), _alerts(view))),
            Section("Limits", tuple(_limits(view))),
            Section("Positions and orders", (*_positions(view), _orders_table(view))),
            Section("Performance", tuple(_performance(view, full=full))),
            Section("Data", (_data_table(view),)),
        ),
        footer=(
            f"Written at {now:%Y-%m-%d %H:%M} UTC. Equity and P&L are those at the close, before "
            "its trades, unless it says otherwise. Trading on paper; research, not advice.",
        ),
    )


def _in_words(view: AccountView, checks: Sequence[Check]) -> str:
    halt = view.halt
    parts = []
    if halt is not None:
        what = "everything is closed" if halt["mode"] == "flatten" else "nothing is opened"
        why = f": {halt['why']}" if halt["why"] else ""
        parts.append(f"Halted by {halt['by']} on {halt['session']}{why}; {what}.")
    for level in (Level.ALERT, Level.WARNING):
        parts += [f"{c.title}: {c.found}." for c in checks if c.level is level]
    if not parts:
        return f"All {len(checks)} checks passed."
    return "\n\n".join(part[0].upper() + part[1:] for part in parts)


def _key_numbers(view: AccountView) -> Iterator[KeyNumber]:
    index = percent(float(view.index_return[-1]), 2, plus=True) if len(view.dates) > 1 else DASH
    day = view.day_pnl / (float(view.equity[-1]) - view.day_pnl)
    total = float(view.equity[-1]) / view.initial_usd - 1.0
    bought = float(np.prod(1.0 + view.index_return)) - 1.0
    yield KeyNumber("Equity after trades", dollars(view.equity_after), f"cash {dollars(view.cash)}")
    yield KeyNumber(
        "P&L of the day",
        dollars(view.day_pnl),
        f"{percent(day, 2, plus=True)} before its trades, index {index}",
    )
    yield KeyNumber(
        "Since the opening",
        percent(total, 2, plus=True),
        f"index {percent(bought, plus=True)}",
    )
    stop = next((use.limit for use in view.breakers if use.name.startswith("drawdown")), math.nan)
    halts = f"halts at {percent(stop, 0)}" if math.isfinite(stop) else "from the peak"
    yield KeyNumber("Drawdown", percent(view.drawdown, 2), halts)
    uses = (*view.limits, *view.breakers)
    if uses:
        nearest = max(uses, key=lambda use: use.share)
        yield KeyNumber("Nearest limit", f"{percent(nearest.share, 0)} used", nearest.name)
    equity = float(view.equity[-1])
    for name, unit in _GREEKS.items():
        if name in view.greeks and name in ("delta", "vega"):
            value = view.greeks[name]
            share = f"{percent(value / equity, 1)} of equity" if name == "delta" else unit
            yield KeyNumber(shown_name(name).capitalize(), dollars(value, _cents(value)), share)
    yield KeyNumber(
        "Drift",
        dollars(view.drift, _cents(view.drift)),
        "equity less the backtest's",
    )


_GREEKS = {
    "delta": "dollars in the index",
    "gamma": "change of delta for 1 %",
    "vega": "a volatility point",
    "theta": "a session",
}


def _cents(value: float) -> int:
    """Decimals that leave something of small amounts."""
    return 0 if abs(value) >= 100.0 or value == 0.0 else 2


def _checks_table(checks: Sequence[Check]) -> Table:
    worst_first = sorted(checks, key=lambda check: -list(Level).index(check.level))
    rows = tuple((c.title, str(c.level), c.found, c.bound, c.period) for c in worst_first)
    columns = ("check", "result", "found", "held against", "due")
    return Table("All checks", columns, rows, folded=False)


def _limits(view: AccountView) -> Iterator[Item]:
    if not view.limits:
        yield Text("There is no risk module in this account: nothing limits the book.")
        return
    uses = (*view.limits, *view.breakers)
    yield _uses_chart(uses)
    rows = tuple(
        (use.name, percent(use.used, 2), percent(use.limit, 0), percent(use.share, 0))
        for use in uses
    )
    bound = ", ".join(view.rules_bound) or "none"
    notes = (
        f"Rules that changed what the model asked for at the newest decision: {bound}.",
        f"State of the guard: {view.guard.lower()}.",
    )
    columns = ("measure", "now, of equity", "limit", "used")
    yield Table("How near", columns, rows, notes=notes, folded=True)


def _uses_chart(uses: Sequence[Use]) -> Chart:
    shares = np.array([min(use.share, _AT_MOST) for use in uses])
    colours = tuple(LOSS if share > _FULL else GAIN for share in shares)
    bars = Bars("used", tuple(use.name for use in uses), 100.0 * shares, GAIN, colours, True)
    marks = (Mark("x", 100.0, "limit", INK, dash=False),)
    return Chart(
        "limits",
        "Limits of the book and circuit breakers",
        (Panel("", (bars,), "percent", marks=marks),),
        subtitle="How much of each is used, and what a circuit breaker does at its limit.",
        x_unit="percent",
        height=70 + 27 * max(len(uses), 3),
        description="; ".join(f"{use.name} {percent(use.share, 0)}" for use in uses),
    )


def _positions(view: AccountView) -> Iterator[Item]:
    equity, loss, options = float(view.equity[-1]), view.scan_loss, "vega" in view.greeks
    if options:
        rows = [
            (name, dollars(value, 2), percent(value / equity, 2), _GREEKS[name])
            for name, value in view.greeks.items()
        ]
        rows.append(("worst of 16 moves", dollars(-loss * equity, 2), percent(-loss, 2), "stress"))
        columns: tuple[str, ...] = ("measure", "dollars", "of equity", "unit")
        yield Table("Greeks of the book", columns, tuple(rows))
    if not view.positions:
        yield Text("Nothing is held.")
        return
    held = []
    for p in sorted(view.positions, key=lambda p: -abs(p.value_usd)):
        greeks = (dollars(p.delta_usd), dollars(p.gamma_usd), dollars(p.vega_usd, 2))
        own = greeks if options else (percent(p.value_usd / equity),)
        traded = (number(p.quantity, 3), number(p.price_usd))
        held.append((contract(p.symbol), dollars(p.value_usd, 2), *own, *traded))
    own_columns = ("delta", "gamma", "vega") if options else ("of equity",)
    columns = ("held", "value", *own_columns, "units", "price, $")
    yield Table(f"Positions after the trades of {view.session}", columns, tuple(held))


def contract(symbol: str) -> str:
    """A position as people write it: "SPX 2018-06-06 2,405 call"; other symbols as they are."""
    match = _OCC.fullmatch(symbol)
    if match is None:
        return symbol
    root, year, month, day, kind, strike = match.groups()
    points = number(int(strike) / 1000.0, 0)
    return f"{root} 20{year}-{month}-{day} {points} {'call' if kind == 'C' else 'put'}"


def _performance(view: AccountView, *, full: bool) -> Iterator[Item]:
    if len(view.dates) < 2:
        yield Text("The account has seen one session: from the next one on there is a curve.")
        return
    index = np.concatenate([[1.0], np.cumprod(1.0 + view.index_return)])
    days, curves = view.dates[1:], {"policy": view.equity, "backtest": view.backtest}
    yield equity_chart(view.dates, {**curves, "buy and hold": index})
    drift = Line("drift", view.dates, view.equity - view.backtest, INK)
    if np.abs(drift.y).max() < _CENT:
        yield Text("Equity is that of the backtest of the same sessions, to the cent.")
    else:
        yield _drift_chart(drift)
    if full:
        yield return_histogram(view.returns)
        yield rolling_sharpe_chart(days, {"policy": view.returns}, view.risk_free)
        shares = view.traded[:-1] / view.equity[:-1]
        yield turnover_chart(days, {"policy": shares})
    yield exposures_chart(days, {"policy": view.exposures})


def _drift_chart(drift: Line) -> Chart:
    return Chart(
        "drift",
        "Drift against the backtest",
        (Panel("dollars", (drift,), "dollars", marks=(Mark("y", 0.0, dash=False),)),),
        subtitle="Equity less that of the same sessions decided and traded at each close, without "
        "orders, gaps or halts.",
        height=230,
    )


def _orders_table(view: AccountView) -> Table | Text:
    if not view.orders:
        return Text("Nothing was traded in the last five sessions.")
    rows = tuple(
        (
            contract(order.symbol),
            order.session,
            number(order.quantity, 3, plus=True),
            number(order.done, 3, plus=True),
            number(order.price_usd),
            "by the model" if order.end == MODEL else order.end,
        )
        for order in view.orders
    )
    cost = f"Cost of the newest session: {dollars(float(view.cost[-1]), 2)}."
    columns = ("order", "session", "units", "done", "price, $", "end")
    return Table("Orders of the last five sessions", columns, rows, notes=(cost,))


def _alerts(view: AccountView) -> Item:
    if not view.alerts:
        return Text("There was never an alert.")
    rows = tuple((a["session"], a["kind"], a["text"]) for a in view.alerts[:_ALERTS])
    title = f"Alerts, {len(view.alerts)} in all, the newest first"
    return Table(title, ("session", "kind", "what"), rows, folded=len(rows) > 5)


def _data_table(view: AccountView) -> Table:
    deciding = ", ".join(f"{name} {percent(part, 0)}" for name, part in view.deciding.items())
    rows = (
        ("policies that decide", deciding),
        ("newest session of the data", view.session),
        ("last decision", view.decided[-1] if view.decided else DASH),
        ("sessions without a decision", number(view.missed, 0)),
        ("training years end", view.trained_until or DASH),
    )
    return Table("What it rests on", ("measure", "value"), rows)
