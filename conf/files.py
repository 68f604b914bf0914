"""Atomic writing: neither a reader nor a crash ever meets a half-written file or folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_ABSOLUTE = re.compile(r"""(?<![\w:/.~)\]}*-])(?:file:/*)?~?/(?:[^/\s'"]+/)*([^/\s'",;:]+)""")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file in one step: temporary file beside it, fsync, rename, fsync of the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_name(path)
    try:
        with temporary.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _fsync(path.parent)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write strict JSON (no NaN, no infinity) atomically, keys in the given order."""
    text = json.dumps(content, indent=2, allow_nan=False)
    write_atomically(path, (text + "\n").encode())


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a temporary folder that takes the place of `path` in one step when the block ends.

    Files inside are fsynced first. If the block raises, nothing appears and `path`, where it
    already stood, is untouched. While the swap of an existing folder is under way a kill can
    leave `path` missing for the moment between two renames; `path` itself is never half-written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_name(path)
    temporary.mkdir()
    try:
        yield temporary
        for file in sorted(temporary.rglob("*")):
            _fsync(file)
        _fsync(temporary)
        retired = None
        if path.exists():
            retired = _temporary_name(path)
            path.rename(retired)
        temporary.rename(path)
        _fsync(path.parent)
        if retired is not None:
            shutil.rmtree(retired)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def without_places(text: str) -> str:
    """`text` with every absolute path cut down to its file name: where files lay is private."""
    return _ABSOLUTE.sub(r"\1", text)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files and folders that a killed process left in `folder`."""
    for leftover in folder.glob(".tmp-*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    """Flush a file to disk; of a folder, the renames inside it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary_name(path: Path) -> Path:
    return path.parent / f".tmp-{path.name}-{uuid.uuid4().hex[:8]}"
