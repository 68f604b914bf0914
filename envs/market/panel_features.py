"""What is known of each asset at the close of a session, from the past and present only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conf.errors import InputError
from conf.types import FloatArray
from envs.market.indicators import realised_volatility, simple_returns
from envs.market.panel import PanelHistory

VOLATILITY_WINDOW = 20


@dataclass(frozen=True)
class PanelFeatures:
    """Features of every path, session and asset; NaN where there is not enough past."""

    returns: FloatArray  # (P, T, A) simple return from the close before
    volatility: FloatArray  # (P, T, A) annualised standard deviation of the last returns


def panel_warmup(window: int = VOLATILITY_WINDOW) -> int:
    """Sessions up to and including the first where every feature is defined.

    One more than the window: the first session has no return.
    """
    return window + 1


def panel_features(history: PanelHistory, window: int = VOLATILITY_WINDOW) -> PanelFeatures:
    """Last return, and volatility (ddof=1, 252 sessions a year) over the last `window` returns.

    Defined from session `panel_warmup(window)` - 1 on. Raises InputError for a window under two.
    """
    if window < 2:
        raise InputError(
            f"a volatility over {window} returns is not defined", "Give a window of 2 or more"
        )
    returns = simple_returns(history.close)
    volatility = np.empty_like(returns)
    for path in range(history.num_paths):  # one at a time: the windows take `window` times as much
        # Side by side in memory, an asset's sums do not depend on what stands beside it.
        by_asset = np.ascontiguousarray(returns[path].T)
        volatility[path] = realised_volatility(by_asset, window).T
    return PanelFeatures(returns, volatility)
