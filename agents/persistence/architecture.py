"""A policy's architecture as plain settings: enough to build it, nothing that could run code."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from pydantic import Field
from sb3_contrib.ppo_recurrent.policies import MlpLstmPolicy
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from agents.off_policy.policies import SquashedActor
from agents.ppo.basis_policies import (
    BasisLstmPolicy,
    BasisMlpPolicy,
    StockBasisLstmPolicy,
    checked_books,
)
from agents.ppo.columns import ColumnExtractor
from agents.ppo.policies import MaskedMlpLstmPolicy
from agents.ppo.simplex_policies import (
    SeparateMlpPolicy,
    SharedMlpPolicy,
    SimplexHead,
    SimplexLstmPolicy,
    SimplexPolicy,
    StockSimplexLstmPolicy,
)
from agents.regimes import Gating, RegimeFilter, RegimePolicy
from conf.errors import InputError
from conf.settings import build_settings, settings, settings_to_json
from envs.allocation.simplex import Simplex

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
_LARGEST = float(np.finfo(np.float32).max)
# None: no bound, since JSON has no infinity.
Bound = Annotated[float, Field(strict=True, ge=-_LARGEST, le=_LARGEST)] | None
Bounds = Annotated[list[Bound], Field(min_length=1, max_length=16384)]
Column = Annotated[int, Field(strict=True, ge=0)]
Columns = Annotated[list[Column], Field(min_length=1, max_length=16384)]
Units = Annotated[float, Field(strict=True, ge=-_LARGEST, le=_LARGEST)]
Books = Annotated[list[list[Units]], Field(min_length=1, max_length=64)]


@settings
class _Spaces:
    """What a policy observes and does: flat boxes, bounded or not, or points of a simplex."""

    observation_low: Bounds
    observation_high: Bounds
    action_low: Bounds
    action_high: Bounds
    distribution: Literal["gaussian", "dirichlet", "softmax_gaussian"]  # gaussian: on a box
    activation: Annotated[str, Field(pattern="^[a-z_]{1,32}$")]
    columns: Columns | None = None  # of the observation that the networks see; None: all
    basis: Books | None = None  # (K, M) books that the action layer gives amounts of; None: slots

    def __post_init__(self) -> None:
        if len(self.observation_low) != len(self.observation_high):
            raise ValueError("observation bounds differ in length")
        if len(self.action_low) != len(self.action_high):
            raise ValueError("action bounds differ in length")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(sorted(ACTIVATIONS))}")
        if self.on_simplex:
            unit = set(self.action_low) == {0.0} and set(self.action_high) == {1.0}
            if len(self.action_low) < 2 or not unit:
                raise ValueError("weights have bounds of 0 and 1, and there are two or more")
        if self.columns is not None:
            beyond = [*self.columns, len(self.observation_low)]
            if any(after <= before for before, after in pairwise(beyond)):
                raise ValueError("columns are not rising, or lie beyond the observation")
        if self.basis is not None:
            if self.on_simplex:
                raise ValueError("a basis of books goes with gaussian actions")
            checked_books(self.basis, len(self.action_low))

    @property
    def on_simplex(self) -> bool:
        """Whether actions are points of a simplex."""
        return self.distribution != "gaussian"


@settings
class LstmArchitecture(_Spaces):
    """Sizes and choices of a recurrent policy."""

    kind: Literal["lstm"]
    lstm_hidden_size: Width
    n_lstm_layers: Annotated[int, Field(strict=True, ge=1, le=8)]
    enable_critic_lstm: Flag
    shared_lstm: Flag
    net_arch_pi: Widths
    net_arch_vf: Widths

    def __post_init__(self) -> None:
        _Spaces.__post_init__(self)
        if self.enable_critic_lstm and self.shared_lstm:
            raise ValueError("the critic has its own LSTM or shares the actor's, not both")


@settings
class MlpArchitecture(_Spaces):
    """Sizes and choices of a policy without memory."""

    kind: Literal["mlp"]
    net_arch: Widths  # of the actor
    net_arch_vf: Widths | None = None  # of a critic of its own; None: it shares the actor's layers


@settings
class SquashedMlpArchitecture(_Spaces):
    """Sizes and choices of an actor without memory whose actions a tanh bounds."""

    kind: Literal["squashed_mlp"]
    net_arch: Widths

    def __post_init__(self) -> None:
        _Spaces.__post_init__(self)
        if self.on_simplex or None in (*self.action_low, *self.action_high):
            raise ValueError("squashed actions are gaussian, in a bounded box")


Network = LstmArchitecture | MlpArchitecture | SquashedMlpArchitecture


@settings
class RegimesArchitecture:
    """Two specialists, and the filter of the regimes that they act in."""

    kind: Literal["regimes"]
    regimes: RegimeFilter
    gating: Gating
    members: Annotated[
        list[Annotated[Network, Field(discriminator="kind")]], Field(min_length=2, max_length=2)
    ]


Architecture = Network | RegimesArchitecture
PolicyArchitecture = Annotated[Architecture, Field(discriminator="kind")]
_KINDS = ("lstm", "mlp", "squashed_mlp", "regimes")


def read_architecture(values: dict[str, Any], where: str) -> Architecture:
    """Check plain data; InputError names the offending entry."""
    if values.get("kind") not in _KINDS:
        raise InputError(
            f"{where}.kind is {str(values.get('kind'))[:40]!r}", f"It is one of {', '.join(_KINDS)}"
        )
    architecture: Architecture = build_settings(PolicyArchitecture, values, where)
    return architecture


# What architectures of earlier formats do not say, because there was no other.
_ADDED: dict[int, dict[str, Any]] = {
    1: {"kind": "lstm", "distribution": "gaussian", "columns": None, "basis": None},
    2: {"columns": None, "basis": None},
}


def upgraded(values: dict[str, Any], file_format: int) -> dict[str, Any]:
    """The architecture of a file of an earlier format in today's form."""
    added = _ADDED.get(file_format, {})
    if added.keys() & values.keys():
        raise InputError(f"an architecture of format {file_format} has no {' and no '.join(added)}")
    return values | added


_LSTM = (
    *(MlpLstmPolicy, SimplexLstmPolicy, BasisLstmPolicy),
    *(MaskedMlpLstmPolicy, StockSimplexLstmPolicy, StockBasisLstmPolicy),
)
_MLP = (SharedMlpPolicy, SimplexPolicy, BasisMlpPolicy, SeparateMlpPolicy)


def describe_architecture(policy: BasePolicy) -> dict[str, Any]:
    """The architecture of a policy as plain data; InputError if the settings cannot describe it.

    The stock `MlpLstmPolicy` has the weights of the masked one and computes the same function, so
    both are described alike.
    """
    if isinstance(policy, RegimePolicy):
        return {
            "kind": "regimes",
            "regimes": settings_to_json(policy.regimes),
            "gating": policy.gating,
            "members": [describe_architecture(member) for member in policy.specialists],
        }
    if type(policy) not in (*_LSTM, *_MLP, SquashedActor):
        raise InputError(
            f"a {type(policy).__name__} cannot be written to a policy file",
            "Use one of the policies of agents.ppo or agents.off_policy, or MlpLstmPolicy",
        )
    described: Any = policy
    observation, action = policy.observation_space, policy.action_space
    extractor = policy.features_extractor
    activation = {kind: name for name, kind in ACTIVATIONS.items()}.get(described.activation_fn)
    basis = getattr(policy, "basis", None)
    supported = {
        "the observation space": _is_flat_box(observation),
        "the action space": _is_flat_box(action),
        "the features extractor": type(extractor) in (FlattenExtractor, ColumnExtractor),
        "state-dependent exploration": not described.use_sde,
        "squashed output": policy.squash_output == isinstance(policy, SquashedActor),
        "the activation function": activation is not None,
        "lstm_kwargs": not getattr(policy, "lstm_kwargs", None),
    }
    for what, is_supported in supported.items():
        if not is_supported:
            raise InputError(
                f"{what} of this policy cannot be written to a policy file",
                "Use flat float32 boxes or a Simplex, and a listed activation",
            )
    spaces_and_network = {
        "observation_low": _bounds(observation.low),  # type: ignore[attr-defined]
        "observation_high": _bounds(observation.high),  # type: ignore[attr-defined]
        "action_low": _bounds(action.low),  # type: ignore[attr-defined]
        "action_high": _bounds(action.high),  # type: ignore[attr-defined]
        "distribution": policy.distribution if isinstance(policy, SimplexHead) else "gaussian",
        "activation": activation,
        "columns": list(extractor.columns) if isinstance(extractor, ColumnExtractor) else None,
        "basis": None if basis is None else [list(book) for book in basis],
    }
    if isinstance(policy, SquashedActor):
        return spaces_and_network | {"kind": "squashed_mlp", "net_arch": policy.net_arch}
    if isinstance(policy, SeparateMlpPolicy):
        layers: Any = policy.net_arch
        own = {"net_arch": layers["pi"], "net_arch_vf": layers["vf"]}
        return spaces_and_network | {"kind": "mlp", **own}
    if type(policy) in _MLP:
        return spaces_and_network | {"kind": "mlp", "net_arch": described.net_arch}
    return spaces_and_network | _describe_lstm(policy)


def _describe_lstm(policy: Any) -> dict[str, Any]:
    layers = policy.net_arch
    if not isinstance(layers, dict):
        layers = {"pi": layers, "vf": layers}
    return {
        "kind": "lstm",
        "lstm_hidden_size": policy.lstm_actor.hidden_size,
        "n_lstm_layers": policy.lstm_actor.num_layers,
        "enable_critic_lstm": policy.enable_critic_lstm,
        "shared_lstm": policy.shared_lstm,
        "net_arch_pi": layers.get("pi", []),
        "net_arch_vf": layers.get("vf", []),
    }


def expected_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights, without allocating any of them."""
    with torch.device("meta"):
        policy = build_policy(architecture)
    return {name: tuple(weight.shape) for name, weight in policy.state_dict().items()}


def build_policy(architecture: Architecture) -> BasePolicy:
    """A policy of that architecture, on torch's default device, with weights yet to be loaded.

    It leaves the caller's random stream alone.
    """
    if isinstance(architecture, RegimesArchitecture):
        members = [build_policy(member) for member in architecture.members]
        return RegimePolicy(members, architecture.regimes, architecture.gating)
    observation = _box(architecture.observation_low, architecture.observation_high)
    action: spaces.Box = _box(architecture.action_low, architecture.action_high)
    if isinstance(architecture, SquashedMlpArchitecture):
        return _squashed_actor(architecture, observation, action)
    network: dict[str, Any] = {
        "activation_fn": ACTIVATIONS[architecture.activation],
        "ortho_init": False,
    }
    if architecture.on_simplex:
        action = Simplex(len(architecture.action_low))
        network["distribution"] = architecture.distribution
    if architecture.columns is not None:
        network["features_extractor_class"] = ColumnExtractor
        network["features_extractor_kwargs"] = {"columns": architecture.columns}
    if architecture.basis is not None:
        network["basis"] = architecture.basis
    if isinstance(architecture, MlpArchitecture):
        actor, critic = architecture.net_arch, architecture.net_arch_vf
        network["net_arch"] = actor if critic is None else {"pi": actor, "vf": critic}
    else:
        network["net_arch"] = {"pi": architecture.net_arch_pi, "vf": architecture.net_arch_vf}
        for name in ("lstm_hidden_size", "n_lstm_layers", "enable_critic_lstm", "shared_lstm"):
            network[name] = getattr(architecture, name)
    policy = _policy_class(architecture)
    with torch.random.fork_rng(devices=[]):
        return policy(observation, action, lambda _: 0.0, **network)


def _squashed_actor(
    architecture: SquashedMlpArchitecture, observation: spaces.Box, action: spaces.Box
) -> SquashedActor:
    columns = architecture.columns
    extractor: Any = FlattenExtractor(observation)
    if columns is not None:
        extractor = ColumnExtractor(observation, columns)
    with torch.random.fork_rng(devices=[]):
        return SquashedActor(
            observation,
            action,
            net_arch=architecture.net_arch,
            activation_fn=ACTIVATIONS[architecture.activation],
            features_extractor=extractor,
            features_dim=extractor.features_dim,
            basis=architecture.basis,
        )


def _policy_class(architecture: Network) -> type[ActorCriticPolicy]:
    recurrent = isinstance(architecture, LstmArchitecture)
    if architecture.on_simplex:
        return SimplexLstmPolicy if recurrent else SimplexPolicy
    if architecture.basis is not None:
        return BasisLstmPolicy if recurrent else BasisMlpPolicy
    if isinstance(architecture, MlpArchitecture) and architecture.net_arch_vf is not None:
        return SeparateMlpPolicy
    return MaskedMlpLstmPolicy if recurrent else SharedMlpPolicy


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
