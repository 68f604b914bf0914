"""Tables as packages, files and Yahoo hold them, and the framework's own readers of each."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from envs.market.exchange_calendar import exchange_sessions
from envs.market.history import MarketHistory
from envs.market.panel import PanelHistory
from envs.market.sources.bundled import data_folder, load_embedded, stock_prices, stocks_table
from envs.market.sources.cache import write_table
from envs.market.sources.index_file import load_file
from envs.market.sources.panel import PanelStocksData, stocks_history
from envs.market.sources.panel_file import load_panel_file
from envs.market.sources.yahoo_index import YahooWindow, load_yahoo
from envs.market.sources.yahoo_panel import load_yahoo_panel, panel_cache_name
from experiments.certificates.other_future import TableSource

_RATE, _DIVIDEND_YIELD = 0.025, 0.015
_NO_TIME = 0.001  # seconds for Yahoo: the cache has to have everything
_BEFORE_LISTING = 5  # sessions at the beginning on which one asset has no price
_GAPS = 0.1  # share of VIX cells that are blank


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
    yield TableSource("csv", with_gaps(table, rng), csv)
    downloaded = table[["open", "high", "low", "close", "volume", "vix"]].copy()
    downloaded.index = _exchange_days(table)  # a simulated index may trade on holidays
    downloaded.iloc[len(table) // 2, -1] = np.nan
    yield TableSource("yahoo", downloaded, yahoo)


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

    def read(table: pd.DataFrame) -> PanelHistory:
        return stocks_history(PanelStocksData(), stocks_table(table))[0]

    return TableSource("panel_stocks", stock_prices().iloc[:sessions], read)


def panel_tables(history: PanelHistory, folder: Path) -> Iterator[TableSource]:
    """The first path of a panel as `data=panel_csv`, wide and long, and `data=panel_yahoo` do."""

    def wide(table: pd.DataFrame) -> PanelHistory:
        path = _written(table, folder / "wide.csv")
        return load_panel_file(path, _RATE, None, "start_later")[0]

    def long(table: pd.DataFrame) -> PanelHistory:
        stacked = table.rename_axis("date").reset_index().melt("date", None, "asset", "price")
        path = _written(stacked.set_index("date"), folder / "long.csv")
        return load_panel_file(path, _RATE, None, "start_later")[0]

    def yahoo(table: pd.DataFrame) -> PanelHistory:
        tickers, window = tuple(table.columns), _window(table)
        write_table(folder / panel_cache_name(tickers, window), table)
        wanted = (tickers, window, str(folder), _NO_TIME, _RATE)
        return load_yahoo_panel(*wanted, incomplete="start_later")[0]

    assets = [name.upper() for name in history.assets]
    table = pd.DataFrame(history.close[0], pd.DatetimeIndex(history.dates), columns=assets)
    table.iloc[:_BEFORE_LISTING, -1] = np.nan
    yield TableSource("panel_csv wide", table.assign(rate=history.rate), wide)
    yield TableSource("panel_csv long", table, long)
    table.iloc[len(table) // 2, 0] = np.nan  # a day that is then left out
    yield TableSource("panel_yahoo", table, yahoo)


def index_table(history: MarketHistory, rng: np.random.Generator) -> pd.DataFrame:
    """The first path in the columns of a file, VIX in points and other than the volatility."""
    columns = {name: getattr(history, name)[0] for name in ("open", "high", "low", "close")}
    noise = np.exp(0.1 * rng.standard_normal(history.num_sessions))
    columns |= {"volume": history.volume[0], "vix": 100.0 * history.implied_vol[0] * noise}
    columns |= {"rate": history.rate, "dividend_yield": history.dividend_yield}
    columns |= {name: values[0] for name, values in history.extras.items()}
    return pd.DataFrame(columns, pd.DatetimeIndex(history.dates))


def with_gaps(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Without VIX in the first half, and with gaps in it later."""
    vix = table["vix"].to_numpy(copy=True)
    vix[: len(vix) // 2] = np.nan
    vix[rng.random(len(vix)) < _GAPS] = np.nan
    return table.assign(vix=vix)


def _exchange_days(table: pd.DataFrame) -> pd.DatetimeIndex:
    first = table.index[0].date()
    days = exchange_sessions(first, first + dt.timedelta(days=2 * len(table) + 30))
    return pd.DatetimeIndex(days[: len(table)])


def _window(table: pd.DataFrame) -> YahooWindow:
    return YahooWindow(table.index[0].date(), table.index[-1].date())


def _written(table: pd.DataFrame, path: Path) -> Path:
    table.to_csv(path, index_label="date", date_format="%Y-%m-%d")
    return path
