"""What Hydra and OmegaConf complain about, told in one sentence with a remedy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from risk.errors import InputError


def explain_value(error: Exception) -> InputError:
    """A missing or unresolvable value that surfaced while a command read its configuration."""
    key = getattr(error, "full_key", None) or "?"
    if isinstance(error, MissingMandatoryValue):
        return InputError(f"setting {key} has no value", f"Give it one: {key}=...")
    return InputError(f"setting {key} cannot be resolved: {_first_line(error)}")


def explain_composition(
    error: Exception, config_package: str, config_name: str, arguments: Any
) -> InputError | None:
    """The user's mistake behind an error raised before a job ran; None if it is a defect.

    `arguments` is the command line as Hydra's parser gives it (overrides, multirun).
    """
    if isinstance(error, OverrideParseException):
        return InputError(
            f"cannot read the override {error.override!r}: {_parse_complaint(error)}",
            "Settings are given as key=value; quote values with special characters",
        )
    if isinstance(error, MissingConfigException):
        return _unknown_choice(error)
    if isinstance(error, ConfigCompositionException):
        overrides = list(arguments.overrides)
        return _bad_override(error, config_package, config_name, overrides)
    if isinstance(error, OmegaConfBaseException):
        return explain_value(error)
    # A worker's error may arrive as any of these, so they are the user's only in a single run.
    plain = (HydraException, OSError, ValueError)
    if isinstance(error, plain) and not arguments.multirun:
        return InputError(_flatten(error))
    return InputError(_flatten(error)) if isinstance(error, HydraException) else None


def _unknown_choice(error: MissingConfigException) -> InputError:
    wanted = error.missing_cfg_file or "?"
    group, _, choice = wanted.rpartition("/")
    options = list(error.options or [])
    if not options:
        return InputError(_first_line(error))
    close = difflib.get_close_matches(choice, options, n=1)
    hint = f"Did you mean {group}={close[0]}? " if close else ""
    return InputError(
        f"{group}={choice} is not available", f"{hint}Choices: {', '.join(sorted(options))}"
    )


def _bad_override(
    error: ConfigCompositionException, package: str, name: str, overrides: list[str]
) -> InputError:
    several = re.match(r"Ambiguous value for argument '([^']+)'", str(error))
    if several is not None:
        return InputError(
            f"{several.group(1)} names several values",
            "Add -m to run each of them, or write key=[a,b] for a list",
        )
    unknown = re.match(r"Could not override '([^']+)'", str(error))
    if unknown is None:
        cause = error.__cause__
        text = _flatten(error) or (_flatten(cause) if cause is not None else type(error).__name__)
        return InputError(text)
    key = unknown.group(1)
    cause = error.__cause__
    if cause is not None and not re.match(r"Key '.*' (is )?not in", str(cause)):
        return InputError(f"setting {key} is not valid: {_first_line(cause)}")
    others = [text for text in overrides if key not in text]
    known = _known_names(package, name, others) or _known_names(package, name, [])
    return InputError(f"unknown setting {key}", _did_you_mean(key, known))


def _did_you_mean(key: str, known: list[str]) -> str:
    leaf = key.rpartition(".")[2]
    close = [name for name in known if name.rpartition(".")[2] == leaf]
    close = close or difflib.get_close_matches(key, known, n=3)
    if not close:
        leaves = {name.rpartition(".")[2]: name for name in known}
        close = [leaves[match] for match in difflib.get_close_matches(leaf, leaves, n=3)]
    if close:
        return f"Did you mean {' or '.join(close[:3])}?"
    siblings = [name for name in known if name.rpartition(".")[0] == key.rpartition(".")[0]]
    return f"Known: {', '.join(siblings or sorted({name.split('.')[0] for name in known}))}"


def _known_names(package: str, name: str, overrides: list[str]) -> list[str]:
    """Dotted keys of the composed configuration, and its groups; empty if it does not compose."""
    try:
        with initialize_config_module(config_module=package, version_base="1.3"):
            config = compose(config_name=name, overrides=overrides)
            groups = GlobalHydra.instance().config_loader().list_groups("")
    except (HydraException, OmegaConfBaseException, OSError):
        return []
    values = OmegaConf.to_container(config, resolve=False)
    keys = list(_dotted(values)) if isinstance(values, dict) else []
    return keys + [group for group in groups if group not in keys and group != "hydra"]


def _dotted(values: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")


def _parse_complaint(error: OverrideParseException) -> str:
    lines = [line for line in str(error).splitlines() if line and not line.startswith("See http")]
    lines = [line for line in lines if not line.startswith("Error parsing override")]
    return " ".join(lines) or "bad grammar"


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


def _flatten(error: BaseException) -> str:
    return " ".join(str(error).split("Config search path:")[0].split())
