"""Charts as data, which plotly draws in the report and matplotlib for the PNGs.

A chart is one or more panels above each other that share the x axis. Percentages are given as
such (12.5, not 0.125); NaN is drawn as a gap. All parts check their lengths when they are built
and raise InputError.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from conf.errors import InputError
from conf.types import DateArray, FloatArray
from experiments.reporting.style import QUIET

XArray = DateArray | FloatArray  # dates, or numbers

Unit = Literal["percent", "number", "dollars"]
Symbol = Literal["line", "dash", "area", "bar", "marker"]

_KEY = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Line:
    """A curve; `group` puts several under one legend entry."""

    name: str
    x: XArray  # (n,)
    y: FloatArray  # (n,)
    colour: str
    dash: bool = False
    fill: bool = False  # down to zero
    muted: bool = False  # in the background: thin, and silent under the pointer
    group: str = ""
    width: float = 1.7  # pixels

    def __post_init__(self) -> None:
        _check_lengths(self.name, len(self.x), y=self.y)

    @property
    def pointlike(self) -> bool:
        """Too few values for a line to be seen."""
        return int(np.isfinite(self.y).sum()) <= 3


@dataclass(frozen=True)
class Bars:
    """A bar for each label; several series stand beside each other."""

    name: str
    labels: tuple[str, ...]
    values: FloatArray  # (n,)
    colour: str
    colours: tuple[str, ...] = ()  # one for each bar, in the place of `colour`
    horizontal: bool = False

    def __post_init__(self) -> None:
        _check_lengths(self.name, len(self.labels), values=self.values)
        if self.colours:
            _check_lengths(self.name, len(self.labels), colours=self.colours)


@dataclass(frozen=True)
class Histogram:
    """Heights over bins that touch each other."""

    name: str
    edges: FloatArray  # (n + 1,)
    heights: FloatArray  # (n,)
    colour: str

    def __post_init__(self) -> None:
        _check_lengths(self.name, len(self.edges) - 1, heights=self.heights)


@dataclass(frozen=True)
class Intervals:
    """Estimates with their intervals, a row each, the first on top."""

    name: str
    labels: tuple[str, ...]
    values: FloatArray  # (n,)
    low: FloatArray  # (n,)
    high: FloatArray  # (n,)
    outcomes: tuple[str, ...]  # of a comparison each; they choose colour and marker

    def __post_init__(self) -> None:
        arrays = {"values": self.values, "low": self.low, "high": self.high}
        _check_lengths(self.name, len(self.labels), **arrays, outcomes=self.outcomes)


@dataclass(frozen=True)
class Heatmap:
    """Values over time for each row, in colours that are centred on zero."""

    name: str
    x: DateArray  # (n,)
    rows: tuple[str, ...]  # the first on top
    values: FloatArray  # (rows, n)
    limit: float  # colours end at ±limit

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.rows), len(self.x)) or not self.limit > 0:
            raise InputError(
                f"{self.name}: values {self.values.shape} for {len(self.rows)} rows and "
                f"{len(self.x)} dates, colours to ±{self.limit:g}",
                "Give (rows, dates) and a limit above 0",
            )


Series = Line | Bars | Histogram | Intervals | Heatmap


@dataclass(frozen=True)
class Mark:
    """A straight line across a panel; its label stands in the legend, or nowhere if empty."""

    axis: Literal["x", "y"]  # where `value` is measured
    value: float | np.datetime64
    label: str = ""
    colour: str = QUIET
    dash: bool = True


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    label: str  # what the y axis measures, with its unit
    series: tuple[Series, ...]  # the first lies on top
    unit: Unit = "number"  # of the values: y, or x where bars or intervals are horizontal
    marks: tuple[Mark, ...] = ()
    share: float = 1.0  # of the height
    from_zero: bool = False  # the y axis begins there
    note: str = "no data"  # in the middle of a panel without a number

    @property
    def drawable(self) -> bool:
        """Whether it holds at least one number."""
        return any(np.isfinite(_values(series)).any() for series in self.series)

    @property
    def row_labels(self) -> tuple[str, ...]:
        """The labels of what stands in rows; empty for everything else."""
        first = self.series[0] if self.series else None
        if isinstance(first, Heatmap):
            return first.rows
        in_rows = isinstance(first, Intervals) or (isinstance(first, Bars) and first.horizontal)
        return first.labels if isinstance(first, Intervals | Bars) and in_rows else ()


@dataclass(frozen=True)
class Chart:
    """A figure: what the reader sees, in what order, and what it is called."""

    key: str  # names its file and its place in the page
    title: str
    panels: tuple[Panel, ...]
    subtitle: str = ""
    x_label: str = ""  # with its unit; dates need none
    x_unit: Unit = "number"
    height: int = 380  # pixels
    description: str = ""  # for readers who cannot see it; title and subtitle go before it
    scale_ends: tuple[str, str] | None = None  # of a heatmap's colours

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key):
            raise InputError(
                f"the chart key {self.key!r} is no file name", "Use a-z, 0-9, - and _ only"
            )
        if not self.panels:
            raise InputError(f"the chart {self.key} has no panel", "Give it at least one")

    @property
    def alt(self) -> str:
        """The chart in words."""
        parts = (self.title, self.subtitle, self.description)
        return " ".join(part if part.endswith(".") else f"{part}." for part in parts if part)

    @property
    def has_dates(self) -> bool:
        """Whether x is time."""
        series = [each for panel in self.panels for each in panel.series]
        return any(isinstance(s, Line | Heatmap) and s.x.dtype.kind == "M" for s in series)


@dataclass(frozen=True)
class LegendEntry:
    """A line of the legend."""

    label: str
    colour: str
    symbol: Symbol
    switchable: bool = True  # False for marks, which stay
    outcome: str = ""  # of a comparison, which chooses the marker


def legend_of(chart: Chart) -> tuple[LegendEntry, ...]:
    """The entries of a chart in the order of its panels, each name once; none if there is one."""
    entries: dict[str, LegendEntry] = {}
    for panel in chart.panels:
        for part in (*panel.series, *panel.marks):
            for entry in _entries(part):
                entries.setdefault(entry.label, entry)
    return tuple(entries.values()) if len(entries) > 1 else ()


def group_of(series: Series) -> str:
    """The legend entry under which a series stands."""
    return getattr(series, "group", "") or series.name


def _entries(part: Series | Mark) -> Iterable[LegendEntry]:
    if isinstance(part, Mark):
        if part.label:
            yield LegendEntry(part.label, part.colour, "dash" if part.dash else "line", False)
    elif isinstance(part, Intervals):
        for outcome in dict.fromkeys(part.outcomes):
            yield LegendEntry(outcome, "", "marker", outcome=outcome)
    elif isinstance(part, Line):
        yield LegendEntry(group_of(part), part.colour, "dash" if part.dash else "line")
    elif isinstance(part, Histogram):
        yield LegendEntry(part.name, part.colour, "area")
    elif isinstance(part, Bars) and not part.colours:
        yield LegendEntry(part.name, part.colour, "bar")


def _values(series: Series) -> FloatArray:
    if isinstance(series, Line):
        return series.y
    return series.heights if isinstance(series, Histogram) else series.values


def _check_lengths(name: str, expected: int, **values: Any) -> None:
    for what, given in values.items():
        if len(given) != expected:
            raise InputError(
                f"{name}: {len(given)} {what} where {expected} belong",
                "Give arrays of matching length",
            )
