"""Charts for the report: the JSON that plotly.js draws in the reader's browser.

Titles and legends are not part of it. The page writes them as HTML, which wraps on a phone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.chart_layout import (
    Json,
    axis_name,
    hover_format,
    plotly_layout,
    safe,
    short_label,
    suffix,
)
from experiments.charts import (
    Band,
    Bars,
    Chart,
    FloatArray,
    Heatmap,
    Histogram,
    Intervals,
    Line,
    Series,
    Unit,
    XArray,
    group_of,
)
from experiments.formats import compact, number, signed
from experiments.palette import DIVERGING, PAPER, word_style
from experiments.thinning import thinned


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
    for word in dict.fromkeys(intervals.words):
        style = word_style(word)
        chosen = np.array([other == word for other in intervals.words])
        places = np.flatnonzero(chosen).tolist()
        labels = [intervals.labels[i] for i in places]
        value, low, high = (
            array[chosen] for array in (intervals.values, intervals.low, intervals.high)
        )
        rows.append(
            {
                **common,
                "name": safe(word),
                "meta": word,
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
