"""S&P 500 of 1999-2018 and VIX of 2014-2018 as they come inside the `arch` package: no network."""

from __future__ import annotations

import numpy as np

from envs.market.history import MarketHistory
from envs.market.volatility_estimate import estimate_notices, fill_implied_vol


def load_embedded(rate: float, dividend_yield: float) -> tuple[MarketHistory, tuple[str, ...]]:
    """The embedded history, 5,031 sessions from 1999-01-04 to 2018-12-31, and notices about it.

    `rate` and `dividend_yield` are constant continuous annual decimals. VIX is joined on the
    sessions of the index; where it is missing, the volatility is estimated from the past.
    Known defects of the series: until 2014 the open mostly equals the previous close.
    """
    import arch.data.sp500  # brings statsmodels along, which other sources do not need
    import arch.data.vix

    prices = arch.data.sp500.load()
    vix = arch.data.vix.load()["vix"].reindex(prices.index)
    high, low, close = (prices[name].to_numpy(np.float64) for name in ("High", "Low", "Close"))
    vol, source = fill_implied_vol(vix.to_numpy(np.float64) / 100.0, high, low, close)
    history = MarketHistory(
        name="sp500",
        dates=prices.index.to_numpy().astype("datetime64[D]"),
        open=prices["Open"].to_numpy(np.float64),
        high=high,
        low=low,
        close=close,
        volume=prices["Volume"].to_numpy(np.float64),
        implied_vol=vol,
        implied_vol_source=source,
        rate=np.full(len(prices), rate),
        dividend_yield=np.full(len(prices), dividend_yield),
    )
    return history, estimate_notices(history)
