"""The shape of a recurrent policy as plain settings: enough to build it, nothing that could run."""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Any

import numpy as np
import torch
from gymnasium import spaces
from pydantic import Field
from sb3_contrib.ppo_recurrent.policies import MlpLstmPolicy
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from agents.policies import MaskedMlpLstmPolicy
from risk.errors import InputError
from risk.settings import build_settings, settings

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
}

Shape = tuple[int, ...]
Flag = Annotated[bool, Field(strict=True)]
Width = Annotated[int, Field(strict=True, ge=1, le=4096)]
Widths = Annotated[list[Width], Field(max_length=8)]
# None stands for "no bound", since JSON has no infinity.
Bound = Annotated[float, Field(strict=True)] | None
Bounds = Annotated[list[Bound], Field(min_length=1, max_length=16384)]


@settings
class PolicyArchitecture:
    """Sizes and choices of a `MaskedMlpLstmPolicy` over flat, bounded or unbounded boxes."""

    observation_low: Bounds
    observation_high: Bounds
    action_low: Bounds
    action_high: Bounds
    lstm_hidden_size: Width
    n_lstm_layers: Annotated[int, Field(strict=True, ge=1, le=8)]
    enable_critic_lstm: Flag
    shared_lstm: Flag
    net_arch_pi: Widths
    net_arch_vf: Widths
    activation: Annotated[str, Field(pattern="^[a-z_]{1,32}$")]

    def __post_init__(self) -> None:
        if len(self.observation_low) != len(self.observation_high):
            raise ValueError("observation bounds differ in length")
        if len(self.action_low) != len(self.action_high):
            raise ValueError("action bounds differ in length")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(sorted(ACTIVATIONS))}")
        if self.enable_critic_lstm and self.shared_lstm:
            raise ValueError("the critic has its own LSTM or shares the actor's, not both")


def read_architecture(values: dict[str, Any], where: str) -> PolicyArchitecture:
    """Check plain data; InputError names the offending entry."""
    made: PolicyArchitecture = build_settings(PolicyArchitecture, values, where)
    return made


_WRITABLE = (MlpLstmPolicy, MaskedMlpLstmPolicy)


def describe_architecture(policy: BasePolicy) -> dict[str, Any]:
    """The architecture of a policy as plain data; InputError for what the settings cannot say.

    The stock `MlpLstmPolicy` has the same weights and computes the same function, so it is written
    as well as the masked one.
    """
    if not isinstance(policy, MlpLstmPolicy) or type(policy) not in _WRITABLE:
        raise InputError(
            f"a {type(policy).__name__} cannot be written to a policy file",
            "Use MlpLstmPolicy or MaskedMlpLstmPolicy",
        )
    observation, action = policy.observation_space, policy.action_space
    names = [name for name, kind in ACTIVATIONS.items() if kind is policy.activation_fn]
    arch = policy.net_arch
    widths = arch if isinstance(arch, dict) else {"pi": arch, "vf": arch}
    supported = {
        "the observation space": _is_flat_box(observation),
        "the action space": _is_flat_box(action),
        "the features extractor": type(policy.features_extractor) is FlattenExtractor,
        "state-dependent exploration": not policy.use_sde,
        "squashed output": not policy.squash_output,
        "the activation function": bool(names),
        "lstm_kwargs": not policy.lstm_kwargs,
    }
    for what, good in supported.items():
        if not good:
            raise InputError(
                f"{what} of this policy cannot be written to a policy file",
                "Use MaskedMlpLstmPolicy over flat float32 boxes with a listed activation",
            )
    return {
        "observation_low": _bounds(observation.low),  # type: ignore[attr-defined]
        "observation_high": _bounds(observation.high),  # type: ignore[attr-defined]
        "action_low": _bounds(action.low),  # type: ignore[attr-defined]
        "action_high": _bounds(action.high),  # type: ignore[attr-defined]
        "lstm_hidden_size": policy.lstm_actor.hidden_size,
        "n_lstm_layers": policy.lstm_actor.num_layers,
        "enable_critic_lstm": policy.enable_critic_lstm,
        "shared_lstm": policy.shared_lstm,
        "net_arch_pi": [int(width) for width in widths.get("pi", [])],
        "net_arch_vf": [int(width) for width in widths.get("vf", [])],
        "activation": names[0],
    }


def build_policy(architecture: PolicyArchitecture) -> MaskedMlpLstmPolicy:
    """A policy of that shape, on the CPU, with weights that are yet to be loaded."""
    # The initial draws are overwritten; they must not move the caller's random stream.
    with torch.random.fork_rng(devices=[]):
        return _make(architecture)


def expected_shapes(architecture: PolicyArchitecture) -> dict[str, Shape]:
    """Names and shapes of the weights, without allocating any of them."""
    inputs, actions = len(architecture.observation_low), len(architecture.action_low)
    size = architecture.lstm_hidden_size
    shapes: dict[str, Shape] = {"log_std": (actions,)}
    shapes |= _lstm_shapes("lstm_actor", inputs, size, architecture.n_lstm_layers)
    if architecture.enable_critic_lstm:
        shapes |= _lstm_shapes("lstm_critic", inputs, size, architecture.n_lstm_layers)
    elif not architecture.shared_lstm:
        shapes |= _linear_shapes("critic", inputs, size)
    for net, widths, head, outputs in (
        ("policy_net", architecture.net_arch_pi, "action_net", actions),
        ("value_net", architecture.net_arch_vf, "value_net", 1),
    ):
        sizes = [size, *widths]
        for layer, (before, after) in enumerate(itertools.pairwise(sizes)):
            # An activation stands between any two layers and takes a number, too.
            shapes |= _linear_shapes(f"mlp_extractor.{net}.{2 * layer}", before, after)
        shapes |= _linear_shapes(head, sizes[-1], outputs)
    return shapes


def _lstm_shapes(name: str, inputs: int, size: int, layers: int) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for layer in range(layers):
        shapes[f"{name}.weight_ih_l{layer}"] = (4 * size, size if layer else inputs)
        shapes[f"{name}.weight_hh_l{layer}"] = (4 * size, size)
        shapes[f"{name}.bias_ih_l{layer}"] = shapes[f"{name}.bias_hh_l{layer}"] = (4 * size,)
    return shapes


def _linear_shapes(name: str, inputs: int, outputs: int) -> dict[str, Shape]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _make(architecture: PolicyArchitecture) -> MaskedMlpLstmPolicy:
    return MaskedMlpLstmPolicy(
        _box(architecture.observation_low, architecture.observation_high),
        _box(architecture.action_low, architecture.action_high),
        lambda _: 0.0,
        net_arch={"pi": architecture.net_arch_pi, "vf": architecture.net_arch_vf},
        activation_fn=ACTIVATIONS[architecture.activation],
        ortho_init=False,
        lstm_hidden_size=architecture.lstm_hidden_size,
        n_lstm_layers=architecture.n_lstm_layers,
        enable_critic_lstm=architecture.enable_critic_lstm,
        shared_lstm=architecture.shared_lstm,
    )


def _box(low: list[float | None], high: list[float | None]) -> spaces.Box:
    lower = np.array([-math.inf if bound is None else bound for bound in low], np.float32)
    upper = np.array([math.inf if bound is None else bound for bound in high], np.float32)
    if not np.all(lower <= upper):
        raise InputError("a lower bound of a policy's space lies above the upper one")
    return spaces.Box(lower, upper, dtype=np.float32)


def _is_flat_box(space: spaces.Space[Any]) -> bool:
    return (
        isinstance(space, spaces.Box)
        and space.dtype == np.float32
        and len(space.shape) == 1
        and not np.isnan(space.low).any()
        and not np.isnan(space.high).any()
    )


def _bounds(values: Any) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
