"""What a benchmark says: rows of a measured value beside its budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table


@dataclass(frozen=True)
class Budget:
    """A bound that a value is held to."""

    bound: float
    at_least: bool  # or else at most

    def met_by(self, value: float) -> bool:
        """Whether the value keeps to it."""
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {shown(self.bound)}"


@dataclass(frozen=True)
class Row:
    """One measured quantity."""

    name: str  # stable, for programs: section.quantity
    what: str  # for people
    value: float
    unit: str
    budget: Budget | None = None
    details: Mapping[str, Any] = field(default_factory=dict)  # plain data behind the value

    @property
    def met(self) -> bool | None:
        """Whether the budget is kept; None where there is none."""
        return None if self.budget is None else self.budget.met_by(self.value)

    def as_json(self) -> dict[str, Any]:
        """The row as plain data."""
        return {**asdict(self), "met": self.met}


def at_least(bound: float) -> Budget:
    """A budget that a value has to reach."""
    return Budget(bound, at_least=True)


def at_most(bound: float) -> Budget:
    """A budget that a value must not exceed."""
    return Budget(bound, at_least=False)


def shown(value: float) -> str:
    """A number as a person reads it: three significant digits, thousands separated."""
    return f"{value:,.0f}" if abs(value) >= 1000.0 else f"{value:.3g}"


def rows_table(rows: Sequence[Row]) -> Table:
    """Rows for the terminal."""
    table = Table(title="benchmark")
    table.add_column("what", overflow="fold")
    for column in ("value", "unit", "budget", "met"):
        right = column in ("value", "budget")
        table.add_column(column, justify="right" if right else "left", no_wrap=True)
    words = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}
    for row in rows:
        budget = "" if row.budget is None else str(row.budget)
        table.add_row(row.what, shown(row.value), row.unit, budget, words[row.met])
    return table
