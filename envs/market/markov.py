"""Markov chains of a few states: checked, their long-run shares, and paths drawn from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from envs.market.checked import FloatArray
from risk.errors import InputError


def checked_chances(rows: Sequence[Sequence[float]], count: int, name: str) -> FloatArray:
    """The transition matrix (K, K), row: from this state; InputError unless rows add up to 1."""
    if len(rows) != count or any(len(row) != count for row in rows):
        raise InputError(
            f"{name} is not {count} by {count}",
            "Give a row and a column for each of the states",
        )
    matrix = np.array(rows, np.float64)
    for number, row in enumerate(matrix):
        if row.min() < 0 or abs(row.sum() - 1.0) > 1e-9:
            raise InputError(
                f"row {number} of {name} is {row.tolist()}",
                "Give probabilities that add up to 1",
            )
    return matrix


def stationary_shares(matrix: FloatArray, name: str) -> FloatArray:
    """How often each state holds in the long run, (K,); InputError if that is not unique."""
    balance = np.vstack([matrix.T - np.eye(len(matrix)), np.ones(len(matrix))])
    shares, _, rank, _ = np.linalg.lstsq(balance, np.eye(len(balance))[-1])
    if rank < len(matrix):
        raise InputError(
            f"{name} has states that never meet",
            "Let every state be reached, directly or not, from every other",
        )
    found: FloatArray = np.maximum(shares, 0.0) / np.maximum(shares, 0.0).sum()
    return found


def chain_paths(
    matrix: FloatArray, first: FloatArray, paths: int, steps: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """The state of each step, (paths, steps), the first drawn from the shares `first` (K,).

    By inversion of one uniform number a step.
    """
    thresholds = np.cumsum(matrix, axis=1)[:, :-1]
    uniform = rng.random((paths, steps))
    states = np.empty(uniform.shape, np.int64)
    states[:, 0] = (uniform[:, :1] >= np.cumsum(first)[:-1]).sum(axis=1)
    for step in range(1, steps):
        row = thresholds[states[:, step - 1]]
        states[:, step] = (uniform[:, step, None] >= row).sum(axis=1)
    return states
