"""Small environments to certify: simulated and real histories, settings, an untrained policy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import torch
from stable_baselines3.common.policies import BasePolicy

from agents.factory import RecurrentPPOSettings, build_agent
from conf.errors import InputError
from conf.settings import build_settings
from envs.allocation.market import AllocationMarketSettings
from envs.core.batch import Window
from envs.core.market import BookMarket, MarketSettings
from envs.hedging.liability import Leg
from envs.hedging.market import HedgingMarketSettings, HedgingSettings
from envs.market.history import MarketHistory
from envs.market.panel import PanelHistory
from envs.market.sources.index import DataSettings, SyntheticData, load_market
from envs.market.sources.panel import PanelSimulatedData, PanelStocksData, load_panel
from envs.option_portfolio.extra_blocks import EXTRA_BLOCKS
from envs.option_portfolio.market import OptionMarketSettings, OptionPortfolioSettings
from envs.options.surface import FlatSurface, VixSurface
from envs.sb3_vec_env import KernelVecEnv
from experiments.environments.setup import open_books
from risk.overlay import RiskSettings

History = MarketHistory | PanelHistory

PATHS = 2  # of a simulated history
RUN_PATHS = 20  # of the data of a run, which may have thousands
ASSETS = 4
STOCKS = "panel_stocks"
_RATES = (0.005, 0.08)
# Limits on options have no place in a portfolio of assets.
ASSET_RISK = {
    "limits": {
        **{"max_position": 0.5, "max_gross": 1.0, "min_cash": 0.0, "max_monthly_turnover": None},
        **{"max_delta": None, "max_gamma": None, "max_vega": None},
    },
    "guard": {"max_beta": None},
}
# Trained, it finds a large edge in two thousand steps; untrained, it still has a memory.
SMALL_AGENT: dict[str, Any] = {
    "learning_rate": 3e-3,
    "rollout_steps": 512,
    "batch_size": 256,
    "n_epochs": 6,
    "gamma": 0.9,
    "lstm_hidden_size": 16,
    "n_lstm_layers": 1,
    "net_arch": (32,),
    "log_std_init": -2.0,
}
_ACTION_SCALE = 50.0  # of the untrained policy: a fresh action head asks for next to nothing


def option_settings(
    history: MarketHistory, surface: str, roll: str, *, managed: bool
) -> OptionMarketSettings:
    """The option book with every extra block of observations that the history can fill."""
    blocks = [*EXTRA_BLOCKS, *(f"extra:{name}" for name in history.extras)]
    values = {"chain": {"roll": roll}, "observation": {"extra_blocks": blocks}}
    return OptionMarketSettings(
        surface=VixSurface() if surface == "vix" else FlatSurface(),
        env=build_settings(OptionPortfolioSettings, values, "env"),
        risk=RiskSettings(enabled=managed),
    )


def allocation_settings(*, managed: bool) -> AllocationMarketSettings:
    """The allocation to assets."""
    risk = build_settings(RiskSettings, {**ASSET_RISK, "enabled": managed}, "risk")
    return AllocationMarketSettings(risk=risk)


def hedging_settings(model: str = "gbm", **data: Any) -> HedgingMarketSettings:
    """A call that was sold, and half a put that was bought and ends before it."""
    put = Leg(kind="put", moneyness=0.95, quantity=0.5, sessions=8)
    env = HedgingSettings(liability=(Leg(), put))
    data = {"source": "synthetic", "model": model, **data}
    return HedgingMarketSettings(data=build_settings(DataSettings, data, "data"), env=env)


def index_history(model: str, sessions: int, paths: int = PATHS) -> MarketHistory:
    """A simulated index with the default parameters of its model."""
    values = {"model": model, "paths": paths, "sessions": sessions}
    return load_market(build_settings(SyntheticData, values, "data"), embargo_days=0).history


def few_paths(history: History) -> History:
    """At most RUN_PATHS of the paths of an index."""
    if isinstance(history, MarketHistory) and history.num_paths > RUN_PATHS:
        return history.first_paths(RUN_PATHS)
    return history


def with_extra_columns(history: MarketHistory, rng: np.random.Generator) -> MarketHistory:
    """The same with trading volume, rates that move and a column of the user's own."""
    shape, sessions = history.close.shape, history.num_sessions
    return replace(
        history,
        volume=1e6 * np.exp(0.3 * rng.standard_normal(shape)),
        rate=rng.uniform(*_RATES, sessions),
        dividend_yield=rng.uniform(0.01, 0.02, sessions),
        extras={"sentiment": rng.standard_normal(shape)},
    )


def panel_histories(sessions: int, *, everything: bool) -> Iterator[tuple[str, PanelHistory]]:
    """Simulated assets, and real stocks where their package is installed."""
    stocks = _stocks()
    models = models_of(PanelSimulatedData) if everything else ("regime_switching",)
    for model in models:
        values: dict[str, Any] = {"model": model, "paths": PATHS, "sessions": sessions}
        if model != "garch":
            values["assets"] = ASSETS
        elif stocks is None:  # which it is fitted to
            continue
        request = build_settings(PanelSimulatedData, values, "data")
        yield f"panel_simulated {model}", load_panel(request).history
    if stocks is not None:
        yield STOCKS, stocks if everything else stocks.sessions(0, sessions)


def models_of(data: Any) -> tuple[str, ...]:
    """Every model that the settings class of a simulated source knows."""
    return get_args(data.__pydantic_fields__["model"].annotation)


def _stocks() -> PanelHistory | None:
    try:
        return load_panel(PanelStocksData()).history
    except InputError:
        return None


def whole_window(market: BookMarket) -> Window:
    """All sessions that an episode can use."""
    return Window(market.first_usable, market.history.num_sessions)


def untrained_policy(settings: MarketSettings, market: BookMarket, seed: int) -> BasePolicy:
    """A small recurrent network that trades on what it sees and remembers, at random."""
    kernel = open_books(settings, market, whole_window(market), 1)
    options = RecurrentPPOSettings(**{**SMALL_AGENT, "rollout_steps": 256})
    policy = build_agent(options, KernelVecEnv(kernel), seed, "cpu").policy
    with torch.no_grad():
        head: Any = policy.action_net
        for parameter in head.parameters():
            parameter.mul_(_ACTION_SCALE)
    policy.set_training_mode(False)
    return policy
