"""A policy as two files that cannot run code: `policy.safetensors` and `policy.json`."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from stable_baselines3.common.policies import BasePolicy

from agents.off_policy.policies import acting_part
from agents.persistence.architecture import (
    build_policy,
    describe_architecture,
    expected_shapes,
    read_architecture,
    upgraded,
)
from agents.persistence.strict_json import parse_json, read_bytes, read_json
from conf.errors import InputError
from conf.files import write_atomically, write_json

WEIGHTS, DESCRIPTION = "policy.safetensors", "policy.json"
# 1: recurrent policies on a box. 2: also others, and those on the simplex. 3: also those that see
# some columns of the observation, and those with a basis of books. 4: also actors with a tanh.
# 5: also two specialists by regime.
POLICY_FORMAT = 5
_READABLE_FORMATS = (1, 2, 3, 4, 5)

_KEYS = {"format", "architecture", "metadata", "weights_sha256", "checksum"}
_MAX_DESCRIPTION_BYTES = 4 * 2**20
_MAX_HEADER_BYTES = 2**20
_FLOAT_BYTES = 4
# For a missing device or a shape that overflows.
_TORCH_ERRORS = (RuntimeError, AssertionError, OverflowError)


@dataclass(frozen=True)
class LoadedPolicy:
    """A policy ready to act, and the metadata it was saved with."""

    policy: BasePolicy
    metadata: dict[str, Any]


def save_policy(policy: BasePolicy, folder: Path, metadata: Mapping[str, Any]) -> Path:
    """Write a policy's weights and description into `folder`; returns that folder.

    `metadata` is plain JSON data (feature names, scalings, where it was trained). The weights are
    written first and the description, which carries their checksum, last, each in one step: after
    a kill between them `load_policy` refuses the folder. Raises InputError for a policy that the
    format cannot describe, for weights that are not finite and for metadata that JSON cannot hold.
    """
    policy = acting_part(policy)  # critics are not kept
    weights = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in policy.state_dict().items()
    }
    _check_finite(weights, "the policy")
    architecture = describe_architecture(policy)
    # Refuse now what `load_policy` would refuse.
    read_architecture(architecture, "the policy's architecture")
    content = safetensors.torch.save(weights)
    description: dict[str, Any] = {
        "format": POLICY_FORMAT,
        "architecture": architecture,
        "metadata": _plain(metadata),
        "weights_sha256": hashlib.sha256(content).hexdigest(),
    }
    description["checksum"] = _checksum(description)
    write_atomically(folder / WEIGHTS, content)
    write_json(folder / DESCRIPTION, description)
    return folder


def load_policy(folder: Path, device: str = "cpu") -> LoadedPolicy:
    """Load what `save_policy` wrote. Nothing in the files can run code.

    The description is checked before the weights are read, and names, shapes and checksum of the
    weights before the network is allocated, which therefore is never larger than the file. Raises
    InputError if a file is missing, damaged, altered or of another kind.
    """
    description = _read_description(folder)
    plain = upgraded(description["architecture"], description["format"])
    architecture = read_architecture(plain, "policy.json: architecture")
    shapes = expected_shapes(architecture)
    size = sum(math.prod(shape) for shape in shapes.values()) * _FLOAT_BYTES
    content = read_bytes(folder / WEIGHTS, size + _MAX_HEADER_BYTES)
    weights = parse_tensors(content, folder / WEIGHTS, description["weights_sha256"])
    _check_weights(weights, shapes, folder / WEIGHTS)
    _check_finite(weights, str(folder / WEIGHTS))
    policy = build_policy(architecture)
    policy.load_state_dict(weights, strict=True)
    policy.set_training_mode(False)
    try:
        policy = policy.to(torch.device(device))
    except _TORCH_ERRORS as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {device!r} is not available: {reason}", "Use cpu") from None
    return LoadedPolicy(policy, description["metadata"])


def policy_step(loaded: LoadedPolicy) -> int:
    """After how many environment steps the policy was saved; InputError if that is no number."""
    step = loaded.metadata.get("step", 0)
    if type(step) is not int or not 0 <= step < 10**15:
        raise InputError(f"{DESCRIPTION}: step is {str(step)[:40]!r}", "Copy both files again")
    return step


def parse_tensors(content: bytes, path: Path, sha256: str) -> dict[str, torch.Tensor]:
    """The tensors in the content of the safetensors file `path`, which take no more memory than it.

    Raises InputError where the checksum or the file's structure is wrong.
    """
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(
            f"{path} is not the file that {DESCRIPTION} describes (checksum)",
            "Copy all files again",
        )
    try:
        return safetensors.torch.load(content)
    except (SafetensorError, LookupError, ValueError, TypeError, *_TORCH_ERRORS) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is not a safetensors file: {reason}") from None


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    description = read_json(path, _MAX_DESCRIPTION_BYTES)
    file_format = description.get("format")
    if type(file_format) is not int or file_format not in _READABLE_FORMATS:
        raise InputError(
            f"{path} has format {str(file_format)[:40]!r}, this version reads "
            f"{', '.join(map(str, _READABLE_FORMATS))}",
            "Use the version that wrote it",
        )
    if description.keys() != _KEYS:
        odd = sorted(description.keys() ^ _KEYS)
        raise InputError(f"{path} lacks or must not have: {', '.join(odd)[:200]}")
    for key in ("architecture", "metadata"):
        if not isinstance(description[key], dict):
            raise InputError(f"{path}: {key} is a {type(description[key]).__name__}")
    if description["checksum"] != _checksum(description):
        raise InputError(f"{path} was damaged or altered (checksum)", "Copy both files again")
    return description


def _check_weights(
    weights: Mapping[str, torch.Tensor], shapes: Mapping[str, tuple[int, ...]], path: Path
) -> None:
    """InputError unless names, types and shapes are those of the network."""
    if weights.keys() != shapes.keys():
        odd = ", ".join(sorted(weights.keys() ^ shapes.keys()))[:200]
        raise InputError(f"{path} lacks or must not have these weights: {odd!r}")
    for name, weight in weights.items():
        if weight.dtype != torch.float32 or weight.shape != shapes[name]:
            raise InputError(
                f"{path}: {name} is {weight.dtype} {list(weight.shape)}, "
                f"expected torch.float32 {list(shapes[name])}"
            )


def _check_finite(weights: Mapping[str, torch.Tensor], where: str) -> None:
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{where} has a weight that is not finite: {name}")


def _plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    try:
        content = json.dumps(dict(metadata), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise InputError(f"the metadata of a policy must be plain JSON data: {error}") from None
    if len(content) > _MAX_DESCRIPTION_BYTES // 4:
        raise InputError(f"the metadata of a policy takes {len(content)} bytes", "Keep it short")
    return parse_json(content, "metadata")


def _checksum(description: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in description.items() if key != "checksum"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
