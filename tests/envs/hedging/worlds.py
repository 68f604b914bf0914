"""The market of Cao, Chen, Hull and Poulos, and small ones that the tests here drive."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from conf.settings import build_settings
from envs.core.batch import Window
from envs.hedging.env import HedgingKernel
from envs.hedging.liability import DATA_VOLATILITY
from envs.hedging.market import HedgingMarket, HedgingSettings, build_hedging_market
from envs.market.history import MarketHistory
from envs.market.sources.index import SyntheticData, simulate_market
from envs.options.surface import SurfaceSettings

# Volatility 20 % of a year of 250 sessions: here a year has 252.
VOL_ANNUAL = 0.2 * math.sqrt(252.0 / 250.0)

# Liabilities and hedges of every kind, by name: settings of a hedger of 20 sessions.
BOOK = [{"quantity": -1.0}, {"kind": "put", "moneyness": 0.95, "quantity": 2.0, "sessions": 8}]
LISTED = {"hedges": [{"sessions": 60}], "hedge_costs": {"kind": "realistic"}}
CASES: dict[str, dict[str, Any]] = {
    "call": {},
    "book": {"liability": BOOK},
    "weekly": {"rebalance_every": 5, "liability": "straddle"},
    "holding": {"action": "holding"},
    "shifted": {"action": "shifted_band"},
    "spread": {"costs": {"kind": "spread", "half_spread_usd": 0.05, "rate_bps": 30.0}},
    "listed": {"action": "shifted_band", **LISTED},
    "listed, holding": {
        "action": "holding",
        **{"hedges": [{"sessions": 40, "kind": "put", "moneyness": 0.9}, {"sessions": 60}]},
        **{"hedge_costs": {"kind": "flat", "rate_bps": 50.0}, "rebalance_every": 5},
    },
}


def options_of(sessions: int = 20, **changes: Any) -> HedgingSettings:
    """Settings of a hedger of a liability of so many sessions."""
    values = {"episode": {"sessions": sessions}, **changes}
    built: HedgingSettings = build_settings(HedgingSettings, values, "env")
    return built


def paths_of(paths: int, sessions: int = 20, seed: int = 0, **changes: Any) -> MarketHistory:
    """Simulated closes for a liability of so many sessions, on which a session is a session."""
    plain: dict[str, Any] = {
        **{"source": "synthetic", "sessions": sessions + 1, "initial_price": 100.0, "rate": 0.0},
        **{"drift": 0.05, "dividend_yield": 0.0, "closed_day_weight": 0.0},
        "gbm": {"vol_annual": VOL_ANNUAL},
        **changes,
    }
    data = build_settings(SyntheticData, plain, "data")
    return simulate_market(data, np.random.default_rng(seed), paths=paths)


def market_of(
    history: MarketHistory, options: HedgingSettings, surface: SurfaceSettings = DATA_VOLATILITY
) -> HedgingMarket:
    """The liabilities along a history."""
    return build_hedging_market(history, options, surface)


def kernel_of(
    market: HedgingMarket,
    options: HedgingSettings,
    num_envs: int = 1,
    *,
    random_start: bool = False,
    seed: int = 0,
) -> HedgingKernel:
    """Hedgers over everything."""
    window = Window(0, market.history.num_sessions)
    return HedgingKernel(market, options, window, num_envs, seed, random_start=random_start)
