"""Every model that an index can be simulated with, and one function for all of them."""

from __future__ import annotations

import datetime as dt

import numpy as np

from conf.types import DateArray
from envs.market.exchange_calendar import trading_days
from envs.market.history import MarketHistory
from envs.market.models.bootstrap import DayPool, simulate_bootstrap
from envs.market.models.garch import IndexGarch, simulate_index_garch
from envs.market.models.gbm import GbmModel, Scenario, simulate_gbm, weekdays
from envs.market.models.heston import HestonModel, simulate_heston
from envs.market.models.regimes import IndexRegimes, simulate_index_regimes

IndexModel = GbmModel | HestonModel | IndexRegimes | IndexGarch | DayPool


def model_dates(model: IndexModel, first_day: dt.date, sessions: int) -> DateArray:
    """The sessions (T,) that a model runs by.

    Weekdays where the model's variance accrues by the calendar day; the exchange's sessions, 252
    a year, where it accrues by the session.
    """
    if isinstance(model, IndexGarch | DayPool):
        return trading_days(first_day, sessions)
    return weekdays(first_day, sessions)


def simulate_index(
    model: IndexModel, scenario: Scenario, rng: np.random.Generator
) -> MarketHistory:
    """P paths of T sessions; the same generator state gives the same history.

    `scenario.drift` is read by models without a drift of their own: GbmModel and HestonModel.
    """
    if isinstance(model, DayPool):
        return simulate_bootstrap(model, scenario, rng)
    if isinstance(model, IndexGarch):
        return simulate_index_garch(model, scenario, rng)
    if isinstance(model, IndexRegimes):
        return simulate_index_regimes(model, scenario, rng)[0]
    if isinstance(model, HestonModel):
        return simulate_heston(model, scenario, rng)
    return simulate_gbm(model, scenario, rng)
