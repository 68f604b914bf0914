"""One entry of an observation: its name, its scale and its range."""

from __future__ import annotations

from dataclasses import dataclass

CLIP = 10.0  # every scaled feature is cut to [-CLIP, CLIP]


@dataclass(frozen=True)
class Feature:
    """One entry of the observation: observed value = (raw - center) / scale, cut to low..high."""

    name: str
    block: str
    scale: float
    low: float
    high: float
    center: float = 0.0
    raw: str = ""  # what is measured, with its unit
