"""What Prometheus reads of an account: a text file of gauges, renewed with the live page.

The format is that of Prometheus' text exposition, version 0.0.4. How old the last decision is
follows from its time stamp, so an alarm there also notices a machine that does nothing any more.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Sequence

from experiments.monitoring.checks import Check, Level
from experiments.monitoring.view import AccountView

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "polyhedgerl_account"

Sample = tuple[str, str, dict[str, str], float]  # name, help, labels, value


def metrics_text(view: AccountView, checks: Sequence[Check], now: dt.datetime) -> str:
    """Every sample of the account; what is not defined is left out."""
    lines, described = [], set()
    for name, description, labels, value in _samples(view, checks, now):
        if not math.isfinite(value):
            continue
        if name not in described:
            described.add(name)
            lines += [f"# HELP {_PREFIX}_{name} {description}", f"# TYPE {_PREFIX}_{name} gauge"]
        pairs = ",".join(
            f'{k}="{_escaped(v)}"' for k, v in {"account": view.name, **labels}.items()
        )
        lines.append(f"{_PREFIX}_{name}{{{pairs}}} {value!r}")
    return "\n".join([*lines, ""])


def _samples(view: AccountView, checks: Sequence[Check], now: dt.datetime) -> Iterator[Sample]:
    yield "equity_dollars", "Equity after the newest trades.", {}, view.equity_after
    yield "cash_dollars", "Cash after the newest trades.", {}, view.cash
    yield "day_pnl_dollars", "From the close before to the newest.", {}, view.day_pnl
    yield "drawdown_ratio", "Loss from the peak over the peak.", {}, view.drawdown
    yield "drift_dollars", "Equity less that of the backtest.", {}, view.drift
    yield "positions", "Positions held.", {}, float(len(view.positions))
    yield "alerts", "Alerts ever recorded.", {}, float(len(view.alerts))
    yield "missed_sessions", "Sessions without a decision.", {}, float(view.missed)
    yield "halted", "1 where a person halted the account.", {}, float(view.halt is not None)
    for greek, value in view.greeks.items():
        yield "greek_dollars", "Greeks of the book.", {"greek": greek}, value
    for use in (*view.limits, *view.breakers):
        share = min(use.share, 1e9)
        yield "limit_used_ratio", "Share of a limit that is used.", {"limit": use.name}, share
    for check in checks:
        level = float(list(Level).index(check.level))
        labels = {"check": check.key, "period": check.period}
        yield "check_level", "0 in order, 1 warning, 2 alert.", labels, level
    if view.decided:
        day = dt.datetime.fromisoformat(view.decided[-1]).replace(tzinfo=dt.UTC)
        yield "decided_session_seconds", "Day last decided, Unix time.", {}, day.timestamp()
    yield "renewed_seconds", "When this was written, Unix time.", {}, now.timestamp()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
