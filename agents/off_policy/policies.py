"""The networks of TQC: sb3-contrib's, with an actor that begins near nothing and holds books."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib.tqc.policies import Actor, TQCPolicy
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import nn

from agents.ppo.basis_policies import Books, checked_books
from agents.ppo.columns import SeesColumns

_HEAD_GAIN = 0.01  # of the layer of mean actions: training starts near an empty book


class SquashedActor(SeesColumns, Actor):
    """A Gaussian squashed by tanh, in the slots or in amounts of the books `basis` (K, M).

    `log_std_init` is where the spread of its exploration starts, the same for all observations.
    Densities are of the amounts; actions, which the critics see, are in the slots.
    """

    basis: tuple[tuple[float, ...], ...] | None
    books: torch.Tensor | None  # (K, M)

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Box,
        *,
        basis: Books | None = None,
        **options: Any,
    ) -> None:
        super().__init__(observation_space, action_space, **options)
        self.basis, self.books = None, None
        outputs = spaces.flatdim(action_space)
        if basis is not None:
            self.basis = tuple(tuple(float(units) for units in book) for book in basis)
            matrix = checked_books(self.basis, outputs)
            outputs = len(matrix)
            # Not among the weights: a policy file describes the books in the architecture.
            del self.books
            books = torch.tensor(matrix, dtype=torch.float32)
            self.register_buffer("books", books, persistent=False)
        width = self.net_arch[-1] if self.net_arch else self.features_dim
        mean, log_std = nn.Linear(width, outputs), nn.Linear(width, outputs)
        with torch.no_grad():
            mean.weight *= _HEAD_GAIN
            mean.bias.zero_()
            log_std.weight.zero_()
            log_std.bias.fill_(self.log_std_init)
        self.mu, self.log_std = mean, log_std  # type: ignore[assignment]  # a layer without gSDE
        self.action_dist = SquashedDiagGaussianDistribution(outputs)  # type: ignore[assignment]

    @property
    def start_entropy(self) -> float:
        """Differential entropy of the exploration that training starts with, without the tanh."""
        outputs = self.action_dist.action_dim
        return float(outputs * (self.log_std_init + 0.5 * np.log(2.0 * np.pi * np.e)))

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> torch.Tensor:
        """Actions (N, M) for observations (N, D)."""
        return self._in_slots(super().forward(obs, deterministic))

    def action_log_prob(self, obs: PyTorchObs) -> tuple[torch.Tensor, torch.Tensor]:
        """Drawn actions (N, M), with gradients, and their log-densities (N,)."""
        amounts, log_prob = super().action_log_prob(obs)
        return self._in_slots(amounts), log_prob

    def _in_slots(self, amounts: torch.Tensor) -> torch.Tensor:
        return amounts if self.books is None else amounts @ self.books


class SquashedPolicy(TQCPolicy):
    """Actor and critics of TQC; `basis` as for the actor."""

    actor: SquashedActor

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Box,
        lr_schedule: Schedule,
        *,
        basis: Books | None = None,
        **options: Any,
    ) -> None:
        self.basis = basis
        super().__init__(observation_space, action_space, lr_schedule, **options)

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> SquashedActor:
        """A fresh actor."""
        options = self._update_features_extractor(self.actor_kwargs, features_extractor)
        return SquashedActor(basis=self.basis, **options).to(self.device)


def acting_part(policy: BasePolicy) -> BasePolicy:
    """What of a policy acts, and is kept in a policy file: an actor alone where there is one."""
    return policy.actor if isinstance(policy, SquashedPolicy) else policy
