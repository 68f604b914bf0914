"""A history that was loaded, of whatever kind, with its splits and how it came about."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

from pydantic import TypeAdapter

from conf.types import DateArray
from envs.market.splits import Split, SplitDates, Splits, split_history


class _Dated(Protocol):
    @property
    def dates(self) -> DateArray: ...

    @property
    def num_sessions(self) -> int: ...


class _Divided(Protocol):
    @property
    def splits(self) -> SplitDates: ...


HistoryT = TypeVar("HistoryT", bound=_Dated)
SettingsT = TypeVar("SettingsT", bound=_Divided)


@dataclass(frozen=True)
class Loaded(Generic[HistoryT, SettingsT]):
    """A history, its splits, and how it came about."""

    history: HistoryT
    settings: SettingsT  # what was really used: after a fallback, not what was asked for
    notices: tuple[str, ...]  # what a person should be told, one line each
    embargo_days: int  # calendar days between splits
    warmup_sessions: int

    @cached_property
    def splits(self) -> Splits:
        """Train, validation and test; InputError where the history is too short for them."""
        return split_history(
            self.history.dates,
            self.settings.splits,
            embargo_days=self.embargo_days,
            warmup_sessions=self.warmup_sessions,
        )

    def split(self, name: str) -> Split:
        """The split of that name; `all`, everything after the warm-up, needs no other to fit."""
        if name == "all":
            return Split("all", max(self.warmup_sessions - 1, 0), self.history.num_sessions)
        return self.splits.named(name)


def settings_to_json(used: object) -> dict[str, Any]:
    """Settings as plain JSON data; `build_settings` of their kind reads them back."""
    plain: dict[str, Any] = TypeAdapter(type(used)).dump_python(used, mode="json")
    return plain
