"""Every model that an index can be simulated with, and one function for all of them."""

from __future__ import annotations

import numpy as np

from envs.market.history import MarketHistory
from envs.market.models.bootstrap import DayPool, simulate_bootstrap
from envs.market.models.garch import IndexGarch, simulate_index_garch
from envs.market.models.gbm import GbmModel, Scenario, simulate_gbm
from envs.market.models.heston import HestonModel, simulate_heston
from envs.market.models.regimes import IndexRegimes, simulate_index_regimes
from envs.market.models.sabr import SabrModel, simulate_sabr

IndexModel = GbmModel | HestonModel | SabrModel | IndexRegimes | IndexGarch | DayPool


def simulate_index(
    model: IndexModel, scenario: Scenario, rng: np.random.Generator
) -> MarketHistory:
    """P paths of T sessions; the same generator state gives the same history.

    `scenario.drift` is read by models without a drift of their own: GbmModel, HestonModel and
    SabrModel.
    """
    if isinstance(model, DayPool):
        return simulate_bootstrap(model, scenario, rng)
    if isinstance(model, IndexGarch):
        return simulate_index_garch(model, scenario, rng)
    if isinstance(model, IndexRegimes):
        return simulate_index_regimes(model, scenario, rng)[0]
    if isinstance(model, HestonModel):
        return simulate_heston(model, scenario, rng)
    if isinstance(model, SabrModel):
        return simulate_sabr(model, scenario, rng)
    return simulate_gbm(model, scenario, rng)
