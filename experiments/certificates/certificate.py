"""What is to be certified and how thoroughly, and what a certificate says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import Field
from rich.markup import escape
from rich.table import Table

from conf.settings import settings
from experiments.evaluation.open_run import TestedRun


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
        """PASS or FAIL."""
        return "PASS" if self.passed else "FAIL"

    def as_json(self) -> dict[str, Any]:
        """The certificate as plain data; a number that is not finite becomes null."""
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
    for item in certificates:
        outcome = f"[{'green' if item.passed else 'red'}]{item.outcome}[/]"
        table.add_row(item.name, outcome, f"{item.number:.3g}", escape(item.what))
    return table


Part = Literal["all", "look_ahead", "martingale", "canary", "ledger", "determinism", "trials"]
Count = Annotated[int, Field(ge=1)]


@settings
class Profile:
    """How much is examined; more of it finds smaller defects. The defaults are the full form."""

    everything: bool = True  # every model, surface and roll, or else one choice of each kind
    sessions: Annotated[int, Field(ge=120)] = 400  # of the simulated markets of look_ahead
    moments: Count = 20  # sessions t of each configuration after which everything is changed
    paths: Annotated[int, Field(ge=2)] = 20_000  # of the fair market
    policy_paths: Annotated[int, Field(ge=2)] = 1000  # stepped together; more need more memory
    canary_seeds: Count = 20  # agents trained where there is no edge
    canary_steps: Count = 4096  # environment steps of each
    kill: bool = True  # a training process is really killed, or else its folder is cut back


PROFILES = {
    "full": Profile(),
    "short": Profile(
        everything=False,
        sessions=130,
        moments=2,
        paths=300,
        policy_paths=300,
        canary_seeds=1,
        canary_steps=2048,
        kill=False,
    ),
}
_COUNTS = ("paths", "moments", "canary_seeds")  # that can be given in the place of the form's


@settings
class CertifySettings:
    """Which certificates, of which run, and in which form."""

    run: str | None = None  # its policy and its market are examined as well
    policy: Literal["best", "last"] = "best"
    certificates: Annotated[tuple[Part, ...], Field(min_length=1)] = ("all",)
    form: Literal["full", "short"] = "full"
    seed: Annotated[int, Field(ge=0)] = 0  # of every market, path and session drawn here
    paths: Annotated[int, Field(ge=2)] | None = None  # of the fair market; null: the form's
    moments: Count | None = None  # of each configuration; null: the form's
    canary_seeds: Count | None = None  # null: the form's

    @property
    def is_complete(self) -> bool:
        """All certificates in no less than their full form."""
        profile, full = self.profile, PROFILES["full"]
        enough = all(getattr(profile, name) >= getattr(full, name) for name in _COUNTS)
        return "all" in self.certificates and self.form == "full" and enough

    @property
    def file_name(self) -> str:
        """certificates.json for all of them in full; otherwise the name says which and how."""
        if self.is_complete:
            return "certificates.json"
        parts = [] if "all" in self.certificates else sorted(set(self.certificates))
        short = ["short"] if self.form == "short" else []
        return f"certificates_{'_'.join([*parts, *short]) or 'reduced'}.json"

    @property
    def profile(self) -> Profile:
        """The form's, with the counts that were given in their place."""
        given = {name: getattr(self, name) for name in _COUNTS}
        return replace(PROFILES[self.form], **{k: v for k, v in given.items() if v is not None})


@dataclass(frozen=True)
class Certification:
    """Everything that a certificate is made from."""

    profile: Profile
    seed: int
    tested: TestedRun | None  # the run, where one was named
