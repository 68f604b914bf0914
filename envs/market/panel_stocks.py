"""Twenty stocks of the S&P 500, 1990-2022, as they come inside `skfolio`: no network."""

from __future__ import annotations

import numpy as np
import pandas as pd

from envs.market.panel_gaps import PriceTable
from risk.errors import InputError

SURVIVORS = (
    "stocks: 20 companies chosen in hindsight, all alive in 2022: their past is better than that "
    "of what could have been bought"
)


def load_stocks() -> tuple[PriceTable, tuple[str, ...]]:
    """Closing prices adjusted for splits and dividends, 8,313 sessions, and notices about them."""
    return stocks_table(stock_prices()), (SURVIVORS,)


def stock_prices() -> pd.DataFrame:
    """The prices by date and company as skfolio has them.

    Known defects: prices are rounded to a tenth of a cent, which is up to 0.7 % of the lowest
    ones of 1990. Raises InputError naming the extra where skfolio is not installed.
    """
    try:
        from skfolio.datasets import load_sp500_dataset
    except ImportError as error:
        raise InputError(
            f"the stocks come with the package skfolio, which cannot be imported: {error}",
            "Install the extra: pip install -e '.[stocks]'",
        ) from None
    prices: pd.DataFrame = load_sp500_dataset()
    return prices


def stocks_table(prices: pd.DataFrame) -> PriceTable:
    """Prices by date and company as the table that a panel is made from."""
    return PriceTable(
        name="stocks",
        assets=tuple(str(name) for name in prices.columns),
        dates=prices.index.to_numpy().astype("datetime64[D]"),
        close=prices.to_numpy(np.float64),
    )
