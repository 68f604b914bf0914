"""A CSV or Parquet file as named columns of raw cells, each row knowing where it stands."""

from __future__ import annotations

import csv
import datetime as dt
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from conf.errors import InputError
from conf.types import BoolArray, DateArray, FloatArray
from envs.market.history import MAX_GAP_SESSIONS

_DATE = re.compile(r"(\d{4})([-/]?)(\d{2})\2(\d{2})(?=$|[T ])")


def days_of(table: FileTable) -> DateArray:
    """The column date as days in the order of the rows, (T,)."""
    cells = table.columns["date"]
    parsed = [_date(table, record, cell) for record, cell in enumerate(cells)]
    return np.array(parsed, dtype="datetime64[D]")


def sessions_of(table: FileTable) -> DateArray:
    """The column date where each row is a session of its own, (T,): rising, without long gaps."""
    dates = days_of(table)
    for record in (np.flatnonzero(np.diff(dates).astype(int) <= 0) + 1).tolist():
        same = dates[record] == dates[record - 1]
        complaint = "appears twice" if same else f"comes after {dates[record - 1]}"
        raise InputError(
            f"{table.place(record)}: date {dates[record]} {complaint}",
            "Give one row a session, oldest first",
        )
    missing = np.busday_count(dates[:-1], dates[1:]) - 1
    for record in (np.flatnonzero(missing > MAX_GAP_SESSIONS) + 1).tolist():
        raise InputError(
            f"{table.place(record)}: date {dates[record]} leaves {missing[record - 1]} weekdays "
            f"missing after {dates[record - 1]}",
            f"Fill the gap (at most {MAX_GAP_SESSIONS} are allowed) or start the file after it",
        )
    return dates


def _date(table: FileTable, record: int, cell: object) -> dt.date:
    if isinstance(cell, dt.datetime) and cell == cell:
        return cell.date()
    if isinstance(cell, dt.date) and cell == cell:
        return cell
    # The day alone counts: a time of day and its zone, as yfinance writes them, are ignored.
    found = _DATE.match(cell.strip()) if isinstance(cell, str) else None
    try:
        if found:
            return dt.date(int(found[1]), int(found[3]), int(found[4]))
    except ValueError:
        pass
    raise InputError(
        f"{table.place(record)}: {_shown(cell)} in column date is not a date",
        "Write dates as YYYY-MM-DD",
    )


def prices_of(table: FileTable, name: str, *, blank_allowed: bool = False) -> FloatArray:
    """The column as positive numbers, (T,); a blank cell is NaN where allowed, else an error."""
    values = numbers_of(table, name, blank_allowed=blank_allowed)
    refuse(table, name, values, values <= 0, "is not positive", "Correct or remove that row")
    return values


def annual_rate(table: FileTable, name: str, constant: float) -> FloatArray:
    """The column as annual decimals, (T,); the constant where the file has no such column."""
    if name not in table.columns:
        return np.full(len(table.rows), constant)
    values = numbers_of(table, name)
    remedy = "Write annual decimals: 0.025 is 2.5 %"
    refuse(table, name, values, np.abs(values) >= 1, "is not a decimal rate", remedy)
    return values


def numbers_of(table: FileTable, name: str, *, blank_allowed: bool = False) -> FloatArray:
    """The column as finite floats, (T,); a blank cell is NaN where allowed, else an error."""
    cells = table.columns[name]
    values = np.array([number_in(cell) for cell in cells], np.float64)
    for record in np.flatnonzero(~np.isfinite(values)).tolist():
        blank = is_blank(cells[record])
        if blank and blank_allowed:
            continue
        complaint = "is empty" if blank else f"holds {_shown(cells[record])}, not a finite number"
        raise InputError(
            f"{table.place(record)}: column {name} {complaint}",
            "Write a plain number with a decimal point, or remove the row or the column",
        )
    return values


def number_in(cell: object) -> float:
    """The number in a cell; NaN if it holds something else."""
    # float() would take True and "1_000".
    if isinstance(cell, bool) or (isinstance(cell, str) and "_" in cell):
        return math.nan
    try:
        return float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan


def is_blank(cell: object) -> bool:
    """Whether a cell holds nothing at all."""
    if isinstance(cell, str):
        return not cell.strip()
    return cell is None or cell is pd.NA or (isinstance(cell, float) and math.isnan(cell))


def refuse(
    table: FileTable,
    name: str,
    values: FloatArray,
    bad: BoolArray,
    complaint: str,
    remedy: str,
) -> None:
    """InputError for the first row that is `bad` (T,), with its value and the complaint."""
    for record in np.flatnonzero(bad).tolist():
        raise InputError(f"{table.place(record)}: {name} {values[record]:g} {complaint}", remedy)


def _shown(cell: object) -> str:
    text = repr(cell) if isinstance(cell, str) else str(cell)
    return text if len(text) <= 60 else text[:57] + "..."


_PARQUET_MAGIC = b"PAR1"
_DELIMITERS = (",", ";", "\t")
_SAVE_AS = "Save it as UTF-8 CSV or as Parquet"


@dataclass(frozen=True)
class FileTable:
    """Raw cells by column; text from CSV, typed values from Parquet."""

    path: Path
    rows: tuple[int, ...]  # of each record: line number in a CSV, row number from 1 in a Parquet
    row_word: str  # "line" or "row"
    columns: dict[str, Sequence[object]]  # lower-case name with underscores -> one cell a record
    labels: dict[str, str]  # that name -> the name as the file has it

    def place(self, record: int) -> str:
        """Where a record stands, for a message: "prices.csv, line 17"."""
        return f"{self.path}, {self.row_word} {self.rows[record]}"


def read_file_table(path: Path) -> FileTable:
    """Read a file by its content, whatever its name ends in.

    CSV may be separated by commas, semicolons or tabs and may start with a byte-order mark;
    column names lose case and surrounding blanks, inner blanks become underscores. Raises
    InputError for what is not there, is not such a file or has no rows.
    """
    content = _read_bytes(path)
    if not content.strip():
        raise _empty(path)
    table = _parquet(path, content) if content[:4] == _PARQUET_MAGIC else _csv(path, content)
    if not table.rows:
        raise InputError(f"{path} has a header but no rows", "Give one row a session")
    return table


def _empty(path: Path) -> InputError:
    return InputError(f"{path} is empty", "Give a file with a header and one row a session")


def _read_bytes(path: Path) -> bytes:
    try:
        return path.expanduser().read_bytes()
    except FileNotFoundError:
        raise InputError(f"there is no file {path}", "Check data.path") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder", "Give the file: data.path=prices.csv") from None
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} cannot be read: {error}", "Check data.path") from None


def _csv(path: Path, content: bytes) -> FileTable:
    if b"\0" in content:
        raise InputError(f"{path} is not a text file", _SAVE_AS)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line} is not UTF-8 text", _SAVE_AS) from None
    # Universal newlines, so that a record's number is the line number an editor shows.
    lines = io.StringIO(text, newline=None)
    header_line = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(_DELIMITERS, key=header_line.count)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    numbered: list[tuple[int, list[str]]] = []
    finished = 0  # lines of whole records; a quote left open reads on to the end of the file
    try:
        for cells in reader:
            finished = reader.line_num
            if any(cell.strip() for cell in cells):
                numbered.append((finished, cells))
    except csv.Error as error:
        raise InputError(
            f"{path}, line {finished + 1} is not valid CSV: {error}", "Correct that line"
        ) from None
    if not numbered:
        raise _empty(path)
    return _columns_of(path, numbered)


def _columns_of(path: Path, numbered: list[tuple[int, list[str]]]) -> FileTable:
    header, records = numbered[0][1], numbered[1:]
    for line, cells in records:
        if len(cells) != len(header):
            raise InputError(
                f"{path}, line {line} has {len(cells)} cells, the header has {len(header)}",
                "Give every line one cell for each column",
            )
    names = _plain_names(path, header)
    labels = dict(zip(names, (label.strip() for label in header), strict=True))
    columns: dict[str, Sequence[object]] = {
        name: [cells[position] for _, cells in records] for position, name in enumerate(names)
    }
    return FileTable(path, tuple(line for line, _ in records), "line", columns, labels)


def _parquet(path: Path, content: bytes) -> FileTable:
    try:
        frame: pd.DataFrame = pq.read_table(io.BytesIO(content)).to_pandas()
    except Exception as error:
        raise InputError(
            f"{path} is a damaged Parquet file: {' '.join(str(error).split())[:200]}",
            "Write it again",
        ) from None
    if not isinstance(frame.index, pd.RangeIndex):
        frame = frame.reset_index()
    header = [str(name) for name in frame.columns]
    names = _plain_names(path, header)
    labels = dict(zip(names, (label.strip() for label in header), strict=True))
    columns: dict[str, Sequence[object]] = {
        name: frame.iloc[:, position].tolist() for position, name in enumerate(names)
    }
    return FileTable(path, tuple(range(1, len(frame) + 1)), "row", columns, labels)


def _plain_names(path: Path, names: list[str]) -> list[str]:
    plain = ["_".join(name.lower().split()) for name in names]
    for position, name in enumerate(plain):
        if name in plain[:position]:
            raise InputError(
                f"{path} has two columns named {name!r}", "Rename or remove one (case is ignored)"
            )
    return plain
