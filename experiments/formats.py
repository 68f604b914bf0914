"""Numbers as people write them: true minus signs, thousands apart, a dash for no value."""

from __future__ import annotations

import math
import re

MINUS, DASH, SPACE = "−", "–", "\u00a0"

_NUMERIC = re.compile(
    r"[+\-−]?\s?[$€£]?[\d.,\u00a0]*\d(\s?(%|bp|×|x|k|M|d|s|h|min|days|sessions))?([ \u00a0]\(.*\))?"
)


def number(value: float | None, decimals: int = 2, *, plus: bool = False) -> str:
    """1,234.50; with `plus` a sign before gains, too."""
    if value is None or not math.isfinite(value):
        return DASH
    return signed(f"{value:{'+' if plus else ''},.{decimals}f}")


def percent(share: float | None, decimals: int = 1, *, plus: bool = False) -> str:
    """A decimal share as a percentage: 0.125 is 12.5 %."""
    if share is None or not math.isfinite(share):
        return DASH
    return number(100.0 * share, decimals, plus=plus) + SPACE + "%"


def dollars(value: float | None, decimals: int = 0) -> str:
    """$1,234, −$1,234."""
    if value is None or not math.isfinite(value):
        return DASH
    text = f"{abs(value):,.{decimals}f}"
    return ("−$" if value < 0 and float(text.replace(",", "")) else "$") + text


def compact_dollars(value: float) -> str:
    """$950, $1.5k, −$2M."""
    if not math.isfinite(value):
        return DASH
    size, letter = abs(value), ""
    for step, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if size >= step:
            size, letter = size / step, name
            break
    return f"{'−' if value < 0 else ''}${size:.3g}{letter}"


def compact(value: float, unit: str) -> str:
    """A value in the unit of a chart's axis, short enough to stand at the end of a bar."""
    if not math.isfinite(value):
        return ""
    if unit == "dollars":
        return compact_dollars(value)
    return number(value, 1) + SPACE + "%" if unit == "percent" else number(value)


def signed(text: str) -> str:
    """A number with a true minus sign, and none before a zero."""
    if re.fullmatch(r"-[0.,]+\D*", text):
        text = text[1:]
    return MINUS + text[1:] if text.startswith("-") else text


def looks_numeric(text: str) -> bool:
    """Whether a cell is a number, perhaps with its unit, or stands for one that is undefined."""
    return text in ("", DASH, "-") or _NUMERIC.fullmatch(text) is not None
