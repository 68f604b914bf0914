"""The array types that every package shares; shapes stand beside each field or argument."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
ObsArray = NDArray[np.float32]  # observations
DateArray = NDArray[np.datetime64]  # days
