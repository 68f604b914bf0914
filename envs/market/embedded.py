"""S&P 500 of 1999-2018 and VIX of 2014-2018 as they come inside the `arch` package: no network."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

from envs.market.history import MarketHistory
from envs.market.volatility_estimate import estimate_notices, fill_implied_vol
from risk.errors import InputError


def load_embedded(
    rate: float, dividend_yield: float, folder: Path | None = None
) -> tuple[MarketHistory, tuple[str, ...]]:
    """The embedded history, 5,031 sessions from 1999-01-04 to 2018-12-31, and notices about it.

    `rate` and `dividend_yield` are constant continuous annual decimals; `folder` holds the tables
    as `arch` has them, None: its own. VIX is joined on the sessions of the index; where it is
    missing, the volatility is estimated from the past.
    Known defects of the series: until 2014 the open mostly equals the previous close.
    """
    tables = data_folder() if folder is None else folder
    prices = _read(tables, "sp500")
    vix = _read(tables, "vix")["vix"].reindex(prices.index)
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


def data_folder() -> Path:
    """Where `arch` keeps its tables; found without importing it, which would take seconds."""
    found = find_spec("arch")
    if found is None or found.origin is None:
        raise InputError("the embedded data needs the package arch", "Run: pip install arch")
    return Path(found.origin).parent / "data"


def _read(folder: Path, name: str) -> pd.DataFrame:
    """A table by date; what is no number is missing."""
    path = folder / name / f"{name}.csv.gz"
    if not path.is_file():
        raise InputError(f"the package arch lacks {path}", "Install arch 8.x")
    table = pd.read_csv(path, index_col="Date", parse_dates=["Date"])
    numbers: pd.DataFrame = table.apply(pd.to_numeric, errors="coerce")
    return numbers
