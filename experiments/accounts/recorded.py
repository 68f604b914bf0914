"""The market as an account saw it: what was known when it was opened, and a row for each session.

An account never reads its past from a source again: sources revise what they once said.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from conf.errors import InputError, Unavailable
from conf.files import write_atomically
from envs.core.market import BookHistory
from envs.market.history import MarketHistory
from envs.market.panel import PanelHistory

_KINDS: dict[str, type[MarketHistory] | type[PanelHistory]] = {
    "index": MarketHistory,
    "panel": PanelHistory,
}
_EXTRA = "extra:"
_SAME = 1e-4  # relative difference of numbers that say the same


def save_history(history: BookHistory, path: Path) -> None:
    """Write one path of market data, all its columns."""
    kind = next(name for name, type_ in _KINDS.items() if isinstance(history, type_))
    plain = {
        column.name: getattr(history, column.name)
        for column in fields(history)
        if isinstance(getattr(history, column.name), str | float | tuple)
    }
    about = {"kind": kind, "columns": json.dumps(plain)}
    # The library writes memory as it lies: an array in another order would come back scrambled.
    columns = {name: np.ascontiguousarray(values) for name, values in _columns(history).items()}
    write_atomically(path, safetensors.numpy.save(columns, metadata=about))


def load_history(path: Path) -> BookHistory:
    """What `save_history` wrote; InputError where it is damaged."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            about = file.metadata()
            columns = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        kind, plain = _KINDS[about["kind"]], json.loads(about["columns"])
    except (OSError, SafetensorError, LookupError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not a recorded history: {error}") from None
    return kind(**plain, **_arguments(columns))


def session_row(history: BookHistory, session: int) -> dict[str, Any]:
    """One session as plain data; floats keep all their bits."""
    columns = _columns(history)
    at = slice(session, session + 1)
    return {name: _at(values, at).ravel().tolist() for name, values in columns.items()}


def with_sessions(history: BookHistory, rows: Sequence[Mapping[str, Any]]) -> BookHistory:
    """The history with these rows after its last session."""
    if not rows:
        return history
    columns = {}
    for name, values in _columns(history).items():
        shape = list(values.shape)
        shape[_time_axis(values)] = 1
        added = [np.array(row[name], values.dtype).reshape(shape) for row in rows]
        columns[name] = np.concatenate([values, *added], axis=_time_axis(values))
    longer: BookHistory = replace(history, **_arguments(columns))
    return longer


def at_recorded_level(
    history: BookHistory, other: BookHistory, provisional: Set[str]
) -> BookHistory:
    """`other` with a panel's prices as they go on from `history`.

    They are total returns, of which sources restate the whole past with each dividend: each asset
    by one factor, the median of the days that both have and that had ended when recorded.
    """
    if not isinstance(history, PanelHistory) or not isinstance(other, PanelHistory):
        return other
    ended = np.isin(history.dates.astype(str), [*provisional], invert=True)
    common, mine, others = np.intersect1d(history.dates[ended], other.dates, return_indices=True)
    if history.assets != other.assets or not common.size:
        return other
    level = np.median(history.close[:, ended][:, mine] / other.close[:, others], axis=1)
    return replace(other, close=other.close * level[:, None])


def changed_columns(history: BookHistory, other: BookHistory) -> list[str]:
    """Where `other` says something else of a session that both have: "close of 2020-03-16".

    Beyond a hundredth of a per cent. Volumes are left out: sources go on counting for days.
    Unavailable where `other` lacks a column, or has other assets.
    """
    if getattr(history, "assets", None) != getattr(other, "assets", None):
        raise Unavailable(
            f"{other.name} no longer has the assets that were recorded, in their order",
            "Put them back, or open another account",
        )
    ours, theirs = history.dates, other.dates
    common, mine, others = np.intersect1d(ours, theirs, return_indices=True)
    found = []
    columns = _columns(other)
    for name, values in _columns(history).items():
        if name not in columns:
            raise Unavailable(
                f"{other.name} no longer has {name.removeprefix(_EXTRA)} as it was recorded",
                "Put it back, or open another account",
            )
        if name == "volume":
            continue
        a, b = _at(values, mine), _at(columns[name], others)
        axes = tuple(i for i in range(a.ndim) if i != _time_axis(values))
        odd = ~np.isclose(a, b, rtol=_SAME, atol=1e-12, equal_nan=True)
        odd = odd.any(axis=axes) if axes else odd
        found += [f"{name} of {day}" for day in common[odd]]
    return found


def _columns(history: BookHistory) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {"dates": history.dates.astype(np.int64)}
    for column in fields(history):
        values = getattr(history, column.name)
        if column.name == "extras":
            columns |= {f"{_EXTRA}{name}": extra for name, extra in values.items()}
        elif column.name != "dates" and isinstance(values, np.ndarray):
            columns[column.name] = values
    return columns


def _arguments(columns: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    extras = {
        name.removeprefix(_EXTRA): values
        for name, values in columns.items()
        if name.startswith(_EXTRA)
    }
    arguments: dict[str, Any] = {
        name: values for name, values in columns.items() if not name.startswith(_EXTRA)
    }
    arguments["dates"] = arguments["dates"].astype("datetime64[D]")
    return arguments | ({"extras": extras} if extras else {})


def _time_axis(values: NDArray[Any]) -> int:
    return 0 if values.ndim == 1 else 1


def _at(values: NDArray[Any], sessions: Any) -> NDArray[Any]:
    return values[sessions] if values.ndim == 1 else values[:, sessions]
