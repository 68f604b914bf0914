"""Does a technique help? Scores with it less those without, seed by seed, and a verdict.

The seeds are the sample: what a technique is worth has to stand above how much results differ from
one training to the next. The difference of a pair shares its seed, so simulated worlds and initial
weights are the same on both sides.

- A technique *helps* if its mean difference is above 0 and *hurts* if it is below, where the paired
  t-test (Student 1908) rejects no difference with Holm's correction for the number of techniques
  (S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of
  Statistics 6, 1979). Otherwise it is *not shown* to do either.
- It is also *not shown* where a seed has no score on one side: a ruined policy has none, and
  leaving the pair out would hide the ruin.

Intervals are of Student's t, for one technique by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.stats import t as student

from conf.errors import InputError
from conf.types import FloatArray
from risk.metrics import check_level

Scores = Sequence[float | None]
FEWEST_PAIRS = 2
_NEGLIGIBLE = 1e-12  # deviation of differences that do not depend on the seed


class Effect(StrEnum):
    """The three possible verdicts."""

    HELPS = "helps"
    HURTS = "hurts"
    NOT_SHOWN = "not shown"


@dataclass(frozen=True)
class PairedEffect:
    """One technique against doing without it; all in units of the score."""

    name: str
    differences: FloatArray  # (N,) by seed; NaN where one side has no score
    mean: float  # over the pairs that have both, as what follows
    low: float
    high: float
    p_value: float  # two-sided, of no difference
    p_adjusted: float  # with Holm's correction
    effect: Effect

    @property
    def missing(self) -> int:
        """Seeds without a score on one side."""
        return int(np.isnan(self.differences).sum())


def paired_effects(
    pairs: Mapping[str, tuple[Scores, Scores]], level: float = 0.95
) -> tuple[PairedEffect, ...]:
    """Each technique, of which there are the scores without it and with it, more is better.

    Both are (N,) by the same N seeds; None is no score. InputError for fewer than two seeds, or
    another number of them on the other side.
    """
    check_level(level)
    for name, (without, with_it) in pairs.items():
        if not FEWEST_PAIRS <= len(without) == len(with_it):
            raise InputError(
                f"{name} has {len(with_it)} seeds, and without it there are {len(without)}",
                "Give the same two or more",
            )
    differences = {
        name: _as_numbers(with_it) - _as_numbers(without)
        for name, (without, with_it) in pairs.items()
    }
    tested = {name: t_test(values, level) for name, values in differences.items()}
    adjusted = holm([p_value for *_, p_value in tested.values()])
    results = []
    for (name, (mean, low, high, p_value)), corrected in zip(tested.items(), adjusted, strict=True):
        effect = Effect.NOT_SHOWN
        if corrected <= 1.0 - level and np.isfinite(differences[name]).all():
            effect = Effect.HELPS if mean > 0.0 else Effect.HURTS
        results.append(
            PairedEffect(name, differences[name], mean, low, high, p_value, corrected, effect)
        )
    return tuple(results)


def t_test(differences: FloatArray, level: float) -> tuple[float, float, float, float]:
    """Mean of the finite differences, ends of its interval, two-sided p-value of mean 0.

    NaN, an endless interval and 1 where fewer than two are finite. Differences that are all the
    same have an interval of no width, and 1 too: without a deviation nothing can be tested.
    """
    known = differences[np.isfinite(differences)]
    if len(known) < FEWEST_PAIRS:
        return (float(known.mean()) if len(known) else math.nan), -math.inf, math.inf, 1.0
    mean, deviation = float(known.mean()), float(known.std(ddof=1))
    if deviation <= _NEGLIGIBLE:
        return mean, mean, mean, 1.0
    error, degrees = deviation / math.sqrt(len(known)), len(known) - 1
    half = float(student.ppf((1.0 + level) / 2.0, degrees)) * error
    p_value = 2.0 * float(student.sf(abs(mean) / error, degrees))
    return mean, mean - half, mean + half, p_value


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values with Holm's step-down correction, in the same order."""
    count, running = len(p_values), 0.0
    adjusted = [1.0] * count
    for rank, place in enumerate(np.argsort(p_values, kind="stable").tolist()):
        running = max(running, min(1.0, (count - rank) * p_values[place]))
        adjusted[place] = running
    return adjusted


def _as_numbers(scores: Sequence[float | None]) -> FloatArray:
    return np.array([math.nan if score is None else score for score in scores], np.float64)
