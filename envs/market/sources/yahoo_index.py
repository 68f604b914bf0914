"""S&P 500 and VIX from Yahoo Finance: downloaded once, checked for completeness, then cached."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import pandas as pd

from conf.errors import InputError
from envs.market.exchange_calendar import exchange_sessions
from envs.market.history import MarketHistory
from envs.market.sources.cache import cache_folder, cached_or_downloaded
from envs.market.sources.series_checks import MAX_PRICE, MAX_VIX, index_notices
from envs.market.sources.yahoo_client import Request, ask_yahoo
from envs.market.volatility_estimate import estimate_notices, history_of_bars

REMEDY = "Check the network and try again later, or use the embedded data: data=sp500"
INDEX_SYMBOL, VIX_SYMBOL = "^GSPC", "^VIX"
_COLUMNS = ("Open", "High", "Low", "Close", "Volume")
# What may be missing without the answer being called partial.
MAX_MISSING_SESSIONS = 5
MAX_MISSING_VIX_SHARE = 0.01


@dataclass(frozen=True)
class YahooWindow:
    """The days to download, both inclusive."""

    start: dt.date
    end: dt.date

    @property
    def cache_name(self) -> str:
        """File name of the window in the cache."""
        return f"yahoo-GSPC-VIX-{self.start:%Y%m%d}-{self.end:%Y%m%d}.parquet"


def load_yahoo(
    window: YahooWindow,
    cache_dir: str | None,
    timeout_seconds: float,
    rate: float,
    dividend_yield: float,
) -> tuple[MarketHistory, tuple[str, ...]]:
    """The index and its VIX over `window`, and notices about them.

    Reads the cache (`cache_dir`, null: the user's cache folder) and uses the network only where
    the table is not cached intact; `rate` and `dividend_yield` are continuous annual decimals.
    Raises InputError within about `timeout_seconds` if Yahoo gives no answer or a partial one.
    """
    folder = cache_folder(cache_dir)

    request = Request((INDEX_SYMBOL, VIX_SYMBOL), window.start, window.end, REMEDY)

    def ask() -> pd.DataFrame:
        bars = ask_yahoo(request, timeout_seconds=timeout_seconds, scratch=folder / "yfinance")
        table = pd.DataFrame({name.lower(): bars[name, INDEX_SYMBOL] for name in _COLUMNS})
        table["vix"] = bars["Close", VIX_SYMBOL]
        return table[table["close"].notna()]  # the sessions of the index

    answer = cached_or_downloaded(folder / window.cache_name, window.end, ask, REMEDY)
    missing = _check_complete(answer.table, window)
    prices = answer.table[["open", "high", "low", "close"]]
    if not ((prices > 0) & (prices < MAX_PRICE)).all(axis=None):
        raise InputError("Yahoo Finance gave a price that is missing, not positive or huge", REMEDY)
    if (answer.table["vix"] > MAX_VIX).any():
        raise InputError(f"Yahoo Finance gave a VIX above {MAX_VIX:g}", REMEDY)
    try:
        history = history_of_bars("yahoo", answer.table, rate, dividend_yield)
        odd = index_notices(history, lambda day, _: f"yahoo, {day}")
    except InputError as error:
        raise InputError(f"Yahoo Finance gave unusable data: {error.problem}", REMEDY) from None
    notices = (*answer.notices, *missing, *odd, *answer.keep())
    return history, (*notices, *estimate_notices(history))


def _check_complete(table: pd.DataFrame, window: YahooWindow) -> list[str]:
    """Compare the sessions with the exchange's calendar, and VIX with the sessions."""
    sessions = exchange_sessions(window.start, window.end)
    dates = table.index.to_numpy().astype("datetime64[D]")
    missing = np.setdiff1d(sessions, dates)
    extra = np.setdiff1d(dates, sessions)
    reaches_both_ends = len(sessions) and not np.isin(sessions[[0, -1]], missing).any()
    if not reaches_both_ends or len(missing) > MAX_MISSING_SESSIONS:
        covered = f"from {dates.min()} to {dates.max()}" if len(dates) else "none at all"
        raise InputError(
            f"Yahoo Finance gave a partial answer: {len(sessions) - len(missing)} of "
            f"{len(sessions)} sessions from {window.start} to {window.end} ({covered})",
            REMEDY,
        )
    if len(extra) > MAX_MISSING_SESSIONS:
        raise InputError(
            f"Yahoo Finance gave {len(extra)} rows on days without a session, the first on "
            f"{extra[0]}",
            REMEDY,
        )
    without_vix = int(table["vix"].isna().sum())
    if without_vix > MAX_MISSING_VIX_SHARE * len(table):
        raise InputError(
            f"Yahoo Finance gave a partial answer: ^VIX is missing on {without_vix} of "
            f"{len(table)} sessions",
            REMEDY,
        )
    if not len(missing):
        return []
    days = ", ".join(str(day) for day in missing)
    return [f"yahoo: {len(missing)} sessions are missing from the answer: {days}"]
