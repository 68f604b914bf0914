"""A trained portfolio manager in a folder: policy, optimiser and the settings of its training.

`policy.safetensors` and `policy.json` are those of `agents.persistence.policy_file`, so that the
policy can be used like any other; `optimizer.safetensors` has Adam's moments. Nothing in them can
run code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import safetensors.torch
import torch
from pydantic import Field
from stable_baselines3.common.policies import ActorCriticPolicy

from agents.factory import PPOSettings
from agents.pathwise.trainer import PathwiseSettings
from agents.persistence.policy_file import (
    DESCRIPTION,
    WEIGHTS,
    load_policy,
    parse_tensors,
    save_policy,
)
from agents.persistence.strict_json import read_bytes
from conf.errors import InputError
from conf.files import new_folder
from conf.settings import build_settings, settings, settings_to_json
from envs.allocation.market import AllocationSettings
from envs.core.features import Feature
from envs.market.sources.panel import PanelSettings

OPTIMIZER = "optimizer.safetensors"
_PICKLED = (".pt", ".pth", ".pkl", ".zip")
_MAX_OPTIMIZER_BYTES = 2**30
_DIGEST = "optimizer_sha256"


@settings
class ModelMetadata:
    """What a model was made for, and how it was trained."""

    kind: Literal["portfolio_manager"] = "portfolio_manager"
    asset_count: Annotated[int, Field(ge=1)]
    assets: tuple[str, ...] | None  # None: unnamed
    features: tuple[Feature, ...]  # of the observation
    episodes: Annotated[int, Field(ge=0)]
    update_interval: Annotated[int, Field(ge=2)]  # of the last training
    agent: PPOSettings
    env: AllocationSettings
    data: PanelSettings
    pathwise: PathwiseSettings | None = None  # None: by PPO alone


@dataclass(frozen=True)
class TrainedWeights:
    """The trained policy and Adam's moments, from which training can continue."""

    policy: ActorCriticPolicy
    moments: dict[str, torch.Tensor]  # by "<parameter>.<name>"


@dataclass(frozen=True)
class Model:
    """A trained model: its weights, and the settings of its training."""

    weights: TrainedWeights
    metadata: ModelMetadata


def folder_of(model_path: str | Path) -> Path:
    """The folder for a model path: the path itself, without the suffix of a pickle.

    `models/ppo_agent.pt` is kept in `models/ppo_agent/`. Raises InputError if the path is a file,
    or a folder that holds something else than a model.
    """
    path = Path(model_path).expanduser()
    folder = path.with_suffix("") if path.suffix.lower() in _PICKLED else path
    for candidate in (path, folder):
        if candidate.is_file():
            raise InputError(
                f"{candidate} is a file, and models are kept in a folder: pickles are never loaded",
                "Move it away, or choose another model_path",
            )
    foreign = sorted(_content(folder) - {OPTIMIZER, WEIGHTS, DESCRIPTION})
    if foreign:
        raise InputError(
            f"{folder} holds other things than a model: {', '.join(foreign[:3])}",
            "Choose another model_path: saving replaces the whole folder",
        )
    return folder


def save_model(model: Model, folder: Path) -> None:
    """Write all files in one step; they replace the whole folder."""
    content = safetensors.torch.save(model.weights.moments)
    digest = {_DIGEST: hashlib.sha256(content).hexdigest()}
    with new_folder(folder) as temporary:
        (temporary / OPTIMIZER).write_bytes(content)
        save_policy(model.weights.policy, temporary, settings_to_json(model.metadata) | digest)


def load_model(folder: Path, device: str = "cpu") -> Model | None:
    """What `save_model` wrote; None if the folder is empty or does not exist.

    Raises InputError for files that are damaged, altered or incomplete, and for a policy that is
    not a portfolio manager's.
    """
    if not _content(folder):
        return None
    loaded = load_policy(folder, device)
    saved = dict(loaded.metadata)
    digest = saved.pop(_DIGEST, None)
    if digest is None:
        raise InputError(
            f"{folder} holds a policy, but not a portfolio manager's",
            "Choose another model_path",
        )
    if not isinstance(loaded.policy, ActorCriticPolicy):
        raise InputError(f"{folder} holds a policy without the critic that PPO goes on with")
    content = read_bytes(folder / OPTIMIZER, _MAX_OPTIMIZER_BYTES)
    moments = parse_tensors(content, folder / OPTIMIZER, digest)
    metadata: ModelMetadata = build_settings(
        ModelMetadata, saved, f"{folder / DESCRIPTION}: metadata"
    )
    return Model(TrainedWeights(loaded.policy, moments), metadata)


def moments_of(policy: ActorCriticPolicy) -> dict[str, torch.Tensor]:
    """Copies of Adam's state of each parameter."""
    state: Mapping[int, Mapping[str, Any]] = policy.optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value).detach().cpu().contiguous().clone()
        for index, entry in state.items()
        for name, value in entry.items()
    }


def load_moments(policy: ActorCriticPolicy, moments: Mapping[str, torch.Tensor]) -> None:
    """Put back what `moments_of` copied; the optimiser's settings stay the policy's own.

    Raises InputError if it was copied from another network.
    """
    shapes = [p.shape for group in policy.optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in moments.items():
        index, _, name = key.partition(".")
        if not index.isdecimal() or int(index) >= len(shapes):
            raise InputError(f"the saved optimiser has a parameter {index}, this policy has not")
        if value.shape not in (torch.Size([]), shapes[int(index)]):
            raise InputError(f"the saved optimiser's {name} of parameter {index} does not fit")
        state.setdefault(int(index), {})[name] = value
    groups = policy.optimizer.state_dict()["param_groups"]
    policy.optimizer.load_state_dict({"state": state, "param_groups": groups})


def _content(folder: Path) -> set[str]:
    """Names in a folder; none if it does not exist."""
    if not folder.exists():
        return set()
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder", "Choose another model_path")
    return {item.name for item in folder.iterdir()}
