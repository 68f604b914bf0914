"""Market data from a CSV or Parquet file of one's own, every row checked before it is believed."""

from __future__ import annotations

import datetime as dt
import difflib
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from envs.market.checked import MAX_GAP_SESSIONS
from envs.market.file_table import FileTable, read_file_table
from envs.market.history import FloatArray, MarketHistory
from envs.market.volatility_estimate import estimate_notices, fill_implied_vol
from risk.errors import InputError

PRICE_COLUMNS = ("open", "high", "low", "close")
REQUIRED_COLUMNS = ("date", *PRICE_COLUMNS, "volume")
OPTIONAL_COLUMNS = ("vix", "implied_vol", "rate", "dividend_yield")

# 500 % a year: above it a decimal volatility is surely in points.
_MAX_VOL = 5.0
_MIN_VIX = 1.0
_DATE = re.compile(r"(\d{4})([-/]?)(\d{2})\2(\d{2})(?=$|[T ])")


def load_file(
    path: Path, rate: float, dividend_yield: float
) -> tuple[MarketHistory, tuple[str, ...]]:
    """The history in a file, and notices about it.

    Columns in any case and order: date, open, high, low, close, volume; optionally vix (points)
    or implied_vol (decimal), where a blank cell, like a missing column, is estimated from the
    index's past; optionally rate and dividend_yield (continuous annual decimals), instead of the
    constants given here. Every other numeric column becomes an extra by its name, a column
    without a name or without any number is left out with a notice.

    Raises InputError naming the file, the row, the value and the remedy.
    """
    table = read_file_table(path)
    _check_columns(table)
    dates = _dates(table)
    prices = {name: _prices(table, name) for name in PRICE_COLUMNS}
    _check_range(table, prices["high"], prices["low"])
    observed = _observed_vol(table)
    vol, source = fill_implied_vol(observed, prices["high"], prices["low"], prices["close"])
    extras, notices = _extras(table)
    history = MarketHistory(
        name=f"file {path.name}",
        dates=dates,
        **prices,
        volume=_volume(table),
        implied_vol=vol,
        implied_vol_source=source,
        rate=_annual_rate(table, "rate", rate),
        dividend_yield=_annual_rate(table, "dividend_yield", dividend_yield),
        extras=extras,
    )
    return history, (*notices, *estimate_notices(history))


def _check_columns(table: FileTable) -> None:
    for name in REQUIRED_COLUMNS:
        if name in table.columns:
            continue
        close = difflib.get_close_matches(name, list(table.columns), n=1)
        hint = f"Rename {close[0]!r}" if close else "Add it"
        raise InputError(
            f"{table.path} has no column {name!r}; it has {', '.join(table.columns)}",
            f"{hint}; needed are {', '.join(REQUIRED_COLUMNS)}",
        )
    if "vix" in table.columns and "implied_vol" in table.columns:
        raise InputError(
            f"{table.path} has both vix and implied_vol",
            "Keep one: vix in points or implied_vol as a decimal",
        )


def _dates(table: FileTable) -> NDArray[np.datetime64]:
    cells = table.columns["date"]
    parsed = [_date(table, record, cell) for record, cell in enumerate(cells)]
    dates = np.array(parsed, dtype="datetime64[D]")
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


def _prices(table: FileTable, name: str) -> FloatArray:
    values = _numbers(table, name)
    _refuse(table, name, values, values <= 0, "is not positive", "Correct or remove that row")
    return values


def _volume(table: FileTable) -> FloatArray:
    values = _numbers(table, "volume")
    _refuse(table, "volume", values, values < 0, "is negative", "Write 0 where it is not known")
    return values


def _check_range(table: FileTable, high: FloatArray, low: FloatArray) -> None:
    for record in np.flatnonzero(high < low).tolist():
        raise InputError(
            f"{table.place(record)}: high {high[record]:g} is below low {low[record]:g}",
            "Correct or remove that row",
        )


def _observed_vol(table: FileTable) -> FloatArray:
    """Annual decimal, (T,); NaN where the file has none."""
    name = "vix" if "vix" in table.columns else "implied_vol"
    if name not in table.columns:
        return np.full(len(table.rows), np.nan)
    values = _numbers(table, name, blank_allowed=True)
    remedy = "Correct it, or leave the cell blank to have it estimated"
    _refuse(table, name, values, values <= 0, "is not positive", remedy)
    if name == "implied_vol":
        remedy = "Write decimals (0.15), or name the column vix if it is in points"
        _refuse(table, name, values, values > _MAX_VOL, "is too high for a decimal", remedy)
        return values
    remedy = "Write points (15.0), or name the column implied_vol if it is a decimal"
    _refuse(table, name, values, values < _MIN_VIX, "is too low for points", remedy)
    return values / 100.0


def _annual_rate(table: FileTable, name: str, constant: float) -> FloatArray:
    if name not in table.columns:
        return np.full(len(table.rows), constant)
    values = _numbers(table, name)
    remedy = "Write annual decimals: 0.025 is 2.5 %"
    _refuse(table, name, values, np.abs(values) >= 1, "is not a decimal rate", remedy)
    return values


def _extras(table: FileTable) -> tuple[dict[str, FloatArray], tuple[str, ...]]:
    extras, left_out = {}, []
    for name, cells in table.columns.items():
        if name in REQUIRED_COLUMNS or name in OPTIONAL_COLUMNS:
            continue
        if not name or all(math.isnan(_number(cell)) for cell in cells):
            left_out.append(repr(name))
            continue
        extras[name] = _numbers(table, name)
    if not left_out:
        return extras, ()
    return extras, (
        f"{table.path}: columns without a name or numbers are left out: {', '.join(left_out)}",
    )


def _numbers(table: FileTable, name: str, *, blank_allowed: bool = False) -> FloatArray:
    """The column as finite floats, (T,); a blank cell is NaN where allowed, else an error."""
    cells = table.columns[name]
    values = np.array([_number(cell) for cell in cells], np.float64)
    for record in np.flatnonzero(~np.isfinite(values)).tolist():
        blank = _is_blank(cells[record])
        if blank and blank_allowed:
            continue
        complaint = "is empty" if blank else f"holds {_shown(cells[record])}, not a finite number"
        raise InputError(
            f"{table.place(record)}: column {name} {complaint}",
            "Write a plain number with a decimal point, or remove the row or the column",
        )
    return values


def _number(cell: object) -> float:
    """The number in a cell; NaN if it holds something else."""
    # float() would take True and "1_000".
    if isinstance(cell, bool) or (isinstance(cell, str) and "_" in cell):
        return math.nan
    try:
        return float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan


def _is_blank(cell: object) -> bool:
    if isinstance(cell, str):
        return not cell.strip()
    return cell is None or cell is pd.NA or (isinstance(cell, float) and math.isnan(cell))


def _refuse(
    table: FileTable,
    name: str,
    values: FloatArray,
    bad: NDArray[np.bool_],
    complaint: str,
    remedy: str,
) -> None:
    for record in np.flatnonzero(bad).tolist():
        raise InputError(f"{table.place(record)}: {name} {values[record]:g} {complaint}", remedy)


def _shown(cell: object) -> str:
    text = repr(cell) if isinstance(cell, str) else str(cell)
    return text if len(text) <= 60 else text[:57] + "..."
