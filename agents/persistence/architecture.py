"""The shape of a policy as plain settings: enough to build it, nothing that could run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from pydantic import Field
from sb3_contrib.ppo_recurrent.policies import MlpLstmPolicy
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from agents.ppo.policies import MaskedMlpLstmPolicy
from agents.ppo.simplex_policies import (
    SharedMlpPolicy,
    SimplexHead,
    SimplexLstmPolicy,
    SimplexPolicy,
    StockSimplexLstmPolicy,
)
from conf.errors import InputError
from conf.settings import build_settings, settings
from envs.allocation.simplex import Simplex

Shape = tuple[int, ...]


def expected_shapes(architecture: LstmArchitecture | MlpArchitecture) -> dict[str, Shape]:
    """Names and shapes of the weights, without allocating any of them."""
    if isinstance(architecture, MlpArchitecture):
        inputs = len(architecture.observation_low)
        shapes = _layer_shapes("mlp_extractor.layers", [inputs, *architecture.net_arch])
        last_actor = last_critic = [inputs, *architecture.net_arch][-1]
    else:
        shapes, last_actor, last_critic = _lstm_network(architecture)
    outputs, spread = _action_shapes(architecture)
    shapes |= spread
    shapes |= _linear_shapes("action_net", last_actor, outputs)
    return shapes | _linear_shapes("value_net", last_critic, 1)


def _action_shapes(
    architecture: LstmArchitecture | MlpArchitecture,
) -> tuple[int, dict[str, Shape]]:
    """Outputs of the actor's last layer, and the parameter that is the spread."""
    actions = len(architecture.action_low)
    match architecture.distribution:
        case "gaussian":
            return actions, {"log_std": (actions,)}
        case "dirichlet":
            return actions, {"spread": (1,)}
        case _:
            return actions - 1, {"spread": (actions - 1,)}


def _lstm_network(architecture: LstmArchitecture) -> tuple[dict[str, Shape], int, int]:
    """Shapes of all but the last layers, and the widths that those are given."""
    inputs, size = len(architecture.observation_low), architecture.lstm_hidden_size
    shapes = _lstm_shapes("lstm_actor", inputs, size, architecture.n_lstm_layers)
    if architecture.enable_critic_lstm:
        shapes |= _lstm_shapes("lstm_critic", inputs, size, architecture.n_lstm_layers)
    elif not architecture.shared_lstm:
        shapes |= _linear_shapes("critic", inputs, size)
    actor, critic = [size, *architecture.net_arch_pi], [size, *architecture.net_arch_vf]
    shapes |= _layer_shapes("mlp_extractor.policy_net", actor)
    shapes |= _layer_shapes("mlp_extractor.value_net", critic)
    return shapes, actor[-1], critic[-1]


def _layer_shapes(name: str, sizes: Sequence[int]) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for layer, (before, after) in enumerate(itertools.pairwise(sizes)):
        # An activation stands between any two layers and takes a number, too.
        shapes |= _linear_shapes(f"{name}.{2 * layer}", before, after)
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


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
}

Flag = Annotated[bool, Field(strict=True)]
Width = Annotated[int, Field(strict=True, ge=1, le=4096)]
Widths = Annotated[list[Width], Field(max_length=8)]
# None stands for "no bound", since JSON has no infinity.
Bound = Annotated[float, Field(strict=True)] | None
Bounds = Annotated[list[Bound], Field(min_length=1, max_length=16384)]


@settings
class _Outside:
    """What a policy sees and does: flat boxes, bounded or not, or points of a simplex."""

    observation_low: Bounds
    observation_high: Bounds
    action_low: Bounds
    action_high: Bounds
    distribution: Literal["gaussian", "dirichlet", "softmax_gaussian"]  # gaussian: on a box
    activation: Annotated[str, Field(pattern="^[a-z_]{1,32}$")]

    def __post_init__(self) -> None:
        if len(self.observation_low) != len(self.observation_high):
            raise ValueError("observation bounds differ in length")
        if len(self.action_low) != len(self.action_high):
            raise ValueError("action bounds differ in length")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(sorted(ACTIVATIONS))}")
        if self.distribution != "gaussian":
            unit = set(self.action_low) == {0.0} and set(self.action_high) == {1.0}
            if len(self.action_low) < 2 or not unit:
                raise ValueError("weights have bounds of 0 and 1, and there are two or more")


@settings
class LstmArchitecture(_Outside):
    """Sizes and choices of a recurrent policy."""

    kind: Literal["lstm"]
    lstm_hidden_size: Width
    n_lstm_layers: Annotated[int, Field(strict=True, ge=1, le=8)]
    enable_critic_lstm: Flag
    shared_lstm: Flag
    net_arch_pi: Widths
    net_arch_vf: Widths

    def __post_init__(self) -> None:
        _Outside.__post_init__(self)
        if self.enable_critic_lstm and self.shared_lstm:
            raise ValueError("the critic has its own LSTM or shares the actor's, not both")


@settings
class MlpArchitecture(_Outside):
    """Sizes and choices of a policy whose layers actor and critic share."""

    kind: Literal["mlp"]
    net_arch: Widths


PolicyArchitecture = Annotated[LstmArchitecture | MlpArchitecture, Field(discriminator="kind")]
_KINDS = ("lstm", "mlp")


def read_architecture(values: dict[str, Any], where: str) -> LstmArchitecture | MlpArchitecture:
    """Check plain data; InputError names the offending entry."""
    if values.get("kind") not in _KINDS:
        raise InputError(
            f"{where}.kind is {str(values.get('kind'))[:40]!r}", f"It is one of {', '.join(_KINDS)}"
        )
    made: LstmArchitecture | MlpArchitecture = build_settings(PolicyArchitecture, values, where)
    return made


def upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """The architecture of a file of format 1, where every policy was recurrent and on a box."""
    added = {"kind": "lstm", "distribution": "gaussian"}
    if added.keys() & values.keys():
        raise InputError(f"an architecture of format 1 has no {' and no '.join(added)}")
    return values | added


_LSTM = (MlpLstmPolicy, MaskedMlpLstmPolicy, SimplexLstmPolicy, StockSimplexLstmPolicy)
_MLP = (SharedMlpPolicy, SimplexPolicy)


def describe_architecture(policy: BasePolicy) -> dict[str, Any]:
    """The architecture of a policy as plain data; InputError for what the settings cannot say.

    The stock `MlpLstmPolicy` has the same weights and computes the same function, so it is written
    as well as the masked one.
    """
    if not isinstance(policy, ActorCriticPolicy) or type(policy) not in _LSTM + _MLP:
        raise InputError(
            f"a {type(policy).__name__} cannot be written to a policy file",
            "Use MlpLstmPolicy, MaskedMlpLstmPolicy, SharedMlpPolicy or one on the simplex",
        )
    _check_describable(policy)
    observation, action = policy.observation_space, policy.action_space
    outside = {
        "observation_low": _bounds(observation.low),  # type: ignore[attr-defined]
        "observation_high": _bounds(observation.high),  # type: ignore[attr-defined]
        "action_low": _bounds(action.low),  # type: ignore[attr-defined]
        "action_high": _bounds(action.high),  # type: ignore[attr-defined]
        "distribution": policy.distribution if isinstance(policy, SimplexHead) else "gaussian",
        "activation": _activation_name(policy),
    }
    return outside | (_describe_mlp(policy) if type(policy) in _MLP else _describe_lstm(policy))


def build_policy(architecture: LstmArchitecture | MlpArchitecture) -> ActorCriticPolicy:
    """A policy of that shape, on the CPU, with weights that are yet to be loaded."""
    # The initial draws are overwritten; they must not move the caller's random stream.
    with torch.random.fork_rng(devices=[]):
        return _make(architecture)


def _check_describable(policy: ActorCriticPolicy) -> None:
    supported = {
        "the observation space": _is_flat_box(policy.observation_space),
        "the action space": _is_flat_box(policy.action_space),
        "the features extractor": type(policy.features_extractor) is FlattenExtractor,
        "state-dependent exploration": not policy.use_sde,
        "squashed output": not policy.squash_output,
        "the activation function": _activation_name(policy) is not None,
        "lstm_kwargs": not getattr(policy, "lstm_kwargs", None),
    }
    for what, good in supported.items():
        if not good:
            raise InputError(
                f"{what} of this policy cannot be written to a policy file",
                "Use flat float32 boxes or a Simplex, and a listed activation",
            )


def _activation_name(policy: ActorCriticPolicy) -> str | None:
    names = [name for name, kind in ACTIVATIONS.items() if kind is policy.activation_fn]
    return names[0] if names else None


def _describe_lstm(policy: Any) -> dict[str, Any]:
    arch = policy.net_arch
    widths = arch if isinstance(arch, dict) else {"pi": arch, "vf": arch}
    return {
        "kind": "lstm",
        "lstm_hidden_size": policy.lstm_actor.hidden_size,
        "n_lstm_layers": policy.lstm_actor.num_layers,
        "enable_critic_lstm": policy.enable_critic_lstm,
        "shared_lstm": policy.shared_lstm,
        "net_arch_pi": [int(width) for width in widths.get("pi", [])],
        "net_arch_vf": [int(width) for width in widths.get("vf", [])],
    }


def _describe_mlp(policy: Any) -> dict[str, Any]:
    return {"kind": "mlp", "net_arch": [int(width) for width in policy.net_arch]}


def _make(architecture: LstmArchitecture | MlpArchitecture) -> ActorCriticPolicy:
    on_simplex = architecture.distribution != "gaussian"
    action: spaces.Box = (
        Simplex(len(architecture.action_low))
        if on_simplex
        else _box(architecture.action_low, architecture.action_high)
    )
    network: dict[str, Any] = {
        "activation_fn": ACTIVATIONS[architecture.activation],
        "ortho_init": False,
    }
    if on_simplex:
        network["distribution"] = architecture.distribution
    make: type[ActorCriticPolicy]
    if isinstance(architecture, MlpArchitecture):
        make = SimplexPolicy if on_simplex else SharedMlpPolicy
        network["net_arch"] = architecture.net_arch
    else:
        make = SimplexLstmPolicy if on_simplex else MaskedMlpLstmPolicy
        network["net_arch"] = {"pi": architecture.net_arch_pi, "vf": architecture.net_arch_vf}
        network["lstm_hidden_size"] = architecture.lstm_hidden_size
        network["n_lstm_layers"] = architecture.n_lstm_layers
        network["enable_critic_lstm"] = architecture.enable_critic_lstm
        network["shared_lstm"] = architecture.shared_lstm
    observation = _box(architecture.observation_low, architecture.observation_high)
    return make(observation, action, lambda _: 0.0, **network)


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
