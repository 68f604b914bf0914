"""A CSV or Parquet file as named columns of raw cells, each row knowing where it stands."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from risk.errors import InputError

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
