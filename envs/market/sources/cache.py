"""What Yahoo once answered, kept on disk: the network is asked where that has nothing sound."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from conf.errors import InputError
from conf.files import write_atomically

_KEY = b"polyhedgerl.fingerprint"


class DamagedTable(Exception):
    """The file is there but is not what was written."""


def default_cache_dir() -> Path:
    """`polyhedgerl` in the user's cache folder ($XDG_CACHE_HOME or ~/.cache)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "polyhedgerl"


def table_fingerprint(table: pd.DataFrame) -> str:
    """SHA-256 over names, types and bytes of a date-indexed table of numbers."""
    digest = hashlib.sha256(table.index.to_numpy().astype("datetime64[D]").astype("i8").tobytes())
    for name in table.columns:
        values = table[name].to_numpy("float64")
        digest.update(f"{name}:{len(values)}:".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a date-indexed table of numbers as Parquet, atomically, its fingerprint inside."""
    content = pa.Table.from_pandas(table)
    metadata = {**(content.schema.metadata or {}), _KEY: table_fingerprint(table).encode()}
    buffer = BytesIO()
    pq.write_table(content.replace_schema_metadata(metadata), buffer)
    write_atomically(path, buffer.getvalue())


def read_table(path: Path) -> pd.DataFrame | None:
    """The table that `write_table` left at `path`, or None if there is no such file.

    Raises DamagedTable, with the reason, if the file cannot be read or its content does not match
    its fingerprint.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DamagedTable(error.strerror or str(error)) from None
    try:
        stored = pq.read_table(BytesIO(content))
        table: pd.DataFrame = stored.to_pandas()
        promised = (stored.schema.metadata or {}).get(_KEY, b"").decode()
        found = table_fingerprint(table)
    except Exception as error:
        raise DamagedTable(f"not readable, {type(error).__name__}") from None
    if promised != found:
        raise DamagedTable("its content does not match its fingerprint")
    return table


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
