"""Simulated years as tables, pictures and a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table as TerminalTable

from experiments.evaluation.split import AGENT, INDEX
from experiments.reporting.charts import Bars, Chart, Histogram, Line, Mark, Panel, Series
from experiments.reporting.contents import KeyNumber, Report, Section, Table, Text
from experiments.reporting.figures import common_edges
from experiments.reporting.style import book_colours, number, percent, shown_name
from experiments.simulation.models import TITLES
from experiments.simulation.statistics import BookRisk, ModelResult
from risk.bootstrap import Interval

_IN_PICTURES = 4  # books that an eye can tell apart in a histogram

COLUMNS = (
    "book", "Sharpe", "return of the year", "worst in 20", "max drawdown", "drawdown, worst in 20",
    "loses > 20 %", "ruined", "halted",
)  # fmt: skip


def terminal_tables(result: ModelResult, level: float) -> tuple[TerminalTable, TerminalTable]:
    """The tables for the terminal: returns, and risks; no wider than 80 characters each."""
    count = len(result.years[AGENT].sharpe)
    returns = _terminal_table(
        f"{TITLES[result.model.name]}: {count:,} years in {result.seconds:.1f} s",
        ("Sharpe", "return, %", "worst in 20, %"),
    )
    risks = _terminal_table(
        f"likewise, in %; brackets: {100 * level:g} % intervals",
        ("max drawdown", "loses > 20 %", "ruined"),
    )
    for name, risk in result.risks.items():
        returns.add_row(
            shown_name(name),
            _short(risk.mean["sharpe"], 2),
            _short(risk.mean["total_return"], 1, scale=100.0),
            number(100.0 * risk.quantile["total_return"][0], 1),
        )
        risks.add_row(
            shown_name(name),
            number(100.0 * risk.mean["max_drawdown"].value, 1),
            _short(risk.large_loss, 1, scale=100.0),
            _short(risk.ruin, 1, scale=100.0),
        )
    return returns, risks


def _terminal_table(title: str, columns: Sequence[str]) -> TerminalTable:
    table = TerminalTable(title=title, title_justify="left")
    table.add_column("book", overflow="fold")  # gives way where it must; a number never does
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def return_chart(result: ModelResult) -> Chart:
    """How the returns of a year are distributed under one model."""
    shown = dict(list(result.years.items())[:_IN_PICTURES])
    shown.pop("cash", None)
    first, *others = shown
    returns = {name: 100.0 * years.total_return for name, years in shown.items()}
    edges = common_edges(np.concatenate(list(returns.values())))
    colours = book_colours(shown)
    heights = {
        name: 100.0 * np.histogram(values, edges)[0] / len(values)
        for name, values in returns.items()
    }
    middle = (edges[1:] + edges[:-1]) / 2
    lines: list[Series] = [
        Line(shown_name(name), middle, heights[name], colours[name]) for name in others
    ]
    bars = Histogram(shown_name(first), edges, heights[first], colours[first])
    worst = percent(result.risks[first].quantile["total_return"][0])
    return Chart(
        f"returns_{result.model.name}",
        f"Return of a simulated year: {TITLES[result.model.name]}",
        (Panel("share of years", (*lines, bars), "percent", marks=(Mark("x", 0.0, dash=False),)),),
        subtitle=f"{len(returns[first]):,} years; one in twenty of the {first}'s returned {worst} "
        "or less.",
        x_label="return of the year",
        x_unit="percent",
        height=330,
    )


def risk_chart(results: Sequence[ModelResult]) -> Chart:
    """Chance of a loss of more than a fifth, by model and book."""
    shown = [n for n in results[0].risks if n != "cash"][:_IN_PICTURES]
    colours = book_colours(shown)
    labels = tuple(result.model.name for result in results)
    bars = tuple(
        Bars(
            shown_name(name),
            labels,
            100.0 * np.array([result.risks[name].large_loss.value for result in results]),
            colours[name],
        )
        for name in shown
    )
    return Chart(
        "large_losses",
        "Chance of losing more than 20 % in a year",
        (Panel("share of years", bars, "percent", from_zero=True),),
        subtitle="By the model that the years were simulated from.",
        height=330,
    )


def build_page(header: Mapping[str, Any], results: Sequence[ModelResult]) -> Report:
    """The page: all models at a glance, then each by itself."""
    sections = [Section("At a glance", (risk_chart(results),), intro=_intro(header))]
    sections += [_model_section(result, header["level"]) for result in results]
    worst = max(results, key=lambda r: r.risks[r.headline].large_loss.value)
    book, risk = worst.headline, worst.risks[worst.headline]
    return Report(
        title=f"Simulated years of {header['run']}",
        subtitle=f"{header['paths']:,} years a model · surface {header['surface']} · costs "
        f"{header['costs']} · {header['policy']} policy, step {header['policy_step']}",
        verdict_text=f"Under {TITLES[worst.model.name]}, the worst of the models, the {book} book "
        f"loses more than 20 % in {_with_ends(risk.large_loss, percent)} of the years and is "
        f"ruined in {_with_ends(risk.ruin, percent)}. A simulation judges no edge: it says how "
        "the book fares if the market is as the model says.",
        key_numbers=tuple(
            KeyNumber(
                f"Sharpe ratio, {result.model.name}",
                number(result.risks[result.headline].mean["sharpe"].value),
                f"index {number(result.risks[INDEX].mean['sharpe'].value)}",
            )
            for result in results[:5]
        ),
        sections=tuple(sections),
        footer=(
            "Research, not advice. A model fitted to the past knows nothing that the past did not "
            "hold.",
        ),
    )


def _model_section(result: ModelResult, level: float) -> Section:
    model = result.model
    table = Table(
        "Books",
        COLUMNS,
        tuple(_row(name, risk) for name, risk in result.risks.items()),
        emphasis=frozenset({list(result.risks).index(result.headline)}),
        notes=(f"Brackets: {100 * level:g} % intervals, for the number of years is finite.",),
    )
    parameters = tuple(
        (name, f"{value:.6g}" if isinstance(value, float) else str(value))
        for name, value in model.parameters.items()
    )
    fitted = Table("Fitted parameters", ("parameter", "value"), parameters, folded=True)
    notices = [Text("\n\n".join(model.notices), "Notice", "warning")] if model.notices else []
    return Section(
        TITLES[model.name],
        (*notices, return_chart(result), table, fitted),
        intro=f"Fitted to {model.source} from {model.first} to {model.last}.",
    )


def _row(name: str, risk: BookRisk) -> tuple[str, ...]:
    """The cells of COLUMNS."""
    return (
        shown_name(name),
        _with_ends(risk.mean["sharpe"], number),
        _with_ends(risk.mean["total_return"], percent),
        percent(risk.quantile["total_return"][0]),
        percent(risk.mean["max_drawdown"].value),
        percent(risk.quantile["max_drawdown"][2]),
        _with_ends(risk.large_loss, percent),
        _with_ends(risk.ruin, percent),
        percent(risk.halted),
    )


def _intro(header: Mapping[str, Any]) -> str:
    return (
        "Every model is fitted to the past up to the end of the training years (real days in "
        f"blocks: of the validation years); the test years are not read. {header['paths']:,} years "
        "are simulated from each, options are priced by the run's own surface, and every book "
        "trades through them under the same costs."
    )


def _with_ends(interval: Interval, write: Callable[[float], str]) -> str:
    return f"{write(interval.value)} ({write(interval.low)} to {write(interval.high)})"


def _short(interval: Interval, decimals: int, scale: float = 1.0) -> str:
    value, low, high = (number(scale * x, decimals) for x in interval)
    return f"{value} ({low}..{high})"
