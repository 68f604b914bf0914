"""Two specialists as one policy: the regime of the market says which acts, or weighs their actions.

The regimes are the states of a Markov chain that nobody sees. In each of them one feature of the
observation is normal with a mean and a variance of its own. Their probabilities are filtered and
never smoothed: a day's rest on the days up to it (J. D. Hamilton, A new approach to the economic
analysis of nonstationary time series and the business cycle, Econometrica 57, 1989).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from stable_baselines3.common.policies import BasePolicy

from conf.errors import InputError
from conf.settings import build_settings, settings
from conf.types import BoolArray, FloatArray, ObsArray
from envs.market.models.fits import fit_two_regimes

RegimeKind = Literal["volatility", "trend"]
Gating = Literal["hard", "soft"]
# Names of the two regimes, in the order of the members.
REGIMES: dict[RegimeKind, tuple[str, str]] = {
    "volatility": ("calm", "turbulent"),  # the smaller variance first
    "trend": ("falling", "rising"),  # the lower mean first
}

Level = Annotated[float, Field(ge=-1e6, le=1e6)]
Variance = Annotated[float, Field(ge=1e-12, le=1e12)]
Chance = Annotated[float, Field(gt=0.0, lt=1.0)]


@settings
class RegimeFilter:
    """Two regimes of a feature as it is observed, and how they follow each other."""

    column: Annotated[int, Field(strict=True, ge=0)]  # of the observation
    mean: tuple[Level, Level]
    variance: tuple[Variance, Variance]
    stay: tuple[Chance, Chance]  # probability that it still holds at the next session

    @property
    def shares(self) -> FloatArray:
        """How often each regime holds in the long run, (2,): its probability before a first day."""
        leave = 1.0 - np.array(self.stay)
        shares: FloatArray = leave[::-1] / leave.sum()
        return shares

    def update(self, before: FloatArray, observed: FloatArray) -> FloatArray:
        """Probabilities (N, 2) after a session's feature (N,), from those `before` it (N, 2)."""
        one, two = self.stay
        ahead = before[:, :1] * [one, 1.0 - one] + before[:, 1:] * [1.0 - two, two]
        variance = np.array(self.variance)
        distance = (observed[:, None] - np.array(self.mean)) ** 2 / variance
        log_joint = np.log(ahead) - (distance + np.log(variance)) / 2
        joint = np.exp(log_joint - log_joint.max(axis=1, keepdims=True))
        filtered: FloatArray = joint / joint.sum(axis=1, keepdims=True)
        return filtered


def fit_filter(kind: RegimeKind, column: int, values: FloatArray) -> RegimeFilter:
    """The filter whose parameters make a feature's past (S,) most likely; InputError without two.

    The order of the regimes is that of REGIMES.
    """
    fit = fit_two_regimes(values)
    order = np.argsort(fit.variance if kind == "volatility" else fit.mean)
    parameters: dict[str, Any] = {
        "column": column,
        "mean": fit.mean[order].tolist(),
        "variance": fit.variance[order].tolist(),
        "stay": np.diag(fit.transition)[order].tolist(),
    }
    fitted: RegimeFilter = build_settings(RegimeFilter, parameters, "regimes")
    return fitted


class RegimePolicy(BasePolicy):
    """A policy of two members, one for each regime.

    With `hard` gating the member of the likelier regime acts, with `soft` gating the action is the
    members' average, weighed by the filtered probabilities. Both members see every session, so that
    neither comes in without its memory. The state is a tuple of the probabilities (N, 2) and each
    member's own.
    """

    def __init__(
        self, members: Sequence[BasePolicy], regimes: RegimeFilter, gating: Gating
    ) -> None:
        first, second = members
        super().__init__(first.observation_space, first.action_space)
        for name in ("observation_space", "action_space"):
            if getattr(first, name) != getattr(second, name):
                raise InputError(
                    f"the specialists differ in their {name.replace('_', ' ')}",
                    "Merge policies of one environment",
                )
        if any(isinstance(member, RegimePolicy) for member in members):
            raise InputError("a specialist is a merge by regime itself", "Merge its members")
        if regimes.column >= self.observation_space.shape[0]:  # type: ignore[index]  # a box
            raise InputError(
                f"regimes follow column {regimes.column} of an observation that has "
                f"{self.observation_space.shape}"
            )
        self.members = torch.nn.ModuleList(members)
        self.regimes, self.gating = regimes, gating

    @property
    def specialists(self) -> tuple[BasePolicy, ...]:
        """The members, in the order of their regimes."""
        return tuple(cast(Iterable[BasePolicy], self.members))

    def predict(  # type: ignore[override]  # of flat observations
        self,
        observation: ObsArray,  # (N, D)
        state: Any = None,
        episode_start: BoolArray | None = None,  # (N,)
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], Any]:
        """Actions (N, A) and the state to hand in with the next observation."""
        before, *own = (self.regimes.shares, None, None) if state is None else state
        if episode_start is not None:
            before = np.where(episode_start[:, None], self.regimes.shares, before)
        before = np.broadcast_to(before, (len(observation), 2))
        observed = observation[:, self.regimes.column].astype(np.float64)
        probabilities = self.regimes.update(before, observed)
        (one, two), after = zip(
            *(
                member.predict(observation, memory, episode_start, deterministic)
                for member, memory in zip(self.specialists, own, strict=True)
            ),
            strict=True,
        )
        first = probabilities[:, :1]
        if self.gating == "hard":
            return np.where(first >= 0.5, one, two), (probabilities, *after)
        action = first * one + probabilities[:, 1:] * two
        return action.astype(one.dtype), (probabilities, *after)

    def _predict(self, observation: Any, deterministic: bool = False) -> torch.Tensor:
        raise InputError("specialists by regime have a memory", "Call predict with its state")
