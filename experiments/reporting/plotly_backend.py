"""Charts for the report: the JSON that plotly.js draws in the reader's browser.

Titles and legends are not part of it. The page writes them as HTML, which wraps on a phone.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from conf.types import BoolArray, FloatArray
from experiments.reporting.charts import (
    Band,
    Bars,
    Chart,
    Heatmap,
    Histogram,
    Intervals,
    Line,
    Mark,
    Panel,
    Series,
    Unit,
    XArray,
    drawable,
    group_of,
)
from experiments.reporting.style import (
    DIVERGING,
    GRID,
    INK,
    MUTED,
    PAPER,
    QUIET,
    compact,
    number,
    outcome_style,
    signed,
)


def thinned(chart: Chart, most: int = 1500) -> Chart:
    """The chart with at most about `most` points a line.

    Of every stretch the highest and the lowest point stay, so no spike is lost: those of the
    first line of each panel, and all lines keep the same dates.
    """
    lines = [s for panel in chart.panels for s in panel.series if isinstance(s, Line | Band)]
    longest = max((len(line.x) for line in lines), default=0)
    if longest <= most:
        return chart
    kept = _Kept(longest)
    leading = [_leading(panel, longest) for panel in chart.panels]
    leaders = [line for line in leading if line is not None]
    for line in leaders:
        kept.add_extremes(line.y, most // (2 * len(leaders)))
    if not leaders:
        kept.keep[:: longest // most + 1] = True
    panels = tuple(
        replace(panel, series=tuple(_thin(series, kept) for series in panel.series))
        for panel in chart.panels
    )
    return replace(chart, panels=panels)


def _leading(panel: Panel, length: int) -> Line | None:
    return next((s for s in panel.series if isinstance(s, Line) and len(s.x) == length), None)


def _thin(series: Series, kept: _Kept) -> Series:
    if not isinstance(series, Line | Band) or len(series.x) < 3:
        return series
    keep = kept.keep[: len(series.x)].copy()
    keep[-1] = True
    return series.at(np.flatnonzero(keep))


@dataclass
class _Kept:
    """Which points of lines over the same dates stay, so that they still share their dates."""

    length: int
    keep: BoolArray = field(init=False)

    def __post_init__(self) -> None:
        self.keep = np.zeros(self.length, np.bool_)
        self.keep[[0, -1]] = True

    def add_extremes(self, y: FloatArray, buckets: int) -> None:
        for part in np.array_split(np.arange(len(y)), buckets):
            known = part[np.isfinite(y[part])]
            chosen = known if known.size else part[:1]
            self.keep[[chosen[np.argmin(y[chosen])], chosen[np.argmax(y[chosen])]]] = True


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


def plotly_figure(chart: Chart) -> Json:
    """The chart as `{"data": [...], "layout": {...}}`, plain JSON without NaN."""
    chart = thinned(chart)
    data = [
        {**trace, "yaxis": axis_name("y", i), "xaxis": "x", **_depth(series, place)}
        for i, panel in enumerate(chart.panels)
        for place, series in enumerate(panel.series)
        for trace in _traces(series, panel.unit)
    ]
    return {"data": data, "layout": plotly_layout(chart)}


def _depth(series: Series, place: int) -> Json:
    """Lines lie on each other with the first on top; plotly itself puts the last there."""
    return {"zorder": 100 - place} if isinstance(series, Line | Band) else {}


def _traces(series: Series, unit: Unit) -> list[Json]:
    common = {"name": safe(series.name), "meta": group_of(series), "showlegend": False}
    if isinstance(series, Line):
        return [{**common, **_line(series, unit)}]
    if isinstance(series, Band):
        return _band(series, common)
    if isinstance(series, Bars):
        return [{**common, **_bars(series, unit)}]
    if isinstance(series, Histogram):
        return [{**common, **_histogram(series)}]
    if isinstance(series, Intervals):
        return _intervals(series, common)
    return [{**common, **_heatmap(series, unit)}]


def _line(line: Line, unit: Unit) -> Json:
    width = 1.0 if line.muted else line.width
    trace: Json = {
        "type": "scatter",
        "mode": "lines+markers" if line.pointlike else "lines",
        "x": _x(line.x),
        "y": _numbers(line.y),
        "line": {"color": line.colour, "width": width, "dash": "5px,3px" if line.dash else "solid"},
        "marker": {"color": line.colour, "size": 6},
        # Not a template, for only this way plotly writes true minus signs.
        "yhoverformat": hover_format(unit),
    }
    if line.fill:
        trace |= {"fill": "tozeroy", "fillcolor": _faded(line.colour, 0.22)}
    if line.muted:
        trace |= {"hoverinfo": "skip"}
    return trace


def _band(band: Band, common: Json) -> list[Json]:
    edge: Json = {**common, "type": "scatter", "mode": "lines", "x": _x(band.x)}
    edge |= {"line": {"width": 0, "color": band.colour}, "hoverinfo": "skip"}
    filled = {"fill": "tonexty", "fillcolor": _faded(band.colour, 0.18)}
    return [
        {**edge, "y": _numbers(band.low)},
        {**edge, "y": _numbers(band.high), **filled},
    ]


def _bars(bars: Bars, unit: Unit) -> Json:
    horizontal = bars.horizontal
    values: list[Any] = _numbers(bars.values)
    labels = list(range(len(values))) if horizontal else [short_label(x) for x in bars.labels]
    return {
        "type": "bar",
        "orientation": "h" if horizontal else "v",
        "x": values if horizontal else labels,
        "y": labels if horizontal else values,
        "marker": {"color": list(bars.colours) or bars.colour},
        "text": [compact(value, unit) for value in bars.values] if horizontal else None,
        "textposition": "outside",
        "textfont": {"size": 11},
        "cliponaxis": False,
        "hovertext": [
            f"{safe(label)}: {compact(value, unit)}"
            for label, value in zip(bars.labels, bars.values, strict=True)
        ],
        "hovertemplate": "%{hovertext}" + ("<extra></extra>" if bars.colours else ""),
    }


def _histogram(histogram: Histogram) -> Json:
    edges = histogram.edges
    return {
        "type": "bar",
        "x": _numbers((edges[:-1] + edges[1:]) / 2.0),
        "width": _numbers(np.diff(edges) * 0.94),
        "y": _numbers(histogram.heights),
        "marker": {"color": _faded(histogram.colour, 0.55)},
        "hovertext": [
            f"{signed(f'{a:.2f}')} to {signed(f'{b:.2f}')}: {height:,g}"
            for a, b, height in zip(edges[:-1], edges[1:], histogram.heights, strict=True)
        ],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _intervals(intervals: Intervals, common: Json) -> list[Json]:
    rows = []
    for outcome in dict.fromkeys(intervals.words):
        style = outcome_style(outcome)
        chosen = np.array([other == outcome for other in intervals.words])
        places = np.flatnonzero(chosen).tolist()
        labels = [intervals.labels[i] for i in places]
        value, low, high = (
            array[chosen] for array in (intervals.values, intervals.low, intervals.high)
        )
        rows.append(
            {
                **common,
                "name": safe(outcome),
                "meta": outcome,
                "type": "scatter",
                "mode": "markers",
                "x": _numbers(value),
                "y": places,
                "text": [
                    f"{safe(label)}: {number(v)} ({number(a)} to {number(b)})"
                    for label, v, a, b in zip(labels, value, low, high, strict=True)
                ],
                "error_x": {
                    "type": "data",
                    "array": _numbers(high - value),
                    "arrayminus": _numbers(value - low),
                    "color": style.colour,
                    "thickness": 1.6,
                    "width": 3,
                },
                "marker": {
                    "symbol": style.plotly_marker,
                    "color": PAPER if style.hollow else style.colour,
                    "size": 9,
                    "line": {"width": 2, "color": style.colour},
                },
                "hovertemplate": "%{text}",
            }
        )
    return rows


def _heatmap(heatmap: Heatmap, unit: Unit) -> Json:
    stops = np.linspace(0.0, 1.0, len(DIVERGING))
    return {
        "type": "heatmap",
        "x": _x(heatmap.x),
        "y": list(range(len(heatmap.rows))),
        "z": [_numbers(row, digits=4) for row in heatmap.values],
        "zmin": -heatmap.limit,
        "zmax": heatmap.limit,
        "colorscale": [[float(at), colour] for at, colour in zip(stops, DIVERGING, strict=True)],
        "showscale": False,
        "hovertemplate": "%{x|%d %b %Y}<br>%{y}: %{z:"
        + hover_format(unit)
        + "}"
        + suffix(unit)
        + "<extra></extra>",
    }


def _x(x: XArray) -> list[Any]:
    if x.dtype.kind == "M":
        days: list[str] = np.datetime_as_string(x.astype("datetime64[D]")).tolist()
        return days
    return _numbers(np.asarray(x, np.float64))


def _numbers(values: Sequence[float] | FloatArray, digits: int = 6) -> list[float | None]:
    """Rounded to significant digits; null for what is not finite."""
    return [float(f"{v:.{digits}g}") if np.isfinite(v) else None for v in np.asarray(values)]


def _faded(colour: str, alpha: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"
