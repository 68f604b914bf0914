"""What Yahoo once answered, kept on disk: the network is asked where that has nothing sound."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from envs.market.table_cache import DamagedTable, read_table, write_table
from risk.errors import InputError


@dataclass(frozen=True)
class Answer:
    """A table of prices by date, and whether it comes from the network."""

    table: pd.DataFrame
    fresh: bool  # not in the cache yet: keep it once it has proved usable
    notices: tuple[str, ...]


def answer_of(path: Path, end: dt.date, ask: Callable[[], pd.DataFrame], remedy: str) -> Answer:
    """The table cached at `path`, or what `ask` brings from the network.

    `end` is the last day wanted: it must be over before the network is asked. Raises InputError,
    with `remedy` where that error is not `ask`'s own.
    """
    damaged = ""
    try:
        table = read_table(path)
        if table is not None:
            return Answer(table, False, ())
    except DamagedTable as damage:
        damaged = f"the cached file {path} is damaged"
        notices = (f"yahoo: {damaged} ({damage}): downloaded again",)
    if end >= dt.date.today():
        raise InputError(
            f"data.end = {end} is not over yet, so its session has no close",
            "Choose a day before today: data.end=YYYY-MM-DD",
        )
    try:
        return Answer(ask(), True, notices if damaged else ())
    except InputError as error:
        if not damaged:
            raise
        raise InputError(f"{error.problem}; {damaged}", remedy) from None


def keep(path: Path, table: pd.DataFrame) -> tuple[str, ...]:
    """Put a fresh table into the cache; a notice if that fails."""
    try:
        write_table(path, table)
    except OSError as error:
        return (
            f"yahoo: the download could not be kept in {path.parent} ({error.strerror}); "
            "set data.cache_dir",
        )
    return ()
