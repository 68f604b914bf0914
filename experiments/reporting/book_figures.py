"""Charts of what a book held and what it earned by: positions, Greeks, attribution, turnover."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from conf.errors import InputError
from conf.types import DateArray, FloatArray
from experiments.reporting.charts import Bars, Chart, Heatmap, Line, Mark, Panel, Unit
from experiments.reporting.figures import book_line
from experiments.reporting.style import GAIN, INK, LOSS, OTHERS, PERCENT, book_colours, shown_name

_MOST_COLUMNS = 800  # of a heatmap: more cannot be seen
_TURNOVER_WINDOW = 21  # sessions, as the risk module's limit

# Exposure -> title with unit, as a kernel's `exposures` measures it.
_EXPOSURES: dict[str, tuple[str, Unit]] = {
    "delta": ("delta: index exposure over equity", "number"),
    "gamma": ("gamma: change of that delta for a 1 % move", "number"),
    "vega": ("vega: dollars a volatility point", "dollars"),
    "theta": ("theta: dollars a session", "dollars"),
}


def position_heatmap(dates: DateArray, slots: tuple[str, ...], shares: FloatArray) -> Chart:
    """Signed value of the positions (T, M) over equity, decimals, by slot; dates (T,).

    Long histories are shown as means of a few sessions a column.
    """
    if np.shape(shares) != (len(dates), len(slots)):
        raise InputError(
            f"positions of shape {np.shape(shares)} for {len(dates)} dates and {len(slots)} slots",
            "Give (dates, slots)",
        )
    step = -(-len(dates) // _MOST_COLUMNS)
    starts = np.arange(0, len(dates), step)
    sizes = np.diff(np.append(starts, len(dates)))
    columns = 100.0 * np.add.reduceat(shares, starts, axis=0) / sizes[:, None]
    heatmap = Heatmap("position", dates[starts], slots, columns.T, _colour_limit(columns))
    means = f" Each column is the mean of {step} sessions." if step > 1 else ""
    nothing = " Nothing was ever held." if not np.any(columns) else ""
    edge = f"{heatmap.limit:g}{PERCENT}"
    return Chart(
        "positions",
        "Positions over time",
        (Panel("", (heatmap,), "percent"),),
        subtitle="Value of the positions over equity, blue where long, red where short."
        f"{means}{nothing}",
        height=80 + round(len(slots) * min(19.0, max(11.0, 640.0 / len(slots)))),
        scale_ends=(f"short −{edge}", f"long +{edge}"),
    )


def exposures_chart(dates: DateArray, books: Mapping[str, Mapping[str, FloatArray]]) -> Chart:
    """Exposures by book and name, (T,) each, a panel each; dates (T,)."""
    colours = book_colours(books)
    zero = Mark("y", 0.0, dash=False)
    panels = []
    for name in dict.fromkeys(name for exposures in books.values() for name in exposures):
        label, unit = _EXPOSURES.get(name, (shown_name(name), "number"))
        lines = tuple(
            book_line(book, dates, exposures[name], colours, width=1.4)
            for book, exposures in books.items()
            if name in exposures
        )
        panels.append(Panel(label, lines, unit, marks=(zero,)))
    return Chart(
        "exposures",
        "Exposures",
        tuple(panels),
        subtitle="Of the book held into each close.",
        height=60 + 150 * len(panels),
    )


def attribution_chart(dates: DateArray, terms: Mapping[str, FloatArray]) -> Chart:
    """Cumulative P&L by term, (T,) dollars a day each, and their sum; dates (T,)."""
    colours = (*OTHERS, "#005f9e", "#c47a00", "#7b8490", "#8a4f9e")
    total = np.cumsum(sum(terms.values(), np.zeros(len(dates))))
    lines = [Line("total", dates, total, INK, width=2.4)]
    for i, (name, days) in enumerate(_earning(terms).items()):
        colour = colours[i % len(colours)]
        lines.append(Line(shown_name(name), dates, np.cumsum(days), colour, width=1.4))
    return Chart(
        "attribution",
        "Where the money came from",
        (Panel("cumulative P&L, dollars", tuple(lines), "dollars"),),
        subtitle="Every day's P&L by cause, added up. All terms together are the change of equity.",
        height=410,
    )


def attribution_totals_chart(terms: Mapping[str, FloatArray]) -> Chart:
    """P&L of the whole period by term, (T,) dollars a day each, the largest gain on top."""
    sums = {shown_name(name): float(np.sum(days)) for name, days in _earning(terms).items()}
    ordered = dict(sorted(sums.items(), key=lambda item: -item[1]))
    ordered["total"] = float(sum(np.sum(days) for days in terms.values()))
    values = np.array(list(ordered.values()))
    signs = tuple(GAIN if value >= 0 else LOSS for value in values[:-1])
    bars = Bars("P&L", tuple(ordered), values, GAIN, (*signs, INK), horizontal=True)
    return Chart(
        "attribution_totals",
        "P&L of the whole period by cause",
        (Panel("dollars", (bars,), "dollars", marks=(Mark("x", 0.0, dash=False),)),),
        x_unit="dollars",
        height=80 + 27 * max(len(ordered), 3),
    )


def turnover_chart(
    dates: DateArray, traded: Mapping[str, FloatArray], *, limit: float | None = None
) -> Chart:
    """Value traded over equity, (T,) decimals by book, summed over the last 21 sessions.

    `limit` is that of the risk module for the same window. Undefined before 21 sessions.
    """
    window = _TURNOVER_WINDOW
    colours = book_colours(traded)
    lines = []
    for name, days in traded.items():
        summed = np.full(len(days), np.nan)
        total = np.concatenate([[0.0], np.cumsum(days)])
        if len(days) >= window:
            summed[window - 1 :] = 100.0 * (total[window:] - total[:-window])
        lines.append(book_line(name, dates, summed, colours, width=1.5))
    marks = () if limit is None else (Mark("y", 100.0 * limit, f"limit, {100 * limit:g} %"),)
    panel = Panel(
        "traded over equity",
        tuple(lines),
        "percent",
        marks=marks,
        from_zero=True,
        note=f"fewer than {window} sessions",
    )
    return Chart(
        "turnover",
        f"Turnover over the last {window} sessions",
        (panel,),
        subtitle="Absolute value of everything bought and sold.",
        height=310,
    )


def _colour_limit(percents: FloatArray) -> float:
    """Where colours end: a round number that nearly everything stays within."""
    size = np.abs(percents[percents != 0.0])
    if not size.size or not np.isfinite(size).all():
        return 1.0
    reach = float(np.quantile(size, 0.995))
    steps = 10.0 ** np.floor(np.log10(reach)) * np.array([1.0, 2.0, 2.5, 5.0, 10.0])
    return float(steps[steps >= reach * (1 - 1e-9)][0])


def _earning(terms: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Terms that are more than rounding."""
    scale = max((float(np.abs(days).max()) for days in terms.values() if np.size(days)), default=0)
    return {
        name: np.asarray(days, np.float64)
        for name, days in terms.items()
        if np.any(np.abs(days) > 1e-9 * scale)
    }
