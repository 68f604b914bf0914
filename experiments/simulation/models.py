"""The models that years are simulated from, fitted to the past of the run's own market."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from conf.settings import settings_to_json
from envs.market.models.bootstrap import DayPool, pool_days
from envs.market.models.fits import fit_gbm, fit_heston, fit_regimes, moves_of
from envs.market.models.garch import IndexGarch, fit_index_garch
from envs.market.models.heston import HestonModel
from envs.market.models.index_models import IndexModel
from envs.market.sources.index import (
    LoadedMarket,
    Sp500Data,
    SyntheticData,
    load_market,
    past_of,
)

log = logging.getLogger(__name__)

ModelName = Literal["gbm", "heston", "garch", "bootstrap", "regime"]
MODELS: tuple[ModelName, ...] = get_args(ModelName)

TITLES = {
    "gbm": "Geometric Brownian motion",
    "heston": "Heston's stochastic volatility",
    "garch": "GJR-GARCH with real shocks",
    "bootstrap": "Real days in blocks",
    "regime": "Two regimes",
}
LOWEST_FELLER_RATIO = 0.25  # below which Heston's variance is degenerate
_LAST_SPLIT = {"bootstrap": "validation"}  # that a model is fitted to; others: train


@dataclass(frozen=True)
class FittedModel:
    """A model of the index with what it was fitted to."""

    name: str
    model: IndexModel
    drift: float  # continuous annual, dividends included; read by gbm and heston alone
    rate: float  # continuous annual, mean of the past
    dividend_yield: float
    first: str  # of the sessions that it was fitted to
    last: str
    source: str
    closed_day_weight: float  # of variance

    @property
    def parameters(self) -> dict[str, Any]:
        """The fitted parameters, as plain data."""
        model = self.model
        if isinstance(model, DayPool):
            return {"sessions": len(model.close), "mean_block": model.mean_block}
        if isinstance(model, IndexGarch):
            names = ("mean", "omega", "alpha", "gamma", "beta", "ceiling")
            garch = {name: float(getattr(model.fit, name)[0]) for name in names}
            return {**garch, "vol_premium": model.vol_premium}
        plain = settings_to_json(model)
        if isinstance(model, HestonModel):
            plain["feller_ratio"] = feller_ratio(model)
        return plain if self.name == "regime" else {**plain, "drift": self.drift}

    @property
    def notices(self) -> tuple[str, ...]:
        """Warnings about a degenerate fit, in sentences."""
        if not isinstance(self.model, HestonModel):
            return ()
        ratio = feller_ratio(self.model)
        if ratio >= LOWEST_FELLER_RATIO:
            return ()
        return (
            f"heston: 2 kappa theta / xi^2 is {ratio:.2g} as fitted to {self.source} from "
            f"{self.first} to {self.last}, below {LOWEST_FELLER_RATIO:g}: the simulated variance "
            "lies near zero most of the time and then leaps, so that calm years and crashes far "
            "beyond those of the past come of the fit and not of the market.",
        )


def feller_ratio(model: HestonModel) -> float:
    """2 kappa theta / xi^2: from 1 on the variance never reaches zero, far below it sticks there.

    W. Feller, Two singular diffusion problems, Annals of Mathematics 54 (1951).
    """
    return 2.0 * model.mean_reversion * model.long_run_variance / model.vol_of_vol**2


def past_market(loaded: LoadedMarket) -> LoadedMarket:
    """The real market to fit to: the run's own, or the S&P 500 where that is itself simulated."""
    if isinstance(loaded.settings, SyntheticData):
        same_clock = Sp500Data(closed_day_weight=loaded.history.closed_day_weight)
        return load_market(same_clock, embargo_days=loaded.embargo_days)
    return loaded


def fit_models(loaded: LoadedMarket, names: Sequence[ModelName]) -> list[FittedModel]:
    """Fit each model to the training years, the bootstrap to those and the validation years."""
    market = past_market(loaded)
    models = [_fit(market, name) for name in names]
    for model in models:
        for notice in model.notices:
            log.warning(notice)
    return models


def _fit(market: LoadedMarket, name: str) -> FittedModel:
    past = past_of(market, _LAST_SPLIT.get(name, "train"))
    fits: dict[str, Any] = {
        "gbm": fit_gbm,
        "heston": fit_heston,
        "garch": fit_index_garch,
        "bootstrap": pool_days,
        "regime": fit_regimes,
    }
    return FittedModel(
        name,
        fits[name](past),
        moves_of(past).drift,
        float(np.mean(past.rate)),
        float(np.mean(past.dividend_yield)),
        str(past.dates[0]),
        str(past.dates[-1]),
        past.name,
        past.closed_day_weight,
    )
