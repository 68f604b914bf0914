"""Builds a trainable agent from its settings."""

from __future__ import annotations

from typing import Annotated, Any, Literal, overload

from pydantic import Field, model_validator
from sb3_contrib import RecurrentPPO
from sb3_contrib.ppo_recurrent.policies import MlpLstmPolicy
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import LinearSchedule, get_device
from stable_baselines3.common.vec_env import VecEnv

from agents.network import (
    ALL_FEATURES,
    ActivationName,
    LogStd,
    Patterns,
    Positive,
    SeenAndHeld,
    Share,
    Width,
    book_of,
    held_by,
    seen_by,
)
from agents.off_policy.settings import TQCSettings, build_tqc
from agents.off_policy.tqc import BookTQC
from agents.pathwise.trainer import PathwiseSettings
from agents.persistence.architecture import ACTIVATIONS
from agents.persistence.resume_checks import HYPERPARAMETERS
from agents.ppo.basis_policies import BasisLstmPolicy, BasisMlpPolicy, StockBasisLstmPolicy
from agents.ppo.curiosity import CuriositySettings
from agents.ppo.episode_ppo import EpisodePPO, EpisodeRecurrentPPO
from agents.ppo.policies import MaskedMlpLstmPolicy
from agents.ppo.recurrent_ppo import FUSED_ADAM, FUSED_DEVICES, SequenceRecurrentPPO
from agents.ppo.schedules import (
    SCHEDULED,
    ScheduledBatch,
    ScheduledNumber,
    ScheduledPositive,
    plain_schedules,
    schedules_of,
    values_of,
)
from agents.ppo.self_imitation import SelfImitationSettings
from agents.ppo.simplex import DistributionName
from agents.ppo.simplex_policies import (
    SeparateMlpPolicy,
    SharedMlpPolicy,
    SimplexLstmPolicy,
    SimplexPolicy,
    StockSimplexLstmPolicy,
)
from conf.errors import InputError
from conf.settings import settings
from envs.allocation.simplex import Simplex
from envs.hedging.objective import MeanDeviationCost

NonNegative = Annotated[float, Field(ge=0.0)]
Epochs = Annotated[int, Field(ge=1)]
# Total of a Dirichlet's concentrations: a weight w moves by sqrt(w (1 - w) / (total + 1)).
Concentration = Annotated[float, Field(ge=0.1, le=1e6)]


@settings
class _NetworkSettings(SeenAndHeld):
    """What the networks of all agents see and give."""

    # If the action is a point of the simplex; otherwise it is a Gaussian.
    distribution: DistributionName = "softmax_gaussian"
    concentration_init: Concentration = 100.0  # of dirichlet; the others have log_std_init


@settings
class _CommonSettings(_NetworkSettings):
    """What both kinds of PPO have, with the same default.

    Learning rate, clip range, entropy coefficient and batch size may change over the training: see
    `agents.ppo.schedules`.
    """

    learning_rate_end: Positive | None = None  # None: constant; otherwise linear over the training
    reward_scale: Positive = 1.0  # on rewards in training: a critic learns large sums badly
    rollout_steps: Annotated[int, Field(ge=2)] = 2048  # over all parallel episodes
    batch_size: ScheduledBatch = 128
    vf_coef: NonNegative = 0.5
    max_grad_norm: Positive = 0.5
    target_kl: Positive | None = None
    self_imitation: SelfImitationSettings | None = None  # None: only what was just played
    curiosity: CuriositySettings | None = None  # None: paid by the environment alone


def _check_rate(rate: Any, end: float | None) -> None:
    if end is not None and not isinstance(rate, float):
        raise ValueError("learning_rate changes already: leave learning_rate_end null")


@settings
class RecurrentPPOSettings(_CommonSettings):
    """Recurrent PPO; `recurrent_ppo_stock` is sb3-contrib's own, for comparison."""

    kind: Literal["recurrent_ppo", "recurrent_ppo_stock"] = "recurrent_ppo"
    policy: Literal["MlpLstmPolicy"] = "MlpLstmPolicy"
    learning_rate: ScheduledPositive = 3e-5
    # Steps of the sequences that make up a minibatch. None: sb3-contrib's own minibatches, which
    # `recurrent_ppo_stock` always has.
    sequence_length: Annotated[int, Field(ge=2)] | None = 8
    n_epochs: Epochs = 20
    gamma: Share = 0.995
    gae_lambda: Share = 0.98
    clip_range: ScheduledPositive = 0.15
    ent_coef: ScheduledNumber = 0.005
    lstm_hidden_size: Width = 256
    n_lstm_layers: Annotated[int, Field(ge=1, le=16)] = 2
    net_arch: tuple[Width, ...] = (128, 64)
    activation: ActivationName = "relu"
    log_std_init: LogStd = -4.0

    @model_validator(mode="after")
    def _check_batch(self) -> RecurrentPPOSettings:
        _check_rate(self.learning_rate, self.learning_rate_end)
        for size in values_of(self.batch_size):
            self._check_size(int(size))
        return self

    def _check_size(self, batch_size: int) -> None:
        if batch_size > self.rollout_steps:
            raise ValueError(
                f"a batch_size of {batch_size} is more than the {self.rollout_steps} steps "
                "of a rollout"
            )
        length = self.sequence_length if self.kind == "recurrent_ppo" else None
        if length is not None and batch_size % length:
            raise ValueError(
                f"a batch_size of {batch_size} is no multiple of the sequence_length of {length}"
            )
        if length is None and self.rollout_steps % batch_size == 1:
            raise ValueError(
                f"a batch_size of {batch_size} leaves a single one of {self.rollout_steps} "
                "steps to the last minibatch, whose advantage cannot be normalised"
            )


@settings
class PPOSettings(_CommonSettings):
    """PPO of Stable-Baselines3 with hidden layers that actor and critic share."""

    kind: Literal["ppo"] = "ppo"
    policy: Literal["MlpPolicy"] = "MlpPolicy"
    learning_rate: ScheduledPositive = 3e-4
    n_epochs: Epochs = 4
    gamma: Share = 0.99
    gae_lambda: Share = 0.95
    clip_range: ScheduledPositive = 0.2
    ent_coef: ScheduledNumber = 0.01
    net_arch: tuple[Width, ...] = (256, 256)
    activation: ActivationName = "tanh"
    log_std_init: LogStd = -1.0

    @model_validator(mode="after")
    def _check_batch(self) -> PPOSettings:
        _check_rate(self.learning_rate, self.learning_rate_end)
        for size in values_of(self.batch_size):
            if self.rollout_steps % size:
                raise ValueError(
                    f"a batch_size of {size} does not divide the {self.rollout_steps} "
                    "steps of a rollout"
                )
        return self


@settings
class EpisodePPOSettings:
    """PPO of whole episodes, for an objective of what they cost: see `agents.ppo.episode_ppo`.

    A rollout is one episode of each of the `num_envs` parallel ones.
    """

    kind: Literal["episode_ppo"] = "episode_ppo"
    policy: Literal["MlpPolicy", "MlpLstmPolicy"] = "MlpPolicy"
    features: Patterns = ALL_FEATURES
    learning_rate: Positive = 1e-3
    learning_rate_end: Positive = 2e-5  # linear over the training
    batch_size: Annotated[int, Field(ge=2)] = 8192
    n_epochs: Epochs = 5
    gae_lambda: Share = 0.997  # less, and what the path did is not taken out of late rewards
    clip_range: Positive = 0.2
    max_grad_norm: Positive = 0.5
    net_arch: tuple[Width, ...] = (32, 32)  # of the actor
    critic_arch: tuple[Width, ...] = (64, 64)
    lstm_hidden_size: Width = 32  # of MlpLstmPolicy, as are the layers
    n_lstm_layers: Annotated[int, Field(ge=1, le=16)] = 1
    activation: ActivationName = "silu"
    std_start: Positive = 0.7  # of actions, at the start of the training
    std_end: Positive = 0.1


@settings
class PathwiseAgentSettings(PathwiseSettings, _NetworkSettings):
    """Pathwise training alone, of the network that PPO has; no step of PPO is made."""

    kind: Literal["pathwise"] = "pathwise"
    policy: Literal["MlpLstmPolicy", "MlpPolicy"] = "MlpLstmPolicy"
    lstm_hidden_size: Width = 32
    n_lstm_layers: Annotated[int, Field(ge=1, le=16)] = 1
    net_arch: tuple[Width, ...] = (32,)
    activation: ActivationName = "tanh"
    log_std_init: LogStd = -4.0

    def as_ppo(self, num_envs: int) -> RecurrentPPOSettings | PPOSettings:
        """PPO of that network, which is then trained otherwise."""
        network: dict[str, Any] = {name: getattr(self, name) for name in _NETWORK}
        steps = 2 * num_envs
        if self.policy == "MlpPolicy":
            return PPOSettings(rollout_steps=steps, batch_size=steps, **network)
        lstm: dict[str, Any] = {name: getattr(self, name) for name in _LSTM}
        return RecurrentPPOSettings(
            rollout_steps=steps, batch_size=steps, sequence_length=2, **network, **lstm
        )


_LSTM = ("lstm_hidden_size", "n_lstm_layers")
_NETWORK = (
    *("policy", "net_arch", "activation", "log_std_init"),
    *("distribution", "concentration_init", "features", "basis"),
)

OnPolicySettings = RecurrentPPOSettings | PPOSettings | PathwiseAgentSettings | EpisodePPOSettings
AgentSettings = Annotated[OnPolicySettings | TQCSettings, Field(discriminator="kind")]


@overload
def build_agent(options: TQCSettings, env: VecEnv, seed: int, device: str) -> BookTQC: ...


@overload
def build_agent(
    options: OnPolicySettings, env: VecEnv, seed: int, device: str
) -> OnPolicyAlgorithm: ...


def build_agent(
    options: OnPolicySettings | TQCSettings, env: VecEnv, seed: int, device: str
) -> OnPolicyAlgorithm | BookTQC:
    """A fresh agent for a vectorised environment.

    On a `Simplex` its actions are points of the simplex, on another box they are Gaussian, in the
    amounts of the basis where there is one. Raises InputError if the rollout does not divide among
    the parallel episodes, or their steps not into sequences, and for features or books that the
    environment does not have.
    """
    if isinstance(options, TQCSettings):
        return build_tqc(options, env, seed, device)
    if isinstance(options, EpisodePPOSettings):
        return _episode_ppo(options, env, seed, device)
    if isinstance(options, PathwiseAgentSettings):
        options = options.as_ppo(env.num_envs)
    algorithm: dict[str, Any] = {
        "env": env,
        "n_steps": _steps_each(options.rollout_steps, env.num_envs),
        **{name: getattr(options, name) for name in HYPERPARAMETERS},
        # Of what changes the first value; the callback `Schedules` sets the others.
        **{name: values_of(getattr(options, name))[0] for name in SCHEDULED},
        "seed": seed,
        "device": device,
    }
    if options.learning_rate_end is not None:
        first = algorithm["learning_rate"]
        algorithm["learning_rate"] = LinearSchedule(first, options.learning_rate_end, 1.0)
    network: dict[str, Any] = {
        "activation_fn": ACTIVATIONS[options.activation],
        "log_std_init": options.log_std_init,
        "net_arch": list(options.net_arch),
    }
    on_simplex = isinstance(env.action_space, Simplex)
    if on_simplex:
        network["distribution"] = options.distribution
        network["concentration_init"] = options.concentration_init
    network |= seen_by(options.features, env) | held_by(options.basis, env)
    model: OnPolicyAlgorithm = _ppo(options, network, algorithm)
    setattr(model, "schedules", plain_schedules(schedules_of(options)))  # noqa: B010
    return model


def _ppo(
    options: RecurrentPPOSettings | PPOSettings, network: dict[str, Any], algorithm: dict[str, Any]
) -> Any:
    layers = list(options.net_arch)
    if isinstance(options, PPOSettings):
        if get_device(algorithm["device"]).type in FUSED_DEVICES:
            network["optimizer_kwargs"] = dict(FUSED_ADAM)
        shared = _chosen(network, (SharedMlpPolicy, SimplexPolicy, BasisMlpPolicy))
        return PPO(shared, policy_kwargs=network, **algorithm)
    network |= {
        "net_arch": {"pi": layers, "vf": layers},
        "lstm_hidden_size": options.lstm_hidden_size,
        "n_lstm_layers": options.n_lstm_layers,
    }
    if options.kind == "recurrent_ppo_stock":
        stock = _chosen(network, (MlpLstmPolicy, StockSimplexLstmPolicy, StockBasisLstmPolicy))
        return RecurrentPPO(stock, policy_kwargs=network, **algorithm)
    masked = _chosen(network, (MaskedMlpLstmPolicy, SimplexLstmPolicy, BasisLstmPolicy))
    algorithm["sequence_length"] = options.sequence_length
    return SequenceRecurrentPPO(masked, policy_kwargs=network, **algorithm)


def _episode_ppo(
    options: EpisodePPOSettings, env: VecEnv, seed: int, device: str
) -> EpisodePPO | EpisodeRecurrentPPO:
    """InputError where the environment's objective is no mean and deviation of costs."""
    book: Any = book_of(env, "agent=episode_ppo").options
    objective = getattr(book, "objective", None)
    if not isinstance(objective, MeanDeviationCost):
        raise InputError(
            f"agent=episode_ppo learns env.objective=mean_deviation, not "
            f"{getattr(objective, 'kind', 'a reward')}",
            "Choose that objective, or agent=pathwise",
        )
    network: dict[str, Any] = {
        "activation_fn": ACTIVATIONS[options.activation],
        "net_arch": {"pi": list(options.net_arch), "vf": list(options.critic_arch)},
    }
    if get_device(device).type in FUSED_DEVICES:
        network["optimizer_kwargs"] = dict(FUSED_ADAM)
    sessions = book.episode.sessions
    algorithm: dict[str, Any] = {
        "multiple": objective.multiple,
        "std_start": options.std_start,
        "std_end": options.std_end,
        "learning_rate": LinearSchedule(options.learning_rate, options.learning_rate_end, 1.0),
        "n_steps": sessions,
        "batch_size": options.batch_size,
        "n_epochs": options.n_epochs,
        "gamma": 1.0,
        "gae_lambda": options.gae_lambda,
        "clip_range": options.clip_range,
        "max_grad_norm": options.max_grad_norm,
        "policy_kwargs": network | seen_by(options.features, env),
        "seed": seed,
        "device": device,
    }
    if options.policy == "MlpPolicy":
        return EpisodePPO(SeparateMlpPolicy, env, **algorithm)
    for name in _LSTM:
        algorithm["policy_kwargs"][name] = getattr(options, name)
    whole = max(1, options.batch_size // sessions) * sessions  # minibatches of whole episodes
    algorithm |= {"batch_size": whole, "sequence_length": sessions}
    return EpisodeRecurrentPPO(MaskedMlpLstmPolicy, env, **algorithm)


def _chosen(network: dict[str, Any], kinds: tuple[Any, Any, Any]) -> Any:
    """Of the policies with free slots, on the simplex and with a basis, the one for a network."""
    free, on_simplex, with_basis = kinds
    return on_simplex if "distribution" in network else with_basis if "basis" in network else free


def _steps_each(rollout_steps: int, num_envs: int) -> int:
    steps, rest = divmod(rollout_steps, num_envs)
    if rest or steps < 2:
        raise InputError(
            f"agent.rollout_steps = {rollout_steps} does not divide among num_envs = "
            f"{num_envs} episodes",
            "Choose num_envs so that each episode gets the same number of steps, at least two",
        )
    return steps


def num_parameters(model: BaseAlgorithm) -> int:
    """The number of trained weights."""
    return sum(parameter.numel() for parameter in model.policy.parameters())


def rollout_size(model: BaseAlgorithm) -> int:
    """Environment steps between two times at which a run can be saved."""
    if isinstance(model, OnPolicyAlgorithm):
        return model.n_steps * model.n_envs
    steps: int = model.rollout_steps  # type: ignore[attr-defined]
    return steps
