"""Fewer points for long lines, so that a page stays small."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from experiments.charts import Band, Chart, FloatArray, Line, Panel, Series


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
    keep: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.keep = np.zeros(self.length, np.bool_)
        self.keep[[0, -1]] = True

    def add_extremes(self, y: FloatArray, buckets: int) -> None:
        for part in np.array_split(np.arange(len(y)), buckets):
            known = part[np.isfinite(y[part])]
            chosen = known if known.size else part[:1]
            self.keep[[chosen[np.argmin(y[chosen])], chosen[np.argmax(y[chosen])]]] = True
