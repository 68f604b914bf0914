"""From what an action asks for to units of each asset, after the costs of getting there."""

from __future__ import annotations

import numpy as np

from conf.types import FloatArray
from envs.allocation.market import AllocationSettings

# The last bits of a trade may not overdraw the account, so this share stays behind as cash.
ROUNDING_SHARE = 64 * float(np.finfo(np.float64).eps)
# Of a width that is as large as all weights together: an untrained policy, whose entries are all
# alike, leaves a tenth of each weight untraded.
BAND_SCALE = 0.1
_LEAST_TOTAL = 1e-9  # of the weights, next to the largest entry


def value_after_costs(
    value: FloatArray,
    held: FloatArray,
    weights: FloatArray,
    cost_share: float,
    upper: FloatArray | None = None,
) -> FloatArray:
    """Value V' (N,) of portfolios once `weights` (N, A) of it are held in each asset.

    value (N,) dollars before the trade, held (N, A) dollars in each asset before it; the rest is
    cash, and the rest of the weights stays cash. With `upper`, an asset may hold anything from
    `weights` to `upper`, and is traded to the nearer of them only from outside. Trading costs
    `cost_share` < 1 of every dollar bought or sold and is paid from the portfolio:

        V' = V - cost_share x sum |weights V' - held|

    the transaction remainder factor of Z. Jiang, D. Xu and J. Liang, A deep reinforcement learning
    framework for the financial portfolio management problem (2017), arXiv:1706.10059, times V.
    V' less the right-hand side is convex, rises, and is linear between the V' at which an asset
    turns from bought to left alone, or from that to sold. So Newton's method from V falls to the
    root in as many steps as there are such turns, and is exact.
    """
    after = value
    for _ in range(2 * weights.shape[1] + 1):
        side, edge = _sides(after, held, weights, weights if upper is None else upper)
        bought = (side * edge).sum(axis=-1)
        root = (value + cost_share * (side * held).sum(axis=-1)) / (1.0 + cost_share * bought)
        lower = np.minimum(root, after)
        if np.array_equal(lower, after):
            break
        after = lower
    return after


def rebalanced_quantity(
    weights: FloatArray,
    quantity: FloatArray,
    cash: FloatArray,
    equity: FloatArray,
    price: FloatArray,
    options: AllocationSettings,
) -> FloatArray:
    """Units (N, A) that bring portfolios to weights (N, A + 1), cash last, after costs.

    Held before: quantity (N, A), price (N, A) dollars a unit, cash and equity (N,) dollars. What
    is nearer to its weights than the rebalancing threshold stays as it is.
    """
    held, assets = quantity * price, weights[:, :-1]
    after = value_after_costs(equity, held, assets, options.costs.share)
    after = after * (1.0 - ROUNDING_SHARE)
    target: FloatArray = assets * after[:, None] / price
    threshold = options.rebalance_threshold
    if threshold > 0.0:
        apart = np.abs(assets - held / equity[:, None]).sum(axis=-1)
        apart = 0.5 * (apart + np.abs(weights[:, -1] - cash / equity))
        target = np.where((apart < threshold)[:, None], quantity, target)
    return target


def banded_quantity(
    lower: FloatArray,
    upper: FloatArray,
    quantity: FloatArray,
    equity: FloatArray,
    price: FloatArray,
    cost_share: float,
) -> FloatArray:
    """Units (N, A) that bring portfolios inside their bands, lower to upper (N, A), after costs.

    Held before: quantity (N, A), price (N, A) dollars a unit, equity (N,) dollars. An asset is
    traded to the nearer edge, and not at all inside. Where cash would not pay for that, less is
    held of all, see `weights_inside`.
    """
    held = quantity * price
    after = value_after_costs(equity, held, lower, cost_share, upper)
    reached = np.clip(held, lower * after[:, None], upper * after[:, None])
    short = (reached.sum(axis=-1) > after * (1.0 - ROUNDING_SHARE))[:, None]
    if short.any():
        paid = weights_inside(lower, upper, held / after[:, None]) * (1.0 - ROUNDING_SHARE)
        lower, upper = np.where(short, paid, lower), np.where(short, paid, upper)
        after = value_after_costs(equity, held, lower, cost_share, upper)
    side, edge = _sides(after, held, lower, upper)
    target = edge * (after * (1.0 - ROUNDING_SHARE))[:, None] / price
    return np.where(side == 0.0, quantity, target)


def edges(action: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Lower and upper weights (..., A) of bands: weights, that of cash, then widths (..., 2A + 1).

    Entries count by their share of the sum of the weights; a width of that sum is a band of
    `BAND_SCALE` on each side of the weight.
    """
    assets = action.shape[-1] // 2
    weights, width = action[..., :assets], BAND_SCALE * action[..., assets + 1 :]
    return np.maximum(weights - width, 0.0), np.minimum(weights + width, 1.0)


def weights_inside(lower: FloatArray, upper: FloatArray, held: FloatArray) -> FloatArray:
    """The weights (..., A) inside the bands next to those held, the rest of 1 being cash.

    What would borrow is moved towards the lower edges as far as it takes to pay for itself.
    """
    inside = np.clip(held, lower, upper)
    total, least = inside.sum(axis=-1, keepdims=True), lower.sum(axis=-1, keepdims=True)
    excess = np.maximum(total - 1.0, 0.0) / np.where(total > least, total - least, 1.0)
    moved: FloatArray = inside - np.minimum(excess, 1.0) * (inside - lower)
    return moved


def normalised(action: FloatArray, assets: int) -> FloatArray:
    """Actions (N, K), 0 or more, over the sum of their weights, the first `assets` + 1 of them.

    What has no weights asks for cash.
    """
    largest = action.max(axis=-1, keepdims=True)
    share = action / np.where(largest > 0.0, largest, 1.0)  # or their sum might overflow
    total = share[:, : assets + 1].sum(axis=-1, keepdims=True)
    nothing = total[:, 0] < (_LEAST_TOTAL if share.shape[1] > assets + 1 else 5e-324)
    divided: FloatArray = share / np.where(nothing[:, None], 1.0, total)
    divided[nothing] = 0.0
    divided[nothing, assets] = 1.0
    return divided


def _sides(
    after: FloatArray, held: FloatArray, lower: FloatArray, upper: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Of each asset whether it is bought (1), sold (-1) or left alone, and the edge to reach."""
    below = lower * after[:, None] - held
    if upper is lower:
        return np.sign(below), lower
    above = upper * after[:, None] - held
    side: FloatArray = np.sign(np.maximum(below, 0.0) + np.minimum(above, 0.0))
    return side, np.where(side < 0.0, upper, lower)
