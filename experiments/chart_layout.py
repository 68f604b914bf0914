"""Axes, labels and marks of a chart in plotly's terms."""

from __future__ import annotations

import html
from typing import Any

import numpy as np

from experiments.charts import (
    Bars,
    Chart,
    FloatArray,
    Heatmap,
    Intervals,
    Mark,
    Panel,
    Series,
    Unit,
    drawable,
)
from experiments.palette import GRID, INK, MUTED, PAPER, QUIET

Json = dict[str, Any]

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_TOP, _BARE_TOP, _BOTTOM, _BETWEEN = 26, 8, 34, 44  # pixels, for panel labels and ticks
_LONGEST_LABEL = 24  # letters beside an axis; the pointer shows the rest


def plotly_layout(chart: Chart) -> Json:
    """The `layout` of a figure."""
    timed = chart.has_dates
    heatmap = any(isinstance(s, Heatmap) for p in chart.panels for s in p.series)
    bottom = _BOTTOM + (22 if chart.x_label else 0)
    top = _TOP if chart.panels[0].label else _BARE_TOP
    layout: Json = {
        "height": chart.height,
        "autosize": True,
        "margin": {"l": 8, "r": 14, "t": top, "b": bottom},
        "paper_bgcolor": PAPER,
        "plot_bgcolor": PAPER,
        "font": {"family": _FONT, "size": 12, "color": INK},
        "hovermode": "x unified" if timed and not heatmap else "closest",
        "hoverlabel": {
            "bgcolor": PAPER,
            "bordercolor": MUTED,
            "font": {"size": 12, "color": INK},
            "namelength": -1,
        },
        "showlegend": False,
        "dragmode": False,
        "barmode": "group",
        "bargap": 0.28,
        "xaxis": _x_axis(chart),
        "shapes": [],
        "annotations": [],
    }
    domains = _domains(chart, chart.height - top - bottom)
    for i, (panel, domain) in enumerate(zip(chart.panels, domains, strict=True)):
        layout["yaxis" + ("" if i == 0 else str(i + 1))] = _y_axis(panel, domain)
        layout["shapes"] += [_mark(mark, i) for mark in panel.marks]
        layout["annotations"] += _labels(panel, domain)
    return layout


def _domains(chart: Chart, height: int) -> list[tuple[float, float]]:
    """Where the panels stand, as shares of the height, the first on top."""
    gaps = _BETWEEN / height
    free = 1.0 - gaps * (len(chart.panels) - 1)
    total, top = sum(panel.share for panel in chart.panels), 1.0
    domains = []
    for panel in chart.panels:
        bottom = top - free * panel.share / total
        domains.append((round(max(bottom, 0.0), 5), round(top, 5)))
        top = bottom - gaps
    return domains


def _x_axis(chart: Chart) -> Json:
    first = chart.panels[0].series[0] if chart.panels[0].series else None
    axis: Json = {
        "anchor": axis_name("y", len(chart.panels) - 1),
        "gridcolor": GRID,
        "linecolor": MUTED,
        "showline": True,
        "zeroline": False,
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": MUTED,
        "tickfont": {"color": QUIET, "size": 11},
        "tickangle": 0,
        "fixedrange": True,
        "showgrid": not isinstance(first, Heatmap),
    }
    if chart.x_label:
        axis["title"] = {
            "text": safe(chart.x_label),
            "font": {"color": QUIET, "size": 12},
            "standoff": 8,
        }
    if chart.has_dates:
        return {**axis, "type": "date", "hoverformat": "%a %d %b %Y"}
    if isinstance(first, Bars) and not first.horizontal:
        return {**axis, "type": "category", "showgrid": False}
    axis |= {"type": "linear", **_ticks(chart.x_unit)}
    if isinstance(first, Bars):
        axis |= {"range": _roomy(first.values)}
    return axis


def _y_axis(panel: Panel, domain: tuple[float, float]) -> Json:
    first = panel.series[0] if panel.series else None
    axis: Json = {
        "domain": list(domain),
        "automargin": True,
        "gridcolor": GRID,
        "zerolinecolor": MUTED,
        "zerolinewidth": 1,
        "ticks": "",
        "ticklabelstandoff": 4,
        "tickfont": {"color": QUIET, "size": 11},
        "fixedrange": True,
        "showline": False,
        "visible": drawable(panel),
    }
    rows = row_labels(first) if first is not None else ()
    if rows:
        # Rows have numbers, so that two of the same name stay two; the first is on top.
        step = len(rows) // 50 + 1
        axis |= {"type": "linear", "range": [len(rows) - 0.5, -0.5]}
        axis |= {"tickvals": list(range(0, len(rows), step)), "zeroline": False}
        axis |= {"ticktext": [short_label(row) for row in rows[::step]]}
        return {**axis, "showgrid": isinstance(first, Intervals)}
    # Few steps in low panels, or their labels would stand on each other.
    axis |= {"rangemode": "tozero"} if panel.from_zero else {}
    return {**axis, "nticks": 7 if domain[1] - domain[0] > 0.4 else 4, **_ticks(panel.unit)}


def row_labels(series: Series) -> tuple[str, ...]:
    """The labels of what stands in rows; empty for everything else."""
    if isinstance(series, Heatmap):
        return series.rows
    lies = isinstance(series, Intervals) or (isinstance(series, Bars) and series.horizontal)
    return series.labels if isinstance(series, Intervals | Bars) and lies else ()


def _labels(panel: Panel, domain: tuple[float, float]) -> list[Json]:
    label: Json = {
        "text": safe(panel.label),
        "xref": "paper",
        "x": 0,
        "xanchor": "left",
        "yref": "paper",
        "y": domain[1],
        "yanchor": "bottom",
        "yshift": 4,
        "showarrow": False,
        "font": {"size": 12, "color": QUIET},
    }
    if drawable(panel):
        return [label]
    middle = {"x": 0.5, "xanchor": "center", "y": (domain[0] + domain[1]) / 2, "yanchor": "middle"}
    return [label, {**label, **middle, "text": safe(panel.note or "no data")}]


def _mark(mark: Mark, i: int) -> Json:
    value = str(mark.value) if isinstance(mark.value, np.datetime64) else float(mark.value)
    line = {"color": mark.colour, "width": 1.4, "dash": "4px,3px" if mark.dash else "solid"}
    here, across = axis_name("x", 0), axis_name("y", i)
    ends: Json = {"x0": value, "x1": value, "y0": 0, "y1": 1, "xref": here}
    ends["yref"] = f"{across} domain"
    if mark.axis == "y":
        ends = {"y0": value, "y1": value, "x0": 0, "x1": 1, "yref": across}
        ends["xref"] = f"{here} domain"
    return {"type": "line", "line": line, **ends}


def _ticks(unit: Unit) -> Json:
    if unit == "dollars":
        return {"tickformat": "$~s"}
    return {"tickformat": ",~g"} if unit == "number" else {"ticksuffix": "\u00a0%"}


def _roomy(values: FloatArray) -> list[float]:
    """A range that leaves room for numbers at the ends of bars."""
    known = values[np.isfinite(values)]
    low, high = min(0.0, known.min(initial=0.0)), max(0.0, known.max(initial=0.0))
    span = (high - low) or 1.0
    return [float(low - (0.34 * span if low < 0 else 0.02 * span)), float(high + 0.34 * span)]


def axis_name(axis: str, i: int) -> str:
    """The name by which a trace refers to its i-th axis."""
    return axis if i == 0 else f"{axis}{i + 1}"


def short_label(label: str) -> str:
    """What stands beside an axis."""
    return safe(label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…")


def safe(text: str) -> str:
    """Text for plotly, which understands some HTML and replaces %{...}."""
    return html.escape(text, quote=False).replace("%{", "%\u200b{")


def hover_format(unit: Unit) -> str:
    """How a value is written under the pointer."""
    return {"percent": ",.2f", "number": ",.3~f", "dollars": "$,.0f"}[unit]


def suffix(unit: Unit) -> str:
    """What follows a value."""
    return "\u00a0%" if unit == "percent" else ""
