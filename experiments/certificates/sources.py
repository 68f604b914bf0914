"""Histories that stay the same up to a session, with another future or with none.

A `LoadedSource` changes a history in memory; a `TableSource` changes the table that a package, a
file or Yahoo gives, and reads it with the framework's own reader.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conf.types import FloatArray
from envs.market.exchange_calendar import exchange_sessions
from envs.market.history import VOL_OBSERVED, MarketHistory
from envs.market.panel import PanelHistory
from envs.market.sources.bundled import data_folder, load_embedded, stock_prices, stocks_table
from envs.market.sources.cache import write_table
from envs.market.sources.index_file import load_file
from envs.market.sources.panel import PanelStocksData, stocks_history
from envs.market.sources.panel_file import load_panel_file
from envs.market.sources.yahoo_index import YahooWindow, load_yahoo
from envs.market.sources.yahoo_panel import load_yahoo_panel, panel_cache_name
from envs.market.volatility_estimate import fill_implied_vol
from experiments.certificates.small_environments import History

_BARS = ("open", "high", "low", "close")
_FACTOR = (0.8, 1.25)  # what a later number is multiplied by, drawn anew for each
_DRIFT = 0.015  # daily standard deviation of what later prices are multiplied by
_RATES = (0.005, 0.08)  # what a later rate is replaced by

_RATE, _DIVIDEND_YIELD = 0.025, 0.015  # for readers of data that has none
_NO_TIME = 0.001  # seconds for Yahoo: the cache has to have everything
_BEFORE_LISTING = 5  # sessions at the beginning on which one asset has no price
_GAPS = 0.1  # share of VIX cells that are blank in the second half; the first half has none


class LoadedSource:
    """A history that is in memory; where its volatility is an estimate, it is estimated anew."""

    def __init__(self, name: str, history: History) -> None:
        self.name, self._history = name, estimated_anew(history)

    def history(self) -> History:
        """As it was given."""
        return self._history

    def changed(self, session: int, rng: np.random.Generator) -> History:
        """Other prices, volumes, volatilities, rates and extra columns after `session`."""
        history, later = self._history, slice(session + 1, None)
        drift = _drift(history.close[:, later].shape, rng)

        def scaled(values: FloatArray, factor: FloatArray) -> FloatArray:
            changed = np.array(values)
            changed[:, later] *= factor
            return changed

        def redrawn(rate: FloatArray) -> FloatArray:
            return np.append(rate[: session + 1], rng.uniform(*_RATES, len(rate[later])))

        if isinstance(history, PanelHistory):
            return replace(history, close=scaled(history.close, drift), rate=redrawn(history.rate))
        columns: dict[str, Any] = {name: scaled(getattr(history, name), drift) for name in _BARS}
        for name in ("volume", "implied_vol"):
            factor = rng.uniform(*_FACTOR, drift.shape)
            columns[name] = scaled(getattr(history, name), factor)
        for name in ("rate", "dividend_yield"):
            columns[name] = redrawn(getattr(history, name))
        columns["extras"] = {
            name: scaled(column, rng.uniform(*_FACTOR, drift.shape))
            for name, column in history.extras.items()
        }
        return estimated_anew(replace(history, **columns))

    def cut(self, session: int) -> History:
        """The sessions up to `session`."""
        return self._history.sessions(0, session + 1)


def estimated_anew(history: History) -> History:
    """The history with every volatility that is an estimate made from the prices once more."""
    if isinstance(history, PanelHistory):
        return history
    observed = history.implied_vol_source == VOL_OBSERVED
    if observed.all():
        return history
    # Real data has one path, and nothing else has estimates.
    quoted = np.where(observed, history.implied_vol[0], np.nan)
    high, low, close = history.high[0], history.low[0], history.close[0]
    vol, _ = fill_implied_vol(quoted, high, low, close, history.sessions_per_year)
    return replace(history, implied_vol=vol)


def _drift(shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """Factors (P, n, ...) or (n,) of prices that drift away from 1, session by session."""
    steps = _DRIFT * rng.standard_normal(shape)
    factor: FloatArray = np.exp(np.cumsum(steps, axis=min(1, len(shape) - 1)))
    return factor


class TableSource:
    """A table as it comes from outside, changed there and read by the framework's own reader."""

    def __init__(
        self, name: str, table: pd.DataFrame, read: Callable[[pd.DataFrame], History]
    ) -> None:
        """`table`: one row of numbers a day, indexed by date."""
        self.name, self._table, self._read = name, table, read
        self._dates = read(table).dates

    def history(self) -> History:
        """Of the unchanged table."""
        return self._read(self._table)

    def changed(self, session: int, rng: np.random.Generator) -> History:
        """With other numbers in all rows after `session`; blank cells stay blank."""
        table, later = self._table.copy(), slice(self._rows(session), None)
        drift = _drift((len(table.iloc[later]),), rng)
        for name in table.columns:
            values = table[name].to_numpy(np.float64).copy()
            values[later] *= drift if name.lower() in _BARS else rng.uniform(*_FACTOR, drift.shape)
            table[name] = values
        return self._read(table)

    def cut(self, session: int) -> History:
        """Without the rows after `session`."""
        return self._read(self._table.iloc[: self._rows(session)])

    def _rows(self, session: int) -> int:
        """How many rows there are up to a session; a reader may leave some of them out."""
        days = self._table.index.to_numpy().astype("datetime64[D]")
        return int(np.searchsorted(days, self._dates[session], side="right"))


Source = LoadedSource | TableSource

# --- tables and their readers --------------------------------------------------------------------


def sp500_table(sessions: int | None, folder: Path) -> TableSource:
    """S&P 500 and VIX as `arch` has them; `sessions`: so many around the first observed VIX."""
    files = {name: Path(name) / f"{name}.csv.gz" for name in ("sp500", "vix")}

    def read(table: pd.DataFrame) -> MarketHistory:
        for name, part in (("sp500", table.drop(columns="vix")), ("vix", table[["vix"]])):
            (folder / name).mkdir(exist_ok=True)
            part.to_csv(folder / files[name], index_label="Date")
        return load_embedded(_RATE, _DIVIDEND_YIELD, folder)[0]

    prices, vix = (
        pd.read_csv(data_folder() / file, index_col="Date", parse_dates=["Date"])
        for file in files.values()
    )
    table = prices.join(pd.to_numeric(vix["vix"], errors="coerce"))
    if sessions is not None:
        observed = int(np.argmax(table["vix"].notna()))
        start = observed - (3 * sessions) // 4
        table = table.iloc[start : start + sessions]
    return TableSource("sp500", table, read)


def stock_table(sessions: int | None) -> TableSource:
    """The stocks as `skfolio` has them; `sessions`: so many from the first."""
    return TableSource(
        "panel_stocks",
        stock_prices().iloc[:sessions],
        lambda table: stocks_history(PanelStocksData(), stocks_table(table))[0],
    )


def index_tables(
    history: MarketHistory, rng: np.random.Generator, folder: Path
) -> Iterator[TableSource]:
    """The first path of an index as `data=csv` and as `data=yahoo` read it."""

    def csv(table: pd.DataFrame) -> MarketHistory:
        return load_file(_written(table, folder / "index.csv"), _RATE, _DIVIDEND_YIELD)[0]

    def yahoo(table: pd.DataFrame) -> MarketHistory:
        window = _window(table)
        write_table(folder / window.cache_name, table)
        return load_yahoo(window, str(folder), _NO_TIME, _RATE, _DIVIDEND_YIELD)[0]

    table = index_table(history, rng)
    vix = table["vix"].to_numpy(copy=True)
    vix[: len(vix) // 2] = np.nan
    vix[rng.random(len(vix)) < _GAPS] = np.nan
    yield TableSource("csv", table.assign(vix=vix), csv)
    downloaded = table[[*_BARS, "volume", "vix"]].copy()
    first = table.index[0].date()
    days = exchange_sessions(first, first + dt.timedelta(days=2 * len(table) + 30))
    downloaded.index = pd.DatetimeIndex(days[: len(table)])  # a simulated index trades on holidays
    downloaded.iloc[len(table) // 2, -1] = np.nan
    yield TableSource("yahoo", downloaded, yahoo)


def panel_tables(history: PanelHistory, folder: Path) -> Iterator[TableSource]:
    """The first path of a panel as `data=panel_csv`, wide and long, and `data=panel_yahoo` do."""

    def read(table: pd.DataFrame, name: str) -> PanelHistory:
        return load_panel_file(_written(table, folder / name), _RATE, None, "start_later")[0]

    def long(table: pd.DataFrame) -> PanelHistory:
        stacked = table.rename_axis("date").reset_index().melt("date", None, "asset", "price")
        return read(stacked.set_index("date"), "long.csv")

    def yahoo(table: pd.DataFrame) -> PanelHistory:
        tickers, window = tuple(table.columns), _window(table)
        write_table(folder / panel_cache_name(tickers, window), table)
        return load_yahoo_panel(
            tickers, window, str(folder), _NO_TIME, _RATE, incomplete="start_later"
        )[0]

    assets = [name.upper() for name in history.assets]
    table = pd.DataFrame(history.close[0], pd.DatetimeIndex(history.dates), columns=assets)
    table.iloc[:_BEFORE_LISTING, -1] = np.nan
    yield TableSource(
        "panel_csv wide", table.assign(rate=history.rate), lambda t: read(t, "wide.csv")
    )
    yield TableSource("panel_csv long", table, long)
    table.iloc[len(table) // 2, 0] = np.nan  # a day that is then left out
    yield TableSource("panel_yahoo", table, yahoo)


def index_table(history: MarketHistory, rng: np.random.Generator) -> pd.DataFrame:
    """The first path in the columns of a file, VIX in points and other than the volatility."""
    noise = np.exp(0.1 * rng.standard_normal(history.num_sessions))
    columns = {name: getattr(history, name)[0] for name in (*_BARS, "volume")}
    columns |= {"vix": 100.0 * history.implied_vol[0] * noise}
    columns |= {"rate": history.rate, "dividend_yield": history.dividend_yield}
    columns |= {name: values[0] for name, values in history.extras.items()}
    return pd.DataFrame(columns, pd.DatetimeIndex(history.dates))


def _window(table: pd.DataFrame) -> YahooWindow:
    return YahooWindow(table.index[0].date(), table.index[-1].date())


def _written(table: pd.DataFrame, path: Path) -> Path:
    table.to_csv(path, index_label="date", date_format="%Y-%m-%d")
    return path
