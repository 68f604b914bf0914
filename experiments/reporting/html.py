"""The parts of a report as HTML. Whatever comes from outside goes through `escape`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import escape

from experiments.reporting.charts import Chart, LegendEntry, legend_of
from experiments.reporting.contents import Cell, Item, KeyNumber, Report, Section, Table, Text
from experiments.reporting.plotly_backend import Json, plotly_figure
from experiments.reporting.style import (
    DASH,
    DIVERGING,
    OUTCOME_STYLES,
    looks_numeric,
    number,
    signed,
    word_style,
)

_SHORT = 24  # characters that a cell keeps on one line
_MANY_COLUMNS = 9  # more than a sheet of paper holds at full size


def verdict_html(report: Report) -> str:
    """The banner: colour, sign and word say the same."""
    style = word_style(report.outcome)
    return (
        f'<section class="verdict" aria-label="Verdict" '
        f'style="--word:{style.colour};--tint:{style.tint}">'
        f'<div class="word"><span class="icon" aria-hidden="true">{style.icon}</span>'
        f"<strong>{escape(report.outcome)}</strong></div>"
        f"{_paragraphs(report.verdict_text)}</section>"
    )


def cards_html(numbers: Sequence[KeyNumber]) -> str:
    """The key numbers."""
    cards = "".join(
        f"<div><dt>{escape(n.label)}</dt><dd>{escape(n.value)}</dd>"
        + (f'<dd class="note">{escape(n.note)}</dd>' if n.note else "")
        + "</div>"
        for n in numbers
    )
    return f'<dl class="cards">{cards}</dl>' if cards else ""


def contents_html(sections: Sequence[Section]) -> str:
    """The table of contents."""
    links = "".join(
        f'<li><a href="#{section_id(i, s)}">{escape(s.title)}</a></li>'
        for i, s in enumerate(sections)
    )
    return f'<nav class="toc" aria-label="Contents"><ol>{links}</ol></nav>' if links else ""


def section_id(i: int, section: Section) -> str:
    """The name by which a section is linked to."""
    words = re.sub(r"[^a-z0-9]+", "-", section.title.lower()).strip("-")[:40]
    return f"s{i + 1}-{words}" if words else f"s{i + 1}"


def section_html(i: int, section: Section) -> str:
    """A section with all that it holds."""
    intro = f'<div class="intro">{_paragraphs(section.intro)}</div>' if section.intro else ""
    items = "\n".join(_item_html(item) for item in section.items)
    name = section_id(i, section)
    return (
        f'<section class="part" id="{name}" aria-labelledby="{name}-title">'
        f'<h2 id="{name}-title">{escape(section.title)}</h2>{intro}\n{items}\n</section>'
    )


def _item_html(item: Item) -> str:
    if isinstance(item, Chart):
        return chart_html(item)
    return table_html(item) if isinstance(item, Table) else text_html(item)


def chart_html(chart: Chart) -> str:
    """A figure: heading, legend, an empty place of the right height, and what to draw there."""
    subtitle = f"<p>{_prose(chart.subtitle)}</p>" if chart.subtitle else ""
    data = json.dumps(_with_shared_x(plotly_figure(chart)), separators=(",", ":"), allow_nan=False)
    return (
        f'<figure class="chart" id="figure-{chart.key}">'
        f"<figcaption><h3>{escape(chart.title)}</h3>{subtitle}</figcaption>"
        f"{_legend(chart)}"
        f'<div class="plot" id="plot-{chart.key}" data-key="{chart.key}" '
        f'data-height="{chart.height}" role="img" '
        f'aria-label="{escape(chart.alt)}" style="height:{chart.height}px"></div>'
        f'<script type="application/json" data-for="plot-{chart.key}">{_harmless(data)}</script>'
        "</figure>"
    )


def _with_shared_x(figure: Json) -> Json:
    """Each list of x once, and its number in the traces: most curves are over the same dates."""
    shared: list[list[object]] = []
    traces = []
    for trace in figure["data"]:
        if trace["x"] not in shared:
            shared.append(trace["x"])
        traces.append({**trace, "x": shared.index(trace["x"])})
    return {"data": traces, "layout": figure["layout"], "x": shared}


def _harmless(data: str) -> str:
    """JSON that cannot end the element it stands in."""
    for letter in "<>&\u2028\u2029":
        data = data.replace(letter, f"\\u{ord(letter):04x}")
    return data


def _legend(chart: Chart) -> str:
    if chart.scale_ends:
        low, high = (escape(end) for end in chart.scale_ends)
        colours = ",".join(DIVERGING)
        return (
            f'<div class="legend scale"><span>{low}</span>'
            f'<span class="ramp" style="background:linear-gradient(90deg,{colours})"></span>'
            f"<span>{high}</span></div>"
        )
    entries = "".join(_legend_entry(entry) for entry in legend_of(chart))
    return f'<div class="legend">{entries}</div>' if entries else ""


def _legend_entry(entry: LegendEntry) -> str:
    content = f"{_swatch(entry)}<span>{escape(entry.label)}</span>"
    if not entry.switchable:
        return f'<span class="entry">{content}</span>'
    return (
        f'<button type="button" class="entry" aria-pressed="true" '
        f'data-group="{escape(entry.label)}">{content}</button>'
    )


def _swatch(entry: LegendEntry) -> str:
    colour = entry.colour
    if entry.symbol == "marker":
        style = word_style(entry.outcome)
        marker = {
            "o": '<circle cx="11" cy="6" r="4"/>',
            "D": '<path d="M11 1l5 5-5 5-5-5z"/>',
            "s": '<rect x="7.5" y="2.5" width="7" height="7"/>',
        }[style.matplotlib_marker]
        fill = "none" if style.hollow else style.colour
        drawn = f'<g stroke="{style.colour}" stroke-width="1.8" fill="{fill}">{marker}</g>'
    elif entry.symbol in ("area", "bar"):
        opacity = ".55" if entry.symbol == "area" else "1"
        drawn = (
            f'<rect x="4" y="1" width="14" height="10" fill="{colour}" fill-opacity="{opacity}"/>'
        )
    else:
        dashes = ' stroke-dasharray="5 3"' if entry.symbol == "dash" else ""
        drawn = f'<path d="M1 6h20" stroke="{colour}" stroke-width="2.4"{dashes}/>'
    return f'<svg width="22" height="12" aria-hidden="true">{drawn}</svg>'


def table_html(table: Table) -> str:
    """A table that scrolls inside its own frame where it is too wide."""
    right = [_numeric(table, i) for i in range(len(table.columns))]
    head = "".join(
        f'<th scope="col"{_class("n" if right[i] else "")}>{escape(name)}</th>'
        for i, name in enumerate(table.columns)
    )
    body = "\n".join(_row(row, right, i in table.emphasis) for i, row in enumerate(table.rows))
    notes = "".join(f"<p>{escape(note)}</p>" for note in table.notes)
    wide = " wide" if len(table.columns) > _MANY_COLUMNS else ""
    title = escape(table.title)
    framed = (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{title}">'
        f'<table class="{wide.strip()}"><thead><tr>{head}</tr></thead>'
        f"<tbody>\n{body}\n</tbody></table></div>"
        + (f'<div class="notes">{notes}</div>' if notes else "")
    )
    if table.is_folded:
        count = f"{len(table.rows):,} rows"
        return (
            f'<details class="table"><summary><h3>{title}</h3> <span>{count}</span></summary>'
            f"{framed}</details>"
        )
    return f'<div class="table"><h3>{title}</h3>{framed}</div>'


def _row(row: Sequence[Cell], right: Sequence[bool], emphasised: bool) -> str:
    cells = []
    for i, cell in enumerate(row):
        tag, scope = ("th", ' scope="row"') if i == 0 else ("td", "")
        kind = "n" if right[i] else "k" if len(_written(cell)) <= _SHORT else ""
        cells.append(f"<{tag}{scope}{_class(kind)}>{_cell(cell, right[i])}</{tag}>")
    strong = ' class="strong"' if emphasised else ""
    return f"<tr{strong}>{''.join(cells)}</tr>"


def _cell(cell: Cell, numeric: bool) -> str:
    text = _written(cell)
    if text in OUTCOME_STYLES:
        style = OUTCOME_STYLES[text]
        return (
            f'<span class="pill" style="--word:{style.colour};--tint:{style.tint}">'
            f"{style.icon} {escape(text)}</span>"
        )
    return escape(signed(text) if numeric else text)


def _written(cell: Cell) -> str:
    if cell is None:
        return DASH
    if isinstance(cell, str):
        return str(cell)
    return number(cell, 0 if isinstance(cell, int) else 2)


def _numeric(table: Table, i: int) -> bool:
    cells = [_written(row[i]) for row in table.rows]
    return i > 0 and bool(cells) and all(looks_numeric(cell) for cell in cells)


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def text_html(text: Text) -> str:
    """Paragraphs, or a block of code."""
    title = f"<h3>{escape(text.title)}</h3>" if text.title else ""
    if text.kind == "code":
        return f'<div class="text">{title}<pre tabindex="0">{escape(text.body)}</pre></div>'
    return f'<div class="text {text.kind}">{title}{_paragraphs(text.body)}</div>'


def _paragraphs(text: str) -> str:
    parts = [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]
    return "".join(f"<p>{_prose(part)}</p>" for part in parts)


def _prose(text: str) -> str:
    """Text in which no line ends between a number and its unit."""
    return escape(re.sub(r"(\d) (%|×)", "\\1\u00a0\\2", text))
