"""Histories that are the same up to a session, with another future or with none at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from envs.market.files import load_file
from envs.market.history import VOL_OBSERVED, MarketHistory
from envs.market.panel import PanelHistory
from envs.market.volatility_estimate import fill_implied_vol
from experiments.certificates.setups import History, first_sessions

FloatArray = NDArray[np.float64]
_PRICES = ("open", "high", "low", "close")
_CHANGE = (0.8, 1.25)  # what a later number is multiplied by, drawn anew for each
_DRIFT_APART = 0.015  # daily standard deviation of the later prices, as a share of what they were
_RATES = (0.005, 0.08)  # what a later rate is replaced by


class Source(Protocol):
    """Where a history comes from; whatever is derived from the raw data is derived anew."""

    name: str

    def history(self) -> History:
        """As it is."""

    def changed(self, session: int, rng: np.random.Generator) -> History:
        """Everything after `session` is something else."""

    def cut(self, session: int) -> History:
        """Nothing comes after `session`."""


class LoadedSource:
    """A history that is in memory; where its volatility is an estimate, it is estimated anew."""

    def __init__(self, name: str, history: History) -> None:
        self.name, self._history = name, history
        if isinstance(history, MarketHistory):  # of a part, the estimates are others
            self._history = _estimated_anew(history)

    def history(self) -> History:
        """As it was given."""
        return self._history

    def changed(self, session: int, rng: np.random.Generator) -> History:
        """Other prices, volumes, volatilities, rates and extra columns after `session`."""
        if isinstance(self._history, PanelHistory):
            return _other_panel(self._history, session, rng)
        return _other_index(self._history, session, rng)

    def cut(self, session: int) -> History:
        """The sessions up to `session`."""
        history = self._history
        if isinstance(history, PanelHistory):
            return first_sessions(history, session + 1)
        return history.sessions(0, session + 1)


class FileSource:
    """A CSV file, written with another future and read again by the framework's own reader."""

    def __init__(self, name: str, table: pd.DataFrame, folder: Path) -> None:
        """`table`: one row a session with the columns that `data=csv` reads, date among them."""
        self.name, self._table, self._folder = name, table, folder

    def history(self) -> MarketHistory:
        """Of the file as it is."""
        return self._read(self._table)

    def changed(self, session: int, rng: np.random.Generator) -> MarketHistory:
        """Of the file with other numbers in all rows after `session`; blank cells stay blank."""
        table, later = self._table.copy(), slice(session + 1, None)
        drift = _drift((len(table.iloc[later]),), rng)
        for name in table.columns.drop("date"):
            values = table[name].to_numpy(np.float64).copy()
            values[later] *= drift if name in _PRICES else rng.uniform(*_CHANGE, drift.shape)
            table[name] = values
        return self._read(table)

    def cut(self, session: int) -> MarketHistory:
        """Of the file without the rows after `session`."""
        return self._read(self._table.iloc[: session + 1])

    def _read(self, table: pd.DataFrame) -> MarketHistory:
        path = self._folder / f"{self.name}.csv"
        table.to_csv(path, index=False, date_format="%Y-%m-%d")
        return load_file(path, 0.025, 0.015)[0]


def as_table(history: MarketHistory, rng: np.random.Generator) -> pd.DataFrame:
    """The first path as a file would hold it, with gaps in VIX."""
    sessions = history.num_sessions
    columns: dict[str, NDArray[np.generic]] = {"date": history.dates}
    columns |= {name: getattr(history, name)[0] for name in (*_PRICES, "volume")}
    vix = 100.0 * history.implied_vol[0] * np.exp(0.1 * rng.standard_normal(sessions))
    vix[: sessions // 2] = np.nan
    vix[rng.random(sessions) < 0.1] = np.nan
    columns |= {"vix": vix, "rate": history.rate, "dividend_yield": history.dividend_yield}
    columns |= {name: values[0] for name, values in history.extras.items()}
    return pd.DataFrame(columns)


def _other_index(history: MarketHistory, session: int, rng: np.random.Generator) -> MarketHistory:
    later = slice(session + 1, None)
    drift = _drift(history.close[:, later].shape, rng)
    values = {name: np.array(getattr(history, name)) for name in (*_PRICES, "volume")}
    for name, series in values.items():
        series[:, later] *= drift if name in _PRICES else rng.uniform(*_CHANGE, drift.shape)
    vol = np.array(history.implied_vol)
    vol[:, later] = _other(vol[:, later], rng)
    rates = {name: np.array(getattr(history, name)) for name in ("rate", "dividend_yield")}
    for rate in rates.values():
        rate[later] = rng.uniform(*_RATES, len(rate[later]))
    extras = {name: np.array(column) for name, column in history.extras.items()}
    for column in extras.values():
        column[:, later] = _other(column[:, later], rng)
    changed: dict[str, Any] = {**values, **rates, "implied_vol": vol, "extras": extras}
    return _estimated_anew(replace(history, **changed))


def _estimated_anew(history: MarketHistory) -> MarketHistory:
    """The same with every volatility that is an estimate made from the prices once more."""
    known = history.implied_vol_source == VOL_OBSERVED
    if known.all():
        return history
    # Real data has one path, and nothing else has estimates.
    observed = np.where(known, history.implied_vol[0], np.nan)
    vol, _ = fill_implied_vol(observed, history.high[0], history.low[0], history.close[0])
    return replace(history, implied_vol=vol)


def _other_panel(history: PanelHistory, session: int, rng: np.random.Generator) -> PanelHistory:
    later = slice(session + 1, None)
    close, rate = np.array(history.close), np.array(history.rate)
    close[:, later] *= _drift(close[:, later].shape, rng)
    rate[later] = rng.uniform(*_RATES, len(rate[later]))
    return replace(history, close=close, rate=rate)


def _drift(shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """What prices (P, n, ...) or (n,) are multiplied by: they wander off, session by session."""
    steps = _DRIFT_APART * rng.standard_normal(shape)
    factor: FloatArray = np.exp(np.cumsum(steps, axis=min(1, len(shape) - 1)))
    return factor


def _other(values: FloatArray, rng: np.random.Generator) -> FloatArray:
    return values * rng.uniform(*_CHANGE, values.shape)
