"""Distributions of portfolio weights: actions on the simplex, with their exact densities.

All densities are with respect to the Lebesgue measure of all weights but the last. Everything is
calculated in float64 and handed out in the type of the network: in float32 the logarithm of the
gamma function alone would cost the third digit of a log-probability.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal, Self

import torch
from stable_baselines3.common.distributions import Distribution
from torch import nn
from torch.distributions import Dirichlet, Normal

from conf.errors import InputError

DistributionName = Literal["dirichlet", "softmax_gaussian"]

# A smaller sampled weight is raised to this, which is far too little to move the sum. It is still a
# normal float32, with a logarithm of -83. Samples below it must be rare: the density computed for
# them is that of the floor.
FLOOR = 1e-36

# Of each weight: at 0.05 a share of 0.016 of its samples lies below FLOOR.
LEAST_CONCENTRATION = 0.05


class SimplexDistribution(Distribution):
    """K weights >= 0 that sum to one, from the outputs of a head and a learned spread.

    `log_prob` depends on the weights alone, so that it is the same for a stored action.
    """

    distribution: torch.distributions.Distribution
    head_size: int  # outputs of the network

    def __init__(self, num_weights: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if num_weights < 2:
            raise InputError(f"a simplex of {num_weights} weights", "Give two weights or more")
        self.num_weights = num_weights
        self._dtype = torch.float32

    @abstractmethod
    def initial_spread(self, log_std_init: float, concentration_init: float) -> torch.Tensor:
        """The spread that training starts from."""

    @abstractmethod
    def log_std(self, spread: torch.Tensor) -> torch.Tensor:
        """Logarithm of the standard deviations that follow from the spread, for logs."""

    @abstractmethod
    def proba_distribution(self, head: torch.Tensor, spread: torch.Tensor) -> Self:
        """Set the parameters: the head's outputs (N, head_size) and the spread."""

    @abstractmethod
    def _to_weights(self, values: torch.Tensor) -> torch.Tensor:
        """Weights (N, K), any of which may be zero, from values of `self.distribution`."""

    @abstractmethod
    def _log_density(self, log_weights: torch.Tensor) -> torch.Tensor:
        """(N,) from the weights' logarithms (N, K)."""

    def proba_distribution_net(
        self, latent_dim: int, log_std_init: float = -1.0, concentration_init: float = 100.0
    ) -> tuple[nn.Module, nn.Parameter]:
        """The head and the learned spread."""
        spread = self.initial_spread(log_std_init, concentration_init)
        return nn.Linear(latent_dim, self.head_size), nn.Parameter(spread)

    def log_prob(self, actions: torch.Tensor) -> torch.Tensor:
        """Log-density (N,) of weights (N, K); finite on the border of the simplex, too.

        It is 0 where all weights are 0: with such rows sb3-contrib pads its minibatches, and a
        density there that overflows would turn the masked loss's gradient into NaN.
        """
        log_density = self._log_density(actions.double().clamp_min(FLOOR).log())
        padding = (actions == 0.0).all(dim=-1)
        return log_density.masked_fill(padding, 0.0).to(self._dtype)

    def entropy(self) -> torch.Tensor:
        """Differential entropy (N,), or an unbiased estimate of it."""
        return self._entropy().to(self._dtype)

    def _entropy(self) -> torch.Tensor:
        entropy: torch.Tensor = self.distribution.entropy()
        return entropy

    def sample(self) -> torch.Tensor:
        """Weights (N, K) with gradients to the parameters, each at least FLOOR."""
        return self._to_weights(self.distribution.rsample()).clamp_min(FLOOR).to(self._dtype)

    def mode(self) -> torch.Tensor:
        """The deterministic action (N, K)."""
        return self._to_weights(self.distribution.mean).clamp_min(FLOOR).to(self._dtype)

    def actions_from_params(self, *params: torch.Tensor, deterministic: bool = False) -> Any:
        """Weights of the distribution with these parameters."""
        return self.proba_distribution(*params).get_actions(deterministic=deterministic)

    def log_prob_from_params(self, *params: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights of the distribution with these parameters, and their log-density."""
        actions = self.actions_from_params(*params)
        return actions, self.log_prob(actions)


class DirichletDistribution(SimplexDistribution):
    """Dirichlet with concentrations `least + exp(spread) * softmax(head)`.

    The spread (1,) is the logarithm of the total concentration, the same in every state: the
    larger, the narrower. The deterministic action is the mean, which is smooth in the outputs of
    the head and, where wealth is linear in the weights, earns what samples earn on average. The
    mode would lie on the border as soon as a concentration falls below one, and jump between
    corners.
    """

    distribution: Dirichlet

    def __init__(self, num_weights: int) -> None:
        super().__init__(num_weights)
        self.head_size = num_weights

    def initial_spread(self, log_std_init: float, concentration_init: float) -> torch.Tensor:
        """Logarithm of the total concentration."""
        return torch.full((1,), concentration_init).log()

    def log_std(self, spread: torch.Tensor) -> torch.Tensor:
        """Of each weight, where all have the same mean."""
        share = 1.0 / self.num_weights
        total = spread.exp() + self.num_weights * LEAST_CONCENTRATION
        return 0.5 * (share * (1.0 - share) / (total + 1.0)).log()

    def proba_distribution(self, head: torch.Tensor, spread: torch.Tensor) -> Self:
        """`head` (N, K) and `spread` (1,), the logarithm of the total concentration."""
        self._dtype = head.dtype
        shares = torch.softmax(head.double(), dim=-1)
        self._concentration = LEAST_CONCENTRATION + spread.double().exp() * shares
        self.distribution = Dirichlet(self._concentration)
        return self

    def _to_weights(self, values: torch.Tensor) -> torch.Tensor:
        return values

    def _log_density(self, log_weights: torch.Tensor) -> torch.Tensor:
        # Torch's own refuses float32 weights whose sum is a millionth from one.
        terms = (self._concentration - 1.0) * log_weights - torch.lgamma(self._concentration)
        return terms.sum(dim=-1) + torch.lgamma(self._concentration.sum(dim=-1))


class SoftmaxGaussianDistribution(SimplexDistribution):
    """Logistic-normal: softmax of a Gaussian on all weights' logits but the last, which is 0.

    The head gives the means (N, K - 1) and the spread is the logarithm of the standard deviations
    (K - 1,), the same in every state. With the additive log-ratio alr(w) = log(w_i / w_K), whose
    Jacobian determinant is 1 / prod(w), log p(w) = log N(alr(w)) - sum_i log w_i (Aitchison and
    Shen 1980). The deterministic action is the softmax of the Gaussian's mean, the median of every
    ratio of two weights whatever the spread; mean and mode of the weights have no closed form.
    """

    distribution: Normal

    def __init__(self, num_weights: int) -> None:
        super().__init__(num_weights)
        self.head_size = num_weights - 1

    def initial_spread(self, log_std_init: float, concentration_init: float) -> torch.Tensor:
        """Logarithm of the logits' standard deviations."""
        return torch.full((self.head_size,), log_std_init)

    def log_std(self, spread: torch.Tensor) -> torch.Tensor:
        """Of the logits: the spread itself."""
        return spread

    def proba_distribution(self, head: torch.Tensor, spread: torch.Tensor) -> Self:
        """Means `head` (N, K - 1) and logarithms `spread` (K - 1,) of standard deviations."""
        self._dtype = head.dtype
        mean = head.double()
        self.distribution = Normal(mean, spread.double().exp().expand_as(mean))
        return self

    def _to_weights(self, values: torch.Tensor) -> torch.Tensor:
        return torch.softmax(_with_zero(values), dim=-1)

    def _log_density(self, log_weights: torch.Tensor) -> torch.Tensor:
        log_ratios = log_weights[..., :-1] - log_weights[..., -1:]
        gaussian: torch.Tensor = self.distribution.log_prob(log_ratios)  # type: ignore[no-untyped-call]
        return gaussian.sum(dim=-1) - log_weights.sum(dim=-1)

    def _entropy(self) -> torch.Tensor:
        """That of the Gaussian, which is exact, and E[sum_i log w_i] from two mirrored draws.

        The second term has no closed form. Without an entropy, Stable-Baselines3 would use the
        mean of -log p over stored actions: its gradient is zero in expectation at the first update
        and points away from the acting policy at later ones. The draws are reparametrised, so
        value and gradient are unbiased.
        """
        mean, std = self.distribution.mean, self.distribution.stddev
        step = std * torch.randn_like(mean)
        mirrored = _with_zero(torch.stack([mean + step, mean - step]))
        log_jacobian = torch.log_softmax(mirrored, dim=-1).sum(dim=-1).mean(dim=0)
        return super()._entropy().sum(dim=-1) + log_jacobian


DISTRIBUTIONS: dict[str, type[SimplexDistribution]] = {
    "dirichlet": DirichletDistribution,
    "softmax_gaussian": SoftmaxGaussianDistribution,
}


def make_simplex_distribution(name: str, num_weights: int) -> SimplexDistribution:
    """A distribution by its name; InputError for an unknown one."""
    if name not in DISTRIBUTIONS:
        raise InputError(
            f"distribution is {name!r}", f"Choose one of {', '.join(sorted(DISTRIBUTIONS))}"
        )
    return DISTRIBUTIONS[name](num_weights)


def _with_zero(logits: torch.Tensor) -> torch.Tensor:
    return torch.cat([logits, torch.zeros_like(logits[..., :1])], dim=-1)
