"""What was wrong with a command line: an error of Hydra as one line, with the nearest name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
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

import conf
from conf.errors import InputError
from experiments.runs.help import group_choices


def explain_value(error: Exception) -> InputError:
    """A missing or unresolvable setting that surfaced while a configuration was read."""
    key = getattr(error, "full_key", None) or "?"
    if isinstance(error, MissingMandatoryValue):
        return InputError(f"setting {key} has no value", f"Give it one: {key}=...")
    return InputError(
        f"setting {key} cannot be resolved: {first_line(error)}",
        "Correct the ${...} in it, or give the value itself",
    )


def explain_composition(
    error: Exception, package: str, name: str, overrides: Sequence[str], *, multirun: bool = False
) -> InputError | None:
    """The user's mistake behind an error raised before a job ran; None if it is a defect.

    `name` of `package` is the configuration that was composed.
    """
    if isinstance(error, OverrideParseException):
        given = str(error.override)
        if "=" in given:
            return InputError(
                f"cannot read the override {given!r}: {_parse_complaint(error)}",
                "Quote values with special characters",
            )
        hint = _may_have_meant(given, package, name, overrides)
        remedy = f"Settings are given as key=value{hint and f'; did you mean {hint}?'}"
        return InputError(f"{given!r} is no setting", remedy)
    if isinstance(error, MissingConfigException):
        return _unknown_choice(error)
    if isinstance(error, ConfigCompositionException):
        return _bad_override(error, package, name, list(overrides))
    if isinstance(error, OmegaConfBaseException):
        return explain_value(error)
    # In a sweep the other kinds may be a defect that arrived from a worker.
    kinds = (HydraException,) if multirun else (HydraException, OSError, ValueError)
    return InputError(_flatten(error)) if isinstance(error, kinds) else None


def _may_have_meant(word: str, package: str, name: str, overrides: Sequence[str]) -> str:
    """The setting that an argument without `=` stands for; empty where it could be any."""
    known = _known_names(package, name, [])
    if word in known:
        return f"{word}=..."
    if "/" in word or Path(word).is_dir():
        folders = [text for text in overrides if "=" not in text]
        text = ",".join(folders) if name == "compare" else word
        return next((f"{key}={text}" for key in ("run", "runs", "resume") if key in known), "")
    groups = reversed([*group_choices(package, name)])  # of two alike the first one counts
    every = {choice: f"{group}={choice}" for group, choices, _ in groups for choice in choices}
    close = difflib.get_close_matches(word, every, n=1, cutoff=0.8)
    return every[close[0]] if close else ""


def _unknown_choice(error: MissingConfigException) -> InputError:
    group, _, choice = (error.missing_cfg_file or "?").rpartition("/")
    # Of several choices of a group Hydra names none.
    chosen_from = (Path(conf.__file__).parent / group).glob("*.yaml")
    options = list(error.options or []) or [path.stem for path in chosen_from if group]
    if not options:
        return InputError(first_line(error))
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
    cause = error.__cause__
    unknown = re.match(r"Could not override '([^']+)'", str(error))
    if unknown is None:
        text = _flatten(error) or (_flatten(cause) if cause is not None else type(error).__name__)
        return InputError(text)
    key = unknown.group(1)
    if cause is not None and not re.match(r"Key '.*' (is )?not in", str(cause)):
        return InputError(f"setting {key} is not valid: {first_line(cause)}")
    others = [text for text in overrides if key not in text]
    known = _known_names(package, name, others) or _known_names(package, name, [])
    if key in known:  # a group that has no default
        given = next((text for text in overrides if text.startswith(f"{key}=")), f"{key}=...")
        return InputError(f"{key} has no choice that could be changed", f"Did you mean +{given}?")
    return InputError(f"unknown setting {key}", _did_you_mean(key, known))


def _did_you_mean(key: str, known: list[str]) -> str:
    section, _, leaf = key.rpartition(".")
    siblings = [name for name in known if name.rpartition(".")[0] == section]
    close = [name for name in known if name.rpartition(".")[2] == leaf]
    if not close and section and siblings:  # the section is right, and would make all of it near
        leaves = {name.rpartition(".")[2]: name for name in siblings}
        close = [leaves[match] for match in difflib.get_close_matches(leaf, leaves)]
    elif not close:
        leaves = {name.rpartition(".")[2]: name for name in known}
        near = difflib.get_close_matches
        close = near(key, known) or [leaves[match] for match in near(leaf, leaves)]
    if close:
        return f"Did you mean {' or '.join(close[:3])}?"
    return f"Known: {', '.join(siblings or sorted({name.split('.')[0] for name in known}))}"


def _known_names(package: str, name: str, overrides: list[str]) -> list[str]:
    """Dotted keys of the composed configuration, and its groups; empty if it does not compose."""
    try:
        with ExitStack() as stack:
            if not GlobalHydra.instance().is_initialized():  # as it is within a command
                stack.enter_context(
                    initialize_config_module(config_module=package, version_base="1.3")
                )
            config = compose(config_name=name, overrides=overrides)
            groups = GlobalHydra.instance().config_loader().list_groups("")
    except Exception:  # whatever is wrong with them is complained of elsewhere
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
    noise = ("See http", "Error parsing override")
    lines = [line for line in str(error).splitlines() if line and not line.startswith(noise)]
    return re.sub(r"^\w+Exception: ", "", " ".join(lines)) or "bad grammar"


def first_line(error: BaseException) -> str:
    """The first line of its message, or else its type."""
    return str(error).strip().split("\n")[0] or type(error).__name__


def _flatten(error: BaseException) -> str:
    return " ".join(str(error).split("Config search path:")[0].split())
