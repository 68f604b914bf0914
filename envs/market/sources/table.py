"""A CSV or Parquet file as named columns of raw cells, whose rows can be named in errors."""

from __future__ import annotations

import csv
import datetime as dt
import difflib
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from conf.errors import InputError
from conf.types import BoolArray, DateArray, FloatArray
from envs.market.history import allowed_gap
from envs.market.sources.dates import day_comes_first, day_of, is_ambiguous
from envs.market.sources.series_checks import MAX_PRICE
from envs.market.sources.vendors import UNNAMED, by_ticker, find_header, renamed

_PARQUET_MAGIC = b"PAR1"
_DELIMITERS = (",", ";", "\t", "|")
_SAVE_AS = "Save it as UTF-8 CSV or as Parquet"
_FIRST_YEAR, _DAYS_AHEAD = 1800, 7  # time zones and wrong clocks; nobody knows later prices
# The dollar's and the coins' widest ranges are far within; squares of the second stay finite.
_PRICE_RANGE, _MAX_NUMBER = (1e-12, MAX_PRICE), 1e30
_MAX_LABEL = 100  # characters
_GROUPED = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")  # 1,234,567.8
# A number whose point cannot group thousands: 12.5, 1,234.567; not 1.234.
_POINT_IS_DECIMAL = re.compile(r"[-+$]*(\d*\.(\d{1,2}|\d{4,})|\d{1,3}(,\d{3})+\.\d+)")
_MULTIPLES = {"K": 1e3, "M": 1e6, "B": 1e9}  # of volumes: 1.5M


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

    def without_folder(self, notices: Iterable[str]) -> tuple[str, ...]:
        """The notices with the file's name for its path: reports are read on other machines."""
        return tuple(notice.replace(str(self.path), self.path.name) for notice in notices)

    def with_names(self, *targets: str) -> FileTable:
        """The table with the framework's names, of these, in place of vendors' own."""
        names = renamed(self.path, list(self.columns), targets)
        first, cells = names[0], next(iter(self.columns.values()))
        is_day = day_of(cells[0], True) or day_of(cells[0], False)
        if "date" not in names and first in UNNAMED and is_day:
            names[0] = "date"
        columns = dict(zip(names, self.columns.values(), strict=True))
        return replace(
            self, columns=columns, labels=dict(zip(names, self.labels.values(), strict=True))
        )

    def check_header(self, needed: Sequence[str]) -> None:
        """InputError for the first needed column that is missing, with one to rename."""
        for name in needed:
            if name in self.columns:
                continue
            problem = f"{self.path} has no column {name!r}; it has {_shown_names(self.columns)}"
            free = [column for column in self.columns if column not in needed]
            similar = [column for column in free if name[:4] in column]  # "closing price"
            similar += difflib.get_close_matches(name, free, n=1, cutoff=0.65)
            rename = f"Rename {similar[0]!r} to {name!r}" if similar else ""
            hint = rename or f"Add {name} or rename its column"
            if any(day_of(column) or not math.isnan(_number(column)) for column in self.columns):
                problem += ": the first line holds values, not names"
                hint = "Add a first line with the columns' names"
            raise InputError(problem, f"{hint}; needed are {', '.join(needed)}")

    def oldest_first(self) -> FileTable:
        """The table turned round if its rows, one a session, run from the newest to the oldest."""
        steps = np.diff(self.days()).astype(int)
        if np.count_nonzero(steps < 0) * 2 <= len(steps):
            return self
        columns = {name: cells[::-1] for name, cells in self.columns.items()}
        return replace(self, rows=self.rows[::-1], columns=columns)

    def days(self) -> DateArray:
        """The column date as days in the order of the rows, (T,); none before 1800 or to come."""
        cells = self.columns["date"]
        day_first = day_comes_first(cells)
        last = dt.date.today() + dt.timedelta(days=_DAYS_AHEAD)
        days = []
        for record, cell in enumerate(cells):
            day = day_of(cell, day_first)
            if day is None:
                unknown = is_ambiguous(cell) and day_first is None
                why = ": the rows do not show whether its day or month comes first"
                raise InputError(
                    f"{self.place(record)}: {_shown(cell)} in column date is not a date"
                    + (why if unknown else ""),
                    "Write dates as YYYY-MM-DD",
                )
            if day.year < _FIRST_YEAR or day > last:
                raise InputError(
                    f"{self.place(record)}: date {day} is "
                    + ("in the future" if day > last else f"before {_FIRST_YEAR}"),
                    "Correct or remove that row",
                )
            days.append(day)
        return np.array(days, dtype="datetime64[D]")

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
        missing, allowed = np.busday_count(dates[:-1], dates[1:]) - 1, allowed_gap(dates)
        for record in (np.flatnonzero(missing > allowed) + 1).tolist():
            raise InputError(
                f"{self.place(record)}: date {dates[record]} leaves {missing[record - 1]} weekdays "
                f"missing after {dates[record - 1]}",
                f"Fill the gap (at most {allowed} are allowed) or start the file after it",
            )
        return dates

    @cached_property
    def _commas_group(self) -> bool:
        """Whether a number of the file shows that its decimals come after a point."""
        cells = (cell for column in self.columns.values() for cell in column)
        return any(isinstance(c, str) and _POINT_IS_DECIMAL.fullmatch(c.strip()) for c in cells)

    def _value(self, name: str, cell: object) -> float:
        """The number in a cell, "$1,234.50" and a volume's "1.5M" included; NaN without one."""
        if not isinstance(cell, str):
            return _number(cell)
        text, multiple = cell.strip().removeprefix("$"), 1.0
        if name == "volume" and text[-1:].upper() in _MULTIPLES:
            text, multiple = text[:-1], _MULTIPLES[text[-1].upper()]
        if "," in text and _GROUPED.fullmatch(text) and self._commas_group:
            text = text.replace(",", "")
        return _number(text) * multiple

    def holds_numbers(self, name: str) -> bool:
        """Whether a cell of the column is a number."""
        return not all(math.isnan(self._value(name, cell)) for cell in self.columns[name])

    def numbers(self, name: str, *, blank_allowed: bool = False) -> FloatArray:
        """The column as finite floats, (T,); a blank cell is NaN where allowed, else an error."""
        cells = self.columns[name]
        values = np.array([self._value(name, cell) for cell in cells], np.float64)
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
        remedy = "Correct that row or remove the column"
        self.refuse(name, values, np.abs(values) > _MAX_NUMBER, "is beyond any market", remedy)
        return values

    def prices(self, name: str, *, blank_allowed: bool = False) -> FloatArray:
        """The column as positive numbers, (T,); blank cells as in `numbers`."""
        values = self.numbers(name, blank_allowed=blank_allowed)
        remedy, (lowest, highest) = "Correct or remove that row", _PRICE_RANGE
        self.refuse(name, values, values <= 0, "is not positive", remedy)
        beyond = (values < lowest) | (values > highest)
        self.refuse(name, values, beyond, "is beyond any price", remedy)
        return values

    def annual_rate(self, name: str, otherwise: float | FloatArray) -> FloatArray:
        """The column as annual decimals, (T,), or `otherwise` where the file has no such column."""
        if name not in self.columns:
            return np.broadcast_to(otherwise, len(self.rows))
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


def check_label(place: str, label: str) -> None:
    """InputError for the name of a column or an asset that no message could show."""
    if len(label) > _MAX_LABEL or not label.isprintable():
        raise InputError(f"{place} is named {_shown(label)}", "Choose a short printable name")


def _shown_names(names: Iterable[str]) -> str:
    text = ", ".join(names)
    return text if len(text) <= 300 else text[:297] + "..."


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
    if content.lstrip()[:9].lower().startswith((b"{", b"[", b"<!doctype", b"<html")):
        raise InputError(f"{path} is an answer in JSON or a web page, not CSV", _SAVE_AS)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line} is not UTF-8 text", _SAVE_AS) from None
    lines = [line for line in text.splitlines() if line.strip()]
    # A banner above the header has no delimiter.
    header = next((line for line in lines if any(mark in line for mark in _DELIMITERS)), "")
    delimiter = max(_DELIMITERS, key=header.count)
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
    depth, names, positions = find_header(list(records.values()))
    width = len(list(records.values())[depth - 1])
    rows = dict(list(records.items())[depth:])
    for line, cells in rows.items():
        if len(cells) != width:
            raise InputError(
                f"{path}, line {line} has {len(cells)} cells, the header has {width}",
                "Give every line one cell for each column",
            )
    columns = list(zip(*rows.values(), strict=True))
    chosen = [columns[position] for position in positions] if columns else []
    return _table(path, "line", list(rows), names, chosen)


def _parquet(path: Path, content: bytes) -> FileTable:
    try:
        # Without threads: after an error they may outlive the reader and abort the process.
        table = pq.ParquetFile(io.BytesIO(content)).read(use_threads=False)
        frame: pd.DataFrame = table.to_pandas(use_threads=False)
        if not isinstance(frame.index, pd.RangeIndex):
            frame = frame.reset_index()
        columns = [frame.iloc[:, position].tolist() for position in range(frame.shape[1])]
    except Exception as error:
        raise InputError(
            f"{path} is a damaged Parquet file: {' '.join(str(error).split())[:200]}",
            "Write it again",
        ) from None
    _, header, positions = find_header([[str(name) for name in frame.columns]])
    if frame.columns.nlevels == 2:  # of yfinance
        levels = sorted(zip(*frame.columns, strict=True), key=lambda level: "Close" not in level)
        fields, tickers = ([str(name) for name in level[1:]] for level in levels)
        names, kept = by_ticker(fields, tickers)
        header, positions = ["Date", *names], [0, *(at + 1 for at in kept)]
    chosen = [columns[position] for position in positions]
    return _table(path, "row", range(1, len(frame) + 1), header, chosen)


def _table(
    path: Path,
    row_word: str,
    rows: Sequence[int],
    header: Sequence[str],
    columns: Sequence[Sequence[object]],
) -> FileTable:
    if not rows:
        raise InputError(f"{path} has a header but no rows", "Give one row a session")
    labels = [" ".join(name.split()) for name in header]
    names = [label.lower().replace(" ", "_") for label in labels]
    for position, name in enumerate(names):
        check_label(f"{path}, column {position + 1}", labels[position])
        if name in names[:position]:
            raise InputError(
                f"{path} has two columns named {name!r}", "Rename or remove one (case is ignored)"
            )
        former, _, number = name.rpartition(".")
        if number.isdecimal() and former in names and former not in UNNAMED:
            problem = f"{path} has {former!r} and {name!r}, as pandas names two columns alike"
            raise InputError(problem, "Rename or remove one")
    by_name = dict(zip(names, columns, strict=True))
    return FileTable(path, rows, row_word, by_name, dict(zip(names, labels, strict=True)))
