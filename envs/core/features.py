"""The entries of an observation: their names, scales and ranges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from conf.types import FloatArray, ObsArray

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


class Scaling:
    """Brings raw values (..., F) of these features onto the scale that is observed."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self._center = np.array([feature.center for feature in features])
        self._scale = np.array([feature.scale for feature in features])
        self._low = np.array([feature.low for feature in features])
        self._high = np.array([feature.high for feature in features])
        self._centered = bool(self._center.any())

    def apply(self, raw: FloatArray) -> ObsArray:
        """(raw - center) / scale, cut to the feature's range; NaN stays NaN."""
        scaled = (raw - self._center if self._centered else raw) / self._scale
        np.maximum(scaled, self._low, out=scaled)
        np.minimum(scaled, self._high, out=scaled)
        observed: ObsArray = scaled.astype(np.float32)
        return observed
