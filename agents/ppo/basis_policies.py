"""Policies that act through a few books: the action layer gives amounts, a fixed map the slots.

With books B (K, M) and amounts z (K,), the action in the slots is z @ B (M,). Exploration is
Gaussian in the amounts: independent noise on every slot would trade contracts that no book holds,
and take the legs of a book apart. An action that was drawn is z @ B, so that z, and with it the
density that PPO needs, comes back exactly by the pseudo-inverse of B.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib.ppo_recurrent.policies import MlpLstmPolicy
from stable_baselines3.common.distributions import DiagGaussianDistribution, Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from agents.ppo.policies import MaskedMlpLstmPolicy
from agents.ppo.simplex_policies import SharedMlpPolicy
from conf.errors import InputError
from conf.types import FloatArray

Books = Sequence[Sequence[float]]  # (K, M) signed


def checked_books(books: Books, num_slots: int) -> FloatArray:
    """Books as a matrix (K, M); InputError unless they are finite, of M slots and independent.

    Of dependent books the amounts could not be told apart.
    """
    if any(len(book) != num_slots for book in books):
        lengths = ", ".join(str(len(book)) for book in books)
        raise InputError(f"books of {lengths} slots", f"The action has {num_slots}")
    matrix = np.array(books, np.float64).reshape(len(books), num_slots)
    if not np.isfinite(matrix).all() or np.linalg.matrix_rank(matrix) < max(len(matrix), 1):
        raise InputError(
            f"the {len(matrix)} books of the basis are not independent",
            "Give finite ones, of which none is a sum of others",
        )
    return matrix


class BookLayer(nn.Module):
    """A linear layer of amounts, and the fixed map from them to slots: the mean action."""

    books: torch.Tensor  # (K, M)
    inverse: torch.Tensor  # (M, K) its pseudo-inverse

    def __init__(self, inputs: int, books: FloatArray) -> None:
        super().__init__()
        self.amounts = nn.Linear(inputs, len(books))
        # Not among the weights: a policy file describes the books as part of the architecture.
        for name, matrix in (("books", books), ("inverse", np.linalg.pinv(books))):
            values = torch.tensor(matrix, dtype=torch.float32)
            self.register_buffer(name, values, persistent=False)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """Latent (N, inputs) to actions in the slots (N, M)."""
        amounts: torch.Tensor = self.amounts(latent)
        return amounts @ self.books


class BookGaussian(DiagGaussianDistribution):
    """Independent Gaussian amounts of K books, as actions in M slots.

    Densities and entropy are with respect to the amounts.
    """

    def __init__(self, books: FloatArray) -> None:
        super().__init__(len(books))
        self._matrix = books

    def proba_distribution_net(
        self, latent_dim: int, log_std_init: float = 0.0
    ) -> tuple[nn.Module, nn.Parameter]:
        """The action layer and the logarithms (K,) of the amounts' standard deviations."""
        self._layer = BookLayer(latent_dim, self._matrix)
        return self._layer, nn.Parameter(torch.full((self.action_dim,), log_std_init))

    def log_prob(self, actions: torch.Tensor) -> torch.Tensor:
        """Log-density (N,) of the amounts behind actions (N, M) that lie in the books' span."""
        return super().log_prob(actions @ self._layer.inverse)

    def sample(self) -> torch.Tensor:
        """Actions (N, M) with gradients to mean and spread."""
        return super().sample() @ self._layer.books

    def mode(self) -> torch.Tensor:
        """The mean action (N, M)."""
        return super().mode() @ self._layer.books

    def proba_distribution(self, mean_actions: torch.Tensor, log_std: torch.Tensor) -> Self:
        """`mean_actions`: the mean amounts (N, K); `log_std` (K,)."""
        return super().proba_distribution(mean_actions, log_std)


class BasisHead(ActorCriticPolicy):
    """Mixed into a policy, it makes the actor hold amounts of the books `basis` (K, M).

    `action_net` gives the mean action in the slots (N, M), as that of any policy.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        *,
        basis: Books,
        **options: Any,
    ) -> None:
        self.basis = tuple(tuple(float(units) for units in book) for book in basis)
        super().__init__(observation_space, action_space, lr_schedule, **options)

    def _build(self, lr_schedule: Schedule) -> None:
        if not isinstance(self.action_dist, DiagGaussianDistribution) or self.squash_output:
            raise InputError("a basis of books goes with plain Gaussian actions", "Use no gSDE")
        self.action_dist = BookGaussian(
            checked_books(self.basis, spaces.flatdim(self.action_space))
        )
        super()._build(lr_schedule)

    def _get_action_dist_from_latent(self, latent_pi: torch.Tensor) -> Distribution:
        layer: Any = self.action_net
        dist: Any = self.action_dist
        distribution: Distribution = dist.proba_distribution(layer.amounts(latent_pi), self.log_std)
        return distribution

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"basis": self.basis}


class BasisMlpPolicy(BasisHead, SharedMlpPolicy):
    """Amounts of books from layers that actor and critic share, for `PPO`."""


class BasisLstmPolicy(BasisHead, MaskedMlpLstmPolicy):
    """Amounts of books from a recurrent network, for `SequenceRecurrentPPO`."""


class StockBasisLstmPolicy(BasisHead, MlpLstmPolicy):
    """Amounts of books from sb3-contrib's own network, for `RecurrentPPO`."""
