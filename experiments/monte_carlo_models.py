"""The laws that years are simulated from, fitted to the past of the run's own market."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from envs.market.index_bootstrap import DayPool, pool_days
from envs.market.index_fits import fit_gbm, fit_heston, fit_regimes, moves_of
from envs.market.index_garch import IndexGarch, fit_index_garch
from envs.market.index_models import IndexModel
from envs.market.loaded import settings_to_json
from envs.market.sources import LoadedMarket, Sp500Data, SyntheticData, load_market, past_of

ModelName = Literal["gbm", "heston", "garch", "bootstrap", "regime"]

TITLES = {
    "gbm": "Geometric Brownian motion",
    "heston": "Heston's stochastic volatility",
    "garch": "GJR-GARCH with real shocks",
    "bootstrap": "Real days in blocks",
    "regime": "Two regimes",
}
# Up to the end of which split a model may look.
_LAST_SPLIT = {"bootstrap": "validation"}


@dataclass(frozen=True)
class Law:
    """One fitted model."""

    name: str
    model: IndexModel
    drift: float  # continuous annual, dividends included; read by gbm and heston alone
    rate: float  # continuous annual, mean of the past
    dividend_yield: float
    first: str  # of the sessions that it was fitted to
    last: str
    source: str

    @property
    def numbers(self) -> dict[str, Any]:
        """What the fit found, as plain data."""
        model = self.model
        if isinstance(model, DayPool):
            return {"sessions": len(model.close), "mean_block": model.mean_block}
        if isinstance(model, IndexGarch):
            names = ("mean", "omega", "alpha", "gamma", "beta", "ceiling")
            found = {name: float(getattr(model.fit, name)[0]) for name in names}
            return {**found, "vol_premium": model.vol_premium}
        plain = settings_to_json(model)
        return plain if self.name == "regime" else {**plain, "drift": self.drift}


def past_market(loaded: LoadedMarket) -> LoadedMarket:
    """The real market to fit to: the run's own, or the S&P 500 where that is itself simulated."""
    if isinstance(loaded.settings, SyntheticData):
        return load_market(Sp500Data(), embargo_days=loaded.embargo_days)
    return loaded


def fit_laws(loaded: LoadedMarket, names: Sequence[ModelName]) -> list[Law]:
    """Fit each model to the training years, the bootstrap to those and the validation years."""
    market = past_market(loaded)
    return [_fit(market, name) for name in names]


def _fit(market: LoadedMarket, name: str) -> Law:
    past = past_of(market, _LAST_SPLIT.get(name, "train"))
    fits: dict[str, Any] = {
        "gbm": fit_gbm,
        "heston": fit_heston,
        "garch": fit_index_garch,
        "bootstrap": pool_days,
        "regime": fit_regimes,
    }
    return Law(
        name,
        fits[name](past),
        moves_of(past).drift,
        float(np.mean(past.rate)),
        float(np.mean(past.dividend_yield)),
        str(past.dates[0]),
        str(past.dates[-1]),
        past.name,
    )
