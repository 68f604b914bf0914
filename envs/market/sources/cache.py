"""Downloads kept on disk: the network is used only for tables that are not cached intact."""

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
    """The file exists but does not hold what was written."""


def cache_folder(cache_dir: str | None) -> Path:
    """That folder; None: `polyhedgerl` in the user's cache folder ($XDG_CACHE_HOME or ~/.cache)."""
    if cache_dir:
        return Path(cache_dir).expanduser()
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
        stored = pq.ParquetFile(BytesIO(content)).read(use_threads=False)
        table: pd.DataFrame = stored.to_pandas(use_threads=False)
        recorded = (stored.schema.metadata or {}).get(_KEY, b"").decode()
        intact = table_fingerprint(table) == recorded
    except Exception as error:
        raise DamagedTable(f"not readable, {type(error).__name__}") from None
    if not intact:
        raise DamagedTable("its content does not match its fingerprint")
    return table


@dataclass(frozen=True)
class CachedTable:
    """A table of prices by date, from the cache or fresh from the network."""

    path: Path  # its place in the cache
    table: pd.DataFrame
    fresh: bool  # not in the cache yet: to be kept once it has proved usable
    notices: tuple[str, ...]

    def keep(self) -> tuple[str, ...]:
        """Put a fresh table into the cache; a notice if that fails."""
        try:
            if self.fresh:
                write_table(self.path, self.table)
        except OSError as error:
            return (
                f"yahoo: the download could not be kept in {self.path.parent} "
                f"({error.strerror}); set data.cache_dir",
            )
        return ()


def cached_or_downloaded(
    path: Path,
    end: dt.date,
    download: Callable[[], pd.DataFrame],
    remedy: str,
    as_it_stands: bool = False,
) -> CachedTable:
    """The table cached at `path`, or what `download` brings from the network.

    `end`, the last day requested, must be over before the network is asked; `as_it_stands` takes
    what there is of it and keeps nothing. Raises InputError, with `remedy` where that error is not
    `download`'s own.
    """
    if as_it_stands:
        return CachedTable(path, download(), False, ())
    damage = ""
    notices: tuple[str, ...] = ()
    try:
        table = read_table(path)
        if table is not None:
            return CachedTable(path, table, False, ())
    except DamagedTable as reason:
        damage = f"the cached file {path} is damaged"
        notices = (f"yahoo: {damage} ({reason}): downloaded again",)
    if end >= dt.date.today():
        raise InputError(
            f"data.end = {end} is not over yet, so its session has no close",
            "Choose a day before today: data.end=YYYY-MM-DD",
        )
    try:
        return CachedTable(path, download(), True, notices)
    except InputError as error:
        if not damage:
            raise
        raise InputError(f"{error.problem}; {damage}", remedy) from None
