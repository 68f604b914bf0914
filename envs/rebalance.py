"""What a portfolio is worth once it has paid for its own rebalancing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# The last bits of a trade may not overdraw the account, so this share stays behind as cash.
ROUNDING_SHARE = 64 * float(np.finfo(np.float64).eps)


def value_after_costs(
    value: FloatArray, held: FloatArray, weights: FloatArray, cost_share: float
) -> FloatArray:
    """Value V' (N,) of portfolios once `weights` (N, A) of it are held in each asset.

    value (N,) dollars before the trade, held (N, A) dollars in each asset before it; the rest is
    cash, and the rest of the weights stays cash. Trading costs `cost_share` < 1 of every dollar
    bought or sold and is paid from the portfolio:

        V' = V - cost_share x sum |weights V' - held|

    the transaction remainder factor of Z. Jiang, D. Xu and J. Liang, A deep reinforcement learning
    framework for the financial portfolio management problem (2017), arXiv:1706.10059, times V.
    V' less the right-hand side is convex, rises, and is linear between the V' at which an asset
    turns from bought to sold. So Newton's method from V falls to the root in as many steps as
    there are such turns, and is exact.
    """
    after = value
    for _ in range(weights.shape[1] + 1):
        side = np.sign(weights * after[:, None] - held)
        bought = (side * weights).sum(axis=-1)
        root = (value + cost_share * (side * held).sum(axis=-1)) / (1.0 + cost_share * bought)
        lower = np.minimum(root, after)
        if np.array_equal(lower, after):
            break
        after = lower
    return after
