"""Highest and lowest point of a Brownian path between two known ends."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from conf.types import FloatArray


def bridge_extremes(
    start: FloatArray, end: FloatArray, variance: ArrayLike, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Maximum and minimum of a Brownian bridge from `start` to `end`, of their shape.

    `variance` (broadcast) is that of the whole stretch. Inverse-transform sampling of
    P(max > m) = exp(-2 (m - start)(m - end) / variance); each extreme has its exact law, and the
    two are drawn independently of each other. (Glasserman, Monte Carlo Methods in Financial
    Engineering, 2003, section 6.4.)
    """
    centre, square = (start + end) / 2, (end - start) ** 2
    reach = [
        np.sqrt(square + 2.0 * np.asarray(variance) * rng.standard_exponential(start.shape)) / 2
        for _ in range(2)
    ]
    return centre + reach[0], centre - reach[1]
