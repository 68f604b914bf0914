"""Which crises and shocks a run goes through, and what became of its books in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.environments.setup import MarketSetup
from experiments.evaluation.open_run import MANAGED, TestedRun
from experiments.evaluation.regimes import seen_in
from experiments.evaluation.sensitivity import SIMULATED
from experiments.evaluation.split import AGENT
from experiments.scenarios.replay import (
    RUN_IN_SESSIONS,
    Outcome,
    ScenarioPath,
    replay_crisis,
    replay_shocks,
)
from experiments.scenarios.shocks import CRISES, CRISIS_TITLES, Shock, crises_within


@dataclass(frozen=True)
class Trial:
    """A crisis, or a shock at several dates."""

    name: str
    label: str  # short
    title: str
    description: str
    kind: str  # "crisis" or "shock"
    scenario_paths: tuple[ScenarioPath, ...]  # one a start date

    @property
    def books(self) -> tuple[str, ...]:
        """Who went through it."""
        return tuple(self.scenario_paths[0].outcomes)

    def outcomes(self, book: str) -> list[Outcome]:
        """Of one book, from every start."""
        return [scenario_path.outcomes[book] for scenario_path in self.scenario_paths]

    def mean_return(self, book: str) -> float:
        """Averaged over the starts."""
        return float(np.mean([o.total_return for o in self.outcomes(book)]))

    def worst_return(self, book: str) -> float:
        """From the worst of the starts."""
        return min(o.total_return for o in self.outcomes(book))

    @property
    def headline(self) -> str:
        """The book that would be run: the managed one where there is one."""
        return MANAGED if MANAGED in self.books else AGENT

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "title": self.title,
            "description": self.description,
            "starts": [str(p.dates[0]) for p in self.scenario_paths],
            "sessions": [len(p.dates) - 1 for p in self.scenario_paths],
            "books": {book: _plain(self.outcomes(book)) for book in self.books},
        }


def _plain(found: Sequence[Outcome]) -> dict[str, Any]:
    activity = [o.overlay for o in found if o.overlay is not None]
    return {
        "mean_return": float(np.mean([o.total_return for o in found])),
        "worst_return": min(o.total_return for o in found),
        "worst_drawdown": max(o.max_drawdown for o in found),
        "worst_day": min(o.worst_day for o in found),
        "ruined": sum(o.ruined for o in found),
        "returns": [o.total_return for o in found],
        "sessions_to_recover": [o.recovered for o in found],
        "overlay": [
            {
                "restrained_share": d.restrained,
                "halted": d.halted,
                "rule": d.rule or None,
                "clipped_share": d.clipped,
            }
            for d in activity
        ],
    }


def crisis_trials(tested: TestedRun, beside: Sequence[str]) -> tuple[list[Trial], list[str]]:
    """Every crisis that the data covers, and what was left out."""
    setup = tested.setup
    if setup.settings.data.source in SIMULATED:
        return [], ["Every crisis: the market is simulated, and its dates mean nothing."]
    dates = setup.market.history.dates
    covered = crises_within(dates[setup.market.first_usable], dates[-1])
    trials = []
    for number, crisis in enumerate(covered):
        scenario_path = replay_crisis(setup, tested.policy, beside, crisis)
        seen = ", ".join(seen_in(crisis.first, crisis.last, setup.splits, dates)) or "no split"
        trials.append(
            Trial(
                f"crisis_{number + 1}",
                crisis.name,
                CRISIS_TITLES[crisis.name],
                f"Seen in: {seen}",
                "crisis",
                (scenario_path,),
            )
        )
    missing = [CRISIS_TITLES[crisis.name] for crisis in CRISES if crisis not in covered]
    left_out = [f"Not in the data: {', '.join(missing)}."] if missing else []
    return trials, left_out


def shock_trials(
    tested: TestedRun, beside: Sequence[str], shocks: Sequence[Shock], split: str, starts: int
) -> tuple[list[Trial], list[str], list[str]]:
    """Each shock at up to `starts` dates of a split; those dates, and what was left out."""
    setup = tested.setup
    possible, left_out = possible_shocks(setup, shocks)
    window = setup.window(split)
    trials, dates = {}, set()
    # Shocks that last alike share their dates, and go through them side by side.
    for sessions in dict.fromkeys(shock.sessions for shock in possible):
        alike = [shock for shock in possible if shock.sessions == sessions]
        begins = start_sessions(window.start, window.stop, sessions, starts)
        if not begins:
            names = ", ".join(shock.title for shock in alike)
            left_out.append(f"No room for {sessions} sessions in the {split} years: {names}.")
            continue
        passed = [replay_shocks(setup, tested.policy, beside, alike, at) for at in begins]
        dates |= {str(setup.market.history.dates[at]) for at in begins}
        for shock in alike:
            scenario_paths = tuple(p[shock.name] for p in passed)
            trials[shock.name] = Trial(
                shock.name, shock.label, shock.title, shock.description, "shock", scenario_paths
            )
    ordered = [trials[shock.name] for shock in possible if shock.name in trials]
    return ordered, sorted(dates), left_out


def possible_shocks(setup: MarketSetup, shocks: Sequence[Shock]) -> tuple[list[Shock], list[str]]:
    """The shocks that mean something for the book, and what became of the others."""
    left_out = []
    possible = list(shocks)
    if not setup.trades_options:
        possible = [shock for shock in shocks if not shock.about_options]
        why = "they are about options"
    elif setup.rolls_daily:
        # Every contract is sold at the next close, so no book can be held through a shut market.
        possible = [shock for shock in shocks if not shock.closed_sessions]
        why = "contracts are rolled daily, and none can be held through sessions without trading"
    if len(possible) < len(shocks):
        names = ", ".join(shock.title for shock in shocks if shock not in possible)
        left_out.append(f"{names}: {why}.")
    if not setup.trades_options:
        left_out.append("Costs of an allocation are constant: no shock makes trading dearer.")
    return possible, left_out


def start_sessions(first: int, stop: int, sessions: int, count: int) -> list[int]:
    """Up to `count` sessions, evenly apart, at which a shock of so many sessions can begin.

    Of the stretch first .. stop-1; each is preceded by the run-in and the whole of the shock
    follows it. None where the stretch is too short.
    """
    earliest, latest = first + RUN_IN_SESSIONS + 1, stop - sessions
    if latest < earliest:
        return []
    even = np.linspace(earliest, latest, count).round().astype(int)
    return [int(at) for at in dict.fromkeys(even)]
