"""Histories that are the same up to a session, with another future or with none at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import singledispatch
from typing import Any, Protocol

import numpy as np
import pandas as pd

from conf.types import FloatArray
from envs.market.history import VOL_OBSERVED, MarketHistory
from envs.market.panel import PanelHistory
from envs.market.volatility_estimate import fill_implied_vol
from experiments.certificates.setups import History

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
        self.name, self._history = name, estimated_anew(history)

    def history(self) -> Any:
        """As it was given."""
        return self._history

    def changed(self, session: int, rng: np.random.Generator) -> Any:
        """Other prices, volumes, volatilities, rates and extra columns after `session`."""
        return other_future(self._history, session, rng)

    def cut(self, session: int) -> Any:
        """The sessions up to `session`."""
        return self._history.sessions(0, session + 1)


class TableSource:
    """A table as it comes from outside, changed there and read by the framework's own reader."""

    def __init__(
        self, name: str, table: pd.DataFrame, read: Callable[[pd.DataFrame], History]
    ) -> None:
        """`table`: one row of numbers a day, indexed by date."""
        self.name, self._table, self._read = name, table, read
        self._dates = read(table).dates

    def history(self) -> History:
        """Of the table as it is."""
        return self._read(self._table)

    def changed(self, session: int, rng: np.random.Generator) -> History:
        """With other numbers in all rows after `session`; blank cells stay blank."""
        table, later = self._table.copy(), slice(self._rows(session), None)
        drift = _drift((len(table.iloc[later]),), rng)
        for name in table.columns:
            values = table[name].to_numpy(np.float64).copy()
            is_bar = name.lower() in _PRICES
            values[later] *= drift if is_bar else rng.uniform(*_CHANGE, drift.shape)
            table[name] = values
        return self._read(table)

    def cut(self, session: int) -> History:
        """Without the rows after `session`."""
        return self._read(self._table.iloc[: self._rows(session)])

    def _rows(self, session: int) -> int:
        """How many rows there are up to a session; a reader may leave some of them out."""
        days = self._table.index.to_numpy().astype("datetime64[D]")
        return int(np.searchsorted(days, self._dates[session], side="right"))


@singledispatch
def other_future(history: Any, session: int, rng: np.random.Generator) -> Any:
    """The history with something else after `session`."""
    raise TypeError(f"no other future is known of a {type(history).__name__}")


@other_future.register
def _(history: MarketHistory, session: int, rng: np.random.Generator) -> MarketHistory:
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
    renewed: MarketHistory = estimated_anew(replace(history, **changed))
    return renewed


@other_future.register
def _(history: PanelHistory, session: int, rng: np.random.Generator) -> PanelHistory:
    later = slice(session + 1, None)
    close, rate = np.array(history.close), np.array(history.rate)
    close[:, later] *= _drift(close[:, later].shape, rng)
    rate[later] = rng.uniform(*_RATES, len(rate[later]))
    return replace(history, close=close, rate=rate)


@singledispatch
def estimated_anew(history: Any) -> Any:
    """The history with every volatility that is an estimate made from the prices once more."""
    return history


@estimated_anew.register
def _(history: MarketHistory) -> MarketHistory:
    known = history.implied_vol_source == VOL_OBSERVED
    if known.all():
        return history
    # Real data has one path, and nothing else has estimates.
    observed = np.where(known, history.implied_vol[0], np.nan)
    vol, _ = fill_implied_vol(observed, history.high[0], history.low[0], history.close[0])
    return replace(history, implied_vol=vol)


def _drift(shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """What prices (P, n, ...) or (n,) are multiplied by: they wander off, session by session."""
    steps = _DRIFT_APART * rng.standard_normal(shape)
    factor: FloatArray = np.exp(np.cumsum(steps, axis=min(1, len(shape) - 1)))
    return factor


def _other(values: FloatArray, rng: np.random.Generator) -> FloatArray:
    return values * rng.uniform(*_CHANGE, values.shape)
