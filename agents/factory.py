"""From settings to an agent that can learn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator
from sb3_contrib import RecurrentPPO
from sb3_contrib.ppo_recurrent.policies import MlpLstmPolicy
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from agents.architecture import ACTIVATIONS
from agents.policies import MaskedMlpLstmPolicy
from agents.recurrent_ppo import SequenceRecurrentPPO
from risk.errors import InputError
from risk.settings import settings

Positive = Annotated[float, Field(gt=0.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Width = Annotated[int, Field(ge=1, le=8192)]


@settings
class RecurrentPPOSettings:
    """Recurrent PPO; `recurrent_ppo_stock` is sb3-contrib's as it comes, for comparison."""

    kind: Literal["recurrent_ppo", "recurrent_ppo_stock"] = "recurrent_ppo"
    policy: Literal["MlpLstmPolicy"] = "MlpLstmPolicy"
    learning_rate: Positive = 3e-5
    learning_rate_end: Positive | None = None
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
    log_std_init: Annotated[float, Field(ge=-10.0, le=2.0)] = -4.0

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
        return self


def build_agent(options: RecurrentPPOSettings, env: VecEnv, seed: int, device: str) -> RecurrentPPO:
    """A fresh agent for a vectorised environment.

    Raises InputError where the rollout does not divide among the parallel episodes, or what each
    of them gets does not divide into sequences.
    """
    steps, rest = divmod(options.rollout_steps, env.num_envs)
    if rest or steps < 2:
        raise InputError(
            f"agent.rollout_steps = {options.rollout_steps} does not divide among num_envs = "
            f"{env.num_envs} episodes",
            "Choose num_envs so that each episode gets the same number of steps, at least two",
        )
    stock = options.kind == "recurrent_ppo_stock"
    rate: float | LinearSchedule = options.learning_rate
    if options.learning_rate_end is not None:
        rate = LinearSchedule(options.learning_rate, options.learning_rate_end, 1.0)
    layers = list(options.net_arch)
    make: Callable[..., RecurrentPPO] = partial(RecurrentPPO, MlpLstmPolicy)
    if not stock:
        make = partial(
            SequenceRecurrentPPO, MaskedMlpLstmPolicy, sequence_length=options.sequence_length
        )
    return make(
        env=env,
        learning_rate=rate,
        n_steps=steps,
        batch_size=options.batch_size,
        n_epochs=options.n_epochs,
        gamma=options.gamma,
        gae_lambda=options.gae_lambda,
        clip_range=options.clip_range,
        ent_coef=options.ent_coef,
        vf_coef=options.vf_coef,
        max_grad_norm=options.max_grad_norm,
        target_kl=options.target_kl,
        policy_kwargs={
            "lstm_hidden_size": options.lstm_hidden_size,
            "n_lstm_layers": options.n_lstm_layers,
            "net_arch": {"pi": layers, "vf": layers},
            "activation_fn": ACTIVATIONS[options.activation],
            "log_std_init": options.log_std_init,
        },
        seed=seed,
        device=device,
    )


def num_parameters(model: RecurrentPPO) -> int:
    """How many weights are trained."""
    return int(np.sum([parameter.numel() for parameter in model.policy.parameters()]))
