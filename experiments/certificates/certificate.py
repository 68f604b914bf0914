"""What a certificate says: PASS or FAIL, and the number behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.markup import escape
from rich.table import Table


@dataclass(frozen=True)
class Certificate:
    """One property of the framework, put to the test."""

    name: str  # stable, for programs: part.subject
    passed: bool
    number: float  # what decides
    what: str  # the number in words, for people
    details: Mapping[str, Any] = field(default_factory=dict)  # plain data behind it

    @property
    def outcome(self) -> str:
        """The answer."""
        return "PASS" if self.passed else "FAIL"

    def as_json(self) -> dict[str, Any]:
        """The certificate as plain data; a number that is none is null."""
        return {
            "name": self.name,
            "outcome": self.outcome,
            "number": self.number if math.isfinite(self.number) else None,
            "what": self.what,
            "details": dict(self.details),
        }


def certificates_table(certificates: Sequence[Certificate]) -> Table:
    """Certificates for the terminal."""
    table = Table(title="certificates")
    table.add_column("certificate", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("number", justify="right", no_wrap=True)
    table.add_column("what it is", overflow="fold")
    for one in certificates:
        colour = "green" if one.passed else "red"
        outcome = f"[{colour}]{one.outcome}[/]"
        table.add_row(one.name, outcome, f"{one.number:.3g}", escape(one.what))
    return table
