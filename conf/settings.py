"""Strict, frozen settings classes that refuse unknown keys, wrong types and values out of range.

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
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast, dataclass_transform

from pydantic import (
    ConfigDict,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic_core import ArgsKwargs

from conf.errors import InputError

T = TypeVar("T")


def in_one_message(expected: str) -> WrapValidator:
    """Of a union pydantic complains once a member; with this it says "write <expected>"."""

    def validate(value: Any, build: ValidatorFunctionWrapHandler) -> Any:
        try:
            return build(value)
        except ValidationError:
            raise ValueError(f"write {expected}") from None

    return WrapValidator(validate)


_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def settings(cls: type[T]) -> type[T]:
    """Make a frozen, keyword-only dataclass that checks types and ranges when it is built."""
    return cast(type[T], pydantic_dataclass(frozen=True, kw_only=True, config=_STRICT)(cls))


def build_settings(kind: Any, values: Mapping[str, Any], where: str = "") -> Any:
    """Build a settings class (or a discriminated union of them) from plain data.

    `where` names the section in messages ("data", "reward"); empty for what stands outside of all.
    Raises InputError that names the first offending key, its value and what would be accepted.
    """
    try:
        built = TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        raise _explain(error, where, kind, values) from None
    _refuse_flags_as_numbers(values, built, where)
    return built


def _refuse_flags_as_numbers(given: Any, built: Any, where: str) -> None:
    """Pydantic takes true for 1 where a number is expected."""
    if isinstance(given, bool) and not isinstance(built, bool) and isinstance(built, int | float):
        raise InputError(f"setting {where} = {given} is not valid: a number is expected")
    if isinstance(given, Mapping):
        for name, value in given.items():
            part = built.get(name) if isinstance(built, Mapping) else getattr(built, name, None)
            _refuse_flags_as_numbers(value, part, _dotted(where, name))
    elif isinstance(given, list | tuple) and isinstance(built, list | tuple):
        for number, (value, part) in enumerate(zip(given, built, strict=False)):
            _refuse_flags_as_numbers(value, part, f"{where}[{number}]")


def settings_to_json(used: object) -> dict[str, Any]:
    """Settings as plain JSON data; `build_settings` of their kind reads them back."""
    plain: dict[str, Any] = TypeAdapter(type(used)).dump_python(used, mode="json")
    return plain


def _explain(error: ValidationError, where: str, kind: Any, values: object) -> InputError:
    first, known = error.errors(include_url=False)[0], _known_keys(kind)
    location = first["loc"]
    path = _dotted(where, *_as_written(location, values, known))
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known keys: {', '.join(known)}"
        return InputError(f"unknown setting {path} = {first['input']!r}", hint)
    if first["type"] in ("missing", "missing_argument"):
        return InputError(f"setting {path} is missing", f"Give it a value: {path}=...")
    message = re.sub(r"^Value error, ", "", first["msg"])
    if first["type"] == "too_short":
        message = f"give at least {first['ctx']['min_length']}"
    if first["type"] == "value_error" and _is_section(first["input"], known):
        # The message names the settings in conflict; printing the whole section would bury it.
        return InputError(f"the settings{path and f' of {path}'} do not go together: {message}")
    return InputError(f"setting {path} = {first['input']!r} is not valid: {message}")


def _dotted(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def _as_written(
    location: Sequence[str | int], values: object, known: Collection[str]
) -> Iterator[str]:
    """The parts of pydantic's location that stand in a configuration.

    The names of a union's members are left out.
    """
    for part in location:
        given = isinstance(values, Mapping) and part in values
        if given or isinstance(part, int) or part in known:
            yield str(part)
        if given or (isinstance(values, list | tuple) and isinstance(part, int)):
            values = cast(Any, values)[part]


def _is_section(value: object, known: list[str]) -> bool:
    """Whether `value` is a section of settings rather than one setting that is a mapping."""
    named = isinstance(value, Mapping) and set(value) <= set(known)
    return named or isinstance(value, ArgsKwargs)


def _known_keys(kind: Any) -> list[str]:
    """The keys of a settings class, of its members if it is a union, and of nested sections."""
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
