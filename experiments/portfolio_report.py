"""What an allocation held: its mean weights, and the portfolio after the last trade."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.panel_market import PanelMarket
from experiments.attribution import first_session
from experiments.backtest import Backtest

FloatArray = NDArray[np.float64]

CASH = "cash"


def weights_held(done: Backtest) -> FloatArray:
    """Weights after each trade, (N, T, A + 1), cash last; all cash after ruin."""
    worth = done.equity[:, :-1] - done.cost
    assets = done.position / worth[..., None]
    return np.concatenate([assets, 1.0 - assets.sum(axis=-1, keepdims=True)], axis=-1)


def portfolio_report(done: Backtest, market: PanelMarket) -> dict[str, Any]:
    """Mean weights over all portfolios and days, and the first one after the last trade.

    By asset, cash last, as JSON can hold it. Raises InputError where the backtest was not run on
    this market.
    """
    first_session(done, market)
    weights, names = weights_held(done), (*market.instruments, CASH)
    lived = weights[done.alive]
    last = weights[0, -1]
    return {
        "mean_weights": {name: float(x) for name, x in zip(names, lived.mean(axis=0), strict=True)},
        "last_book": {
            "date": str(done.dates[-2]),
            "portfolio_value": float(done.equity[0, -2] - done.cost[0, -1]),
            "weights": {name: float(x) for name, x in zip(names, last, strict=True)},
        },
    }
