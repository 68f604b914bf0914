"""The command line of sweeps and ablations: what is their own, and what their runs are given."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence

from experiments.runs.cli import quoted
from experiments.runs.folder import check_run_name, resolve_folder


def prepared(arguments: Sequence[str], record: str, what: str, command: str) -> list[str]:
    """The arguments with the folder of what goes on, which is logged into.

    `record` is the file by which that folder is known; `what` ("a sweep") and `command` are said
    where it has none.
    """
    changed = list(arguments)
    for argument in arguments:
        key, _, value = argument.partition("=")
        value = value.strip("'\"")
        if key == "experiment":
            check_run_name(value)
        elif key == "resume" and value not in ("", "null"):
            folder = resolve_folder(value, record, what, command)
            changed.append(f"hydra.run.dir={quoted(folder)}")
    return changed


def of_runs(overrides: Sequence[str], own: Collection[str], group: str) -> list[str]:
    """The overrides that are settings of a run: none of `own`, of `group` or below it."""

    def is_own(override: str) -> bool:
        key = override.lstrip("+~").partition("=")[0]
        return key in (*own, group, "allow_inexact_resume") or key.startswith(f"{group}.")

    return [text for text in overrides if not is_own(text)]


def portable_override(override: str) -> str:
    """An override whose path, if it is one, leads from the working directory."""
    key, _, value = override.partition("=")
    bare = value.strip("'\"")
    return f"{key}={json.dumps(os.path.relpath(bare))}" if os.path.isabs(bare) else override
