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
from experiments.scenarios.replay import OverlayActivity
from experiments.scenarios.trials import BookSummary, Trial

COLUMNS = (
    "book", "return", "worst start", "max drawdown", "worst day", "ends at", "made good in",
    "risk module",
)  # fmt: skip


def book_row(book: str, summary: BookSummary) -> tuple[str, ...]:
    """One book in one trial, under COLUMNS."""
    several = len(summary.returns) > 1
    return (
        shown_name(book),
        percent(summary.mean_return, plus=True),
        percent(summary.worst_return, plus=True) if several else DASH,
        percent(summary.worst_drawdown),
        percent(summary.worst_day, plus=True),
        ("ruined, " if summary.ruined else "") + number(1.0 + summary.mean_return),
        recovery_text(summary.sessions_to_recover),
        _activity_text(summary.overlay),
    )


def returns_table(title: str, trials: Sequence[Trial]) -> TerminalTable:
    """Every book's return in every trial, from the worst start, for the terminal."""
    books = trials[0].books
    table = TerminalTable(title=title, title_justify="left")
    table.add_column(
        "return, %", overflow="fold"
    )  # the one that gives way where there are many books
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
    """The results of the book that would be run, for the terminal."""
    book = trials[0].headline
    table = TerminalTable(title=f"{title}: the {book} book, %", title_justify="left")
    for column in ("", "mean", "worst", "drawdown", "day", "made good", "risk module"):
        left = column in ("", "risk module")
        table.add_column(column, justify="left" if left else "right", no_wrap=True)
    for trial in trials:
        own = trial.summary(book)
        shares = (own.mean_return, own.worst_return, own.worst_drawdown, own.worst_day)
        recovery = recovery_text(own.sessions_to_recover)
        for text, short in ((" sessions", ""), (" of ", "/"), (" losses", "")):
            recovery = recovery.replace(text, short)
        cells = (number(100.0 * share, 1) for share in shares)
        table.add_row(trial.label, *cells, recovery, _short_activity_text(own.overlay))
    return table


def build_page(header: Mapping[str, Any], trials: Sequence[Trial]) -> Report:
    """The page: shocks and crises at a glance, then every one."""

    def shown(trial: Trial, book: str) -> str:
        return percent(trial.worst_return(book), plus=True)

    from_worst = sorted(trials, key=lambda trial: trial.worst_return(trial.headline))
    worst = from_worst[0]
    return Report(
        title=f"Stress test of {header['run']}",
        subtitle=f"{header['data']} · surface {header['surface']} · costs {header['costs']} · "
        f"{header['policy']} policy, step {header['policy_step']}",
        verdict_text=f"The worst of {len(trials)} trials for the {worst.headline} book is: "
        f"{worst.title}. It returns {shown(worst, worst.headline)} there from the worst start, "
        f"the index {shown(worst, INDEX)}. A stress test judges no edge.",
        key_numbers=tuple(
            KeyNumber(trial.title, shown(trial, trial.headline), f"index {shown(trial, INDEX)}")
            for trial in from_worst[:4]
        ),
        sections=tuple(_sections(header, trials)),
        footer=("Research, not advice. The next crisis will be another one.",),
    )


def _sections(header: Mapping[str, Any], trials: Sequence[Trial]) -> Iterator[Section]:
    """Crises, shocks and what was left out, each where there is any."""
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
        intro = (
            f"Each shock is put into the run's own history at {len(header['starts'])} dates of its "
            f"{header['split']} years; tables show the mean over these and the worst. Before the "
            "shock every book had been trading for up to two months. Where the index falls, the "
            "volatility index rises by two points for every per cent, to 100 at most, and what it "
            "rose by halves every 21 sessions. Everything else follows from the moved history: "
            "surface, prices, Greeks, costs."
        )
        yield Section("Shocks", (overview, *(_table(trial) for trial in shocks)), intro=intro)
    if header["left_out"]:
        notes = Text("\n\n".join(header["left_out"]), "Left out", "note")
        yield Section("What is not here", (notes,))


def _table(trial: Trial) -> Table:
    starts = ", ".join(str(p.dates[0]) for p in trial.scenario_paths)
    closes = "close" if len(trial.scenario_paths) == 1 else "closes"
    sessions = len(trial.scenario_paths[0].dates) - 1
    return Table(
        trial.title,
        COLUMNS,
        tuple(book_row(book, trial.summary(book)) for book in trial.books),
        notes=(f"{trial.description}. From the {closes} of {starts}, over {sessions} sessions.",),
        emphasis=frozenset({trial.books.index(trial.headline)}),
    )


def _overview(key: str, title: str, trials: Sequence[Trial]) -> Chart:
    """A group of bars a trial, worst start; the index and the agent's books."""
    books = [name for name in (MANAGED, AGENT, INDEX) if name in trials[0].books]
    colours = book_colours(books)
    labels = tuple(trial.label for trial in trials)
    bars = []
    for book in books:
        worst = 100.0 * np.array([trial.worst_return(book) for trial in trials])
        bars.append(Bars(shown_name(book), labels, worst, colours[book]))
    return Chart(
        key,
        title,
        (Panel("return", tuple(bars), "percent", marks=(Mark("y", 0.0, dash=False),)),),
        subtitle="After costs; the risk module stands between the policy and the managed book.",
        height=380,
    )


def _curves(trial: Trial) -> Chart:
    curves = trial.scenario_paths[0].curves
    first = [book for book in (MANAGED, AGENT, INDEX) if book in curves]
    order = [*first, *(book for book in curves if book not in first and book != CASH)]
    dates, chosen = trial.scenario_paths[0].dates, {book: curves[book] for book in order}
    return equity_chart(dates, chosen, key=trial.name, title=trial.title)


def recovery_text(sessions_to_recover: Sequence[int | None]) -> str:
    """Mean over the starts with a loss that was recovered, and how many of those with one."""
    losses = [sessions for sessions in sessions_to_recover if sessions != 0]
    if not losses:
        return "no loss"
    recovered = [sessions for sessions in losses if sessions is not None]
    text = f"{np.mean(recovered):.0f} sessions" if recovered else "not yet"
    several = len(sessions_to_recover) > 1
    return f"{text} ({len(recovered)} of {len(losses)} losses)" if several else text


def _activity_text(overlays: Sequence[OverlayActivity]) -> str:
    if not overlays:
        return ""
    parts = []
    halted = sum(overlay.halted for overlay in overlays)
    if halted:
        parts.append("halted" if len(overlays) == 1 else f"halted {halted} of {len(overlays)}")
    restrained = float(np.mean([overlay.restrained_share for overlay in overlays]))
    if restrained > 0.0:
        parts.append(f"restrained {percent(restrained, 0)} of days")
    rule = _main_rule(overlays)
    if rule:
        parts.append(f"most by {rule}")
    return ", ".join(parts) or "nothing"


def _short_activity_text(overlays: Sequence[OverlayActivity]) -> str:
    """Halts if there were any, or else the rule that took the most."""
    halted = sum(overlay.halted for overlay in overlays)
    return f"halted {halted}/{len(overlays)}" if halted else _main_rule(overlays) or DASH


def _main_rule(overlays: Sequence[OverlayActivity]) -> str:
    """The rule that took the most from the most starts, as it is written; empty for none."""
    rules = [overlay.rule for overlay in overlays if overlay.rule]
    return shown_name(max(dict.fromkeys(rules), key=rules.count)) if rules else ""
