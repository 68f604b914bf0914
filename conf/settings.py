"""Strict, frozen settings classes: an unknown key, a wrong type or a value out of range is refused.

Every configurable part declares its settings beside itself:

    @settings
    class FlatCosts:
        rate_bps: Annotated[float, Field(ge=0)] = 5.0

and is built from plain data (a YAML file, a run folder) by `build_settings`. Nothing is ever
imported or called by a name found in that data.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, TypeVar, cast, dataclass_transform

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic_core import ArgsKwargs

from conf.errors import InputError

T = TypeVar("T")

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def settings(cls: type[T]) -> type[T]:
    """Make a frozen, keyword-only dataclass that checks types and ranges when it is built."""
    made: Any = pydantic_dataclass(frozen=True, kw_only=True, config=_STRICT)(cls)
    return cast(type[T], made)


def build_settings(kind: Any, values: Mapping[str, Any], where: str) -> Any:
    """Build a settings class (or a discriminated union of them) from plain data.

    `where` names the section in messages ("data", "reward"). Raises InputError that names the
    first offending key, its value and what would be accepted.
    """
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        raise _explain(error, where, kind) from None


def _explain(error: ValidationError, where: str, kind: Any) -> InputError:
    first = error.errors(include_url=False)[0]
    path, known = ".".join([where, *_readable(first["loc"], kind)]), _known_keys(kind)
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        key = str(first["loc"][-1])
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known keys: {', '.join(known)}"
        return InputError(f"unknown setting {path} = {first['input']!r}", hint)
    if first["type"] in ("missing", "missing_argument"):
        return InputError(f"setting {path} is missing", f"Give it a value: {path}=...")
    message = re.sub(r"^Value error, ", "", first["msg"])
    if first["type"] == "value_error" and _is_section(first["input"], known):
        # The message names what does not go together; all settings of the section would bury it.
        section = ".".join([where, *(str(part) for part in first["loc"] if part in known)])
        return InputError(f"the settings of {section} do not go together: {message}")
    return InputError(f"setting {path} = {first['input']!r} is not valid: {message}")


def _is_section(given: object, known: list[str]) -> bool:
    """Are these settings, and not the value of one that is a mapping itself?"""
    named = isinstance(given, Mapping) and set(given) <= set(known)
    return named or isinstance(given, ArgsKwargs)


def _readable(location: tuple[int | str, ...], kind: Any) -> list[str]:
    """The path as it is written in a configuration: without the name of a union's member."""
    known = _known_keys(kind)
    last = len(location) - 1
    return [
        str(part)
        for i, part in enumerate(location)
        if isinstance(part, int) or part in known or i == last
    ]


def _known_keys(kind: Any) -> list[str]:
    keys: set[str] = set()
    pending, seen = [kind], set()
    while pending:
        item = pending.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        fields = getattr(item, "__pydantic_fields__", {})
        keys.update(fields)
        pending.extend(field.annotation for field in fields.values())
        pending.extend(getattr(item, "__args__", ()))
    return sorted(keys)
