"""A report as one HTML file: reads on a laptop and a phone, works offline, prints.

The page asks nothing of the network, and its security policy forbids it to: no fonts, no images,
no script but the two inside it, which are named by their hashes. All text is escaped. The same
report gives the same bytes.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import re
from pathlib import Path

import jinja2
from plotly.offline import get_plotlyjs

from experiments.reporting.charts import Chart, legend_of
from experiments.reporting.contents import Cell, Report, Table
from experiments.reporting.matplotlib_backend import chart_png
from experiments.reporting.plotly_backend import Json, plotly_figure
from experiments.reporting.style import (
    DIVERGING,
    OUTCOME_STYLES,
    looks_numeric,
    number,
    outcome_style,
    signed,
)

__all__ = ["Report", "render", "write_report"]


def render(report: Report) -> str:
    """The report as one HTML page; about 2 MB of it is plotly.js, compressed."""
    plotly, plotly_hash = _plotly()
    template = _templates().get_template("report.html.j2")
    return template.render(report=report, plotly=plotly, plotly_hash=plotly_hash)


def write_report(folder: Path, report: Report) -> dict[str, bytes]:
    """Write the page and a PNG of each of its charts; the PNGs by the chart's key."""
    (folder / "report.html").write_text(render(report), encoding="utf-8")
    pictures = {chart.key: chart_png(chart) for chart in report.charts}
    for name, png in pictures.items():
        (folder / f"{name}.png").write_bytes(png)
    return pictures


@functools.cache
def _templates() -> jinja2.Environment:
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("experiments.reporting", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    templates.globals |= {"diverging": DIVERGING, "outcome_styles": OUTCOME_STYLES}
    templates.tests |= {
        "chart": lambda item: isinstance(item, Chart),
        "table": lambda item: isinstance(item, Table),
    }
    templates.filters |= {
        "anchor": _anchor,
        "formatted": _formatted,
        "legend": legend_of,
        "outcome_style": outcome_style,
        "paragraphs": _paragraphs,
        "plotly_json": _plotly_json,
        "sha256": _sha256,
        "unbroken": _unbroken,
    }
    return templates


@functools.cache
def _plotly() -> tuple[str, str]:
    """plotly.js as base64 of gzip, and the hash of its text."""
    code = get_plotlyjs()
    # No time of day in the header, or no two reports would be alike.
    packed = base64.b64encode(gzip.compress(code.encode(), 9, mtime=0)).decode()
    return packed, _sha256(code)


def _sha256(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _plotly_json(chart: Chart) -> Json:
    """Each list of x once, and its number in the traces: most curves are over the same dates."""
    figure = plotly_figure(chart)
    shared: list[list[object]] = []
    traces = []
    for trace in figure["data"]:
        if trace["x"] not in shared:
            shared.append(trace["x"])
        traces.append({**trace, "x": shared.index(trace["x"])})
    return {"data": traces, "layout": figure["layout"], "x": shared}


def _formatted(table: Table) -> tuple[list[bool], list[list[str]]]:
    """Which columns hold numbers alone, and the text of every cell."""
    rows = [[_text(cell) for cell in row] for row in table.rows]
    numeric = [
        i > 0 and bool(rows) and all(looks_numeric(row[i]) for row in rows)
        for i in range(len(table.columns))
    ]
    return numeric, [
        [signed(text) if numeric[i] else text for i, text in enumerate(row)] for row in rows
    ]


def _text(cell: Cell) -> str:
    return str(cell) if isinstance(cell, str) else number(cell, 0 if isinstance(cell, int) else 2)


def _anchor(title: str, i: int) -> str:
    """The name by which the i-th section is linked to."""
    words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40]
    return f"s{i}-{words}" if words else f"s{i}"


def _paragraphs(text: str) -> list[str]:
    return [_unbroken(part.strip()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def _unbroken(text: str) -> str:
    """Text in which no line ends between a number and its unit."""
    return re.sub(r"(\d) (%|×)", "\\1\u00a0\\2", text)
