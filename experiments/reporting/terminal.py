"""Results as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from conf.types import DateArray, FloatArray
from experiments.statistics.comparison import Outcome, Verdict
from experiments.statistics.performance import Performance

# Measure, title, how it is written.
ROWS = (
    ("total_return", "total return", "percent"),
    ("annual_return", "annual return", "percent"),
    ("annual_volatility", "annual volatility", "percent"),
    ("sharpe", "Sharpe ratio", "number"),
    ("sortino", "Sortino ratio", "number"),
    ("calmar", "Calmar ratio", "number"),
    ("max_drawdown", "max drawdown", "percent"),
    ("max_drawdown_sessions", "its length, sessions", "count"),
    ("win_rate", "winning days", "percent"),
    ("positive_months", "positive months", "percent"),
    ("positive_years", "positive years", "percent"),
    ("profit_factor", "profit factor", "number"),
    ("var_95", "VaR 95 %, a day", "percent"),
    ("cvar_95", "CVaR 95 %, a day", "percent"),
    ("beta", "beta to the index", "number"),
    ("turnover", "turnover, x equity a year", "number"),
    ("cost_drag", "costs a year", "percent"),
)


def performance_table(title: str, dates: DateArray, books: Mapping[str, Performance]) -> Table:
    """Measures down, books across; means over paths."""
    table = Table(title=f"{title}: {dates[0]} to {dates[-1]}", title_justify="left")
    table.add_column("")
    for name in books:
        table.add_column(name.replace("_", " "), justify="right")
    for key, label, style in ROWS:
        table.add_row(label, *[_written(getattr(book, key), style) for book in books.values()])
    return table


def measure_rows(
    books: Sequence[Mapping[str, float | None]],
) -> list[tuple[str, list[str]]]:
    """Label and a cell for each book, of measures as `metrics.json` holds them."""
    rows = []
    for key, label, style in ROWS:
        values = [book.get(key) for book in books]
        cells = [_written(np.array(np.nan if v is None else v), style) for v in values]
        rows.append((label, cells))
    return rows


def caveat(split: str) -> str:
    """What has to be said with every result on a split that the agent has met before."""
    learned = "The agent learned on these days: they say nothing about others."
    chosen = "The policy was chosen by its result on these days, which flatters it."
    return {"train": learned, "validation": chosen, "all": f"{learned} {chosen}"}.get(split, "")


def verdict_text(which: str, verdict: Verdict, caution: str = "") -> Text:
    """The verdict for the terminal: word, reason, and what to mind."""
    styles = {Outcome.OUTPERFORMS: "bold green", Outcome.UNDERPERFORMS: "bold red"}
    outcome = (str(verdict.outcome), styles.get(verdict.outcome, "bold yellow"))
    return Text.assemble(f"verdict, {which}: ", outcome, f". {verdict.reason} {caution}")


def _written(values: FloatArray, style: str) -> str:
    value = float(np.mean(values))
    if not np.isfinite(value):
        return "-"
    if style == "percent":
        return f"{100 * value:.1f} %"
    return f"{value:.0f}" if style == "count" else f"{value:.2f}"


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
    table.add_column("clipped a year, x equity", justify="right")
    for rule, numbers in report["rules"].items():
        if numbers["days_bound"]:
            share, clipped = numbers["days_bound"], numbers["clipped_a_year"]
            table.add_row(rule, f"{100 * share:.1f} %", f"{clipped:.2f}")
    return table
