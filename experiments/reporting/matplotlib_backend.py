"""Charts as matplotlib figures: for PNGs beside a report and for TensorBoard."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from experiments.reporting.charts import (
    Bars,
    Chart,
    Heatmap,
    Histogram,
    Intervals,
    LegendEntry,
    Line,
    Panel,
    Unit,
    legend_of,
)
from experiments.reporting.style import (
    DIVERGING,
    GRID,
    INK,
    MUTED,
    PERCENT,
    QUIET,
    compact,
    compact_dollars,
    outcome_style,
    shortened,
    signed,
)

_WIDTH = 9.0  # inches
_PIXELS_PER_INCH = 92.0  # by which a chart's height is turned into inches
_COLOURS = LinearSegmentedColormap.from_list("diverging", DIVERGING)


def figure_of(chart: Chart) -> Figure:
    """Draw a chart, 9 inches wide."""
    subtitle = textwrap.wrap(chart.subtitle, 118)
    head = 0.42 + 0.2 * len(subtitle) + 0.06
    foot = 0.32 if legend_of(chart) else 0.0
    height = chart.height / _PIXELS_PER_INCH + head + foot
    below_head = (0.0, 0.0, 1.0, 1.0 - head / height)
    layout = ConstrainedLayoutEngine(rect=below_head, h_pad=0.06, w_pad=0.08)
    figure = Figure(figsize=(_WIDTH, height), layout=layout, facecolor="white")
    _write_head(figure, chart.title, subtitle, height)
    shares = [panel.share for panel in chart.panels]
    grid = figure.subplots(len(shares), sharex=True, squeeze=False, height_ratios=shares)
    for axes, panel in zip(grid[:, 0], chart.panels, strict=True):
        pixels = chart.height * panel.share / sum(shares)
        _draw_panel(axes, panel, steps=int(np.clip(pixels / 32.0, 3, 7)))
    _finish_x(grid[-1, 0], chart)
    _legend(figure, chart)
    return figure


def chart_png(chart: Chart) -> bytes:
    """A chart as a PNG, the same bytes for the same chart."""
    content = io.BytesIO()
    figure_of(chart).savefig(content, format="png", dpi=130, metadata={"Software": None})
    return content.getvalue()


def _write_head(figure: Figure, title: str, subtitle: list[str], height: float) -> None:
    top = 1.0 - 0.12 / height
    corner: dict[str, Any] = {"ha": "left", "va": "top", "parse_math": False}
    figure.text(0.012, top, title, fontsize=12.5, fontweight="bold", color=INK, **corner)
    text, below = "\n".join(subtitle), top - 0.26 / height
    figure.text(0.012, below, text, fontsize=9, color=QUIET, linespacing=1.4, **corner)


def _draw_panel(axes: Axes, panel: Panel, steps: int) -> None:
    axes.set_title(panel.label, loc="left", fontsize=9, color=QUIET, pad=6, parse_math=False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.tick_params(colors=QUIET, labelsize=9, length=3, color=MUTED)
    axes.tick_params(axis="y", length=0)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.01)
    if not panel.drawable:
        middle: dict[str, Any] = {"transform": axes.transAxes, "ha": "center", "va": "center"}
        axes.text(0.5, 0.5, panel.note, color=QUIET, **middle)
        axes.set_yticks([])
        axes.tick_params(axis="x", bottom=False, labelbottom=False)
        axes.grid(visible=False)
        return
    # matplotlib draws the last on top.
    for place in reversed(range(len(panel.series))):
        _draw(axes, panel, place)
    for mark in panel.marks:
        draw: Callable[..., Artist] = axes.axvline if mark.axis == "x" else axes.axhline
        draw(mark.value, color=mark.colour, linestyle=_dashes(mark.dash), linewidth=1.2)
    if panel.from_zero:
        axes.set_ylim(bottom=0.0)
    if panel.row_labels:
        _name_rows(axes, panel.row_labels)
        return
    axes.yaxis.set_major_formatter(_formatter(panel.unit))
    axes.yaxis.set_major_locator(MaxNLocator(steps, steps=[1, 2, 2.5, 5, 10]))
    low, high = axes.get_ylim()
    if low < 0.0 < high:
        axes.axhline(0.0, color=MUTED, linewidth=0.9, zorder=0.5)


def _draw(axes: Axes, panel: Panel, place: int) -> None:
    series = panel.series[place]
    if isinstance(series, Line):
        axes.plot(
            series.x,
            series.y,
            _dashes(series.dash),
            marker="o" if series.pointlike else None,
            markersize=4,
            color=series.colour,
            linewidth=0.8 if series.muted else series.width * 0.8,
            zorder=1 if series.muted else 2,
        )
        if series.fill:
            axes.fill_between(series.x, series.y, 0.0, color=series.colour, alpha=0.22, linewidth=0)
    elif isinstance(series, Histogram):
        widths = np.diff(series.edges)
        left = series.edges[:-1] + 0.03 * widths
        axes.bar(left, series.heights, 0.94 * widths, align="edge", color=series.colour, alpha=0.55)
    elif isinstance(series, Intervals):
        _draw_intervals(axes, series)
    elif isinstance(series, Heatmap):
        _draw_heatmap(axes, series, panel.unit)
    elif series.horizontal:
        _draw_horizontal_bars(axes, series, panel.unit)
    else:
        _draw_upright_bars(axes, series, place, len(panel.series))


def _draw_upright_bars(axes: Axes, bars: Bars, place: int, count: int) -> None:
    width = 0.76 / count
    x = np.arange(len(bars.labels)) + (place - (count - 1) / 2.0) * width
    axes.bar(x, bars.values, width * 0.94, color=list(bars.colours) or bars.colour, zorder=2)
    axes.set_xticks(np.arange(len(bars.labels)), bars.labels, parse_math=False)
    axes.grid(axis="x", visible=False)


def _draw_horizontal_bars(axes: Axes, bars: Bars, unit: Unit) -> None:
    colours = list(bars.colours) or bars.colour
    drawn = axes.barh(np.arange(len(bars.labels)), bars.values, 0.72, color=colours, zorder=2)
    ends = [compact(value, unit).replace("$", r"\$") for value in bars.values]
    axes.bar_label(drawn, ends, padding=4, fontsize=9, color=INK)
    axes.margins(x=0.14)
    axes.axvline(0.0, color=MUTED, linewidth=0.9)


def _draw_intervals(axes: Axes, intervals: Intervals) -> None:
    for row, outcome in enumerate(intervals.outcomes):
        ends = [intervals.low[row], intervals.high[row]]
        axes.plot(ends, [row, row], color=outcome_style(outcome).colour, lw=1.5)
        marker = _marker(outcome)
        axes.plot(intervals.values[row], row, ls="", markersize=6, markeredgewidth=1.5, **marker)


def _draw_heatmap(axes: Axes, heatmap: Heatmap, unit: Unit) -> None:
    norm = Normalize(-heatmap.limit, heatmap.limit)
    rows = np.arange(len(heatmap.rows))
    axes.pcolormesh(heatmap.x, rows, heatmap.values, cmap=_COLOURS, norm=norm, shading="nearest")
    axes.grid(visible=False)
    bar = axes.figure.colorbar(
        ScalarMappable(norm, _COLOURS), ax=axes, pad=0.01, aspect=34, format=_formatter(unit)
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, colors=QUIET, length=0)


def _name_rows(axes: Axes, labels: tuple[str, ...]) -> None:
    step = len(labels) // 50 + 1
    short = [shortened(label, 30) for label in labels]
    axes.set_yticks(np.arange(0, len(labels), step), short[::step], parse_math=False)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)


def _finish_x(axes: Axes, chart: Chart) -> None:
    if chart.x_label:
        axes.set_xlabel(chart.x_label, fontsize=9, color=QUIET, parse_math=False)
    if chart.has_dates:
        locator = AutoDateLocator(minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        return
    first = chart.panels[-1].series[0] if chart.panels[-1].series else None
    if not isinstance(first, Bars) or first.horizontal:
        axes.xaxis.set_major_formatter(_formatter(chart.x_unit))


def _legend(figure: Figure, chart: Chart) -> None:
    entries = legend_of(chart)
    if not entries:
        return
    figure.legend(
        [_handle(entry) for entry in entries],
        [entry.label.replace("$", r"\$") for entry in entries],
        loc="outside lower left",
        ncols=min(len(entries), 6),
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handlelength=1.8,
        columnspacing=1.6,
    )


def _handle(entry: LegendEntry) -> Artist:
    if entry.symbol in ("area", "bar"):
        alpha = 0.55 if entry.symbol == "area" else 1.0
        return Patch(color=entry.colour, alpha=alpha, linewidth=0)
    if entry.symbol == "marker":
        return Line2D([], [], **_marker(entry.outcome))
    return Line2D([], [], color=entry.colour, ls=_dashes(entry.symbol == "dash"), linewidth=1.6)


def _dashes(dash: bool) -> str:
    return "--" if dash else "-"


def _marker(outcome: str) -> dict[str, Any]:
    style = outcome_style(outcome)
    return {
        "color": style.colour,
        "marker": style.matplotlib_marker,
        "markerfacecolor": "white" if style.hollow else style.colour,
    }


def _formatter(unit: Unit) -> FuncFormatter:
    def written(value: float, _: int | None) -> str:
        if unit == "dollars":
            return compact_dollars(value)
        return signed(f"{value:,.6g}") + (PERCENT if unit == "percent" else "")

    return FuncFormatter(written)
