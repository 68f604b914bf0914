"""The colours of every figure and page, chosen to be told apart by the colour-blind, too."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from risk.comparison import Word

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
class WordStyle:
    """How a verdict looks; each differs by shape as well as by colour."""

    colour: str
    tint: str
    icon: str
    plotly_marker: str
    matplotlib_marker: str
    hollow: bool


WORD_STYLES = {
    Word.BEATS.value: WordStyle("#0f7350", "#e3f3ec", "✓", "circle", "o", False),
    Word.DOES_NOT_BEAT.value: WordStyle("#b3261e", "#fbe9e7", "✕", "diamond", "D", False),
    Word.INCONCLUSIVE.value: WordStyle("#96640a", "#fdf3dc", "≈", "square", "s", True),
}
NO_VERDICT = WordStyle("#4a5563", "#eef1f4", "–", "circle", "o", True)


def word_style(word: str) -> WordStyle:
    """The look of a verdict; that of none for any other word."""
    return WORD_STYLES.get(str(word), NO_VERDICT)


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
