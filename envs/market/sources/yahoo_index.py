"""S&P 500 and VIX from Yahoo Finance: downloaded once, checked for completeness, then cached."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from conf.errors import InputError
from envs.market.exchange_calendar import exchange_sessions
from envs.market.history import MarketHistory
from envs.market.sources.cache import answer_of, default_cache_dir, keep
from envs.market.sources.yahoo_client import REMEDY, download
from envs.market.volatility_estimate import estimate_notices, fill_implied_vol

# What may be missing without the answer being called partial.
MAX_MISSING_SESSIONS = 5
MAX_MISSING_VIX_SHARE = 0.01


@dataclass(frozen=True)
class YahooWindow:
    """The days wanted, both inclusive."""

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

    Reads the cache (`cache_dir`, null: the user's cache folder) and asks the network only where
    that has nothing sound; `rate` and `dividend_yield` are constant continuous annual decimals.
    Raises InputError within about `timeout_seconds` if Yahoo gives no answer or a partial one.
    """
    folder = Path(cache_dir).expanduser() if cache_dir else default_cache_dir()
    path = folder / window.cache_name

    def ask() -> pd.DataFrame:
        return download(
            window.start, window.end, timeout_seconds=timeout_seconds, scratch=folder / "yfinance"
        )

    answer = answer_of(path, window.end, ask, REMEDY)
    missing = _check_complete(answer.table, window)
    history = _to_history(answer.table, rate, dividend_yield)
    kept = keep(path, answer.table) if answer.fresh else ()
    return history, (*answer.notices, *missing, *kept, *estimate_notices(history))


def _check_complete(table: pd.DataFrame, window: YahooWindow) -> list[str]:
    """Hold the sessions against the exchange's calendar and VIX against the sessions."""
    wanted = exchange_sessions(window.start, window.end)
    dates = table.index.to_numpy().astype("datetime64[D]")
    missing = np.setdiff1d(wanted, dates)
    strangers = np.setdiff1d(dates, wanted)
    ends_there = len(wanted) and not np.isin(wanted[[0, -1]], missing).any()
    if not ends_there or len(missing) > MAX_MISSING_SESSIONS:
        covered = f"from {dates.min()} to {dates.max()}" if len(dates) else "none at all"
        raise InputError(
            f"Yahoo Finance gave a partial answer: {len(wanted) - len(missing)} of "
            f"{len(wanted)} sessions from {window.start} to {window.end} ({covered})",
            REMEDY,
        )
    if len(strangers) > MAX_MISSING_SESSIONS:
        raise InputError(
            f"Yahoo Finance gave {len(strangers)} rows on days without a session, the first on "
            f"{strangers[0]}",
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


def _to_history(table: pd.DataFrame, rate: float, dividend_yield: float) -> MarketHistory:
    high, low, close, vix = (
        table[name].to_numpy(np.float64) for name in ("high", "low", "close", "vix")
    )
    if not all((prices > 0).all() for prices in (high, low, close)):
        raise InputError("Yahoo Finance gave a price that is missing or not positive", REMEDY)
    vol, source = fill_implied_vol(vix / 100.0, high, low, close)
    try:
        return MarketHistory(
            name="yahoo",
            dates=table.index.to_numpy().astype("datetime64[D]"),
            open=table["open"].to_numpy(np.float64),
            high=high,
            low=low,
            close=close,
            volume=table["volume"].to_numpy(np.float64),
            implied_vol=vol,
            implied_vol_source=source,
            rate=np.full(len(table), rate),
            dividend_yield=np.full(len(table), dividend_yield),
        )
    except InputError as error:
        raise InputError(f"Yahoo Finance gave unusable data: {error.problem}", REMEDY) from None
