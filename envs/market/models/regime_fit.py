"""Two regimes of normal returns found by maximum likelihood.

Expectation maximisation for a hidden Markov chain: L. Baum, T. Petrie, G. Soules and N. Weiss,
Annals of Mathematical Statistics 41 (1970); with the forward filter of J. D. Hamilton,
Econometrica 57 (1989).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from conf.errors import InputError
from conf.types import FloatArray

_ROUNDS = 200
_TOLERANCE = 1e-5  # of the log likelihood, at which a round no longer counts
_FLOOR = 1e-300  # of a density, so that an absurd return does not end the filter


class TwoRegimes(NamedTuple):
    """The law of returns, a session each; the calmer regime first."""

    mean: FloatArray  # (2,)
    variance: FloatArray  # (2,)
    transition: FloatArray  # (2, 2) row: from this regime
    share: FloatArray  # (2,) of the sessions of the sample
    log_likelihood: float


def fit_two_regimes(returns: FloatArray) -> TwoRegimes:
    """Fit to returns (S,); InputError where there is only one regime in them."""
    spread = float(returns.std())
    if not spread > 0.0:
        raise InputError("the returns never differ", "Fit to other years, or leave regime out")
    loud = np.abs(returns - returns.mean()) > np.quantile(np.abs(returns - returns.mean()), 0.75)
    mean = np.full(2, returns.mean())
    variance = np.array([returns[~loud].var(), returns[loud].var()])
    transition = np.array([[0.98, 0.02], [0.05, 0.95]])
    first = np.array([0.5, 0.5])
    best = -np.inf
    for _ in range(_ROUNDS):
        density = _densities(returns, mean, variance)
        smoothed, pairs, likelihood = smooth(density, transition, first)
        weight = smoothed.sum(axis=0)
        mean = smoothed.T @ returns / weight
        variance = (smoothed * (returns[:, None] - mean) ** 2).sum(axis=0) / weight
        transition = pairs / pairs.sum(axis=1, keepdims=True)
        first = smoothed[0]
        if not (variance > 1e-12 * spread**2).all() or not np.isfinite(transition).all():
            raise InputError(
                "there are no two regimes in the returns",
                "Fit to other years, or leave regime out",
            )
        if likelihood - best < _TOLERANCE:
            break
        best = likelihood
    order = np.argsort(variance)
    return TwoRegimes(
        mean[order],
        variance[order],
        transition[np.ix_(order, order)],
        (weight / weight.sum())[order],
        likelihood,
    )


def smooth(
    density: FloatArray, transition: FloatArray, first: FloatArray
) -> tuple[FloatArray, FloatArray, float]:
    """Chances of the two regimes given all returns (S, 2), mean moves (2, 2), log likelihood.

    density (S, 2): of each return in each regime; first (2,): probabilities before the first.
    """
    (stay, leave), (enter, remain) = transition.tolist()
    calm, storm = first.tolist()
    forward: list[tuple[float, float]] = []
    scales: list[float] = []
    # Plain numbers: two states are too few for an array to pay.
    for in_calm, in_storm in density.tolist():
        if forward:
            calm, storm = calm * stay + storm * enter, calm * leave + storm * remain
        calm, storm = calm * in_calm, storm * in_storm
        scale = calm + storm
        calm, storm = calm / scale, storm / scale
        forward.append((calm, storm))
        scales.append(scale)
    backward: list[tuple[float, float]] = [(1.0, 1.0)]
    for (in_calm, in_storm), scale in zip(density[:0:-1].tolist(), scales[:0:-1], strict=True):
        calm, storm = backward[-1]
        calm, storm = calm * in_calm / scale, storm * in_storm / scale
        backward.append((stay * calm + leave * storm, enter * calm + remain * storm))
    ahead, back = np.array(forward), np.array(backward[::-1])
    scaled = density[1:] * back[1:] / np.array(scales)[1:, None]
    pairs = transition * (ahead[:-1].T @ scaled)
    return ahead * back, pairs, float(np.log(scales).sum())


def _densities(returns: FloatArray, mean: FloatArray, variance: FloatArray) -> FloatArray:
    apart = (returns[:, None] - mean) ** 2 / variance
    return np.maximum(np.exp(-apart / 2) / np.sqrt(2 * np.pi * variance), _FLOOR)
