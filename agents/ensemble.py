"""Several policies as one: an exact merge of recurrent ones, an average of any others.

In a merge the members stand side by side inside one network, block by block, and only the last
layers look at all of them. It is N times as wide and an ordinary policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.policies import BasePolicy

from agents.persistence.architecture import (
    build_policy,
    describe_architecture,
    read_architecture,
)
from agents.policy import Policy
from conf.errors import InputError
from conf.types import BoolArray, ObsArray

_GATES = 4
_ON_THEIR_OWN = "Average their actions instead (agents.ensemble.AveragingPolicy)"


def merge_policies(policies: Sequence[BasePolicy]) -> BasePolicy:
    """One recurrent policy whose mean action and value are the members' averages at every step.

    Its LSTM state is theirs, one after the other in each layer; so are its hidden layers. The
    logarithm of its exploration's standard deviations is their mean. `predict` cuts actions to
    their bounds after averaging. The members must have one architecture (sizes, features seen,
    basis, spaces) and Gaussian actions: the softmax of an average is no average. InputError
    otherwise, and for a network wider than a policy file may hold.
    """
    if not policies:
        raise InputError("no policies were given to merge", "Give one or more")
    described = [describe_architecture(policy) for policy in policies]
    architecture, count = described[0], len(policies)
    for number, other in enumerate(described[1:], start=2):
        keys = architecture.keys() | other.keys()
        odd = sorted(key for key in keys if architecture.get(key) != other.get(key))
        if odd:
            raise InputError(
                f"policy {number} differs from the first in {', '.join(odd)}", _ON_THEIR_OWN
            )
    if architecture["kind"] != "lstm" or architecture["distribution"] != "gaussian":
        raise InputError(
            f"policies of kind {architecture['kind']} with "
            f"{architecture.get('distribution', 'gated')} actions are not merged exactly",
            _ON_THEIR_OWN,
        )
    wider = {"lstm_hidden_size": count * architecture["lstm_hidden_size"]}
    for layers in ("net_arch_pi", "net_arch_vf"):
        wider[layers] = [count * width for width in architecture[layers]]
    merged = build_policy(read_architecture(architecture | wider, "the merged policy"))
    members = [policy.state_dict() for policy in policies]
    merged.load_state_dict(
        {name: _merged(name, [member[name].cpu() for member in members]) for name in members[0]}
    )
    merged.set_training_mode(False)
    return merged


def _merged(name: str, parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """One weight of the merged network from the members' weights of that name."""
    layer, _, kind = name.rpartition(".")
    if layer.startswith("lstm_"):
        by_gate = [part.chunk(_GATES) for part in parts]
        return torch.cat(
            [_side_by_side(kind, [part[gate] for part in by_gate]) for gate in range(_GATES)]
        )
    if layer.startswith("mlp_extractor"):
        return _side_by_side(kind, parts)
    if layer == "critic":
        return torch.cat(list(parts))
    if layer.startswith(("action_net", "value_net")) and kind == "weight":
        return torch.cat(list(parts), dim=1) / len(parts)
    return torch.stack(list(parts)).mean(dim=0)


def _side_by_side(kind: str, parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """The members' blocks of a layer; all of them see the same features in an LSTM's first one."""
    sees_all = kind == "weight_ih_l0" or "bias" in kind
    if sees_all:
        return torch.cat(list(parts))
    blocks: torch.Tensor = torch.block_diag(*parts)  # type: ignore[no-untyped-call]
    return blocks


@dataclass(frozen=True)
class AveragingPolicy:
    """The average of the members' actions, for those that cannot be merged.

    The state is a tuple with that of each member, in their order.
    """

    members: Sequence[Policy]

    def __post_init__(self) -> None:
        if not self.members:
            raise InputError("an average of no policies", "Give one or more")

    def predict(
        self,
        observation: ObsArray,  # (N, D)
        state: Any = None,
        episode_start: BoolArray | None = None,  # (N,)
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], Any]:
        """Actions (N, A) and the members' states to hand in with the next observation."""
        before = (None,) * len(self.members) if state is None else state
        actions, after = zip(
            *(
                member.predict(observation, own, episode_start, deterministic)
                for member, own in zip(self.members, before, strict=True)
            ),
            strict=True,
        )
        return np.mean(actions, axis=0), after
