"""Sources of index data: a settings class for each, and `load_market` for all of them."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from conf.errors import InputError
from conf.settings import in_one_message, settings
from envs.market.clock import CLOSED_DAY_WEIGHT, ClosedDayWeight, estimate_closed_day_weight
from envs.market.exchange_calendar import trading_days
from envs.market.history import MarketHistory
from envs.market.indicators import WARMUP_SESSIONS
from envs.market.models.bootstrap import pool_days
from envs.market.models.garch import fit_index_garch
from envs.market.models.gbm import GbmModel, Scenario
from envs.market.models.heston import HestonModel
from envs.market.models.index_models import IndexModel, simulate_index
from envs.market.models.regimes import IndexRegimes
from envs.market.models.sabr import SabrModel
from envs.market.models.worlds import WorldSettings
from envs.market.sources.bundled import AnnualRate, CashRate, load_embedded
from envs.market.sources.index_file import load_file
from envs.market.sources.series_checks import rate_notices
from envs.market.sources.yahoo_index import YahooWindow, load_yahoo
from envs.market.splits import Day, Loaded, SplitDates


def _check_year(day: dt.date) -> dt.date:
    if not 1900 <= day.year <= 2050:
        raise ValueError(f"{day} is not between 1900 and 2050")
    return day


# Of variance (`envs.market.clock`); fitted: estimated from the training years.
ClockWeight = Annotated[
    ClosedDayWeight | Literal["fitted"], in_one_message("a number from 0 to 1, or fitted")
]

# In the years whose holidays can be computed for every session that may follow.
FirstDay = Annotated[Day, AfterValidator(_check_year)]


@settings
class Sp500Data:
    """S&P 500 of 1999-2018, embedded: needs no network."""

    source: Literal["sp500"] = "sp500"
    worlds: WorldSettings | None = None  # what is learned in, fitted to the training years
    rate: CashRate = "bills"  # continuous, decimal
    dividend_yield: AnnualRate = 0.015  # continuous, decimal
    closed_day_weight: ClockWeight = CLOSED_DAY_WEIGHT
    splits: SplitDates = SplitDates(
        train_end=dt.date(2013, 12, 31), validation_end=dt.date(2015, 12, 31)
    )


@settings
class YahooData:
    """S&P 500 and VIX from Yahoo Finance, kept in a cache after the first download."""

    source: Literal["yahoo"] = "yahoo"
    start: FirstDay = dt.date(2004, 1, 1)
    end: Day = dt.date(2025, 10, 17)  # inclusive
    as_it_stands: bool = False  # today's session too, before or after its close; not cached
    cache_dir: str | None = None  # null: polyhedgerl under the user's cache folder
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 15.0  # in total
    fallback: Literal["sp500"] | None = None  # what to use where Yahoo cannot be reached
    worlds: WorldSettings | None = None
    rate: CashRate = "bills"
    dividend_yield: AnnualRate = 0.015
    closed_day_weight: ClockWeight = CLOSED_DAY_WEIGHT
    splits: SplitDates = SplitDates(
        train_end=dt.date(2017, 12, 31), validation_end=dt.date(2019, 12, 31)
    )

    @model_validator(mode="after")
    def _check_window(self) -> YahooData:
        if self.start >= self.end:
            raise ValueError(f"start {self.start} must come before end {self.end}")
        return self


@settings
class FileData:
    """A CSV or Parquet file; its own columns `rate` and `dividend_yield` win over the constants."""

    source: Literal["csv"] = "csv"
    path: Annotated[str, Field(min_length=1)]
    worlds: WorldSettings | None = None
    rate: CashRate = 0.025
    dividend_yield: AnnualRate = 0.015
    closed_day_weight: ClockWeight = CLOSED_DAY_WEIGHT
    splits: SplitDates = SplitDates()


RealData = Annotated[Sp500Data | YahooData | FileData, Field(discriminator="source")]


@settings
class GarchData:
    """GJR-GARCH fitted to the training years of real prices, with resampled shocks."""

    fit_to: RealData = Sp500Data()


@settings
class BootstrapData:
    """The days of the training and validation years of real prices in another order."""

    fit_to: RealData = Sp500Data()
    mean_block: Annotated[float, Field(ge=1)] | None = None  # sessions; null: estimated


@settings
class SyntheticData:
    """Simulated paths of one model; its seed is independent of that of training."""

    source: Literal["synthetic"] = "synthetic"
    model: Literal["gbm", "heston", "sabr", "garch", "bootstrap", "regime"] = "gbm"
    paths: Annotated[int, Field(ge=1)] = 1
    sessions: Annotated[int, Field(ge=2)] = 5031
    start: FirstDay = dt.date(1999, 1, 4)
    initial_price: Annotated[float, Field(gt=0)] = 1000.0  # index points
    # Of gbm, heston and sabr, dividends included; null: the rate, a fair market.
    drift: AnnualRate | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    gbm: GbmModel = GbmModel()
    heston: HestonModel = HestonModel()
    sabr: SabrModel = SabrModel()
    garch: GarchData = GarchData()
    bootstrap: BootstrapData = BootstrapData()
    regime: IndexRegimes = IndexRegimes()
    rate: AnnualRate = 0.025
    dividend_yield: AnnualRate = 0.015
    closed_day_weight: ClosedDayWeight = CLOSED_DAY_WEIGHT
    splits: SplitDates = SplitDates()


DataSettings = Annotated[
    Sp500Data | YahooData | FileData | SyntheticData, Field(discriminator="source")
]


@dataclass(frozen=True)
class LoadedMarket(Loaded[MarketHistory, DataSettings]):
    """The history of one index, its splits, and how it came about."""


def load_market(
    data: DataSettings, *, embargo_days: int, warmup_sessions: int = WARMUP_SESSIONS
) -> LoadedMarket:
    """Load the history that the settings describe.

    `embargo_days` is the longest contract life in calendar days, `warmup_sessions` what the
    features need. If Yahoo fails and its settings name a fallback, that is loaded instead, the
    first notice says so and why, and `settings` of the result are the fallback's. Raises
    InputError for data that cannot be had or used.

    Examples:
        >>> loaded = load_market(Sp500Data(), embargo_days=60)
        >>> loaded.history.num_sessions, loaded.split("test").num_sessions
        (5031, 754)
    """
    try:
        used, (history, notices) = data, _load(data)
    except InputError as error:
        if not isinstance(data, YahooData) or data.fallback is None:
            raise
        same = ("rate", "dividend_yield", "closed_day_weight", "worlds")
        used = Sp500Data(**{name: getattr(data, name) for name in same})
        history, notices = _load(used)
        notices = (
            f"FALLBACK: Yahoo's data could not be had, so the embedded S&P 500 of "
            f"{history.dates[0]} to {history.dates[-1]} is used instead ({error.problem})",
            *notices,
        )
    notices = (*notices, *rate_notices(history))
    if isinstance(used, FileData):
        used = replace(used, path=str(Path(used.path).expanduser().resolve()))
    return with_clock(LoadedMarket(history, used, notices, embargo_days, warmup_sessions))


def with_clock(loaded: LoadedMarket) -> LoadedMarket:
    """The market with the weight of a closed day that its settings ask for.

    `fitted` is estimated from the training years of these settings' splits, and a notice says so.
    """
    weight, history, notices = loaded.settings.closed_day_weight, loaded.history, loaded.notices
    if isinstance(weight, str):
        past = past_of(loaded, "train")
        weight = estimate_closed_day_weight(past.dates, past.close[0])
        notice = (
            f"{history.name}: a closed day has {weight:.3f} of a session's variance, as estimated "
            f"from {past.dates[0]} to {past.dates[-1]}"
        )
        notices = (*notices, notice)
    history = replace(history, closed_day_weight=weight)
    return replace(loaded, history=history, notices=notices)


def _load(data: DataSettings) -> tuple[MarketHistory, tuple[str, ...]]:
    if isinstance(data, SyntheticData):
        return _simulate(data, np.random.default_rng(data.seed), data.paths)
    constants = (data.rate, data.dividend_yield)
    if isinstance(data, Sp500Data):
        return load_embedded(*constants)
    if isinstance(data, FileData):
        return load_file(Path(data.path), *constants)
    window = YahooWindow(data.start, data.end, data.as_it_stands)
    return load_yahoo(window, data.cache_dir, data.timeout_seconds, *constants)


def simulate_market(
    data: SyntheticData, rng: np.random.Generator, *, paths: int | None = None
) -> MarketHistory:
    """The synthetic history of these settings from a generator of one's own.

    `paths` overrides the number of paths; the settings' seed is not used.
    """
    return _simulate(data, rng, data.paths if paths is None else paths)[0]


def _simulate(
    data: SyntheticData, rng: np.random.Generator, paths: int
) -> tuple[MarketHistory, tuple[str, ...]]:
    model, notices = _model_of(data)
    scenario = Scenario(
        dates=trading_days(data.start, data.sessions),
        num_paths=paths,
        initial_price=data.initial_price,
        drift=data.rate if data.drift is None else data.drift,
        rate=data.rate,
        dividend_yield=data.dividend_yield,
        closed_day_weight=data.closed_day_weight,
    )
    return simulate_index(model, scenario, rng), notices


def _model_of(data: SyntheticData) -> tuple[IndexModel, tuple[str, ...]]:
    """The model, fitted to real data where it needs any, and notices about these."""
    weight = data.closed_day_weight  # one clock for past and simulation
    if data.model == "garch":
        real = load_market(replace(data.garch.fit_to, closed_day_weight=weight), embargo_days=0)
        return fit_index_garch(past_of(real, "train")), real.notices
    if data.model == "bootstrap":
        real = load_market(replace(data.bootstrap.fit_to, closed_day_weight=weight), embargo_days=0)
        return pool_days(past_of(real, "validation"), data.bootstrap.mean_block), real.notices
    model: IndexModel = getattr(data, data.model)
    return model, ()


def past_of(loaded: LoadedMarket, last_split: str) -> MarketHistory:
    """The history from the first session for training on up to the end of a split.

    Nothing that a model is fitted to may come from later.
    """
    splits = loaded.splits
    return loaded.history.sessions(splits.train.start, splits.named(last_split).stop)
