"""Charts for the report: the JSON that plotly.js draws in the reader's browser.

Titles and legends are not part of it. The page writes them as HTML, which wraps on a phone.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from conf.types import FloatArray
from experiments.reporting.charts import (
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
    group_of,
)
from experiments.reporting.style import (
    DIVERGING,
    GRID,
    INK,
    MUTED,
    PAPER,
    PERCENT,
    QUIET,
    compact,
    number,
    outcome_style,
    shortened,
    signed,
)

Json = dict[str, Any]

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_TOP, _BARE_TOP, _BOTTOM, _BETWEEN = 26, 8, 34, 44  # pixels, for panel labels and ticks
_LONGEST_LABEL = 24  # letters beside an axis; the pointer shows the rest
_TEXT, _LABEL = {"size": 12, "color": INK}, {"size": 12, "color": QUIET}
_AXIS = {"gridcolor": GRID, "tickfont": {"size": 11, "color": QUIET}, "fixedrange": True}
_TICKS: dict[Unit, Json] = {
    "percent": {"ticksuffix": PERCENT},
    "number": {"tickformat": ",~g"},
    "dollars": {"tickformat": "$~s"},
}
_HOVER: dict[Unit, str] = {"percent": ",.2f", "number": ",.3~f", "dollars": "$,.0f"}


def plotly_figure(chart: Chart) -> Json:
    """The chart as `{"data": [...], "layout": {...}}`, plain JSON without NaN."""
    chart = thinned(chart)
    data: list[Json] = []
    for i, panel in enumerate(chart.panels):
        for place, series in enumerate(panel.series):
            common: Json = {"name": safe(series.name), "meta": group_of(series), "yaxis": _y(i)}
            if isinstance(series, Line):
                # The first lies on top; plotly itself puts the last there.
                common["zorder"] = 100 - place
            data += [{**common, **trace} for trace in _traces(series, panel.unit)]
    return {"data": data, "layout": _layout(chart)}


def thinned(chart: Chart, most: int = 1500) -> Chart:
    """The chart with at most about `most` points a line.

    Of every stretch the highest and the lowest point stay, so no spike is lost: those of the
    first line of each panel, and all lines keep the same dates.
    """
    lines = [[s for s in panel.series if isinstance(s, Line)] for panel in chart.panels]
    longest = max((len(line.x) for panel in lines for line in panel), default=0)
    if longest <= most:
        return chart
    whole = [[line for line in panel if len(line.x) == longest] for panel in lines]
    leading = [panel[0] for panel in whole if panel]
    keep = np.zeros(longest, np.bool_)
    keep[[0, -1]] = True
    for y in (line.y for line in leading):
        for stretch in np.array_split(np.arange(longest), most // (2 * len(leading))):
            finite = stretch[np.isfinite(y[stretch])]
            points = finite if finite.size else stretch[:1]
            keep[[points[np.argmin(y[points])], points[np.argmax(y[points])]]] = True

    def thin(series: Series) -> Series:
        if not isinstance(series, Line) or not len(series.x):
            return series
        points = np.union1d(np.flatnonzero(keep[: len(series.x)]), len(series.x) - 1)
        return replace(series, x=series.x[points], y=series.y[points])

    panels = [replace(panel, series=tuple(map(thin, panel.series))) for panel in chart.panels]
    return replace(chart, panels=tuple(panels))


def _layout(chart: Chart) -> Json:
    heatmap = any(isinstance(s, Heatmap) for p in chart.panels for s in p.series)
    bottom = _BOTTOM + (22 if chart.x_label else 0)
    top = _TOP if chart.panels[0].label else _BARE_TOP
    domains = _domains(chart, chart.height - top - bottom)
    panels = list(zip(chart.panels, domains, strict=True))
    axes = {f"yaxis{i + 1 if i else ''}": _y_axis(*panel) for i, panel in enumerate(panels)}
    return {
        "height": chart.height,
        "margin": {"l": 8, "r": 14, "t": top, "b": bottom},
        "font": {"family": _FONT, **_TEXT},
        "hovermode": "x unified" if chart.has_dates and not heatmap else "closest",
        "hoverlabel": {"bgcolor": PAPER, "bordercolor": MUTED, "font": _TEXT, "namelength": -1},
        "showlegend": False,
        "dragmode": False,
        "bargap": 0.28,
        "xaxis": _x_axis(chart),
        **axes,
        "shapes": [_mark(mark, i) for i, panel in enumerate(chart.panels) for mark in panel.marks],
        "annotations": [label for panel in panels for label in _labels(*panel)],
    }


def _domains(chart: Chart, height: int) -> list[tuple[float, float]]:
    """Where the panels stand, as shares of the height, the first on top."""
    gap, top = _BETWEEN / height, 1.0
    free = (1.0 - gap * (len(chart.panels) - 1)) / sum(panel.share for panel in chart.panels)
    domains = []
    for panel in chart.panels:
        bottom = top - free * panel.share
        domains.append((round(max(bottom, 0.0), 5), round(top, 5)))
        top = bottom - gap
    return domains


def _x_axis(chart: Chart) -> Json:
    first = chart.panels[0].series[0] if chart.panels[0].series else None
    axis = _AXIS | {
        "anchor": _y(len(chart.panels) - 1),
        "linecolor": MUTED,
        "showline": True,
        "zeroline": False,
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": MUTED,
        "tickangle": 0,
        "showgrid": not isinstance(first, Heatmap),
    }
    if chart.x_label:
        axis["title"] = {"text": safe(chart.x_label), "font": _LABEL, "standoff": 8}
    if chart.has_dates:
        return {**axis, "type": "date", "hoverformat": "%a %d %b %Y"}
    if isinstance(first, Bars) and not first.horizontal:
        return {**axis, "type": "category", "showgrid": False}
    axis |= {"type": "linear", **_TICKS[chart.x_unit]}
    if not isinstance(first, Bars):
        return axis
    marks = [mark.value for mark in chart.panels[-1].marks if mark.axis == "x"]
    return axis | {"range": _with_margins(np.append(first.values, np.array(marks, np.float64)))}


def _y_axis(panel: Panel, domain: tuple[float, float]) -> Json:
    axis = _AXIS | {
        "domain": list(domain),
        "automargin": True,
        "zerolinecolor": MUTED,
        "ticks": "",  # plotly puts them beside heatmaps
        "ticklabelstandoff": 4,
        "visible": panel.drawable,
    }
    if rows := panel.row_labels:
        # Rows have numbers, so that two of the same name stay two; the first is on top.
        step = len(rows) // 50 + 1
        return axis | {
            "type": "linear",
            "range": [len(rows) - 0.5, -0.5],
            "tickvals": list(range(0, len(rows), step)),
            "ticktext": [_tick_label(row) for row in rows[::step]],
            "zeroline": False,
            "showgrid": isinstance(panel.series[0], Intervals),
        }
    if panel.from_zero:
        axis["rangemode"] = "tozero"
    # Few steps in low panels, or their labels would stand on each other.
    return {**axis, "nticks": 7 if domain[1] - domain[0] > 0.4 else 4, **_TICKS[panel.unit]}


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
        "font": _LABEL,
    }
    if panel.drawable:
        return [label]
    middle = {"x": 0.5, "xanchor": "center", "y": sum(domain) / 2, "yanchor": "middle"}
    return [label, {**label, **middle, "text": safe(panel.note)}]


def _mark(mark: Mark, i: int) -> Json:
    value = str(mark.value) if isinstance(mark.value, np.datetime64) else float(mark.value)
    along, across = ("x", "y") if mark.axis == "x" else ("y", "x")
    names = {"x": "x", "y": _y(i)}
    return {
        "type": "line",
        "line": {"color": mark.colour, "width": 1.4, "dash": "4px,3px" if mark.dash else "solid"},
        **{f"{along}ref": names[along], f"{along}0": value, f"{along}1": value},
        **{f"{across}ref": f"{names[across]} domain", f"{across}0": 0, f"{across}1": 1},
    }


def _with_margins(values: FloatArray) -> list[float]:
    """A range that leaves room for numbers at the ends of bars."""
    finite = values[np.isfinite(values)]
    low, high = finite.min(initial=0.0), finite.max(initial=0.0)
    span = (high - low) or 1.0
    return [float(low - (0.34 * span if low < 0 else 0.02 * span)), float(high + 0.34 * span)]


def _y(i: int) -> str:
    """The name by which traces and shapes refer to the i-th panel's y axis."""
    return f"y{i + 1}" if i else "y"


def _tick_label(label: str) -> str:
    return safe(shortened(label, _LONGEST_LABEL))


def safe(text: str) -> str:
    """Text for plotly, which understands some HTML and replaces %{...}."""
    return html.escape(text, quote=False).replace("%{", "%\u200b{")


def _traces(series: Series, unit: Unit) -> list[Json]:
    if isinstance(series, Line):
        return [_line(series, unit)]
    if isinstance(series, Bars):
        return [_bars(series, unit)]
    if isinstance(series, Histogram):
        return [_histogram(series)]
    if isinstance(series, Intervals):
        return [_intervals(series, outcome) for outcome in dict.fromkeys(series.outcomes)]
    return [_heatmap(series, unit)]


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
        "yhoverformat": _HOVER[unit],
    }
    if line.fill:
        trace |= {"fill": "tozeroy", "fillcolor": _faded(line.colour, 0.22)}
    if line.muted:
        trace["hoverinfo"] = "skip"
    return trace


def _bars(bars: Bars, unit: Unit) -> Json:
    ends = [compact(value, unit) for value in bars.values]
    texts = [f"{safe(label)}: {end}" for label, end in zip(bars.labels, ends, strict=True)]
    trace: Json = {
        "type": "bar",
        "marker": {"color": list(bars.colours) or bars.colour},
        "hovertext": texts,
        "hovertemplate": "%{hovertext}" + ("<extra></extra>" if bars.colours else ""),
    }
    values = _numbers(bars.values)
    if not bars.horizontal:
        return {**trace, "x": [_tick_label(label) for label in bars.labels], "y": values}
    return trace | {
        "orientation": "h",
        "x": values,
        "y": list(range(len(values))),
        "text": ends,
        "textposition": "outside",
        "textfont": {"size": 11},
        "cliponaxis": False,
    }


def _histogram(histogram: Histogram) -> Json:
    edges = histogram.edges
    bins = zip(edges[:-1], edges[1:], histogram.heights, strict=True)
    return {
        "type": "bar",
        "x": _numbers((edges[:-1] + edges[1:]) / 2.0),
        "width": _numbers(np.diff(edges) * 0.94),
        "y": _numbers(histogram.heights),
        "marker": {"color": _faded(histogram.colour, 0.55)},
        "hovertext": [f"{signed(f'{a:.2f}')} to {signed(f'{b:.2f}')}: {n:,g}" for a, b, n in bins],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _intervals(intervals: Intervals, outcome: str) -> Json:
    """The rows with this outcome."""
    style = outcome_style(outcome)
    rows = np.flatnonzero([other == outcome for other in intervals.outcomes])
    values, low, high = intervals.values[rows], intervals.low[rows], intervals.high[rows]
    labels = [safe(intervals.labels[row]) for row in rows]
    return {
        "name": safe(outcome),
        "meta": outcome,
        "type": "scatter",
        "mode": "markers",
        "x": _numbers(values),
        "y": rows.tolist(),
        "text": [
            f"{label}: {number(v)} ({number(a)} to {number(b)})"
            for label, v, a, b in zip(labels, values, low, high, strict=True)
        ],
        "error_x": {
            "array": _numbers(high - values),
            "arrayminus": _numbers(values - low),
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


def _heatmap(heatmap: Heatmap, unit: Unit) -> Json:
    stops = np.linspace(0.0, 1.0, len(DIVERGING)).tolist()
    z = "%{z:" + _HOVER[unit] + "}" + (PERCENT if unit == "percent" else "")
    return {
        "type": "heatmap",
        "x": _x(heatmap.x),
        "y": list(range(len(heatmap.rows))),
        "z": [_numbers(row, digits=4) for row in heatmap.values],
        "zmin": -heatmap.limit,
        "zmax": heatmap.limit,
        "colorscale": [list(stop) for stop in zip(stops, DIVERGING, strict=True)],
        "showscale": False,
        "hovertemplate": "%{x|%d %b %Y}<br>%{y}: " + z + "<extra></extra>",
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
