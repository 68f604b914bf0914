"""Adjusted closes of stocks, funds and coins from Yahoo Finance, on the sessions they share."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pandas as pd

from conf.errors import InputError
from conf.types import BoolArray
from envs.market.exchange_calendar import exchange_sessions
from envs.market.panel import PanelHistory
from envs.market.sources.cache import cache_folder, cached_or_downloaded
from envs.market.sources.panel_gaps import Incomplete, PriceTable
from envs.market.sources.series_checks import panel_notices
from envs.market.sources.yahoo_client import Request, ask_yahoo
from envs.market.sources.yahoo_index import MAX_MISSING_SESSIONS, YahooWindow

REMEDY = "Check the network and try again later, or use stocks that need none: data=panel_stocks"


def load_yahoo_panel(
    tickers: tuple[str, ...],
    window: YahooWindow,
    cache_dir: str | None,
    timeout_seconds: float,
    rate: float,
    incomplete: Incomplete,
) -> tuple[PanelHistory, tuple[str, ...]]:
    """The panel over `window`, and notices about it.

    Sessions are those of the New York exchange; where all tickers trade on weekends, every day.
    A ticker may lack MAX_MISSING_SESSIONS sessions between its first and last price: these are
    left out for all and named; what lies before its first is up to `incomplete`. The cache and
    the errors are those of `load_yahoo`.
    """
    folder = cache_folder(cache_dir)
    request = Request(tickers, window.start, window.end, REMEDY)

    def ask() -> pd.DataFrame:
        bars = ask_yahoo(request, timeout_seconds=timeout_seconds, scratch=folder / "yfinance")
        return pd.DataFrame({ticker: bars["Adj Close", ticker] for ticker in tickers})

    path = folder / panel_cache_name(tickers, window)
    answer = cached_or_downloaded(path, window.end, ask, REMEDY, window.as_it_stands)
    prices, left_out = _on_common_sessions(answer.table[list(tickers)], window)
    complete, gaps = prices.complete(incomplete)
    try:
        history = complete.history(rate)
        odd = panel_notices(history, lambda day, _: f"yahoo, {day}")
    except InputError as error:
        raise InputError(f"Yahoo Finance gave unusable data: {error.problem}", REMEDY) from None
    return history, (*answer.notices, *left_out, *gaps, *odd, *answer.keep())


def panel_cache_name(tickers: tuple[str, ...], window: YahooWindow) -> str:
    """File name of the tickers' window in the cache."""
    key = hashlib.sha256(" ".join(sorted(tickers)).encode()).hexdigest()[:16]
    return f"yahoo-panel-{key}-{window.start:%Y%m%d}-{window.end:%Y%m%d}.parquet"


def _on_common_sessions(
    answer: pd.DataFrame, window: YahooWindow
) -> tuple[PriceTable, tuple[str, ...]]:
    """The answer on the sessions that count, holes only before a ticker's first price."""
    days = answer.index.to_numpy().astype("datetime64[D]")
    on_weekends = answer[~np.is_busday(days)]
    always_open = [str(ticker) for ticker in answer.columns[on_weekends.notna().any()]]
    all_open = len(always_open) == len(answer.columns)
    sessions = (
        np.arange(np.datetime64(window.start), np.datetime64(window.end) + 1)
        if all_open
        else exchange_sessions(window.start, window.end)
    )
    prices = answer.set_axis(days, axis=0).reindex(sessions)
    table, notices = _without_missing_sessions(PriceTable.of("yahoo", prices))
    if always_open and not all_open:
        notices += (
            f"yahoo: {', '.join(always_open)} trade every day; only the sessions of the exchange "
            "are used, and their closes, at midnight UTC, come hours after the exchange's",
        )
    return table, notices


def _without_missing_sessions(table: PriceTable) -> tuple[PriceTable, tuple[str, ...]]:
    present = ~np.isnan(table.close)
    drop: BoolArray = np.zeros(len(table.dates), bool)
    for column, asset in enumerate(table.assets):
        missing = np.logical_or.accumulate(present[:, column]) & ~present[:, column]
        if not present[-1, column] or missing.sum() > MAX_MISSING_SESSIONS:
            priced = table.dates[present[:, column]]
            covered = f"from {priced[0]} to {priced[-1]}" if len(priced) else "none at all"
            raise InputError(
                f"Yahoo Finance gave a partial answer: {asset} has a price on {len(priced)} of "
                f"{len(table.dates)} sessions from {table.dates[0]} to {table.dates[-1]} "
                f"({covered})",
                "Choose data.end and tickers that trade on the New York exchange's sessions. "
                + REMEDY,
            )
        drop |= missing
    if not drop.any():
        return table, ()
    days = ", ".join(str(day) for day in table.dates[drop])
    kept = replace(table, dates=table.dates[~drop], close=table.close[~drop])
    return kept, (f"yahoo: sessions without a price of every ticker are left out: {days}",)
