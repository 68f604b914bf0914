"""A run's configuration as plain data: resolved once, hashed, and never evaluated again.

Plain data is what JSON holds exactly; `plain_config` makes it from a composed configuration, and
`refuse_evaluated` checks what is read back from a file.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conf.errors import InputError
from conf.settings import settings_to_json
from experiments.runs.mistakes import explain_value


def plain_config(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain JSON data, every interpolation resolved.

    Raises InputError for a missing value, for one that JSON cannot hold, and for `oc.env`:
    environment variables may hold secrets, and a run folder is passed on.
    """
    for path, text in _texts(OmegaConf.to_container(config, resolve=False), ""):
        if "oc.env" in text:
            raise InputError(
                f"setting {path} = {text!r} reads the environment",
                "Settings are recorded with the run; keep secrets out of them",
            )
    try:
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise explain_value(error) from None
    plain: dict[str, Any] = check_plain(values)
    return plain


def recorded_data(data: object) -> dict[str, Any]:
    """Data settings as they are recorded: paths relative to the working directory."""

    def portable(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: portable(item) for key, item in value.items()}
        is_place = isinstance(value, str) and os.path.isabs(value)
        return os.path.relpath(value) if is_place else value

    recorded: dict[str, Any] = portable(settings_to_json(data))
    return recorded


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting of a plain configuration with its dotted name."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def config_hash(config: Mapping[str, Any]) -> str:
    """SHA-256 of a plain configuration, independent of the order of its keys."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def check_plain(value: Any, where: str = "config") -> Any:
    """`value` if JSON holds it exactly (tuples become lists); InputError otherwise."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise InputError(f"{where} has the key {key!r}", "Give keys as text")
        return {key: check_plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [check_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{where} = {value} is not a finite number", "Give one, or null")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise InputError(f"{where} is a {type(value).__name__}", "Use numbers, text, lists, mappings")


def refuse_evaluated(config: Mapping[str, Any], where: str) -> None:
    """InputError if a configuration library would evaluate anything in `config`, read from `where`.

    That is an interpolation (`${...}`) or a reserved key such as `_target_`.
    """
    for path, text in _texts(config, ""):
        if "${" in text:
            raise InputError(
                f"{where}: {path} = {text!r} is an interpolation", "Write the value itself"
            )
        name = path.rpartition(".")[2]
        if name.startswith("_") and name.endswith("_"):
            raise InputError(f"{where}: {path} is a reserved name", "Take it out of the file")


def _texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """Every text in nested plain data with its dotted path; a key counts as text too."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            path = f"{where}.{key}".lstrip(".")
            yield path, str(key)
            yield from _texts(item, path)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _texts(item, f"{where}[{i}]")
    elif isinstance(value, str):
        yield where, value
