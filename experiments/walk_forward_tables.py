"""The tables of a walk-forward, for the page and the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table as TerminalTable

from agents.baselines import Baseline
from experiments.evaluation import AGENT, INDEX
from experiments.formats import DASH, number, percent
from experiments.report_contents import Table
from experiments.report_tables import titles_of
from experiments.walk_forward_record import StitchedContest, WindowResult
from risk.performance import Performance

FloatArray = NDArray[np.float64]

_LABELS = {
    "sharpe": "Sharpe",
    "annual_return": "return a year",
    "annual_volatility": "volatility",
    "max_drawdown": "max drawdown",
    "sortino": "Sortino",
    "calmar": "Calmar",
}
RATIOS = ("sharpe", "sortino", "calmar")

COLUMNS = (
    "tested", "trained on", "validation Sharpe", "test Sharpe", "return", "max drawdown",
    "index return",
)  # fmt: skip


def windows_table(results: Sequence[WindowResult]) -> Table:
    """A row for each window; the book is the managed one where there is one."""
    return Table(
        "Window by window",
        COLUMNS,
        tuple(window_row(result) for result in results),
        notes=(
            "A single year's Sharpe ratio has a standard error of about 1. That on the validation "
            "years is of the best of several policies: the test is expected to be lower.",
        ),
        folded=False,
    )


def window_row(result: WindowResult) -> tuple[str, ...]:
    """The cells of COLUMNS."""
    contest, (first, last) = result.result.headline, result.spans["train"]
    agent, index = contest.performance[AGENT], contest.performance[INDEX]
    ruin = " (ruined)" if contest.agent.ruined.any() else ""
    return (
        result.window.years,
        f"{first[:4]} to {last[:4]}",
        number(result.validation_sharpe),
        number(mean_of(agent, "sharpe")),
        percent(mean_of(agent, "total_return")) + ruin,
        percent(mean_of(agent, "max_drawdown")),
        percent(mean_of(index, "total_return")),
    )


def spans_table(results: Sequence[WindowResult]) -> Table:
    """First and last session of every stretch, and the policy that was tested."""
    rows = tuple(
        (
            result.window.years,
            *(" to ".join(result.spans[name]) for name in ("train", "validation", "test")),
            f"{'last' if result.validation_sharpe is None else 'best'}, step {result.policy_step}",
        )
        for result in results
    )
    columns = ("window", "trained on", "validated on", "tested on", "policy")
    return Table("Sessions", columns, rows)


def terminal_table(results: Sequence[WindowResult]) -> TerminalTable:
    """The windows for the terminal."""
    table = TerminalTable(title="window by window", title_justify="left", box=box.SIMPLE_HEAD)
    for i, name in enumerate(COLUMNS):
        table.add_column(name, justify="right" if i else "left")
    for result in results:
        table.add_row(*window_row(result))
    return table


def measures_table(contest: StitchedContest) -> Table:
    """The agent's measures over all test years with their intervals."""
    rows = []
    for name, label in _LABELS.items():
        write = number if name in RATIOS else percent
        value = mean_of(contest.performance[AGENT], name)
        rows.append((label[0].upper() + label[1:], write(value), range_of(contest, name)))
    return Table(
        "The agent over all test years",
        ("measure", "value", "95 % interval"),
        tuple(rows),
        notes=(
            "The maximum drawdown has no interval: resampling breaks the path up, and with it "
            "the drawdowns.",
        ),
    )


def books_table(title: str, contest: StitchedContest, baselines: Sequence[Baseline]) -> Table:
    """Everybody's measures over all test years, the agent first; means over paths."""
    titles = titles_of(baselines)
    ordered = [AGENT, INDEX, *(n for n in contest.performance if n not in (AGENT, INDEX))]

    def cells(measured: Performance) -> tuple[str, ...]:
        return tuple(
            (number if name in RATIOS else percent)(mean_of(measured, name)) for name in _LABELS
        )

    rows = tuple((titles.get(name, name), *cells(contest.performance[name])) for name in ordered)
    columns = ("book", *_LABELS.values())
    return Table(title, columns, rows, emphasis=frozenset({0}))


def range_of(contest: StitchedContest, name: str) -> str:
    """A measure's 95 % interval, as people write it; a dash for one that has none."""
    if name not in contest.intervals:
        return DASH
    write = number if name in RATIOS else percent
    return f"{write(contest.intervals[name].low)} to {write(contest.intervals[name].high)}"


def mean_of(performance: Performance, name: str) -> float:
    """A measure's mean over paths."""
    values: Mapping[str, FloatArray] = performance._asdict()
    return float(np.mean(values[name]))
