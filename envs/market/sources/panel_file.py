"""Panels of prices from a user's CSV or Parquet file, wide or long, with every cell checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from conf.errors import InputError
from conf.types import FloatArray
from envs.market.panel import PanelHistory
from envs.market.sources.panel_gaps import Incomplete, PriceTable
from envs.market.sources.table import FileTable, read_file_table

# Names that the columns of a long file may have; the first that is present is used.
ASSET_COLUMNS = ("asset", "ticker", "symbol")
PRICE_COLUMNS = ("adj_close", "price", "close")

_BARS = {"open", "high", "low", "close"}


def load_panel_file(
    path: Path, rate: float, assets: Sequence[str] | None, incomplete: Incomplete
) -> tuple[PanelHistory, tuple[str, ...]]:
    """The panel in a file, and notices about it.

    Wide: a column `date` and one column of prices for each asset, named as its header has it;
    a column `rate` (continuous annual decimal) wins over the constant given here. Long: columns
    `date`, `asset` (or ticker, symbol) and `adj_close` (or price, close), one row for each asset
    and session in any order. Prices have to include dividends and splits.

    Raises InputError naming the file, the row or the asset and day, and the remedy.
    """
    table = read_file_table(path)
    if "date" not in table.columns:
        raise InputError(
            f"{path} has no column 'date'; it has {', '.join(table.columns)}",
            "Give a column date, and a column of prices for each asset",
        )
    asset_column = next((name for name in ASSET_COLUMNS if name in table.columns), None)
    prices, notices = _long(table, asset_column) if asset_column else _wide(table, assets)
    complete, gaps = prices.chosen(assets).complete(incomplete)
    rates: float | FloatArray = rate
    if not asset_column:
        # Only leading sessions are ever left out.
        rates = table.annual_rate("rate", rate)[-len(complete.dates) :]
    return complete.history(rates), (*notices, *gaps)


def _wide(table: FileTable, assets: Sequence[str] | None) -> tuple[PriceTable, tuple[str, ...]]:
    if set(table.columns) >= _BARS:
        raise InputError(
            f"{table.path} looks like the bars of one asset: it has open, high, low and close",
            "Give a column of prices for each asset; data=csv reads bars",
        )
    names = [name for name in table.columns if name and name not in ("date", "rate")]
    if not names:
        raise InputError(f"{table.path} has no column of prices", "Give one for each asset")
    if assets is not None and set(assets) <= {table.labels[name] for name in names}:
        names = [name for name in names if table.labels[name] in assets]
    prices = PriceTable(
        name=f"file {table.path.name}",
        assets=tuple(table.labels[name] for name in names),
        dates=table.sessions(),
        close=np.stack([table.prices(name, blank_allowed=True) for name in names], axis=1),
    )
    if "" in table.columns and table.holds_numbers(""):  # the row numbers some programs put first
        return prices, (f"{table.path}: a column without a name is left out",)
    return prices, ()


def _long(table: FileTable, asset_column: str) -> tuple[PriceTable, tuple[str, ...]]:
    price_column = next((name for name in PRICE_COLUMNS if name in table.columns), None)
    if price_column is None:
        raise InputError(
            f"{table.path} has a column {asset_column!r} but none of prices; it has "
            f"{', '.join(table.columns)}",
            f"Name the prices {', '.join(PRICE_COLUMNS[:-1])} or {PRICE_COLUMNS[-1]}",
        )
    rows = pd.DataFrame(
        {
            "day": table.days(),
            "asset": [_label(table, asset_column, record) for record in range(len(table.rows))],
            "price": table.prices(price_column, blank_allowed=True),
        }
    )
    for record in np.flatnonzero(rows.duplicated(["day", "asset"])).tolist():
        day, asset, _ = rows.loc[record]
        first = int(np.argmax((rows["day"] == day) & (rows["asset"] == asset)))
        raise InputError(
            f"{table.place(record)}: {asset} has a second row for {day:%Y-%m-%d}; the first is "
            f"{table.row_word} {table.rows[first]}",
            "Give one row for each asset and session",
        )
    prices = rows.pivot(index="day", columns="asset", values="price")  # noqa: PD010
    prices = prices[rows["asset"].unique()]
    others = [n for n in table.columns if n not in ("date", asset_column, price_column)]
    notices = (
        (f"{table.path}: prices are those of column {price_column}; left out: {', '.join(others)}",)
        if others
        else ()
    )
    return PriceTable.of(f"file {table.path.name}", prices), notices


def _label(table: FileTable, column: str, record: int) -> str:
    cell = table.columns[column][record]
    known = isinstance(cell, str | int) and not isinstance(cell, bool)
    label = str(cell).strip() if known else ""
    if not label:
        raise InputError(
            f"{table.place(record)}: column {column} holds no name",
            "Name the asset of every row",
        )
    return label
