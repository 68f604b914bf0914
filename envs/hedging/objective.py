"""What hedging is judged by: objectives of what liabilities cost, by name, to be kept low.

Each is called with what N liabilities lost from session to session, (L, N) in their prices; the sum
over the first axis is what one costs. `of_each` gives a number for each of them, and `over` the
objective of these numbers, so that liabilities can be resampled. `agents.pathwise.objectives` has
the same as utilities of gains that can be differentiated.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from scipy.special import logsumexp

from conf.settings import settings
from conf.types import FloatArray


class _OfCosts(ABC):
    """An objective of what liabilities cost in all."""

    def __call__(self, lost: FloatArray) -> float:
        """In prices."""
        return self.over(self.of_each(lost))

    def of_each(self, lost: FloatArray) -> FloatArray:
        """What each costs, (N,)."""
        cost: FloatArray = lost.sum(axis=0)
        return cost

    @property
    @abstractmethod
    def title(self) -> str:
        """In a few words."""

    @abstractmethod
    def over(self, cost: FloatArray) -> float:
        """Of these numbers (N,)."""


Positive = Annotated[float, Field(gt=0.0, le=1000.0)]


@settings
class MeanDeviationCost(_OfCosts):
    """Mean + multiple x standard deviation.

    J. Cao, J. Chen, J. Hull and Z. Poulos, Deep hedging of derivatives using reinforcement
    learning, Journal of Financial Data Science 3 (2021).
    """

    kind: Literal["mean_deviation"] = "mean_deviation"
    multiple: Annotated[float, Field(ge=0.0, le=1000.0)] = 1.5

    @property
    def title(self) -> str:
        """In a few words."""
        return f"mean + {self.multiple:g} SD"

    def over(self, cost: FloatArray) -> float:
        """In prices."""
        return float(cost.mean() + self.multiple * cost.std())


@settings
class EntropicCost(_OfCosts):
    """ln E exp(a C) / a: the certainty equivalent of an exponential utility."""

    kind: Literal["entropic"] = "entropic"
    risk_aversion: Positive = 1.0  # a, of a price

    @property
    def title(self) -> str:
        """In a few words."""
        return f"entropic cost, risk aversion {self.risk_aversion:g}"

    def over(self, cost: FloatArray) -> float:
        """In prices."""
        exponent = self.risk_aversion * cost
        return float((logsumexp(exponent) - math.log(len(exponent))) / self.risk_aversion)


@settings
class TailCost(_OfCosts):
    """Mean of the worst `tail` of costs (Rockafellar and Uryasev 2000)."""

    kind: Literal["cvar"] = "cvar"
    tail: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05

    @property
    def title(self) -> str:
        """In a few words."""
        return f"mean of the worst {100.0 * self.tail:g} %"

    def over(self, cost: FloatArray) -> float:
        """In prices; one liability at least."""
        worst = max(1, round(self.tail * len(cost)))
        return float(np.partition(cost, len(cost) - worst)[len(cost) - worst :].mean())


@settings
class QuadraticCost(_OfCosts):
    """Mean of the sum over sessions of x + a / 2 x², x what was lost in one.

    P. Kolm and G. Ritter, Dynamic replication and hedging: a reinforcement learning approach,
    Journal of Financial Data Science 1 (2019).
    """

    kind: Literal["mean_variance"] = "mean_variance"
    risk_aversion: Positive = 2.0  # a, of a price

    @property
    def title(self) -> str:
        """In a few words."""
        return f"quadratic cost, risk aversion {self.risk_aversion:g}"

    def of_each(self, lost: FloatArray) -> FloatArray:
        """The sum over its sessions, (N,)."""
        value: FloatArray = (lost + 0.5 * self.risk_aversion * lost * lost).sum(axis=0)
        return value

    def over(self, cost: FloatArray) -> float:
        """In prices."""
        return float(cost.mean())


HedgingObjective = Annotated[
    MeanDeviationCost | EntropicCost | TailCost | QuadraticCost, Field(discriminator="kind")
]
