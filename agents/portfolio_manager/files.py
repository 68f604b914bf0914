"""A trained portfolio manager in a folder: policy, optimiser and all that it was trained with.

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
from safetensors import SafetensorError
from stable_baselines3.common.policies import ActorCriticPolicy

from agents.factory import PPOSettings
from agents.persistence.policy_file import DESCRIPTION, WEIGHTS, load_policy, save_policy
from agents.persistence.strict_json import read_bytes
from conf.errors import InputError
from conf.files import new_folder
from conf.settings import build_settings, settings
from envs.allocation.market import AllocationSettings
from envs.core.features import Feature
from envs.market.loaded import settings_to_json
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
    assets: tuple[str, ...] | None  # None: they have no names
    features: tuple[Feature, ...]  # of the observation
    episodes: Annotated[int, Field(ge=0)]
    update_interval: Annotated[int, Field(ge=2)]  # of the last training
    agent: PPOSettings
    env: AllocationSettings
    data: PanelSettings


@dataclass(frozen=True)
class TrainedWeights:
    """What training left behind."""

    policy: ActorCriticPolicy
    moments: dict[str, torch.Tensor]  # of Adam, "<parameter>.<name>"


@dataclass(frozen=True)
class Model:
    """A trained model, whole."""

    weights: TrainedWeights
    metadata: ModelMetadata


def folder_of(model_path: str | Path) -> Path:
    """The folder for a model path: the path itself, or without the ending of a pickle.

    `models/ppo_agent.pt` is kept in `models/ppo_agent/`. Raises InputError where that would mean
    to read a pickle, or to replace a folder that holds something else.
    """
    path = Path(model_path).expanduser()
    folder = path.with_suffix("") if path.suffix.lower() in _PICKLED else path
    for found in (path, folder):
        if found.is_file():
            raise InputError(
                f"{found} is a file, and models are kept in a folder: pickles are never loaded",
                "Move it away, or choose another model_path",
            )
    own = {OPTIMIZER, WEIGHTS, DESCRIPTION}
    foreign = (
        [item.name for item in folder.iterdir() if item.name not in own] if _is(folder) else []
    )
    if foreign:
        raise InputError(
            f"{folder} holds other things than a model: {', '.join(sorted(foreign)[:3])}",
            "Choose another model_path: saving replaces the whole folder",
        )
    return folder


def save_model(model: Model, folder: Path) -> None:
    """Write everything in one step, in place of what stood there."""
    content = safetensors.torch.save(model.weights.moments)
    digest = {_DIGEST: hashlib.sha256(content).hexdigest()}
    with new_folder(folder) as temporary:
        (temporary / OPTIMIZER).write_bytes(content)
        save_policy(model.weights.policy, temporary, settings_to_json(model.metadata) | digest)


def load_model(folder: Path, device: str = "cpu") -> Model | None:
    """What `save_model` wrote; None where there is nothing.

    Raises InputError for files that are damaged, altered or incomplete, and for a policy that is
    not a portfolio manager's.
    """
    if not _is(folder) or not any(folder.iterdir()):
        return None
    loaded = load_policy(folder, device)
    saved = dict(loaded.metadata)
    digest = saved.pop(_DIGEST, None)
    if digest is None:
        raise InputError(
            f"{folder} holds a policy, but none of a portfolio manager",
            "Choose another model_path",
        )
    content = read_bytes(folder / OPTIMIZER, _MAX_OPTIMIZER_BYTES)
    if hashlib.sha256(content).hexdigest() != digest:
        raise InputError(
            f"{folder / OPTIMIZER} is not the file that {DESCRIPTION} describes (checksum)",
            "Copy all files again",
        )
    try:
        moments = safetensors.torch.load(content)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{folder / OPTIMIZER} is not a safetensors file: {error}") from None
    metadata: ModelMetadata = build_settings(
        ModelMetadata, saved, f"{folder / DESCRIPTION}: metadata"
    )
    return Model(TrainedWeights(loaded.policy, moments), metadata)


def moments_of(policy: ActorCriticPolicy) -> dict[str, torch.Tensor]:
    """Copies of what Adam remembers of each parameter."""
    state: Mapping[int, Mapping[str, Any]] = policy.optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value).detach().cpu().contiguous().clone()
        for index, entry in state.items()
        for name, value in entry.items()
    }


def give_moments(policy: ActorCriticPolicy, moments: Mapping[str, torch.Tensor]) -> None:
    """Put back what `moments_of` took; learning rates and the like stay the policy's own.

    Raises InputError where it was taken from another network.
    """
    shapes = [p.shape for group in policy.optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in moments.items():
        index, _, name = key.partition(".")
        if not index.isdecimal() or int(index) >= len(shapes):
            raise InputError(f"the optimiser remembers a parameter {index} that is not there")
        if value.shape not in (torch.Size([]), shapes[int(index)]):
            raise InputError(f"the optimiser's {name} of parameter {index} does not fit")
        state.setdefault(int(index), {})[name] = value
    groups = policy.optimizer.state_dict()["param_groups"]
    policy.optimizer.load_state_dict({"state": state, "param_groups": groups})


def _is(folder: Path) -> bool:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is no folder", "Choose another model_path")
    return folder.is_dir()
