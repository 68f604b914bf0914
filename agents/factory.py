"""From settings to an agent that can learn."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator
from sb3_contrib import RecurrentPPO
from sb3_contrib.ppo_recurrent.policies import MlpLstmPolicy
from stable_baselines3 import PPO
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import LinearSchedule, get_device
from stable_baselines3.common.vec_env import VecEnv

from agents.persistence.architecture import ACTIVATIONS
from agents.ppo.policies import MaskedMlpLstmPolicy
from agents.ppo.recurrent_ppo import FUSED_ADAM, FUSED_DEVICES, SequenceRecurrentPPO
from agents.ppo.simplex import DistributionName
from agents.ppo.simplex_policies import (
    SharedMlpPolicy,
    SimplexLstmPolicy,
    SimplexPolicy,
    StockSimplexLstmPolicy,
)
from conf.errors import InputError
from conf.settings import settings
from envs.allocation.simplex import Simplex

Positive = Annotated[float, Field(gt=0.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Width = Annotated[int, Field(ge=1, le=8192)]
LogStd = Annotated[float, Field(ge=-10.0, le=2.0)]
# Total of a Dirichlet's concentrations: a weight w moves by sqrt(w (1 - w) / (total + 1)).
Concentration = Annotated[float, Field(ge=0.1, le=1e6)]


@settings
class RecurrentPPOSettings:
    """Recurrent PPO; `recurrent_ppo_stock` is sb3-contrib's as it comes, for comparison."""

    kind: Literal["recurrent_ppo", "recurrent_ppo_stock"] = "recurrent_ppo"
    policy: Literal["MlpLstmPolicy"] = "MlpLstmPolicy"
    learning_rate: Positive = 3e-5
    learning_rate_end: Positive | None = None
    reward_scale: Positive = 1.0  # of what is learned from; a critic learns ill from large sums
    rollout_steps: Annotated[int, Field(ge=2)] = 2048  # over all parallel episodes
    batch_size: Annotated[int, Field(ge=2)] = 128
    # Steps of the sequences that make up a minibatch. None: sb3-contrib's own minibatches, which
    # `recurrent_ppo_stock` always has.
    sequence_length: Annotated[int, Field(ge=2)] | None = 8
    n_epochs: Annotated[int, Field(ge=1)] = 20
    gamma: Share = 0.995
    gae_lambda: Share = 0.98
    clip_range: Positive = 0.15
    ent_coef: Annotated[float, Field(ge=0.0)] = 0.005
    vf_coef: Annotated[float, Field(ge=0.0)] = 0.5
    max_grad_norm: Positive = 0.5
    target_kl: Positive | None = None
    lstm_hidden_size: Width = 256
    n_lstm_layers: Annotated[int, Field(ge=1, le=16)] = 2
    net_arch: tuple[Width, ...] = (128, 64)
    activation: Literal["relu", "tanh"] = "relu"
    log_std_init: LogStd = -4.0
    # Where the action is a point of the simplex; elsewhere it is a Gaussian.
    distribution: DistributionName = "softmax_gaussian"
    concentration_init: Concentration = 100.0  # of dirichlet; softmax_gaussian has log_std_init

    @model_validator(mode="after")
    def _check_batch(self) -> RecurrentPPOSettings:
        if self.batch_size > self.rollout_steps:
            raise ValueError(
                f"a batch_size of {self.batch_size} is more than the {self.rollout_steps} steps "
                "of a rollout"
            )
        length = self.sequence_length if self.kind == "recurrent_ppo" else None
        if length is not None and self.batch_size % length:
            raise ValueError(
                f"a batch_size of {self.batch_size} is no multiple of the sequence_length of "
                f"{length}"
            )
        if length is None and self.rollout_steps % self.batch_size == 1:
            raise ValueError(
                f"a batch_size of {self.batch_size} leaves one of {self.rollout_steps} steps alone "
                "in the last minibatch, whose advantage cannot be normalised"
            )
        return self


@settings
class PPOSettings:
    """PPO of Stable-Baselines3 with hidden layers that actor and critic share."""

    kind: Literal["ppo"] = "ppo"
    policy: Literal["MlpPolicy"] = "MlpPolicy"
    learning_rate: Positive = 3e-4
    learning_rate_end: Positive | None = None
    reward_scale: Positive = 1.0  # of what is learned from; a critic learns ill from large sums
    rollout_steps: Annotated[int, Field(ge=2)] = 2048  # over all parallel episodes
    batch_size: Annotated[int, Field(ge=2)] = 128
    n_epochs: Annotated[int, Field(ge=1)] = 4
    gamma: Share = 0.99
    gae_lambda: Share = 0.95
    clip_range: Positive = 0.2
    ent_coef: Annotated[float, Field(ge=0.0)] = 0.01
    vf_coef: Annotated[float, Field(ge=0.0)] = 0.5
    max_grad_norm: Positive = 0.5
    target_kl: Positive | None = None
    net_arch: tuple[Width, ...] = (256, 256)
    activation: Literal["relu", "tanh"] = "tanh"
    # Where the action is a point of the simplex; elsewhere it is a Gaussian.
    distribution: DistributionName = "softmax_gaussian"
    log_std_init: LogStd = -1.0  # of softmax_gaussian's logits, and of the Gaussian
    concentration_init: Concentration = 100.0  # of dirichlet

    @model_validator(mode="after")
    def _check_batch(self) -> PPOSettings:
        if self.rollout_steps % self.batch_size:
            raise ValueError(
                f"a batch_size of {self.batch_size} does not divide the {self.rollout_steps} "
                "steps of a rollout"
            )
        return self


AgentSettings = Annotated[RecurrentPPOSettings | PPOSettings, Field(discriminator="kind")]


def build_agent(
    options: RecurrentPPOSettings | PPOSettings, env: VecEnv, seed: int, device: str
) -> OnPolicyAlgorithm:
    """A fresh agent for a vectorised environment.

    On a `Simplex` its actions are points of the simplex, on another box they are Gaussian. Raises
    InputError where the rollout does not divide among the parallel episodes, or what each of them
    gets does not divide into sequences.
    """
    rate: float | LinearSchedule = options.learning_rate
    if options.learning_rate_end is not None:
        rate = LinearSchedule(options.learning_rate, options.learning_rate_end, 1.0)
    algorithm = {
        "env": env,
        "learning_rate": rate,
        "n_steps": _steps_each(options.rollout_steps, env.num_envs),
        "batch_size": options.batch_size,
        "n_epochs": options.n_epochs,
        "gamma": options.gamma,
        "gae_lambda": options.gae_lambda,
        "clip_range": options.clip_range,
        "ent_coef": options.ent_coef,
        "vf_coef": options.vf_coef,
        "max_grad_norm": options.max_grad_norm,
        "target_kl": options.target_kl,
        "seed": seed,
        "device": device,
    }
    network: dict[str, Any] = {
        "activation_fn": ACTIVATIONS[options.activation],
        "log_std_init": options.log_std_init,
    }
    if isinstance(env.action_space, Simplex):
        network["distribution"] = options.distribution
        network["concentration_init"] = options.concentration_init
    if isinstance(options, PPOSettings):
        return _build_ppo(options, algorithm, network)
    return _build_recurrent(options, algorithm, network)


def _steps_each(rollout_steps: int, num_envs: int) -> int:
    steps, rest = divmod(rollout_steps, num_envs)
    if rest or steps < 2:
        raise InputError(
            f"agent.rollout_steps = {rollout_steps} does not divide among num_envs = "
            f"{num_envs} episodes",
            "Choose num_envs so that each episode gets the same number of steps, at least two",
        )
    return steps


def _build_ppo(options: PPOSettings, algorithm: dict[str, Any], network: dict[str, Any]) -> PPO:
    on_simplex = isinstance(algorithm["env"].action_space, Simplex)
    policy = SimplexPolicy if on_simplex else SharedMlpPolicy
    network["net_arch"] = list(options.net_arch)
    if get_device(algorithm["device"]).type in FUSED_DEVICES:
        network["optimizer_kwargs"] = dict(FUSED_ADAM)
    return PPO(policy, policy_kwargs=network, **algorithm)


def _build_recurrent(
    options: RecurrentPPOSettings, algorithm: dict[str, Any], network: dict[str, Any]
) -> RecurrentPPO:
    on_simplex = isinstance(algorithm["env"].action_space, Simplex)
    layers = list(options.net_arch)
    network["net_arch"] = {"pi": layers, "vf": layers}
    network["lstm_hidden_size"] = options.lstm_hidden_size
    network["n_lstm_layers"] = options.n_lstm_layers
    if options.kind == "recurrent_ppo_stock":
        stock = StockSimplexLstmPolicy if on_simplex else MlpLstmPolicy
        return RecurrentPPO(stock, policy_kwargs=network, **algorithm)
    return SequenceRecurrentPPO(
        SimplexLstmPolicy if on_simplex else MaskedMlpLstmPolicy,
        policy_kwargs=network,
        sequence_length=options.sequence_length,
        **algorithm,
    )


def num_parameters(model: OnPolicyAlgorithm) -> int:
    """How many weights are trained."""
    return int(np.sum([parameter.numel() for parameter in model.policy.parameters()]))
