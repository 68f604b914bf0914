"""Crises and shocks as tables, pictures and a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table as TerminalTable

from experiments.evaluation.open_run import CASH, MANAGED
from experiments.evaluation.split import AGENT, INDEX
from experiments.reporting.charts import Bars, Chart, Mark, Panel
from experiments.reporting.contents import KeyNumber, Report, Section, Table, Text
from experiments.reporting.figures import equity_chart
from experiments.reporting.style import DASH, book_colours, number, percent, shown_name
from experiments.scenarios.replay import Outcome, OverlayActivity
from experiments.scenarios.trials import Trial

COLUMNS = (
    "book", "return", "worst start", "max drawdown", "worst day", "ends at", "made good in",
    "risk module",
)  # fmt: skip


def trial_rows(trial: Trial) -> list[tuple[str, ...]]:
    """A row a book, under COLUMNS."""
    rows: list[tuple[str, ...]] = []
    for book in trial.books:
        found = trial.outcomes(book)
        mean = trial.mean_return(book)
        rows.append(
            (
                shown_name(book),
                percent(mean, plus=True),
                percent(trial.worst_return(book), plus=True) if len(found) > 1 else DASH,
                percent(max(o.max_drawdown for o in found)),
                percent(min(o.worst_day for o in found), plus=True),
                ("ruined, " if any(o.ruined for o in found) else "") + number(1.0 + mean),
                _recovery(found),
                _deeds([o.overlay for o in found if o.overlay is not None]),
            )
        )
    return rows


def returns_table(title: str, trials: Sequence[Trial]) -> TerminalTable:
    """Every book's return in every trial, from the worst start, for the terminal."""
    books = trials[0].books
    table = TerminalTable(title=title, title_justify="left")
    table.add_column("return, %")  # the one that gives way where there are many books
    columns = []
    for book in books:
        cells = [number(100.0 * trial.worst_return(book), 1, plus=True) for trial in trials]
        width = max(len(text) for text in [*shown_name(book).split(), *cells])
        table.add_column(shown_name(book), justify="right", width=width)
        columns.append(cells)
    for trial, *cells in zip(trials, *columns, strict=True):
        table.add_row(trial.title, *cells)
    return table


def headline_table(title: str, trials: Sequence[Trial]) -> TerminalTable:
    """How the book that would be run got through, for the terminal."""
    book = trials[0].headline
    table = TerminalTable(title=f"{title}: the {book} book, %", title_justify="left")
    for column in ("", "mean", "worst", "drawdown", "day", "made good", "risk module"):
        left = column in ("", "risk module")
        table.add_column(column, justify="left" if left else "right", no_wrap=True)
    for trial in trials:
        found = trial.outcomes(book)
        shares = (
            trial.mean_return(book),
            trial.worst_return(book),
            max(o.max_drawdown for o in found),
            min(o.worst_day for o in found),
        )
        table.add_row(
            trial.label,
            *(number(100.0 * share, 1) for share in shares),
            _recovery(found).replace(" sessions", "").replace(" of ", "/").replace(" losses", ""),
            _short_deeds([o.overlay for o in found if o.overlay is not None]),
        )
    return table


def build_page(header: Mapping[str, Any], trials: Sequence[Trial]) -> Report:
    """The page: shocks and crises at a glance, then every one."""
    worst = min(trials, key=lambda t: t.worst_return(t.headline))
    book = worst.headline
    return Report(
        title=f"Stress test of {header['run']}",
        subtitle=f"{header['data']} · surface {header['surface']} · costs {header['costs']} · "
        f"{header['policy']} policy, step {header['policy_step']}",
        verdict_text=f"The worst of {len(trials)} trials for the {book} book is: {worst.title}. "
        f"It returns {percent(worst.worst_return(book), plus=True)} there from the worst start, "
        f"the index {percent(worst.worst_return(INDEX), plus=True)}. A stress test judges no edge.",
        key_numbers=tuple(
            KeyNumber(
                trial.title,
                percent(trial.worst_return(trial.headline), plus=True),
                f"index {percent(trial.worst_return(INDEX), plus=True)}",
            )
            for trial in sorted(trials, key=lambda t: t.worst_return(t.headline))[:4]
        ),
        sections=tuple(_sections(header, trials)),
        footer=("Research, not advice. The next crisis will be another one.",),
    )


def _sections(header: Mapping[str, Any], trials: Sequence[Trial]) -> Iterator[Section]:
    """Crises, shocks and what is not here, each where there is any."""
    crises = [trial for trial in trials if trial.kind == "crisis"]
    shocks = [trial for trial in trials if trial.kind == "shock"]
    if crises:
        overview = _overview("crises", "Return through each crisis", crises)
        charts = (overview, *(_curves(trial) for trial in crises))
        intro = (
            "Each book had been trading for up to two months when the crisis began; returns count "
            "from the last close before it. A crisis in the training years was seen while learning."
        )
        yield Section("Crises", (*charts, *(_table(trial) for trial in crises)), intro=intro)
    if shocks:
        overview = _overview("shocks", "Return after each shock, from the worst start", shocks)
        tables = (_table(trial) for trial in shocks)
        yield Section("Shocks", (overview, *tables), intro=_rule(header))
    if header["left_out"]:
        notes = Text("\n\n".join(header["left_out"]), "Left out", "note")
        yield Section("What is not here", (notes,))


def _table(trial: Trial) -> Table:
    starts = ", ".join(str(p.dates[0]) for p in trial.scenario_paths)
    what = "From the close of" if len(trial.scenario_paths) == 1 else "From the closes of"
    sessions = len(trial.scenario_paths[0].dates) - 1
    return Table(
        trial.title,
        COLUMNS,
        tuple(trial_rows(trial)),
        notes=(f"{trial.description}. {what} {starts}, over {sessions} sessions.",),
        emphasis=frozenset({trial.books.index(trial.headline)}),
    )


def _overview(key: str, title: str, trials: Sequence[Trial]) -> Chart:
    """A group of bars a trial, worst start; the index and the agent's books."""
    books = [name for name in (MANAGED, AGENT, INDEX) if name in trials[0].books]
    colours = book_colours(books)
    labels = tuple(trial.label for trial in trials)
    bars = tuple(
        Bars(
            shown_name(book),
            labels,
            100.0 * np.array([trial.worst_return(book) for trial in trials]),
            colours[book],
        )
        for book in books
    )
    return Chart(
        key,
        title,
        (Panel("return", bars, "percent", marks=(Mark("y", 0.0, dash=False),)),),
        subtitle="After costs; the risk module stands between the policy and the managed book.",
        height=380,
    )


def _curves(trial: Trial) -> Chart:
    scenario_path = trial.scenario_paths[0]
    order = [b for b in (MANAGED, AGENT, INDEX) if b in scenario_path.curves]
    order += [b for b in scenario_path.curves if b not in order and b != CASH]
    curves = {name: scenario_path.curves[name] for name in order}
    return equity_chart(scenario_path.dates, curves, key=trial.name, title=trial.title)


def _rule(header: Mapping[str, Any]) -> str:
    return (
        f"Each shock is put into the run's own history at {len(header['starts'])} dates of its "
        f"{header['split']} years; tables show the mean over these and the worst. Before the shock "
        "every book had been trading for up to two months. Where the index falls, the volatility "
        "index rises by two points for every per cent, to 100 at most, and what it rose by halves "
        "every 21 sessions. Everything else follows from the moved history: surface, prices, "
        "Greeks, costs."
    )


def _recovery(found: Sequence[Outcome]) -> str:
    """Mean over the starts with a loss that was made good, and how many of those with one."""
    losses = [o.recovered for o in found if o.recovered != 0]
    if not losses:
        return "no loss"
    back = [sessions for sessions in losses if sessions is not None]
    if len(found) == 1:
        return f"{back[0]} sessions" if back else "not yet"
    often = f" ({len(back)} of {len(losses)} losses)"
    return (f"{np.mean(back):.0f} sessions" if back else "not yet") + often


def _deeds(found: Sequence[OverlayActivity]) -> str:
    if not found:
        return ""
    parts = []
    halted = sum(activity.halted for activity in found)
    if halted:
        parts.append("halted" if len(found) == 1 else f"halted {halted} of {len(found)}")
    restrained = float(np.mean([activity.restrained for activity in found]))
    if restrained > 0.0:
        parts.append(f"restrained {percent(restrained, 0)} of days")
    rules = [activity.rule for activity in found if activity.rule]
    if rules:
        most = max(dict.fromkeys(rules), key=rules.count)
        parts.append(f"most by {most.replace('_', ' ')}")
    return ", ".join(parts) or "nothing"


def _short_deeds(found: Sequence[OverlayActivity]) -> str:
    """Halts if there were any, or else the rule that took the most."""
    halted = sum(activity.halted for activity in found)
    if halted:
        return f"halted {halted}/{len(found)}"
    rules = [activity.rule for activity in found if activity.rule]
    return max(dict.fromkeys(rules), key=rules.count).replace("_", " ") if rules else DASH
