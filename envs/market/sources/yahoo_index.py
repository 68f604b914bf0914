"""S&P 500 and VIX from Yahoo Finance: downloaded once, checked for completeness, then cached."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from conf.errors import InputError
from conf.types import FloatArray
from envs.market.clock import DAYS_PER_YEAR
from envs.market.exchange_calendar import exchange_sessions
from envs.market.history import MarketHistory
from envs.market.sources.bundled import CashRate, cash_rates
from envs.market.sources.cache import cache_folder, cached_or_downloaded
from envs.market.sources.series_checks import MAX_PRICE, MAX_VIX, index_notices
from envs.market.sources.yahoo_client import Request, ask_yahoo
from envs.market.volatility_estimate import estimate_notices, history_of_bars

REMEDY = "Check the network and try again later, or use the embedded data: data=sp500"
INDEX_SYMBOL, VIX_SYMBOL, BILL_SYMBOL = "^GSPC", "^VIX", "^IRX"
_BILL_DAYS = 91.0  # of the bills behind BILL_SYMBOL
_LEAST_BILL_SHARE, _MAX_BILL_POINTS = 0.9, 50.0  # of a usable answer
_COLUMNS = ("Open", "High", "Low", "Close", "Volume")
# What may be missing without the answer being called partial.
MAX_MISSING_SESSIONS = 5
MAX_MISSING_VIX_SHARE = 0.01


@dataclass(frozen=True)
class YahooWindow:
    """The days to download, both inclusive."""

    start: dt.date
    end: dt.date
    as_it_stands: bool = False  # today's session too, before or after its close; not cached

    @property
    def cache_name(self) -> str:
        """File name of the window in the cache."""
        return f"yahoo-GSPC-VIX-{self.start:%Y%m%d}-{self.end:%Y%m%d}.parquet"


def load_yahoo(
    window: YahooWindow,
    cache_dir: str | None,
    timeout_seconds: float,
    rate: CashRate,
    dividend_yield: float,
) -> tuple[MarketHistory, tuple[str, ...]]:
    """The index and its VIX over `window`, and notices about them.

    Reads the cache (`cache_dir`, null: the user's cache folder) and uses the network only where
    the table is not cached intact. `rate` is a continuous annual decimal, or `bills`: thirteen-week
    Treasury bills (^IRX), and where Yahoo lacks them `cash_rates`. `dividend_yield` is constant.
    Raises InputError within about `timeout_seconds` if Yahoo gives no answer or a partial one.
    """
    folder, deadline = cache_folder(cache_dir), time.monotonic() + timeout_seconds
    request = Request((INDEX_SYMBOL, VIX_SYMBOL), window.start, window.end, REMEDY)

    def ask() -> pd.DataFrame:
        bars = ask_yahoo(request, timeout_seconds=timeout_seconds, scratch=folder / "yfinance")
        table = pd.DataFrame({name.lower(): bars[name, INDEX_SYMBOL] for name in _COLUMNS})
        table["vix"] = bars["Close", VIX_SYMBOL]
        return table[table["close"].notna()]  # the sessions of the index

    path = folder / window.cache_name
    answer = cached_or_downloaded(path, window.end, ask, REMEDY, window.as_it_stands)
    missing = _check_complete(answer.table, window)
    prices = answer.table[["open", "high", "low", "close"]]
    if not ((prices > 0) & (prices < MAX_PRICE)).all(axis=None):
        raise InputError("Yahoo Finance gave a price that is missing, not positive or huge", REMEDY)
    if (answer.table["vix"] > MAX_VIX).any():
        raise InputError(f"Yahoo Finance gave a VIX above {MAX_VIX:g}", REMEDY)
    rates, no_bills = _cash_rates(rate, window, answer.table, folder, deadline)
    try:
        history = history_of_bars("yahoo", answer.table, rates, dividend_yield)
        odd = index_notices(history, lambda day, _: f"yahoo, {day}")
    except InputError as error:
        raise InputError(f"Yahoo Finance gave unusable data: {error.problem}", REMEDY) from None
    notices = (*answer.notices, *missing, *no_bills, *odd, *answer.keep())
    return history, (*notices, *estimate_notices(history))


def _cash_rates(
    rate: CashRate, window: YahooWindow, table: pd.DataFrame, folder: Path, deadline: float
) -> tuple[FloatArray, tuple[str, ...]]:
    """Continuous annual rates of the table's sessions, (T,), and a notice where Yahoo has none."""
    dates = table.index.to_numpy().astype("datetime64[D]")
    if rate != "bills":
        return cash_rates(rate, dates), ()
    request = Request((BILL_SYMBOL,), window.start, window.end, REMEDY)

    def ask() -> pd.DataFrame:
        left = max(deadline - time.monotonic(), 0.0)
        bars = ask_yahoo(request, timeout_seconds=left, scratch=folder / "yfinance")
        return pd.DataFrame({"discount": bars["Close", BILL_SYMBOL]}).dropna()

    path = folder / f"yahoo-IRX-{window.start:%Y%m%d}-{window.end:%Y%m%d}.parquet"
    try:
        answer = cached_or_downloaded(path, window.end, ask, REMEDY, window.as_it_stands)
        quoted = answer.table["discount"].reindex(table.index)
        known = float(quoted.notna().mean())
        if known < _LEAST_BILL_SHARE or quoted.abs().max() > _MAX_BILL_POINTS:
            raise InputError(f"{BILL_SYMBOL} has {known:.0%} of the sessions, or is out of range")
    except InputError as error:
        notice = f"yahoo: {BILL_SYMBOL} could not be had, so cash earns the monthly bill returns "
        return cash_rates(rate, dates), (notice + f"in arch, which end in 2018 ({error.problem})",)
    rates = bill_rate(quoted.ffill().to_numpy(np.float64))
    if np.isnan(rates[0]):  # before the first quote there is none to hold on
        rates = np.where(np.isnan(rates), cash_rates(rate, dates), rates)
    return rates, (*answer.notices, *answer.keep())


def bill_rate(discount_points: FloatArray) -> FloatArray:
    """Continuous annual rate of a bill quoted at a bank discount of so many per cent a year.

    The price of a dollar due in 91 days is 1 - discount 91 / 360.
    """
    price = 1.0 - discount_points / 100.0 * _BILL_DAYS / 360.0
    rate: FloatArray = -np.log(price) * DAYS_PER_YEAR / _BILL_DAYS
    return rate


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
