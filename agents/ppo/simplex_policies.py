"""Policies with layers that actor and critic share, and policies that act on the simplex."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, cast

import torch
from gymnasium import spaces
from sb3_contrib.ppo_recurrent.policies import MlpLstmPolicy
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from agents.ppo.columns import SeesColumns, used_columns
from agents.ppo.policies import MaskedMlpLstmPolicy
from agents.ppo.simplex import DistributionName, SimplexDistribution, make_simplex_distribution
from conf.errors import InputError
from envs.allocation.simplex import Simplex

_HEAD_GAIN = 0.01  # of the actor's last layer: training starts near equal weights


class SharedLayers(nn.Module):
    """Hidden layers calculated once for both actor and critic.

    Stable-Baselines3 calls it an `mlp_extractor`; since its version 1.8 its own shares nothing.
    """

    def __init__(self, inputs: int, widths: Sequence[int], activation: type[nn.Module]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise([inputs, *widths]):
            layers += [nn.Linear(before, after), activation()]
        self.layers = nn.Sequential(*layers)
        self.latent_dim_pi = self.latent_dim_vf = [inputs, *widths][-1]

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (N, inputs) to the inputs of the actor's and the critic's last layer."""
        latent = self.layers(features)
        return latent, latent

    def forward_actor(self, features: torch.Tensor) -> torch.Tensor:
        """For the actor alone; `forward_critic` is the same."""
        latent: torch.Tensor = self.layers(features)
        return latent

    forward_critic = forward_actor


class SharedMlpPolicy(ActorCriticPolicy):
    """`MlpPolicy` of Stable-Baselines3 whose `net_arch` (a list) is shared by actor and critic."""

    @property
    def used_columns(self) -> tuple[int, ...]:
        """The columns of an observation that the networks see."""
        return used_columns(self)

    def _build_mlp_extractor(self) -> None:
        if not isinstance(self.net_arch, list):
            raise InputError(f"net_arch is {self.net_arch!r}", "Give a list of widths")
        shared: Any = SharedLayers(self.features_dim, self.net_arch, self.activation_fn)
        self.mlp_extractor = shared


class SeparateMlpPolicy(SeesColumns, ActorCriticPolicy):
    """`MlpPolicy` of Stable-Baselines3 with `net_arch` {"pi": widths, "vf": widths}."""


class SimplexHead(ActorCriticPolicy):
    """Mixed into a policy, it makes the actor draw points of the simplex.

    `log_std_init` is the initial spread of softmax_gaussian, `concentration_init` that of
    dirichlet. The untrained deterministic action is close to equal weights.
    """

    spread: nn.Parameter

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        *,
        distribution: DistributionName = "softmax_gaussian",
        log_std_init: float = -1.0,
        concentration_init: float = 100.0,
        **options: Any,
    ) -> None:
        self.distribution = distribution
        self.concentration_init = concentration_init
        super().__init__(
            observation_space, action_space, lr_schedule, log_std_init=log_std_init, **options
        )

    @property
    def log_std(self) -> torch.Tensor:  # type: ignore[override]  # only ever read
        """The spread as logarithms of standard deviations; Stable-Baselines3 logs their mean."""
        return self._simplex_dist.log_std(self.spread)

    @property
    def _simplex_dist(self) -> SimplexDistribution:
        return cast(SimplexDistribution, self.action_dist)

    def _build(self, lr_schedule: Schedule) -> None:
        if not isinstance(self.action_space, Simplex):
            raise InputError(
                f"{type(self).__name__} acts on a Simplex, not on a {self.action_space}",
                "Use the policy without Simplex in its name",
            )
        if self.use_sde:
            raise InputError("use_sde=True has no meaning on a simplex", "Use use_sde=False")
        self._build_mlp_extractor()
        dist = make_simplex_distribution(self.distribution, self.action_space.shape[0])
        self.action_dist = dist
        self.action_net, self.spread = dist.proba_distribution_net(
            self.mlp_extractor.latent_dim_pi, self.log_std_init, self.concentration_init
        )
        self.value_net = nn.Linear(self.mlp_extractor.latent_dim_vf, 1)
        if self.ortho_init:
            for module, gain in (
                (self.features_extractor, math.sqrt(2.0)),
                (self.mlp_extractor, math.sqrt(2.0)),
                (self.value_net, 1.0),
            ):
                module.apply(partial(self.init_weights, gain=gain))
        self.init_weights(self.action_net, gain=_HEAD_GAIN)
        optimizer: Any = self.optimizer_class
        self.optimizer = optimizer(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)

    def _get_action_dist_from_latent(self, latent_pi: torch.Tensor) -> Distribution:
        return self._simplex_dist.proba_distribution(self.action_net(latent_pi), self.spread)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {
            "distribution": self.distribution,
            "concentration_init": self.concentration_init,
        }


class SimplexPolicy(SimplexHead, SharedMlpPolicy):
    """Points of the simplex from layers that actor and critic share, for `PPO`."""


class SimplexLstmPolicy(SimplexHead, MaskedMlpLstmPolicy):
    """Points of the simplex from a recurrent network, for `SequenceRecurrentPPO`."""


class StockSimplexLstmPolicy(SimplexHead, MlpLstmPolicy):
    """Points of the simplex from sb3-contrib's own network, for `RecurrentPPO`."""
