"""Panels of prices from a user's CSV or Parquet file, wide or long, with every cell checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from conf.errors import InputError
from envs.market.panel import PanelHistory
from envs.market.sources.bundled import CashRate, cash_rates
from envs.market.sources.panel_gaps import Incomplete, PriceTable
from envs.market.sources.series_checks import Place, panel_notices
from envs.market.sources.table import FileTable, check_label, read_file_table
from envs.market.sources.vendors import never_an_asset

# The prices to use; the first that is present is used.
PRICE_COLUMNS = ("adj_close", "price", "close")

_BARS = {"open", "high", "low", "close"}
# Names of one asset's prices; in a wide file's columns they say that the others are no assets.
_FIELDS = {*_BARS, *PRICE_COLUMNS, "bid", "ask", "mid", "last", "settle", "vwap", "wap", "average"}
_FIELD_OF_ONE = re.compile(r"(?:(.*)[._-])?(open|high|low|close|last|bid|ask)(?:[._-](.*))?")


def load_panel_file(
    path: Path, rate: CashRate, assets: Sequence[str] | None, incomplete: Incomplete
) -> tuple[PanelHistory, tuple[str, ...]]:
    """The panel in a file, and notices about it.

    Wide: a column `date` and one column of prices for each asset, named as its header has it;
    a column `rate` (continuous annual decimal) wins over the one given here. Long: columns
    `date`, `asset` (or ticker, symbol) and `adj_close` (or price, close), one row for each asset
    and session in any order. Vendors' names for these are known (`envs.market.sources.vendors`),
    and volume is never an asset. Prices have to include dividends and splits.

    Raises InputError naming the file, the row or the asset and day, and the remedy.
    """
    table = read_file_table(path).with_names("date", "asset", *PRICE_COLUMNS, *_BARS - {"close"})
    if "date" not in table.columns:
        table.check_header(("date",))
    is_long = "asset" in table.columns
    if not is_long:
        table = table.oldest_first()
    prices, place, notices = _long(table) if is_long else _wide(table, assets)
    complete, gaps = prices.chosen(assets).complete(incomplete)
    if "rate" in table.columns and not is_long:
        # Only leading sessions are ever left out.
        rates = table.annual_rate("rate", 0.0)[-len(complete.dates) :]
    else:
        rates = cash_rates(rate, complete.dates)
    history = complete.history(rates)
    return history, table.without_folder((*notices, *gaps, *panel_notices(history, place)))


def _wide(
    table: FileTable, assets: Sequence[str] | None
) -> tuple[PriceTable, Place, tuple[str, ...]]:
    names, notices = _asset_columns(table, assets)
    prices = PriceTable(
        name=f"file {table.path.name}",
        assets=tuple(table.labels[name] for name in names),
        dates=table.sessions(),
        close=np.stack([table.prices(name, blank_allowed=True) for name in names], axis=1),
    )
    if "" in table.columns and table.holds_numbers(""):  # the row numbers some programs put first
        notices = (f"{table.path}: a column without a name is left out", *notices)
    line = {day: record for record, day in enumerate(prices.dates)}
    return prices, lambda day, _: table.place(line[day]), notices


def _asset_columns(
    table: FileTable, assets: Sequence[str] | None
) -> tuple[list[str], tuple[str, ...]]:
    """The columns of prices of a wide file, and a notice about those that are none."""
    names = [name for name in table.columns if name and name not in ("date", "rate")]
    others = [name for name in names if never_an_asset(name)]
    names = [name for name in names if name not in others]
    fields = {*names} <= _FIELDS
    used = next((name for name in PRICE_COLUMNS if name in names), None)
    parts = {*names} & (_BARS - {"close"})
    several = bool(parts) or (used is None and len(names) > 1)
    if (several if fields else len(parts) == 3) or _fields_of_one(names):
        raise InputError(
            f"{table.path} looks like the bars of one asset: it has {', '.join(names)}",
            "Give a column of prices for each asset; data=csv reads bars",
        )
    if not names:
        raise InputError(f"{table.path} has no column of prices", "Give one for each asset")
    if assets is not None and set(assets) <= {table.labels[name] for name in names}:
        names = [name for name in names if table.labels[name] in assets]
    elif used is not None and fields:  # one asset
        others += [name for name in names if name != used]
        names = [used]
    elif used is not None:
        price, besides = table.labels[used], [name for name in names if name != used]
        raise InputError(
            f"{table.path} has a column {price!r} beside {', '.join(besides)}: it is not clear "
            "which are assets",
            f"Set data.assets=[{price}] to use it alone, or rename it after its asset",
        )
    left_out = ", ".join(table.labels[name] for name in others)
    return names, (f"{table.path}: left out, for they are no asset: {left_out}",) if others else ()


def _fields_of_one(names: Sequence[str]) -> bool:
    """Whether two names hold different prices of one asset: SPY_open, SPY_close."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in names:
        match = _FIELD_OF_ONE.fullmatch(re.sub(r"adj(usted)?[._-]*", "", name))
        if match and (match[1] or match[3]):
            found.setdefault((match[1] or "", match[3] or ""), []).append(match[2])
    # "High Yield" and "Low Yield" may be funds.
    return any(len(of) > 1 and {*of} != {"high", "low"} for of in found.values())


def _long(table: FileTable) -> tuple[PriceTable, Place, tuple[str, ...]]:
    price_column = next((name for name in PRICE_COLUMNS if name in table.columns), None)
    if price_column is None:
        raise InputError(
            f"{table.path} has a column {table.labels['asset'].lower()!r} but none of prices; it "
            f"has {', '.join(table.columns)}",
            f"Name the prices {', '.join(PRICE_COLUMNS[:-1])} or {PRICE_COLUMNS[-1]}",
        )
    rows = pd.DataFrame(
        {
            "day": table.days(),
            "asset": [_label(table, record) for record in range(len(table.rows))],
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
    others = [n for n in table.columns if n not in ("date", "asset", price_column)]
    notices = (
        (f"{table.path}: prices are those of column {price_column}; left out: {', '.join(others)}",)
        if others
        else ()
    )

    def place(day: np.datetime64, asset: str) -> str:
        row = (rows["day"] == day) & (rows["asset"] == asset)
        return table.place(int(np.argmax(row)))

    return PriceTable.of(f"file {table.path.name}", prices), place, notices


def _label(table: FileTable, record: int) -> str:
    cell = table.columns["asset"][record]
    known = isinstance(cell, str | int) and not isinstance(cell, bool)
    label = str(cell).strip() if known else ""
    if not label:
        raise InputError(
            f"{table.place(record)}: column {table.labels['asset'].lower()} holds no name",
            "Name the asset of every row",
        )
    check_label(f"{table.place(record)}: the asset", label)
    return label
