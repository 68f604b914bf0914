"""A sum tree: draws of indices in proportion to weights that change, all vectorised."""

from __future__ import annotations

import numpy as np

from conf.types import FloatArray, IntArray


class SumTree:
    """Non-negative weights of `size` items; each inner node is the sum of its two children.

    A node's sum depends on the leaves alone, so that a tree built of the same leaves is the same
    to the last bit, in whatever order they were set.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._levels = max(int(np.ceil(np.log2(size))), 0)
        self._first = 2**self._levels  # node of item 0; the root is node 1
        self._sums: FloatArray = np.zeros(2 * self._first)

    @property
    def total(self) -> float:
        """The sum of all weights."""
        return float(self._sums[1])

    @property
    def weights(self) -> FloatArray:
        """The weights (size,), a view."""
        return self._sums[self._first : self._first + self.size]

    def set(self, items: IntArray, weights: FloatArray) -> None:
        """Give items (K,) new weights (K,); of one that is named twice the last counts."""
        self._sums[self._first + items] = weights
        nodes = self._first + items
        for _ in range(self._levels):
            nodes = np.unique(nodes // 2)
            self._sums[nodes] = self._sums[2 * nodes] + self._sums[2 * nodes + 1]

    def find(self, masses: FloatArray) -> IntArray:
        """The items (K,) at these points (K,) of [0, total) of the weights, one after another."""
        left, nodes = masses.copy(), np.ones(len(masses), np.int64)
        for _ in range(self._levels):
            nodes = 2 * nodes
            below = self._sums[nodes]
            # Rounding may carry a point past the last weight: what has no weight is not entered.
            right = (left >= below) & (self._sums[nodes + 1] > 0.0)
            left = np.where(right, left - below, left)
            nodes = nodes + right
        items: IntArray = nodes - self._first
        return items
