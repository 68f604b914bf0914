"""The action space of an allocation: shares of a portfolio that add up to one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces

from conf.errors import InputError
from conf.types import ObsArray

if TYPE_CHECKING:
    _Box = spaces.Box[np.float32]
else:  # not every version of gymnasium has it generic when running
    _Box = spaces.Box

TOLERANCE = 1e-5  # of the sum: float32 adds up a thousand weights no closer


class Simplex(_Box):
    """Vectors (K,) of weights of 0 or more that sum to 1, as float32.

    It is a `Box` from 0 to 1, so that whatever can handle that can handle this; what samples or
    checks actions sees points of the simplex.
    """

    def __init__(self, num_weights: int, seed: int | np.random.Generator | None = None) -> None:
        if num_weights < 1:
            raise InputError(
                f"a simplex of {num_weights} weights has no points", "Give one or more"
            )
        super().__init__(0.0, 1.0, (num_weights,), np.float32, seed)

    def sample(self, mask: None = None, probability: None = None) -> ObsArray:
        """A point drawn uniformly: exponential variates over their sum (Devroye 1986, V.2)."""
        if mask is not None or probability is not None:
            raise InputError("a simplex knows no mask", "Sample without one")
        drawn = self.np_random.standard_exponential(self.shape)
        point: ObsArray = (drawn / drawn.sum()).astype(np.float32)
        return point

    def contains(self, x: Any) -> bool:
        """Whether these are weights of 0 or more that sum to 1 within 1e-5, of any float type."""
        try:
            weights = np.asarray(x, dtype=np.float64)
        except (TypeError, ValueError):
            return False
        if weights.shape != self.shape or not np.isfinite(weights).all():
            return False
        return bool(weights.min() >= 0.0 and abs(weights.sum() - 1.0) <= TOLERANCE)

    def __repr__(self) -> str:
        return f"Simplex({self.shape[0]})"

    def __eq__(self, other: object, /) -> bool:
        return isinstance(other, Simplex) and self.shape == other.shape
