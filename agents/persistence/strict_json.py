"""Reading JSON from untrusted files: bounded in size, finite, no key repeated."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from conf.errors import InputError

MAX_JSON_BYTES = 16 * 2**20
_LONGEST_INTEGER = 40  # characters; states of random generators have 39 digits


def read_json(path: Path, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """The JSON object in a file.

    Raises InputError if the file is missing or larger than `max_bytes`, is not UTF-8 JSON or not
    an object, repeats a key, or holds NaN or an infinity.
    """
    return parse_json(read_bytes(path, max_bytes), str(path))


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """The content of a regular file of at most `max_bytes`; InputError otherwise."""
    try:
        if not path.is_file():
            raise InputError(f"{path} was not found", "Name a complete folder")
        with path.open("rb") as handle:
            content = handle.read(max_bytes + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > max_bytes:
        raise InputError(f"{path} is larger than {max_bytes} bytes", "It is another kind of file")
    return content


def parse_json(content: bytes, where: str) -> dict[str, Any]:
    """The JSON object in `content`; `where` names it in messages. Errors as in `read_json`."""
    try:
        value = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_float=_finite,
            parse_int=_bounded,
            parse_constant=_finite,  # NaN, Infinity, -Infinity
        )
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"{where} is not valid JSON: {reason}") from None
    if not isinstance(value, dict):
        raise InputError(f"{where} holds a {type(value).__name__}, expected a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {repeated!r} is repeated")
    return values


def _bounded(text: str) -> int:
    if len(text) > _LONGEST_INTEGER:
        raise ValueError(f"number {text[:20]}... has {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"number {text} is not finite")
    return value
