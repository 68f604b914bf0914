"""Columns as vendors name them and header lines as they write them, in the framework's names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from conf.errors import InputError

# The framework's name -> the names that vendors use, in the form of `plain_name`.
ALIASES: dict[str, tuple[str, ...]] = {
    "date": (
        *("date", "dates", "datetime", "timestamp", "time", "trade_date", "trading_date"),
        *("exchange_date", "effective_date", "observation_date", "time_period", "caldt"),
        *("open_time", "window_start", "gmt_time", "local_time", "unix", "unix_timestamp"),
    ),
    "open": ("open", "open_price", "price_open", "px_open"),
    "high": ("high", "high_price", "price_high", "px_high"),
    "low": ("low", "low_price", "price_low", "px_low"),
    "adj_close": ("adj_close", "adjclose", "adjusted_close", "close_adj", "adjusted"),
    "price": ("price",),
    "close": (
        *("close", "close/last", "px_last", "close_price", "price_close", "last", "last_price"),
        "price",
    ),
    "volume": ("volume", "vol", "tickvol", "tick_volume", "px_volume", "total_volume"),
    "asset": ("asset", "ticker", "tic", "symbol", "ric", "ts_code", "instrument", "name", "permno"),
}
# What is no price although it stands in a column of numbers, beside every name with "volume".
NEVER_ASSETS = {
    *("vol", "tickvol", "spread", "openint", "open_interest", "previous_day_open_interest"),
    *("trades", "number_of_trades", "trade_count", "tradecount", "transactions", "count"),
    *("turnover", "market_cap", "marketcap", "shares_outstanding", "change", "change_%", "%chg"),
    *("dividends", "dividend", "dividend_amount", "divcash", "ex-dividend", "capital_gains"),
    *("stock_splits", "split_ratio", "split_coefficient", "split_factor", "splitfactor"),
    *("unix", "timestamp", "time", "close_time", "ignore"),
}
UNNAMED = ("", "index", "level_0", "unnamed:_0")  # of a first column, as pandas writes it
_HEADER_WITHIN = 20  # lines, of which those before it are a banner


def plain_name(name: str) -> str:
    """A column's name undecorated: "1. open", "<OPEN>", "Open*" and "open (USD)" are open."""
    text = "_".join(re.sub(r"[<>*]", "", name).lower().split())
    return re.sub(r"^\d+[a-z]?\._?|_?\([^)]*\)$", "", text).replace(".", "")


def never_an_asset(name: str) -> bool:
    """Whether a column of that name holds volumes, dividends, times or the like."""
    plain = plain_name(name)
    return "volume" in plain or plain in NEVER_ASSETS


def renamed(path: object, names: Sequence[str], targets: Sequence[str]) -> list[str]:
    """The names with the framework's own in place of vendors', for each target that is present."""
    result = list(names)
    plain = [plain_name(name) for name in names]
    taken = {names.index(target) for target in targets if target in names}
    for target in targets:
        if target in names:
            continue
        alias = next((alias for alias in ALIASES[target] if alias in plain), None)
        if alias is None and target == "volume":  # "Volume BTC"
            alias = next((name for name in plain if name.startswith("volume")), None)
        same = [position for position, name in enumerate(plain) if name == alias]
        if len(same) > 1:
            both = " and ".join(repr(names[position]) for position in same[:2])
            raise InputError(f"{path}: {both} may both be the {target}", "Keep one of them")
        if same and same[0] not in taken:
            result[same[0]] = target
            taken.add(same[0])
    return result


def find_header(records: Sequence[Sequence[str]]) -> tuple[int, list[str], list[int]]:
    """How many records a file's head has, the columns' names, and the positions of the columns.

    The header is the first record, or the one with a column of dates after a banner of shorter
    ones, or the three lines of yfinance; of several tickers there the adjusted closes (or closes)
    are kept, by ticker.
    """
    first = [record[0].strip().lower() for record in records[:3]]
    if sorted(first[:2]) == ["price", "ticker"] and len(records[0]) == len(records[1]):
        fields, tickers = records[:2] if first[0] == "price" else records[1::-1]
        depth = 3 if first[2:] and plain_name(first[2]) in ALIASES["date"] else 2
        names, kept = by_ticker(fields[1:], tickers[1:])
        return depth, ["Date", *names], [0, *(position + 1 for position in kept)]
    filled = [sum(bool(cell.strip()) for cell in record) for record in records[:_HEADER_WITHIN]]
    at = 0
    for position, record in enumerate(records[:_HEADER_WITHIN]):
        if any(plain_name(cell) in ALIASES["date"] for cell in record):
            at = position if max(filled[:position], default=0) < filled[position] else 0
            break
    return at + 1, list(records[at]), list(range(len(records[at])))


def by_ticker(fields: Sequence[str], tickers: Sequence[str]) -> tuple[list[str], list[int]]:
    """Names and positions of the columns to keep of yfinance's (field, ticker) columns."""
    if len(set(tickers)) == 1:
        return list(fields), list(range(len(fields)))
    field = "Adj Close" if "Adj Close" in fields else "Close"
    kept = [position for position, name in enumerate(fields) if name == field]
    return [tickers[position] for position in kept], kept
