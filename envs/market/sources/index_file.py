"""Index data from a user's CSV or Parquet file, with every row checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from conf.errors import InputError
from conf.types import FloatArray
from envs.market.history import MarketHistory
from envs.market.sources.bundled import CashRate, cash_rates
from envs.market.sources.series_checks import MAX_VIX, check_daily, index_notices
from envs.market.sources.table import FileTable, read_file_table
from envs.market.sources.vendors import ALIASES, plain_name
from envs.market.volatility_estimate import estimate_notices, fill_implied_vol
from risk.metrics import sessions_per_year

PRICE_COLUMNS = ("open", "high", "low", "close")
REQUIRED_COLUMNS = ("date", *PRICE_COLUMNS, "volume")
OPTIONAL_COLUMNS = ("vix", "implied_vol", "rate", "dividend_yield")

# 500 % a year: a higher "decimal" volatility must be in points.
_MAX_VOL = 5.0
_MIN_VIX = 1.0
# Times and names of the asset, which are no features.
_LABELS = {*ALIASES["date"], *ALIASES["asset"], "close_time"}


def load_file(
    path: Path, rate: CashRate, dividend_yield: float
) -> tuple[MarketHistory, tuple[str, ...]]:
    """The history in a file, and notices about it.

    Columns in any case and order: date, open, high, low, close, volume, or as the usual vendors
    name them (`envs.market.sources.vendors`); optionally vix (points)
    or implied_vol (decimal), where a blank cell, like a missing column, is estimated from the
    index's past; optionally rate and dividend_yield (continuous annual decimals), instead of
    what is given here. Every other numeric column becomes an extra by its name, a column
    without a name or without any number is left out with a notice.

    Raises InputError naming the file, the row, the value and the remedy.
    """
    table = read_file_table(path).with_names(*REQUIRED_COLUMNS, "adj_close")
    _check_columns(table)
    table = table.oldest_first()
    check_daily(str(path), table.days())
    dates = table.sessions()
    prices = {name: table.prices(name) for name in PRICE_COLUMNS}
    high, low = prices["high"], prices["low"]
    for record in np.flatnonzero(high < low).tolist():
        raise InputError(
            f"{table.place(record)}: high {high[record]:g} is below low {low[record]:g}",
            "Correct or remove that row",
        )
    volume, volume_notices = _volume(table)
    vol, source = fill_implied_vol(
        _observed_vol(table), high, low, prices["close"], sessions_per_year(dates)
    )
    extras, notices = _extras(table)
    history = MarketHistory(
        name=f"file {path.name}",
        dates=dates,
        open=prices["open"],
        high=high,
        low=low,
        close=prices["close"],
        volume=volume,
        implied_vol=vol,
        implied_vol_source=source,
        rate=table.annual_rate("rate", cash_rates(0.0 if "rate" in table.columns else rate, dates)),
        dividend_yield=table.annual_rate("dividend_yield", dividend_yield),
        extras=extras,
    )
    line = {day: record for record, day in enumerate(dates)}
    odd = index_notices(history, lambda day, _: table.place(line[day]))
    notices = (*notices, *volume_notices, *_several(table), *odd, *estimate_notices(history))
    return history, table.without_folder(notices)


def _check_columns(table: FileTable) -> None:
    table.check_header(REQUIRED_COLUMNS)
    if "vix" in table.columns and "implied_vol" in table.columns:
        raise InputError(
            f"{table.path} has both vix and implied_vol",
            "Keep one: vix in points or implied_vol as a decimal",
        )


def _volume(table: FileTable) -> tuple[FloatArray, tuple[str, ...]]:
    """The column, (T,); 0 with a notice where it is there and holds no number at all."""
    if not table.holds_numbers("volume"):
        notice = f"{table.path}: column volume holds no number and is taken as not known"
        return np.zeros(len(table.rows)), (notice,)
    volume, remedy = table.numbers("volume"), "Write 0 where it is not known"
    table.refuse("volume", volume, volume < 0, "is negative", remedy)
    return volume, ()


def _several(table: FileTable) -> tuple[str, ...]:
    """A notice where a column that names the asset changes its name on the way."""
    for name in (name for name in table.columns if plain_name(name) in ALIASES["asset"]):
        cells = table.columns[name]
        for record in [at for at, cell in enumerate(cells) if str(cell) != str(cells[0])][:1]:
            return (
                f"{table.place(record)}: {name} changes from {cells[0]} to {cells[record]}, and "
                "the rows are taken as one index",
            )
    return ()


def _observed_vol(table: FileTable) -> FloatArray:
    """Annual decimal, (T,); NaN where the file has none."""
    name = "vix" if "vix" in table.columns else "implied_vol"
    if name not in table.columns:
        return np.full(len(table.rows), np.nan)
    values = table.numbers(name, blank_allowed=True)
    remedy = "Correct it, or leave the cell blank to have it estimated"
    table.refuse(name, values, values <= 0, "is not positive", remedy)
    if name == "implied_vol":
        remedy = "Write decimals (0.15), or name the column vix if it is in points"
        table.refuse(name, values, values > _MAX_VOL, "is too high for a decimal", remedy)
        return values
    remedy = "Write points (15.0), or name the column implied_vol if it is a decimal"
    table.refuse(name, values, values < _MIN_VIX, "is too low for points", remedy)
    table.refuse(name, values, values > MAX_VIX, "is higher than any index of it ever was", remedy)
    return values / 100.0


def _extras(table: FileTable) -> tuple[dict[str, FloatArray], tuple[str, ...]]:
    extras, left_out = {}, []
    for name in table.columns:
        if name in REQUIRED_COLUMNS or name in OPTIONAL_COLUMNS:
            continue
        if not name or plain_name(name) in _LABELS or not table.holds_numbers(name):
            left_out.append(repr(name))
            continue
        extras[name] = table.numbers(name)
    what = "columns without a name or numbers, and of times, are left out"
    notices = (f"{table.path}: {what}: {', '.join(left_out)}",) if left_out else ()
    return extras, notices
