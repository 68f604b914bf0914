"""The history of many assets, in which portfolios are allocated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from conf.errors import InputError
from conf.types import DateArray, FloatArray
from envs.market.history import PricePaths, check_dates, check_shape, fingerprint_of, readonly


@dataclass(frozen=True)
class PanelHistory(PricePaths):
    """Daily prices of A assets: P paths (1 for real history) over T sessions.

    Prices are total-return prices: dividends and splits are in them. Arrays are copied, made
    read-only and checked when the object is built; what is missing or impossible raises
    InputError. `fingerprint` identifies the content.
    """

    name: str  # of the source, for messages
    assets: tuple[str, ...]  # A names
    dates: DateArray  # (T,) days, strictly increasing
    close: FloatArray  # (P, T, A) total-return prices, dollars
    rate: FloatArray  # (T,) continuous annual decimal, earned by cash from this close to the next

    def __post_init__(self) -> None:
        freeze = object.__setattr__
        freeze(self, "assets", tuple(self.assets))
        freeze(self, "dates", readonly(np.asarray(self.dates).astype("datetime64[D]")))
        close = np.array(self.close, np.float64)
        freeze(self, "close", readonly(close[None] if close.ndim == 2 else close))
        freeze(self, "rate", readonly(np.array(self.rate, np.float64)))
        self._check()

    @property
    def num_assets(self) -> int:
        """A, the number of assets."""
        return len(self.assets)

    def sessions(self, first: int, stop: int) -> PanelHistory:
        """The same from session `first` up to `stop`, that one not included."""
        kept = slice(first, stop)
        return replace(
            self, dates=self.dates[kept], close=self.close[:, kept], rate=self.rate[kept]
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the content and the assets' names (not over where it came from)."""
        return fingerprint_of(
            {
                "assets": np.array(self.assets, dtype=np.str_),
                "dates": self.dates.astype(np.int64),
                "close": self.close,
                "rate": self.rate,
            }
        )

    def _check(self) -> None:
        if self.close.ndim != 3 or 0 in self.close.shape:
            raise InputError(
                f"{self.name}: close has shape {self.close.shape}, expected (paths, sessions, "
                "assets)",
                "Give at least one asset and one session",
            )
        if len(set(self.assets)) != len(self.assets) or not all(self.assets):
            raise InputError(
                f"{self.name}: the assets are {list(self.assets)}", "Give each its own name"
            )
        sessions = self.num_sessions
        check_shape(self.name, "close", self.close, (self.num_paths, sessions, self.num_assets))
        check_shape(self.name, "rate", self.rate, (sessions,))
        check_dates(self.name, self.dates, daily=False)
        for session in np.flatnonzero(~np.isfinite(self.rate)).tolist():
            raise InputError(f"{self.name}: rate of {self.dates[session]} is {self.rate[session]}")
        for path, session, asset in np.argwhere(~((self.close > 0) & (self.close < np.inf)))[:1]:
            raise InputError(
                f"{self.name}: the price of {self.assets[asset]} on {self.dates[session]} is "
                f"{self.close[path, session, asset]}",
                "Correct that price, or start where every asset has one",
            )
