"""An evaluation as one HTML file: reads on a laptop and a phone, works offline, prints.

The page asks nothing of the network, and its security policy forbids it to: no fonts, no images,
no script but the two inside it, which are named by their hashes. All text is escaped. The same
report gives the same bytes.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import pkgutil
from html import escape

from conf.errors import InputError
from experiments.reporting.contents import NO_VERDICT, Item, KeyNumber, Report, Section, Table, Text
from experiments.reporting.html import cards_html, contents_html, section_html, verdict_html

__all__ = ["NO_VERDICT", "Item", "KeyNumber", "Report", "Section", "Table", "Text", "render"]

_NO_SCRIPT = (
    "This browser cannot draw the figures of this page. They lie beside this file as PNG images."
)


def render(report: Report) -> str:
    """The report as one HTML page.

    About 2 MB of it is plotly.js, packed. Raises InputError if plotly is not installed whole.
    """
    packed, plotly_hash = _plotly()
    style, script = _own("report.css"), _own("report.js")
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}' '{plotly_hash}'; "
        "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    sections = "\n".join(section_html(i, part) for i, part in enumerate(report.sections))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light">
<title>{escape(report.title)}</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
{contents_html(report.sections)}
<main>
<header><h1>{escape(report.title)}</h1>{_line(report.subtitle)}</header>
{verdict_html(report)}
<noscript><p class="unable">{_NO_SCRIPT}</p></noscript>
<p class="unable" id="unable" hidden>{_NO_SCRIPT}</p>
{cards_html(report.key_numbers)}
{sections}
<footer>{"".join(_line(line) for line in report.footer)}</footer>
</main>
<script type="application/octet-stream" id="plotly">{packed}</script>
<script>{script}</script>
</body>
</html>
"""


def _line(text: str) -> str:
    return f"<p>{escape(text)}</p>" if text else ""


@functools.cache
def _plotly() -> tuple[str, str]:
    """plotly.js as base64 of gzip, and the hash of its text."""
    code = _packaged("plotly", "package_data/plotly.min.js")
    # No time of day in the header, or no two reports would be alike.
    packed = base64.b64encode(gzip.compress(code, 9, mtime=0)).decode()
    return packed, _hash(code.decode())


@functools.cache
def _own(name: str) -> str:
    return _packaged("experiments.reporting", name).decode()


def _packaged(package: str, name: str) -> bytes:
    try:
        content = pkgutil.get_data(package, name)
    except (FileNotFoundError, ImportError):
        content = None
    if content is None:
        raise InputError(f"{package} lacks its file {name}", f"Install {package} again")
    return content


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
