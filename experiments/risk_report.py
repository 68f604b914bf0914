"""What the risk module did to a book: how often each rule bound and what it took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from experiments.backtest import Backtest
from risk.guard import GuardState
from risk.metrics import SESSIONS_PER_YEAR


def risk_report(managed: Backtest) -> dict[str, Any]:
    """By rule: share of days on which it bound, and value it took a year over equity.

    `guard_days` gives the share of days spent in each state of the guard.
    """
    equity = managed.equity[:, :-1]
    rules = {
        rule: {
            "days_bound": float((taken > 0.0).mean()),
            "taken_a_year": float((taken / equity[:, : taken.shape[1]]).mean() * SESSIONS_PER_YEAR),
        }
        for rule, taken in managed.rules.items()
    }
    states = {state.name: float((managed.guard == state).mean()) for state in GuardState}
    return {"rules": rules, "guard_days": states}


def risk_table(report: Mapping[str, Any]) -> Table:
    """The report for the terminal."""
    days = ", ".join(f"{name} {100 * x:.1f} %" for name, x in report["guard_days"].items() if x)
    table = Table(title=f"the risk module, managed book ({days})", title_justify="left")
    table.add_column("rule")
    table.add_column("days it bound", justify="right")
    table.add_column("taken a year, x equity", justify="right")
    for rule, numbers in report["rules"].items():
        if numbers["days_bound"]:
            share, taken = numbers["days_bound"], numbers["taken_a_year"]
            table.add_row(rule, f"{100 * share:.1f} %", f"{taken:.2f}")
    return table
