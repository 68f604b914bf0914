"""A CSV or Parquet file as named columns of raw cells, whose rows can be named in errors."""

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
_PARQUET_MAGIC = b"PAR1"
_DELIMITERS = (",", ";", "\t")
_SAVE_AS = "Save it as UTF-8 CSV or as Parquet"


@dataclass(frozen=True)
class FileTable:
    """Raw cells by column: text from CSV, typed values from Parquet.

    Methods raise InputError naming the file, the row, the value and the remedy.
    """

    path: Path
    rows: Sequence[int]  # of each record: line number in a CSV, row number from 1 in a Parquet
    row_word: str  # "line" or "row"
    columns: dict[str, Sequence[object]]  # lower-case name with underscores -> one cell a record
    labels: dict[str, str]  # that name -> the name as the file has it

    def place(self, record: int) -> str:
        """Where a record stands, for a message: "prices.csv, line 17"."""
        return f"{self.path}, {self.row_word} {self.rows[record]}"

    def days(self) -> DateArray:
        """The column date as days in the order of the rows, (T,)."""
        cells = enumerate(self.columns["date"])
        return np.array([self._day(*cell) for cell in cells], dtype="datetime64[D]")

    def _day(self, record: int, cell: object) -> dt.date:
        if isinstance(cell, dt.date) and cell == cell:  # NaT is a date too, unlike itself
            return cell.date() if isinstance(cell, dt.datetime) else cell
        # The day alone counts: a time of day and its zone, as yfinance writes them, are ignored.
        match = _DATE.match(cell.strip()) if isinstance(cell, str) else None
        try:
            if match:
                return dt.date(int(match[1]), int(match[3]), int(match[4]))
        except ValueError:
            pass
        raise InputError(
            f"{self.place(record)}: {_shown(cell)} in column date is not a date",
            "Write dates as YYYY-MM-DD",
        )

    def sessions(self) -> DateArray:
        """The column date where each row is a session of its own, (T,): rising, no long gaps."""
        dates = self.days()
        for record in (np.flatnonzero(np.diff(dates).astype(int) <= 0) + 1).tolist():
            same = dates[record] == dates[record - 1]
            complaint = "appears twice" if same else f"comes after {dates[record - 1]}"
            raise InputError(
                f"{self.place(record)}: date {dates[record]} {complaint}",
                "Give one row a session, oldest first",
            )
        missing = np.busday_count(dates[:-1], dates[1:]) - 1
        for record in (np.flatnonzero(missing > MAX_GAP_SESSIONS) + 1).tolist():
            raise InputError(
                f"{self.place(record)}: date {dates[record]} leaves {missing[record - 1]} weekdays "
                f"missing after {dates[record - 1]}",
                f"Fill the gap (at most {MAX_GAP_SESSIONS} are allowed) or start the file after it",
            )
        return dates

    def holds_numbers(self, name: str) -> bool:
        """Whether a cell of the column is a number."""
        return not all(math.isnan(_number(cell)) for cell in self.columns[name])

    def numbers(self, name: str, *, blank_allowed: bool = False) -> FloatArray:
        """The column as finite floats, (T,); a blank cell is NaN where allowed, else an error."""
        cells = self.columns[name]
        values = np.array([_number(cell) for cell in cells], np.float64)
        for record in np.flatnonzero(~np.isfinite(values)).tolist():
            cell = cells[record]
            blank = cell is None or cell is pd.NA or not str(cell).strip()
            blank = blank or (isinstance(cell, float) and math.isnan(cell))
            if blank and blank_allowed:
                continue
            problem = "is empty" if blank else f"holds {_shown(cell)}, not a finite number"
            raise InputError(
                f"{self.place(record)}: column {name} {problem}",
                "Write a plain number with a decimal point, or remove the row or the column",
            )
        return values

    def prices(self, name: str, *, blank_allowed: bool = False) -> FloatArray:
        """The column as positive numbers, (T,); blank cells as in `numbers`."""
        values = self.numbers(name, blank_allowed=blank_allowed)
        self.refuse(name, values, values <= 0, "is not positive", "Correct or remove that row")
        return values

    def annual_rate(self, name: str, constant: float) -> FloatArray:
        """The column as annual decimals, (T,); the constant where the file has no such column."""
        if name not in self.columns:
            return np.full(len(self.rows), constant)
        values = self.numbers(name)
        remedy = "Write annual decimals: 0.025 is 2.5 %"
        self.refuse(name, values, np.abs(values) >= 1, "is not a decimal rate", remedy)
        return values

    def refuse(
        self, name: str, values: FloatArray, bad: BoolArray, complaint: str, remedy: str
    ) -> None:
        """InputError for the first record that is `bad` (T,), with its value and the complaint."""
        for record in np.flatnonzero(bad).tolist():
            raise InputError(f"{self.place(record)}: {name} {values[record]:g} {complaint}", remedy)


def _number(cell: object) -> float:
    """The number in a cell; NaN if it holds something else."""
    # float() would take True and "1_000".
    if isinstance(cell, bool) or (isinstance(cell, str) and "_" in cell):
        return math.nan
    try:
        return float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan


def _shown(cell: object) -> str:
    text = repr(cell) if isinstance(cell, str) else str(cell)
    return text if len(text) <= 60 else text[:57] + "..."


def read_file_table(path: Path) -> FileTable:
    """Read a file by its content, whatever its name ends in.

    CSV may be separated by commas, semicolons or tabs and may start with a byte-order mark;
    column names lose case and surrounding blanks, inner blanks become underscores. Raises
    InputError for what is not there, is not such a file or has no rows.
    """
    content = _read_bytes(path)
    if not content.strip():
        raise _empty(path)
    return _parquet(path, content) if content[:4] == _PARQUET_MAGIC else _csv(path, content)


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
    header_line = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(_DELIMITERS, key=header_line.count)
    # Universal newlines, so that a record's number is the line number an editor shows.
    reader = csv.reader(io.StringIO(text, newline=None), delimiter=delimiter, strict=True)
    records: dict[int, list[str]] = {}  # by the number of their last line
    finished = 0  # lines of whole records; a quote left open reads on to the end of the file
    try:
        for cells in reader:
            finished = reader.line_num
            if any(cell.strip() for cell in cells):
                records[finished] = cells
    except csv.Error as error:
        raise InputError(
            f"{path}, line {finished + 1} is not valid CSV: {error}", "Correct that line"
        ) from None
    if not records:
        raise _empty(path)
    header = records.pop(min(records))
    for line, cells in records.items():
        if len(cells) != len(header):
            raise InputError(
                f"{path}, line {line} has {len(cells)} cells, the header has {len(header)}",
                "Give every line one cell for each column",
            )
    columns = list(zip(*records.values(), strict=True))
    return _table(path, "line", list(records), header, columns)


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
    columns = [frame.iloc[:, position].tolist() for position in range(len(header))]
    return _table(path, "row", range(1, len(frame) + 1), header, columns)


def _table(
    path: Path,
    row_word: str,
    rows: Sequence[int],
    header: Sequence[str],
    columns: Sequence[Sequence[object]],
) -> FileTable:
    if not rows:
        raise InputError(f"{path} has a header but no rows", "Give one row a session")
    names = ["_".join(name.lower().split()) for name in header]
    for position, name in enumerate(names):
        if name in names[:position]:
            raise InputError(
                f"{path} has two columns named {name!r}", "Rename or remove one (case is ignored)"
            )
    labels = {name: label.strip() for name, label in zip(names, header, strict=True)}
    return FileTable(path, rows, row_word, dict(zip(names, columns, strict=True)), labels)
