"""Distributions over simulated years, each number with an interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.special import betaincinv

from conf.types import BoolArray, FloatArray
from experiments.evaluation.open_run import MANAGED
from experiments.evaluation.results import plain
from experiments.evaluation.split import AGENT
from experiments.simulation.models import FittedModel
from experiments.simulation.years import Years
from risk.bootstrap import Interval, percentile_interval
from risk.metrics import check_level

LARGE_LOSS = 0.20  # of the equity, in a year
QUANTILES = (0.05, 0.50, 0.95)
MEASURES = ("sharpe", "total_return", "max_drawdown")
# Counts held at once while resampling: bounds memory, changes no draw.
_CELLS_AT_ONCE = 4_000_000


class BookRisk(NamedTuple):
    """The distribution of a book's simulated years."""

    mean: dict[str, Interval]  # by measure
    quantile: dict[str, tuple[float, ...]]  # by measure, at QUANTILES
    ruin: Interval  # probability that the year ends in ruin
    large_loss: Interval  # probability that it loses more than LARGE_LOSS
    loss: Interval  # probability that it loses anything
    halted: float  # share of the years in which the risk module closed the book for good

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it; undefined is null."""
        keys = [f"p{round(100 * q):02d}" for q in QUANTILES]
        return {
            **{
                name: {
                    "mean": plain_interval(self.mean[name]),
                    **dict(zip(keys, map(plain, self.quantile[name]), strict=True)),
                }
                for name in MEASURES
            },
            "probability_of_ruin": plain_interval(self.ruin),
            "probability_of_loss_over_20_percent": plain_interval(self.large_loss),
            "probability_of_loss": plain_interval(self.loss),
            "halted_share": self.halted,
        }


@dataclass(frozen=True)
class ModelResult:
    """Every book's years under one model."""

    model: FittedModel
    years: Mapping[str, Years]
    risks: Mapping[str, BookRisk]
    seconds: float

    @property
    def headline(self) -> str:
        """The book that would be run: the managed one where there is one."""
        return MANAGED if MANAGED in self.risks else AGENT

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        model = self.model
        return {
            "fitted_to": {"source": model.source, "first": model.first, "last": model.last},
            "parameters": model.parameters,
            "notices": list(model.notices),
            "seconds": round(self.seconds, 3),
            "books": {name: risk.plain() for name, risk in self.risks.items()},
        }


def book_risks(
    books: Mapping[str, Years], level: float, resamples: int, seed: int
) -> dict[str, BookRisk]:
    """Each book's distribution under one model; all books are resampled by the same years.

    Means have percentile intervals of a bootstrap over years, which are independent; probabilities
    have exact binomial ones.
    """
    check_level(level)
    values = [getattr(years, name) for years in books.values() for name in MEASURES]
    means = resampled_means(np.stack(values), resamples, np.random.default_rng(seed))
    by_book = np.split(means, len(books))
    return {
        name: _book_risk(years, resampled, level)
        for (name, years), resampled in zip(books.items(), by_book, strict=True)
    }


def resampled_means(values: FloatArray, resamples: int, rng: np.random.Generator) -> FloatArray:
    """Means (K, B) of K measures (K, P) over B bootstrap samples of the P paths."""
    paths = values.shape[1]
    at_once = max(1, _CELLS_AT_ONCE // paths)
    probabilities = np.full(paths, 1.0 / paths)
    parts = []
    for first in range(0, resamples, at_once):
        counts = rng.multinomial(paths, probabilities, size=min(at_once, resamples - first))
        weights = counts / float(paths)
        parts.append([weights @ measure for measure in values])
    return np.concatenate(parts, axis=1)


def proportion_interval(hits: int, trials: int, level: float = 0.95) -> Interval:
    """Exact two-sided interval of a probability after `hits` in `trials` independent tries.

    C. Clopper and E. Pearson, The use of confidence or fiducial limits illustrated in the case of
    the binomial, Biometrika 26 (1934).
    """
    tail = (1.0 - level) / 2.0
    low = float(betaincinv(hits, trials - hits + 1, tail)) if hits else 0.0
    high = float(betaincinv(hits + 1, trials - hits, 1.0 - tail)) if hits < trials else 1.0
    return Interval(hits / trials, low, high)


def plain_interval(interval: Interval) -> dict[str, float | None]:
    """Value and ends, null where undefined."""
    return {name: plain(x) for name, x in interval._asdict().items()}


def _book_risk(years: Years, means: FloatArray, level: float) -> BookRisk:
    """`means` (K, B) are those of the MEASURES over bootstrap samples."""
    paths = len(years.sharpe)
    mean, quantile = {}, {}
    for name, resampled in zip(MEASURES, means, strict=True):
        values = getattr(years, name)
        low, high = percentile_interval(resampled, level)
        mean[name] = Interval(float(values.mean()), float(low), float(high))
        quantile[name] = tuple(float(x) for x in np.quantile(values, QUANTILES))

    def probability(hit: BoolArray) -> Interval:
        return proportion_interval(int(hit.sum()), paths, level)

    return BookRisk(
        mean,
        quantile,
        probability(years.ruined),
        probability(years.total_return < -LARGE_LOSS),
        probability(years.total_return < 0.0),
        float(years.halted.mean()),
    )
