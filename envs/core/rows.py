"""A market with one row for each (path, session): what the hot loop gathers from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def as_rows(values: NDArray[Any]) -> NDArray[Any]:
    """(P, T, ...) -> (P x T, ...), contiguous: `take` copies the whole of any other array.

    Row = path x T + session.
    """
    flat = (values.shape[0] * values.shape[1], *values.shape[2:])
    return np.ascontiguousarray(values).reshape(flat)
