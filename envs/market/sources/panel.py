"""Sources of panel data: a settings class for each, and `load_panel` for all of them."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from conf.errors import InputError
from conf.settings import settings
from envs.market.exchange_calendar import trading_days
from envs.market.indicators import panel_warmup
from envs.market.models.garch import fit_garch, simulate_garch
from envs.market.models.panel import (
    PanelModel,
    PanelScenario,
    RegimeModel,
    asset_names,
    simulate_gbm,
    simulate_regimes,
)
from envs.market.panel import PanelHistory
from envs.market.sources.bundled import (
    SURVIVORS,
    AnnualRate,
    CashRate,
    cash_rates,
    stock_prices,
    stocks_table,
)
from envs.market.sources.index import FirstDay
from envs.market.sources.panel_file import load_panel_file
from envs.market.sources.panel_gaps import Incomplete, PriceTable
from envs.market.sources.series_checks import rate_notices
from envs.market.sources.yahoo_index import YahooWindow
from envs.market.sources.yahoo_panel import load_yahoo_panel
from envs.market.splits import Day, Loaded, SplitDates

DEFAULT_ASSETS = 10

Names = Annotated[tuple[str, ...], Field(min_length=1)]
Ticker = Annotated[str, Field(pattern=r"^[A-Z0-9.^=-]{1,20}$")]


@settings
class PanelStocksData:
    """Twenty stocks of the S&P 500, 1990-2022, inside skfolio (extra `stocks`): no network."""

    source: Literal["panel_stocks"] = "panel_stocks"
    assets: Names | None = None  # null: all twenty
    rate: CashRate = 0.025  # continuous, decimal
    splits: SplitDates = SplitDates(
        train_end=dt.date(2012, 12, 31), validation_end=dt.date(2016, 12, 31)
    )


@settings
class PanelFileData:
    """A CSV or Parquet file of prices, wide or long; its own column `rate` wins."""

    source: Literal["panel_csv"] = "panel_csv"
    path: Annotated[str, Field(min_length=1)]
    assets: Names | None = None  # null: all that the file has
    incomplete: Incomplete = "error"
    rate: CashRate = 0.025
    splits: SplitDates = SplitDates()


@settings
class PanelYahooData:
    """Stocks, funds and coins from Yahoo Finance, kept in a cache after the first download."""

    source: Literal["panel_yahoo"] = "panel_yahoo"
    tickers: Annotated[tuple[Ticker, ...], Field(min_length=1)] = (
        *("SPY", "QQQ", "IWM", "EFA", "EEM", "TLT", "LQD", "GLD"),
        *("BTC-USD", "ETH-USD"),
    )
    start: FirstDay = dt.date(2018, 1, 2)
    end: Day = dt.date(2025, 10, 17)  # inclusive
    as_it_stands: bool = False  # today's session too, before or after its close; not cached
    incomplete: Incomplete = "error"
    cache_dir: str | None = None  # null: polyhedgerl under the user's cache folder
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 60.0  # in total
    fallback: Literal["panel_stocks"] | None = None  # what to use where Yahoo cannot be reached
    rate: AnnualRate = 0.025
    splits: SplitDates = SplitDates(
        train_end=dt.date(2022, 12, 31), validation_end=dt.date(2023, 12, 31)
    )

    @model_validator(mode="after")
    def _check_request(self) -> PanelYahooData:
        if self.start >= self.end:
            raise ValueError(f"start {self.start} must come before end {self.end}")
        if len(set(self.tickers)) < len(self.tickers):
            raise ValueError("a ticker is named twice")
        return self


@settings
class GarchModel:
    """GJR-GARCH fitted to the training years of real prices, with resampled shocks."""

    fit_to: Annotated[
        PanelStocksData | PanelFileData | PanelYahooData, Field(discriminator="source")
    ] = PanelStocksData()


@settings
class PanelSimulatedData:
    """Simulated paths of one model; its seed is independent of that of training."""

    source: Literal["panel_simulated"] = "panel_simulated"
    model: Literal["gbm", "regime_switching", "garch"] = "gbm"
    assets: Annotated[int, Field(ge=1, le=1000)] | None = None  # null: 10; garch: as it was fitted
    paths: Annotated[int, Field(ge=1)] = 1
    sessions: Annotated[int, Field(ge=2, le=50_000)] = 5031
    start: FirstDay = dt.date(1999, 1, 4)
    initial_price: Annotated[float, Field(gt=0)] = 100.0  # dollars, of every asset
    seed: Annotated[int, Field(ge=0)] = 0
    gbm: PanelModel = PanelModel()
    regime_switching: RegimeModel = RegimeModel()
    garch: GarchModel = GarchModel()
    rate: AnnualRate = 0.025
    splits: SplitDates = SplitDates()


PanelSettings = Annotated[
    PanelSimulatedData | PanelStocksData | PanelFileData | PanelYahooData,
    Field(discriminator="source"),
]
PricedSettings = PanelStocksData | PanelFileData | PanelYahooData


@dataclass(frozen=True)
class LoadedPanel(Loaded[PanelHistory, PanelSettings]):
    """The history of many assets, its splits, and how it came about."""


def load_panel(
    data: PanelSettings, *, embargo_days: int = 0, warmup_sessions: int | None = None
) -> LoadedPanel:
    """Load the history that the settings describe.

    Spot assets do not expire, so there is no embargo by default; `warmup_sessions` is what the
    features need (None: `panel_warmup()`). If Yahoo fails and its settings name a fallback, that
    is loaded instead, the first notice says so and why, and `settings` of the result are the
    fallback's. Raises InputError for data that cannot be had or used.
    """
    warmup = panel_warmup() if warmup_sessions is None else warmup_sessions
    if isinstance(data, PanelSimulatedData):
        history, notices = _simulate(data, np.random.default_rng(data.seed), data.paths)
        used: PanelSettings = data
    else:
        used, history, notices = _load_prices(data)
    notices = (*notices, *rate_notices(history))
    return LoadedPanel(history, used, notices, embargo_days, warmup)


def simulate_panel(
    data: PanelSimulatedData, rng: np.random.Generator, *, paths: int | None = None
) -> PanelHistory:
    """The simulated history of these settings from a generator of one's own.

    `paths` overrides the number of paths; the settings' seed is not used.
    """
    return _simulate(data, rng, data.paths if paths is None else paths)[0]


def _simulate(
    data: PanelSimulatedData, rng: np.random.Generator, paths: int
) -> tuple[PanelHistory, tuple[str, ...]]:
    scenario = PanelScenario(
        assets=asset_names(data.assets or DEFAULT_ASSETS),
        dates=trading_days(data.start, data.sessions),
        num_paths=paths,
        initial_price=data.initial_price,
        rate=data.rate,
    )
    if data.model == "gbm":
        return simulate_gbm(data.gbm, scenario, rng), ()
    if data.model == "regime_switching":
        return simulate_regimes(data.regime_switching, scenario, rng)[0], ()
    real = load_panel(data.garch.fit_to)
    if data.assets not in (None, real.history.num_assets):
        raise InputError(
            f"data.assets = {data.assets}, but {real.history.name} has "
            f"{real.history.num_assets} to fit to",
            "Leave data.assets null and choose them in data.garch.fit_to",
        )
    fit = fit_garch(real.history, real.splits.train.stop)
    return simulate_garch(fit, replace(scenario, assets=fit.assets), rng), real.notices


def _load_prices(data: PricedSettings) -> tuple[PricedSettings, PanelHistory, tuple[str, ...]]:
    """The settings that were used in the end, their history, and notices."""
    if isinstance(data, PanelStocksData):
        return data, *_load_stocks(data)
    if isinstance(data, PanelFileData):
        path = Path(data.path).expanduser()
        loaded = load_panel_file(path, data.rate, data.assets, data.incomplete)
        return replace(data, path=str(path.resolve())), *loaded
    window = YahooWindow(data.start, data.end, data.as_it_stands)
    limits = data.cache_dir, data.timeout_seconds
    try:
        return data, *load_yahoo_panel(data.tickers, window, *limits, data.rate, data.incomplete)
    except InputError as error:
        if data.fallback is None:
            raise
        stocks = PanelStocksData(rate=data.rate)
        history, notices = _load_stocks(stocks)
        fallback = (
            f"FALLBACK: Yahoo's data could not be had, so {history.num_assets} stocks of "
            f"{history.dates[0]} to {history.dates[-1]} are used instead ({error.problem})"
        )
        return stocks, history, (fallback, *notices)


def _load_stocks(data: PanelStocksData) -> tuple[PanelHistory, tuple[str, ...]]:
    history, gaps = stocks_history(data, stocks_table(stock_prices()))
    return history, (SURVIVORS, *gaps)


def stocks_history(
    data: PanelStocksData, table: PriceTable
) -> tuple[PanelHistory, tuple[str, ...]]:
    """The history of a table of stocks, and notices about its gaps."""
    complete, gaps = table.chosen(data.assets).complete("error")
    return complete.history(cash_rates(data.rate, complete.dates)), gaps
