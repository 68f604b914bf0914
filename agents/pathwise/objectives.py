"""What pathwise training maximises: utilities of excess returns, by name.

Each is called with the scored days of B stretches: excess returns (S, B) after costs, and what cash
grew by on each of them (S, B), 1 + its return. It gives one number, a share of equity a session,
whose gradient is followed. What is concave in a day's return is averaged over days; what looks at
the spread between outcomes compares whole stretches.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from conf.settings import settings
from envs.core.reward import LEAST_GROSS_RETURN

NonNegative = Annotated[float, Field(ge=0.0, le=1000.0)]


@settings
class MeanVariance:
    """Mean of r - risk aversion / 2 x r^2, r the day's excess return."""

    kind: Literal["mean_variance"] = "mean_variance"
    risk_aversion: NonNegative = 2.0

    def __call__(self, excess: Tensor, cash: Tensor) -> Tensor:
        """The mean over all days."""
        return (excess - 0.5 * self.risk_aversion * excess * excess).mean()


@settings
class LogUtility:
    """Growth: mean of ln G - ln cash, G the day's gross return; G is cut at 1 %."""

    kind: Literal["log"] = "log"

    def __call__(self, excess: Tensor, cash: Tensor) -> Tensor:
        """The mean over all days, in excess of cash."""
        return torch.log((excess + cash).clamp_min(LEAST_GROSS_RETURN) / cash).mean()


@settings
class Crra:
    """Constant relative risk aversion g: mean of (G^(1 - g) - 1) / (1 - g), G the gross return.

    G is what was earned over what cash earned (Pratt 1964; Arrow 1965); a day's is cut at 1 %.
    Of a stretch it is what an investor maximises who looks at the end; of a day, the same but for
    costs, which make it matter that losses of different days add up.
    """

    kind: Literal["crra"] = "crra"
    risk_aversion: Annotated[float, Field(gt=0.0, le=1000.0)] = 5.0
    over: Literal["day", "stretch"] = "day"

    def __call__(self, excess: Tensor, cash: Tensor) -> Tensor:
        """The mean over all days, or over stretches, for a session of theirs."""
        log_gross = torch.log((excess + cash).clamp_min(LEAST_GROSS_RETURN) / cash)
        sessions = 1
        if self.over == "stretch":
            log_gross, sessions = log_gross.sum(dim=0), len(excess)
        power = 1.0 - self.risk_aversion
        if power == 0.0:
            return log_gross.mean() / sessions
        return (torch.expm1(power * log_gross) / power).mean() / sessions


@settings
class CVaR:
    """Mean outcome of the worst `tail` of stretches (Rockafellar and Uryasev 2000)."""

    kind: Literal["cvar"] = "cvar"
    tail: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05

    def __call__(self, excess: Tensor, cash: Tensor) -> Tensor:
        """The mean over the worst stretches of their mean excess return; one at least."""
        outcome = excess.mean(dim=0)
        worst = max(1, round(self.tail * len(outcome)))
        return outcome.topk(worst, largest=False).values.mean()


@settings
class MeanDeviation:
    """Minus (mean + multiple x standard deviation) of what a stretch costs.

    A stretch costs minus its excess returns: the objective of J. Cao, J. Chen, J. Hull and
    Z. Poulos, Deep hedging of derivatives using reinforcement learning (2021).
    """

    kind: Literal["mean_deviation"] = "mean_deviation"
    multiple: NonNegative = 1.5

    def __call__(self, excess: Tensor, cash: Tensor) -> Tensor:
        """Over the stretches, for a session of theirs."""
        outcome = excess.mean(dim=0)
        centred = outcome - outcome.mean()
        # The root has no slope at zero, where all outcomes are alike.
        deviation = ((centred * centred).mean() + 1e-24).sqrt()
        return outcome.mean() - self.multiple * deviation


@settings
class Entropic:
    """Minus ln E exp(a C) / a, C what a stretch costs: minus the sum of its excess returns.

    The certainty equivalent of an exponential utility (H. Föllmer and A. Schied, Convex measures of
    risk and trading constraints, 2002).
    """

    kind: Literal["entropic"] = "entropic"
    risk_aversion: Annotated[float, Field(gt=0.0, le=1000.0)] = 1.0

    def __call__(self, excess: Tensor, cash: Tensor) -> Tensor:
        """Over the stretches, for a session of theirs."""
        exponent = -self.risk_aversion * excess.sum(dim=0)
        equivalent = torch.logsumexp(exponent, dim=0) - math.log(len(exponent))
        return -equivalent / (self.risk_aversion * len(excess))


Objective = Annotated[
    MeanVariance | LogUtility | Crra | CVaR | MeanDeviation | Entropic,
    Field(discriminator="kind"),
]
