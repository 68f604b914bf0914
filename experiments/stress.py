"""Stress a trained policy: `python -m experiments.stress run=outputs/production/<date>/<time>`.

The policy goes through every crisis that its data covers and through shocks that are put into its
test years at several dates, without and with the risk module, beside the index, cash and a few
baselines. Tables and a report go to `stress/` in the run folder.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from omegaconf import DictConfig
from pydantic import Field
from rich.console import Console

from conf.errors import InputError
from conf.files import new_folder, write_json
from conf.settings import build_settings, settings
from envs.allocation.market import PanelMarket
from envs.option_portfolio.market import OptionPortfolioSettings
from experiments.evaluation.open_run import Trained, open_trained, own_keys
from experiments.evaluation.regimes import seen_in
from experiments.reporting.matplotlib_backend import chart_png
from experiments.reporting.page import Report, render
from experiments.runs.cli import launch
from experiments.runs.config import plain_config
from experiments.runs.folder import shown_path
from experiments.runs.market_setup import MarketSetup
from experiments.scenarios.page import Trial, build_page, headline_table, returns_table
from experiments.scenarios.replay import RUN_IN_SESSIONS, replay_crisis, replay_shocks
from experiments.scenarios.shocks import CRISES, CRISIS_TITLES, SHOCKS, Shock, crises_within

BESIDE = ("put_write", "protective_put")


@settings
class StressSettings:
    """What to go through, and who stands beside the policy."""

    run: Annotated[str, Field(min_length=1)]
    policy: Literal["best", "last"] = "best"
    split: Literal["validation", "test"] = "test"  # whose dates shocks are put at
    starts: Annotated[int, Field(ge=1, le=100)] = 5  # dates of each shock
    shocks: tuple[str, ...] | None = None  # null: all
    crises: bool = True
    beside: tuple[str, ...] | None = None  # baselines; null: BESIDE where options are traded
    report: bool = True  # the page and its pictures


def stress(config: DictConfig) -> float:
    """Go through everything, print and write; the headline book's worst return."""
    torch.set_num_threads(1)  # a few books at a time
    plain = plain_config(config)
    request: StressSettings = build_settings(StressSettings, own_keys(plain), "stress")
    shocks = _chosen(request.shocks)
    trained = open_trained(plain, request.run, request.policy)
    beside = _beside(trained.setup, request.beside)
    crises, left_out = _crises(trained, request, beside)
    shocked, starts, more = _shocks(trained, request, beside, shocks)
    trials = [*crises, *shocked]
    if not trials:
        raise _nothing_left(request, [*left_out, *more])
    header = {
        **trained.header(request.policy),
        "split": request.split,
        "starts": starts,
        "left_out": [*left_out, *more],
    }
    folder = trained.folder("stress")
    write_results(folder, header, trials, build_page(header, trials) if request.report else None)
    _print(header, crises, shocked)
    Console().print(f"written to {shown_path(folder)}")
    return min(trial.worst_return(trial.headline) for trial in trials)


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


def write_results(
    folder: Path, header: Mapping[str, Any], trials: Sequence[Trial], page: Report | None
) -> None:
    """`stress.json`, and the page with its pictures, in one step."""
    by_kind = {
        kind: {trial.name: trial.plain() for trial in trials if trial.kind == kind}
        for kind in ("crisis", "shock")
    }
    with new_folder(folder) as temporary:
        numbers = {**header, "crises": by_kind["crisis"], "shocks": by_kind["shock"]}
        write_json(temporary / "stress.json", numbers)
        if page is not None:
            (temporary / "report.html").write_text(render(page), encoding="utf-8")
            for chart in page.charts:
                (temporary / f"{chart.key}.png").write_bytes(chart_png(chart))


def _chosen(names: tuple[str, ...] | None) -> tuple[Shock, ...]:
    known = {shock.name: shock for shock in SHOCKS}
    wrong = [name for name in names or () if name not in known]
    if wrong:
        raise InputError(f"there is no shock {wrong[0]!r}", f"Known: {', '.join(known)}")
    return SHOCKS if names is None else tuple(known[name] for name in names)


def _beside(setup: MarketSetup, names: tuple[str, ...] | None) -> tuple[str, ...]:
    """The baselines asked for; a wrong name of an option book is refused where they are built."""
    if not _allocates(setup):
        return BESIDE if names is None else names
    if names:
        raise InputError(
            f"there is no baseline {names[0]!r} of an allocation",
            "Leave out beside=: the index and cash are always there",
        )
    return ()


def _nothing_left(request: StressSettings, left_out: Sequence[str]) -> InputError:
    if request.shocks != ():
        hint = "Choose other shocks, or give data= with a longer history"
    elif request.crises:
        hint = "Name shocks, or leave out shocks=[] for all of them: they need no crisis"
    else:
        hint = "Set crises=true, or leave out shocks=[] for all shocks"
    return InputError(" ".join(["there is nothing to go through.", *left_out]).rstrip("."), hint)


def _print(header: Mapping[str, Any], crises: Sequence[Trial], shocked: Sequence[Trial]) -> None:
    console = Console()
    console.print(f"{header['run']}: {header['policy']} policy (step {header['policy_step']})")
    for title, some in (("crises", crises), ("shocks, from the worst start", shocked)):
        if some:
            console.print(returns_table(title, some))
            console.print(headline_table(title, some))
    for line in header["left_out"]:
        console.print(f"left out: {line}")


def _crises(
    trained: Trained, request: StressSettings, beside: Sequence[str]
) -> tuple[list[Trial], list[str]]:
    setup = trained.setup
    if not request.crises:
        return [], []
    if _simulated(setup):
        return [], ["Every crisis: the market is simulated, and its dates mean nothing."]
    dates = setup.market.history.dates
    covered = crises_within(dates[setup.market.first_usable], dates[-1])
    trials = []
    for number, crisis in enumerate(covered):
        scenario_path = replay_crisis(setup, trained.policy, beside, crisis)
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


def _possible(setup: MarketSetup, shocks: Sequence[Shock]) -> tuple[list[Shock], list[str]]:
    """The shocks that mean something for the book, and what became of the others."""
    env, left_out = setup.settings.env, []
    possible = list(shocks)
    if _allocates(setup):
        possible = [shock for shock in shocks if not shock.about_options]
        why = "they are about options"
    elif isinstance(env, OptionPortfolioSettings) and env.chain.roll == "daily":
        # Every contract is sold at the next close, so no book can be held through a shut market.
        possible = [shock for shock in shocks if not shock.closed_sessions]
        why = "contracts are rolled daily, and none can be held through sessions without trading"
    if len(possible) < len(shocks):
        names = ", ".join(shock.title for shock in shocks if shock not in possible)
        left_out.append(f"{names}: {why}.")
    if _allocates(setup):
        left_out.append("Costs of an allocation are constant: no shock makes trading dearer.")
    return possible, left_out


def _shocks(
    trained: Trained, request: StressSettings, beside: Sequence[str], shocks: Sequence[Shock]
) -> tuple[list[Trial], list[str], list[str]]:
    """The trials, the dates of the shocks, and what could not be tried."""
    setup = trained.setup
    possible, left_out = _possible(setup, shocks)
    window = setup.window(request.split)
    trials, dates = {}, set()
    # Shocks that last alike share their dates, and go through them side by side.
    for sessions in dict.fromkeys(shock.sessions for shock in possible):
        some = [shock for shock in possible if shock.sessions == sessions]
        begins = start_sessions(window.start, window.stop, sessions, request.starts)
        if not begins:
            names = ", ".join(shock.title for shock in some)
            left_out.append(
                f"No room for {sessions} sessions in the {request.split} years: {names}."
            )
            continue
        passed = [replay_shocks(setup, trained.policy, beside, some, at) for at in begins]
        dates |= {str(setup.market.history.dates[at]) for at in begins}
        for shock in some:
            scenario_paths = tuple(p[shock.name] for p in passed)
            trials[shock.name] = Trial(
                shock.name, shock.label, shock.title, shock.description, "shock", scenario_paths
            )
    ordered = [trials[shock.name] for shock in possible if shock.name in trials]
    return ordered, sorted(dates), left_out


def _simulated(setup: MarketSetup) -> bool:
    return setup.settings.data.source in ("synthetic", "panel_simulated")


def _allocates(setup: MarketSetup) -> bool:
    return isinstance(setup.market, PanelMarket)


def main() -> int:
    """Entry point of the command."""
    return launch(stress, "stress")


if __name__ == "__main__":
    sys.exit(main())
