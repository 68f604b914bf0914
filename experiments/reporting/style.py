"""Numbers as people write them: true minus signs, thousands apart, a dash for no value."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from experiments.statistics.verdict import Outcome

INK, QUIET, GRID, PAPER = "#1d2733", "#5b6472", "#e4e8ed", "#ffffff"
MUTED = "#b9c1cb"
GAIN, LOSS = "#2a6fa8", "#b5502f"

# After M. Okabe and K. Ito, darkened to be read as thin lines on white.
BOOKS = {
    "policy": "#005f9e",
    "managed": "#8a4f9e",
    "buy and hold": "#c47a00",
    "cash": "#7b8490",
}
OTHERS = ("#008a66", "#c2497e", "#3f9fd6", "#8c6d1f", "#b5402a", "#4d5bb0")

# Short to long, through white at zero.
DIVERGING = ("#9c3a1f", "#dd9b7f", "#f8f8f6", "#85b2d6", "#17558f")


@dataclass(frozen=True)
class OutcomeStyle:
    """How the outcome of a comparison looks; each differs by shape as well as by colour."""

    colour: str
    tint: str
    icon: str
    plotly_marker: str
    matplotlib_marker: str
    hollow: bool


OUTCOME_STYLES = {  # of comparisons, and of checks
    Outcome.OUTPERFORMS.value: OutcomeStyle("#0f7350", "#e3f3ec", "✓", "circle", "o", False),
    Outcome.UNDERPERFORMS.value: OutcomeStyle("#b3261e", "#fbe9e7", "✕", "diamond", "D", False),
    Outcome.INCONCLUSIVE.value: OutcomeStyle("#96640a", "#fdf3dc", "≈", "square", "s", True),
    "OK": OutcomeStyle("#0f7350", "#e3f3ec", "✓", "circle", "o", False),
    "WARNING": OutcomeStyle("#96640a", "#fdf3dc", "!", "square", "s", True),
    "ALERT": OutcomeStyle("#b3261e", "#fbe9e7", "✕", "diamond", "D", False),
}
_NO_VERDICT = OutcomeStyle("#4a5563", "#eef1f4", "–", "circle", "o", True)


def outcome_style(outcome: str) -> OutcomeStyle:
    """The look of an outcome; that of no verdict for any other text."""
    return OUTCOME_STYLES.get(str(outcome), _NO_VERDICT)


def book_colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each book: the well-known ones always have the same."""
    colours: dict[str, str] = {}
    for name in names:
        known = BOOKS.get(shown_name(name))
        free = [c for c in OTHERS if c not in colours.values()]
        colours[name] = known or (free or [OTHERS[len(colours) % len(OTHERS)]])[0]
    return colours


def shown_name(name: str) -> str:
    """A name as people write it."""
    return name.replace("_", " ")


MINUS, DASH, PERCENT = "−", "–", "\u00a0%"

_NUMERIC = re.compile(
    r"[+\-−]?\s?[$€£]?[\d.,\u00a0]*\d(\s?(%|bp|×|x|k|M|d|s|h|min|days|sessions))?([ \u00a0]\(.*\))?"
)


def shortened(label: str, letters: int) -> str:
    """The label itself, or its beginning with an ellipsis."""
    return label if len(label) <= letters else label[: letters - 1] + "…"


def number(value: float | None, decimals: int = 2, *, plus: bool = False) -> str:
    """1,234.50; with `plus` a sign before gains, too."""
    if value is None or not math.isfinite(value):
        return DASH
    return signed(f"{value:{'+' if plus else ''},.{decimals}f}")


def percent(share: float | None, decimals: int = 1, *, plus: bool = False) -> str:
    """A decimal share as a percentage: 0.125 is 12.5 %."""
    if share is None or not math.isfinite(share):
        return DASH
    return number(100.0 * share, decimals, plus=plus) + PERCENT


def dollars(value: float | None, decimals: int = 0) -> str:
    """$1,234, −$1,234."""
    text = number(value, decimals)
    if text == DASH:
        return DASH
    return f"{MINUS}${text[1:]}" if text.startswith(MINUS) else f"${text}"


def compact_dollars(value: float) -> str:
    """$950, $1.5k, −$2M."""
    if not math.isfinite(value):
        return DASH
    size = abs(value)
    scales = ((1e9, "B"), (1e6, "M"), (1e3, "k"), (0.0, ""))
    step, letter = next(scale for scale in scales if size >= scale[0])
    return f"{MINUS if value < 0 else ''}${size / (step or 1.0):.3g}{letter}"


def compact(value: float, unit: str) -> str:
    """A value in the unit of a chart's axis, short enough to stand at the end of a bar."""
    if not math.isfinite(value):
        return ""
    if unit == "dollars":
        return compact_dollars(value)
    return number(value, 1) + PERCENT if unit == "percent" else number(value)


def signed(text: str) -> str:
    """A number with a true minus sign, and none before a zero."""
    if re.fullmatch(r"-[0.,]+\D*", text):
        text = text[1:]
    return MINUS + text[1:] if text.startswith("-") else text


def looks_numeric(text: str) -> bool:
    """Whether a cell is a number, perhaps with its unit, or stands for one that is undefined."""
    return text in ("", DASH, "-") or _NUMERIC.fullmatch(text) is not None
