"""Data inside other packages: S&P 500, VIX and bill rates in `arch`, twenty stocks in `skfolio`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from conf.errors import InputError
from conf.settings import in_one_message
from conf.types import DateArray, FloatArray
from envs.market.history import MarketHistory
from envs.market.sources.panel_gaps import PriceTable
from envs.market.volatility_estimate import estimate_notices, history_of_bars

# Continuous annual decimals.
AnnualRate = Annotated[float, Field(gt=-1, lt=1)]
CashRate = Annotated[
    AnnualRate | Literal["bills"], in_one_message("an annual decimal such as 0.025, or bills")
]


def load_embedded(
    rate: CashRate, dividend_yield: float, folder: Path | None = None
) -> tuple[MarketHistory, tuple[str, ...]]:
    """The embedded history, 5,031 sessions from 1999-01-04 to 2018-12-31, and notices about it.

    `rate` is that of `cash_rates`, `dividend_yield` a constant continuous annual decimal; `folder`
    holds the tables as `arch` has them, None: its own. VIX is joined on the sessions of the index;
    where it is missing, the volatility is estimated from the past.
    Known defects of the series: until 2014 the open mostly equals the previous close.
    """
    tables = data_folder() if folder is None else folder
    bars = _read(tables, "sp500").rename(columns=str.lower)
    bars["vix"] = _read(tables, "vix")["vix"].reindex(bars.index)
    rates = cash_rates(rate, bars.index.to_numpy().astype("datetime64[D]"))
    history = history_of_bars("sp500", bars, rates, dividend_yield)
    return history, estimate_notices(history)


def cash_rates(rate: CashRate, dates: DateArray) -> FloatArray:
    """What cash earns from each of the sessions (T,) on, continuous annual decimal.

    A number is constant; `bills` are one-month Treasury bills: K. French's monthly returns (RF),
    each of which is known when its month begins. The last one, of November 2018, holds on.
    InputError for days before the first, July 1926.
    """
    if not isinstance(rate, str):
        return np.full(len(dates), rate)
    table = data_folder() / "frenchdata" / "frenchdata.csv.gz"
    if not table.is_file():
        raise InputError(f"the package arch lacks {table}", "Install arch 8.x, or give data.rate")
    returns = pd.read_csv(table, dtype={"Date": str}).set_index("Date")["RF"]
    months = np.array([f"{month[:4]}-{month[4:]}" for month in returns.index], "datetime64[M]")
    at = np.searchsorted(months, dates.astype("datetime64[M]"), side="right") - 1
    if at.size and at.min() < 0:
        raise InputError(
            f"Treasury bills are known from {months[0]} on, and the data begins on {dates.min()}",
            "Start later, or give a constant: data.rate=0.025",
        )
    annual: FloatArray = 12.0 * np.log1p(returns.to_numpy(np.float64)[at] / 100.0)
    return annual


def data_folder() -> Path:
    """Where `arch` keeps its tables; located without importing it, which would take seconds."""
    package = find_spec("arch")
    if package is None or package.origin is None:
        raise InputError("the embedded data needs the package arch", "Run: pip install arch")
    return Path(package.origin).parent / "data"


def _read(folder: Path, name: str) -> pd.DataFrame:
    """A table by date; a cell that is not a number is NaN."""
    path = folder / name / f"{name}.csv.gz"
    if not path.is_file():
        raise InputError(f"the package arch lacks {path}", "Install arch 8.x")
    table = pd.read_csv(path, index_col="Date", parse_dates=["Date"])
    numbers: pd.DataFrame = table.apply(pd.to_numeric, errors="coerce")
    return numbers


SURVIVORS = (
    "stocks: 20 companies chosen in hindsight, all alive in 2022: their past is better than that "
    "of what could have been bought"
)


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
    return PriceTable.of("stocks", prices)
