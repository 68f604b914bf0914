"""Checkpoints: folders `step_000020480/` from which a killed run continues bit for bit."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.numpy
from safetensors import SafetensorError
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.persistence.resume_state import ResumeState, StatefulCallback, capture, restore
from agents.persistence.strict_json import parse_json, read_bytes, read_json
from conf.errors import InputError
from conf.files import new_folder, remove_leftovers, write_json

CHECKPOINT_FORMAT = 1

_ARRAYS, _VALUES, _MANIFEST = "state.safetensors", "state.json", "manifest.json"
_NAME = re.compile(r"step_(\d{9,18})")
_MAX_BYTES = 4 * 2**30


def save_checkpoint(
    model: BaseAlgorithm,
    callbacks: Mapping[str, StatefulCallback],
    folder: Path,
    keep_last: int | None = None,
) -> Path:
    """Write the run's whole state to `folder/step_<steps>` in one step and return that path.

    Call it at the start of a rollout. If the same checkpoint already exists (the first rollout
    after a resume starts where it was saved) nothing is written. With `keep_last`, older
    checkpoints are removed afterwards. Raises InputError for what cannot be resumed and OSError if
    the disk refuses; earlier checkpoints are untouched then.
    """
    return write_checkpoint(capture(model, callbacks), folder, keep_last)


def write_checkpoint(state: ResumeState, folder: Path, keep_last: int | None = None) -> Path:
    """Write a captured state as `save_checkpoint` does."""
    path = folder / f"step_{state.step:09d}"
    files = {
        _ARRAYS: safetensors.numpy.save(state.arrays),
        _VALUES: json.dumps(state.values, allow_nan=False).encode(),
    }
    manifest = {
        "format": CHECKPOINT_FORMAT,
        "step": state.step,
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in files.items()
        },
    }
    if not _is_complete(path, manifest):
        with new_folder(path) as temporary:
            for name, content in files.items():
                (temporary / name).write_bytes(content)
            write_json(temporary / _MANIFEST, manifest)
    if keep_last is not None:
        prune_checkpoints(folder, keep_last)
    return path


def read_checkpoint(path: Path) -> ResumeState:
    """Read and verify a checkpoint; nothing in it can run code.

    Raises InputError if a file is missing, cut short or changed, or if it is no checkpoint.
    """
    manifest = read_json(path / _MANIFEST)
    if manifest.get("format") != CHECKPOINT_FORMAT:
        raise InputError(
            f"{path} has checkpoint format {manifest.get('format')!r}, this version reads "
            f"{CHECKPOINT_FORMAT}",
            "Resume with the version that wrote it",
        )
    values = parse_json(_verified(path, _VALUES, manifest), str(path / _VALUES))
    try:
        arrays = safetensors.numpy.load(_verified(path, _ARRAYS, manifest))
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path / _ARRAYS} is not a safetensors file: {error}") from None
    state = ResumeState(values, arrays)
    if manifest.get("step") != state.step or _step(path) not in (None, state.step):
        raise InputError(f"{path} holds step {state.step}, its name or manifest another one")
    return state


def restore_checkpoint(
    model: BaseAlgorithm,
    callbacks: Mapping[str, StatefulCallback],
    path: Path,
    allow_inexact: bool = False,
) -> None:
    """Put a checkpoint back into a model that was built from the same settings.

    As `restore` does, which says how to continue; InputError also for a damaged checkpoint.
    """
    restore(read_checkpoint(path), model, callbacks, allow_inexact)


def newest_checkpoint(folder: Path) -> Path | None:
    """The complete checkpoint with the most steps in `folder`; None if there is none.

    Incomplete and damaged ones are passed over.
    """
    complete = (path for path in reversed(list_checkpoints(folder)) if _is_complete(path))
    return next(complete, None)


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in `folder` by number of steps, complete or not."""
    if not folder.is_dir():
        return []
    paths = [path for path in folder.iterdir() if path.is_dir() and _step(path) is not None]
    return sorted(paths, key=lambda path: _step(path) or 0)


def prune_checkpoints(folder: Path, keep_last: int) -> None:
    """Remove all but the last `keep_last` checkpoints, and temporary files of killed runs.

    The newest complete one always stays. Raises InputError for `keep_last` below 1.
    """
    if keep_last < 1:
        raise InputError(f"keep_last is {keep_last}", "Keep at least 1 checkpoint")
    remove_leftovers(folder)
    older = list_checkpoints(folder)[:-keep_last]
    newest = newest_checkpoint(folder) if older else None
    for path in older:
        if path != newest:
            # Renamed first: a kill while files disappear must not leave half a checkpoint.
            retired = path.with_name(f".tmp-{path.name}-pruned")
            path.rename(retired)
            shutil.rmtree(retired)


def _is_complete(path: Path, manifest: Mapping[str, Any] | None = None) -> bool:
    """Whether it can be read, and has this manifest where one is given."""
    try:
        read_checkpoint(path)
        return manifest is None or read_json(path / _MANIFEST) == manifest
    except InputError:
        return False


def _verified(path: Path, name: str, manifest: dict[str, Any]) -> bytes:
    try:
        expected = manifest["files"][name]
        size, digest = expected["bytes"], expected["sha256"]
    except (KeyError, TypeError):
        raise InputError(f"{path / _MANIFEST} does not describe {name}") from None
    content = read_bytes(path / name, _MAX_BYTES)
    if len(content) != size or hashlib.sha256(content).hexdigest() != digest:
        raise InputError(f"{path / name} is damaged", "Use an earlier checkpoint")
    return content


def _step(path: Path) -> int | None:
    match = _NAME.fullmatch(path.name)
    return int(match.group(1)) if match else None
