"""What the cells of a file may hold: dates, prices, numbers; a refusal names row and value."""

from __future__ import annotations

import datetime as dt
import math
import re

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from envs.market.checked import MAX_GAP_SESSIONS, FloatArray
from envs.market.file_table import FileTable
from risk.errors import InputError

_DATE = re.compile(r"(\d{4})([-/]?)(\d{2})\2(\d{2})(?=$|[T ])")


def days_of(table: FileTable) -> NDArray[np.datetime64]:
    """The column date as days in the order of the rows, (T,)."""
    cells = table.columns["date"]
    parsed = [_date(table, record, cell) for record, cell in enumerate(cells)]
    return np.array(parsed, dtype="datetime64[D]")


def sessions_of(table: FileTable) -> NDArray[np.datetime64]:
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
    bad: NDArray[np.bool_],
    complaint: str,
    remedy: str,
) -> None:
    """InputError for the first row that is `bad` (T,), with its value and the complaint."""
    for record in np.flatnonzero(bad).tolist():
        raise InputError(f"{table.place(record)}: {name} {values[record]:g} {complaint}", remedy)


def _shown(cell: object) -> str:
    text = repr(cell) if isinstance(cell, str) else str(cell)
    return text if len(text) <= 60 else text[:57] + "..."
