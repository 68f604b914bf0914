"""Nested plain data with arrays in it, split into JSON and named arrays, and joined again.

Checkpoints use it instead of pickle: it writes nothing but numbers, text, lists, tuples, mappings
and NumPy arrays, and reading can create nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from conf.errors import InputError

Array = NDArray[np.generic]

_ARRAY, _SCALAR, _TUPLE, _FLOAT = "$array", "$scalar", "$tuple", "$float"
_WIDTHS = {"int": (8, 16, 32, 64), "uint": (8, 16, 32, 64), "float": (16, 32, 64)}
_DTYPES = {"bool"} | {f"{kind}{bits}" for kind, widths in _WIDTHS.items() for bits in widths}
_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def pack(value: Any, where: str) -> tuple[Any, dict[str, Array]]:
    """Split `value` into JSON data and arrays, whose names begin with `where`.

    Torch tensors become NumPy arrays. Types, every bit of an array, and the difference between
    list and tuple are kept. Raises InputError for anything else (objects, functions) and for keys
    that are not text or begin with "$".
    """
    arrays: dict[str, Array] = {}
    return _pack(value, where, arrays), arrays


def unpack(packed: Any, arrays: Mapping[str, Array]) -> Any:
    """The value that `pack` split; arrays are copies. InputError for data `pack` cannot write."""
    if isinstance(packed, list):
        return [unpack(item, arrays) for item in packed]
    if not isinstance(packed, dict):
        return packed
    if not any(key.startswith("$") for key in packed):
        return {key: unpack(item, arrays) for key, item in packed.items()}
    try:
        ((tag, content),) = packed.items()
        return _UNPACKERS[tag](content, arrays)
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError):
        raise InputError(f"cannot read packed data {str(packed)[:80]!r}", "It is damaged") from None


def as_array(tensor: torch.Tensor) -> Array:
    """A NumPy copy of a tensor, on the CPU."""
    return cast(Array, np.array(tensor.detach().cpu().numpy(), order="C", copy=True))


def _pack(value: Any, where: str, arrays: dict[str, Array]) -> Any:
    if isinstance(value, torch.Tensor):
        value = as_array(value)
    if isinstance(value, np.ndarray | np.generic):
        return _pack_numbers(value, where, arrays)
    if isinstance(value, list | tuple):
        items = [_pack(item, f"{where}.{i}", arrays) for i, item in enumerate(value)]
        return {_TUPLE: items} if isinstance(value, tuple) else items
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or key.startswith("$"):
                raise InputError(f"{where} has the key {key!r}", "Keys are text without a '$'")
        return {key: _pack(item, f"{where}.{key}", arrays) for key, item in value.items()}
    return _pack_plain(value, where)


def _pack_numbers(value: Any, where: str, arrays: dict[str, Array]) -> Any:
    if value.dtype.name not in _DTYPES:
        raise InputError(f"{where} has dtype {value.dtype}", "Keep numbers and booleans")
    if isinstance(value, np.generic):
        return {_SCALAR: [value.dtype.name, _pack_plain(value.item(), where)]}
    if where in arrays:
        raise InputError(f"two arrays would be named {where}", "Keep dots out of the keys")
    arrays[where] = np.array(value, order="C", copy=True)
    return {_ARRAY: where}


def _pack_plain(value: Any, where: str) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise InputError(
        f"{where} is a {type(value).__name__}, which a checkpoint cannot hold",
        "Keep numbers, text, lists, tuples, mappings and NumPy arrays",
    )


def _unpack_scalar(content: Any, arrays: Mapping[str, Array]) -> np.generic:
    dtype, value = content
    if dtype not in _DTYPES:
        raise ValueError(dtype)
    return cast(np.generic, np.dtype(dtype).type(unpack(value, arrays)))


def _unpack_tuple(items: Any, arrays: Mapping[str, Array]) -> tuple[Any, ...]:
    if not isinstance(items, list):
        raise TypeError(items)
    return tuple(unpack(item, arrays) for item in items)


_UNPACKERS: dict[str, Any] = {
    _ARRAY: lambda name, arrays: np.array(arrays[name], copy=True),
    _SCALAR: _unpack_scalar,
    _TUPLE: _unpack_tuple,
    _FLOAT: lambda text, _: _NON_FINITE[text],
}
