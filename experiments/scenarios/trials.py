"""The crises and shocks that a run goes through, and how its books fared in each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from experiments.environments.setup import MarketSetup
from experiments.evaluation.open_run import MANAGED, TestedRun
from experiments.evaluation.regimes import Period, period, seen_in
from experiments.evaluation.sensitivity import SIMULATED
from experiments.evaluation.split import AGENT
from experiments.scenarios.replay import (
    RUN_IN_SESSIONS,
    OverlayActivity,
    ScenarioPath,
    replay_crisis,
    replay_shocks,
)
from experiments.scenarios.shocks import Shock

# By title; the periods' own names are short, because they stand under bars.
CRISES: Mapping[str, Period] = {
    "Dot-com crash": period("Dot-com", "2000-03-27", "2002-10-09"),
    "Financial crisis": period("2008-09", "2008-09-02", "2009-03-09"),
    "Flash crash of May 2010": period("May 2010", "2010-05-03", "2010-05-28"),
    "US downgrade, August 2011": period("Aug 2011", "2011-07-25", "2011-10-03"),
    "China, August 2015": period("Aug 2015", "2015-08-18", "2015-09-30"),
    "Volatility of February 2018": period("Feb 2018", "2018-01-29", "2018-02-28"),
    "Fourth quarter of 2018": period("Q4 2018", "2018-10-01", "2018-12-31"),
    "Covid": period("Covid", "2020-02-20", "2020-03-23"),
    "Inflation, 2022": period("2022", "2022-01-04", "2022-10-12"),
}


@dataclass(frozen=True)
class BookSummary:
    """One book over all start dates of a trial; the fields are keys of `stress.json`."""

    mean_return: float
    worst_return: float
    worst_drawdown: float
    worst_day: float
    ruined: int  # from so many starts
    returns: tuple[float, ...]
    sessions_to_recover: tuple[int | None, ...]  # see `ScenarioOutcome.recovered`
    overlay: tuple[OverlayActivity, ...]  # of the managed book alone


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
        """The names of the books that went through it."""
        return tuple(self.scenario_paths[0].outcomes)

    @property
    def headline(self) -> str:
        """The book that would be run: the managed one where there is one."""
        return MANAGED if MANAGED in self.books else AGENT

    def summary(self, book: str) -> BookSummary:
        """One book over all starts."""
        outcomes = [scenario_path.outcomes[book] for scenario_path in self.scenario_paths]
        returns = tuple(outcome.total_return for outcome in outcomes)
        return BookSummary(
            mean_return=float(np.mean(returns)),
            worst_return=min(returns),
            worst_drawdown=max(outcome.max_drawdown for outcome in outcomes),
            worst_day=min(outcome.worst_day for outcome in outcomes),
            ruined=sum(outcome.ruined for outcome in outcomes),
            returns=returns,
            sessions_to_recover=tuple(outcome.recovered for outcome in outcomes),
            overlay=tuple(o.overlay for o in outcomes if o.overlay is not None),
        )

    def worst_return(self, book: str) -> float:
        """From the worst of the starts."""
        return self.summary(book).worst_return

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "title": self.title,
            "description": self.description,
            "starts": [str(p.dates[0]) for p in self.scenario_paths],
            "sessions": [len(p.dates) - 1 for p in self.scenario_paths],
            "books": {book: asdict(self.summary(book)) for book in self.books},
        }


def crisis_trials(
    tested: TestedRun, benchmarks: Sequence[str], on_done: Callable[[int], object]
) -> tuple[list[Trial], list[str]]:
    """Every crisis that the data covers, and what was left out; `on_done` counts CRISES."""
    setup = tested.setup
    if setup.settings.data.source in SIMULATED:
        on_done(len(CRISES))
        return [], ["Every crisis: the market is simulated, and its dates mean nothing."]
    dates = setup.market.history.dates
    covered = crises_within(dates[setup.market.first_usable], dates[-1])
    on_done(len(CRISES) - len(covered))
    trials = []
    for number, (title, crisis) in enumerate(covered.items(), start=1):
        path = replay_crisis(setup, tested.policy, benchmarks, crisis)
        splits = ", ".join(seen_in(crisis.first, crisis.last, setup.splits, dates)) or "no split"
        seen = f"Seen in: {splits}"
        trials.append(Trial(f"crisis_{number}", crisis.name, title, seen, "crisis", (path,)))
        on_done(1)
    missing = [title for title in CRISES if title not in covered]
    left_out = [f"Not in the data: {', '.join(missing)}."] if missing else []
    return trials, left_out


def crises_within(first: np.datetime64, last: np.datetime64) -> dict[str, Period]:
    """The crises that begin after the close `first` and end by the close `last`, by title."""
    return {
        title: crisis
        for title, crisis in CRISES.items()
        if first < crisis.first and crisis.last <= last
    }


def shock_trials(
    tested: TestedRun,
    benchmarks: Sequence[str],
    shocks: Sequence[Shock],
    split: str,
    starts: int,
    on_done: Callable[[int], object],
) -> tuple[list[Trial], list[str], list[str]]:
    """Each shock at up to `starts` dates of a split; those dates, and what was left out.

    `on_done` counts shocks.
    """
    setup = tested.setup
    possible, left_out = possible_shocks(setup, shocks)
    on_done(len(shocks) - len(possible))
    window = setup.window(split)
    trials: dict[str, Trial] = {}
    dates: set[str] = set()
    # Shocks of one length share their dates, and go through them together.
    for sessions in dict.fromkeys(shock.sessions for shock in possible):
        alike = [shock for shock in possible if shock.sessions == sessions]
        begins = start_sessions(window.start, window.stop, sessions, starts)
        if not begins:
            on_done(len(alike))
            names = ", ".join(shock.title for shock in alike)
            left_out.append(f"No room for {sessions} sessions in the {split} years: {names}.")
            continue
        replays = [replay_shocks(setup, tested.policy, benchmarks, alike, at) for at in begins]
        dates |= {str(setup.market.history.dates[at]) for at in begins}
        for shock in alike:
            texts = (shock.name, shock.label, shock.title, shock.description)
            paths = tuple(replay[shock.name] for replay in replays)
            trials[shock.name] = Trial(*texts, "shock", paths)
        on_done(len(alike))
    ordered = [trials[shock.name] for shock in possible if shock.name in trials]
    return ordered, sorted(dates), left_out


def possible_shocks(setup: MarketSetup, shocks: Sequence[Shock]) -> tuple[list[Shock], list[str]]:
    """The shocks that have an effect on the book, and why the others are left out."""
    possible, left_out = list(shocks), []
    why = "they are about options"
    if not setup.trades_options:
        possible = [shock for shock in shocks if not shock.about_options]
        left_out.append("Costs of an allocation are constant: no shock makes trading dearer.")
    elif setup.rolls_daily:
        # Every contract is sold at the next close: none can be held through a closed market.
        possible = [shock for shock in shocks if not shock.closed_sessions]
        why = "contracts are rolled daily, and none can be held through sessions without trading"
    names = ", ".join(shock.title for shock in shocks if shock not in possible)
    return possible, [f"{names}: {why}.", *left_out] if names else left_out


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
