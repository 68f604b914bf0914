"""The recursion behind every exponential average.

`scipy.signal.lfilter` computes the same, but takes a second to import at each start of a command.
"""

from __future__ import annotations

import numpy as np

from envs.market.history import FloatArray


def recursive_filter(
    values: FloatArray, gain: float, decay: float, before: FloatArray
) -> FloatArray:
    """y[t] = gain x[t] + decay y[t-1] along axis 1 of (P, T), from y[-1] = `before` (P, 1)."""
    filtered = np.empty_like(values)
    state = before[:, 0]
    for session, value in enumerate(gain * values.T):
        state = filtered[:, session] = value + decay * state
    return filtered
