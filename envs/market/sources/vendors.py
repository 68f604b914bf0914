"""Columns as vendors name them and header lines as they write them, in the framework's names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from conf.errors import InputError
from envs.market.sources.dates import day_of

# The framework's name -> the names that vendors use, in the form of `plain_name`.
ALIASES: dict[str, tuple[str, ...]] = {
    "date": (
        *("date", "dates", "datetime", "timestamp", "time", "trade_date", "trading_date"),
        *("exchange_date", "effective_date", "observation_date", "time_period", "caldt"),
        *("open_time", "window_start", "gmt_time", "local_time", "unix", "unix_timestamp"),
        *("date/time", "etc/utc_time", "snapped_at", "begins_at", "tradedate", "quote_date"),
        *("datadate", "dlycaldt"),
    ),
    "open": ("open", "open_price", "price_open", "px_open"),
    "high": ("high", "high_price", "price_high", "px_high"),
    "low": ("low", "low_price", "price_low", "px_low"),
    "adj_close": ("adj_close", "adjclose", "adjusted_close", "close_adj", "closeadj", "adjusted"),
    "price": ("price",),
    "close": (
        *("close", "close/last", "px_last", "close_price", "price_close", "last", "last_price"),
        *("price", "settle", "settlement_price"),
    ),
    "volume": ("volume", "vol", "tickvol", "tick_volume", "px_volume", "total_volume"),
    "asset": (
        *("asset", "ticker", "tic", "symbol", "ric", "ts_code", "instrument", "name", "permno"),
        *("act_symbol", "product_id", "code", "isin", "cusip", "sedol", "secid", "gvkey"),
    ),
}
# What is no price although it stands in a column of numbers, or cannot be bought.
NEVER_ASSETS = {
    *("vol", "tickvol", "spread", "openint", "open_interest", "previous_day_open_interest"),
    *("trades", "number_of_trades", "trade_count", "tradecount", "transactions", "count"),
    *("turnover", "market_cap", "marketcap", "shares_outstanding", "change", "change_%", "%chg"),
    *("dividends", "dividend", "dividend_amount", "divcash", "ex-dividend", "capital_gains"),
    *("stock_splits", "split_ratio", "split_coefficient", "split_factor", "splitfactor"),
    *("unix", "timestamp", "time", "close_time", "ignore", "ret", "returns"),
    *("vix", "^vix", "vixcls", "^tnx", "^irx", "^fvx", "^tyx", "fedfunds", "effr"),
    *("risk_free", "risk_free_rate", "riskfree", "rfr", "interest_rate", "yield", "inflation"),
}
# Volumes, open interest, market capitalisation, counts; yields of bonds and bills: DGS10, "10 Yr".
_NEVER_ASSETS = re.compile(
    r"volume|open_interest|capmrkt|_cap_usd|[a-z]{2}cnt$"
    r"|^(dgs|dtb|tb|gs)\d+(mo|ms)?$|^\d+_(mo|yr|months?|years?)$"
)
_PAIR = re.compile(r"\('([^']*)', '([^']*)'\)")  # a column's name of two levels, as text
UNNAMED = ("", "index", "level_0", "unnamed:_0")  # of a first column, as pandas writes it
_HEADER_WITHIN = 20  # lines, of which those before it are a banner


def plain_name(name: str) -> str:
    """A column's name undecorated: "1. open", "<OPEN>", "Open*" and "open (USD)" are open."""
    text = "_".join(re.sub(r"[<>*]", "", name).lower().split())
    return re.sub(r"^\d+[a-z]?\._?|(?<=.)_?\([^)]*\)$", "", text).replace(".", "")


def never_an_asset(name: str) -> bool:
    """Whether a column of that name holds volumes, dividends, times or the like."""
    plain = plain_name(name)
    return plain in NEVER_ASSETS or _NEVER_ASSETS.search(plain) is not None


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
    ones, or two lines of fields and tickers (and perhaps one more for the date's name); of several
    tickers there the adjusted closes (or closes) are kept, by ticker.
    """
    if len(records) > 1 and (levels := _levels(*records[:2])):
        third = records[2] if len(records) > 2 else [""]
        depth = 3 if plain_name(third[0]) in ALIASES["date"] and not any(third[1:]) else 2
        names, kept = by_ticker(*levels)
        return depth, ["Date", *names], [0, *(position + 1 for position in kept)]
    filled = [sum(bool(cell.strip()) for cell in record) for record in records[:_HEADER_WITHIN]]
    at = 0
    for position, record in enumerate(records[:_HEADER_WITHIN]):
        if any(plain_name(cell) in ALIASES["date"] for cell in record):
            at = position if max(filled[:position], default=0) < filled[position] else 0
            break
    names = list(records[at])
    pairs = [pair for cell in names if (pair := _PAIR.fullmatch(cell.strip()))]
    if len(pairs) == len(names) - 1 and _PAIR.fullmatch(names[-1].strip()):
        first, second = (["", *(pair[level] for pair in pairs)] for level in (1, 2))
        if levels := _levels(first, second):
            kept_names, kept = by_ticker(*levels)
            return at + 1, [names[0], *kept_names], [0, *(position + 1 for position in kept)]
    return at + 1, names, list(range(len(names)))


def _levels(first: Sequence[str], second: Sequence[str]) -> tuple[list[str], list[str]] | None:
    """Fields and tickers of all columns but the first where two lines hold these, else None."""
    lines = [[cell.strip() for cell in line[1:]] for line in (first, second)]
    words = all(cell and not _is_number(cell) for line in lines for cell in line)
    if len(lines[0]) != len(lines[1]) or not lines[0] or not words or day_of(second[0], True):
        return None
    fields = [line for line in lines if all(_is_field(cell) for cell in line)]
    if not fields:
        return None
    names = lines[1] if first[0].strip().lower() == "ticker" else fields[0]
    return names, lines[1] if names is lines[0] else lines[0]


def _is_field(name: str) -> bool:
    plain = plain_name(name)
    return never_an_asset(name) or any(
        plain in ALIASES[field] for field in ("open", "high", "low", "close", "adj_close", "volume")
    )


def _is_number(cell: str) -> bool:
    return cell[:1] in "0123456789+-$." and any(map(str.isdigit, cell))


def by_ticker(fields: Sequence[str], tickers: Sequence[str]) -> tuple[list[str], list[int]]:
    """Names and positions of the columns to keep of (field, ticker) columns."""
    if len(set(tickers)) == 1:
        return list(fields), list(range(len(fields)))
    plain = [plain_name(name) for name in fields]
    adjusted = any(name in ALIASES["adj_close"] for name in plain)
    wanted = ALIASES["adj_close" if adjusted else "close"]
    kept = [position for position, name in enumerate(plain) if name in wanted]
    return [tickers[position] for position in kept], kept
