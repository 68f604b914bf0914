"""What the risk module did to a book: how often each rule bound and what it took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from conf.types import FloatArray
from experiments.backtests.backtest import Backtest
from risk.guard import GuardState
from risk.metrics import SESSIONS_PER_YEAR


def risk_report(managed: Backtest) -> dict[str, Any]:
    """By rule: share of days on which it bound, and value it took a year over equity.

    `guard_days` gives the share of days spent in each state of the guard. `blocked_pnl_a_year` is
    what everything that the module took would have earned by the next close, a year over equity,
    before costs and interest: above zero the module cost that, below it saved it. A ruined book
    counts up to its ruin.
    """
    alive, equity = managed.alive, managed.equity[:, :-1]

    def a_year(dollars: FloatArray) -> float:
        return float((dollars / equity)[alive].mean() * SESSIONS_PER_YEAR)

    rules = {
        rule: {
            "days_bound": float((clipped > 0.0)[alive].mean()),
            "clipped_a_year": a_year(clipped),
        }
        for rule, clipped in managed.rules.items()
    }
    states = {state.name: float((managed.guard == state)[alive].mean()) for state in GuardState}
    return {"rules": rules, "guard_days": states, "blocked_pnl_a_year": a_year(managed.blocked_pnl)}


def risk_table(report: Mapping[str, Any]) -> Table:
    """The report for the terminal."""
    days = ", ".join(f"{name} {100 * x:.1f} %" for name, x in report["guard_days"].items() if x)
    blocked_pnl = report["blocked_pnl_a_year"]
    verb = "cost" if blocked_pnl > 0.0 else "saved"
    title = (
        f"the risk module, managed book ({days}); it {verb} {100 * abs(blocked_pnl):.1f} % a year"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("rule")
    table.add_column("days it bound", justify="right")
    table.add_column("taken a year, x equity", justify="right")
    for rule, numbers in report["rules"].items():
        if numbers["days_bound"]:
            share, clipped = numbers["days_bound"], numbers["clipped_a_year"]
            table.add_row(rule, f"{100 * share:.1f} %", f"{clipped:.2f}")
    return table
