"""Which assets and sessions of a table of prices are used where some prices are missing."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from conf.errors import InputError
from conf.types import DateArray, FloatArray
from envs.market.panel import PanelHistory

# What to do about missing prices; nothing is ever filled in.
Incomplete = Literal["error", "drop_assets", "start_later"]


@dataclass(frozen=True)
class PriceTable:
    """Prices as a source has them, with NaN where one is missing."""

    name: str  # of the source, for messages
    assets: tuple[str, ...]  # A names
    dates: DateArray  # (T,) days, strictly increasing
    close: FloatArray  # (T, A) dollars

    @classmethod
    def of(cls, name: str, prices: pd.DataFrame) -> PriceTable:
        """The table of prices by date and asset."""
        assets = tuple(str(asset) for asset in prices.columns)
        dates = prices.index.to_numpy().astype("datetime64[D]")
        return cls(name, assets, dates, prices.to_numpy(np.float64))

    def history(self, rate: float | FloatArray) -> PanelHistory:
        """The prices as a history, `rate` a constant or (T,); InputError where one is missing."""
        rates = np.broadcast_to(rate, len(self.dates))
        return PanelHistory(self.name, self.assets, self.dates, self.close, rates)

    def chosen(self, assets: Sequence[str] | None) -> PriceTable:
        """The table with these assets alone, in this order; None: all. InputError for others."""
        if assets is None:
            return self
        for asset in assets:
            if asset not in self.assets:
                close = difflib.get_close_matches(asset, self.assets, n=1, cutoff=0.5)
                known = f"It has {', '.join(self.assets[:20])}"
                hint = f"Did you mean {close[0]!r}?" if close else known
                raise InputError(f"{self.name} has no asset {asset!r}", hint)
        columns = [self.assets.index(asset) for asset in assets]
        return replace(self, assets=tuple(assets), close=self.close[:, columns])

    def complete(self, incomplete: Incomplete) -> tuple[PriceTable, tuple[str, ...]]:
        """The part without a missing price, and notices of what was left out for that.

        drop_assets leaves out every asset with a hole; start_later begins at the first session
        where all assets have a price, and a hole after it is an error. Raises InputError naming
        asset and day where a price is missing that may not be, or where nothing is left.
        """
        if incomplete == "drop_assets":
            return self._without_holes()
        start_later = incomplete == "start_later"
        later, notices = self._from_first_whole_session() if start_later else (self, ())
        missing = np.isnan(later.close)
        if missing.any():
            session, column = (int(i) for i in np.argwhere(missing)[0])
            raise InputError(
                f"{self.name}: {later.assets[column]} has no price on {later.dates[session]} "
                f"({int(missing.sum())} prices are missing in all)",
                "Add it, leave the asset out, or set data.incomplete to "
                + ("drop_assets" if start_later else "drop_assets or start_later"),
            )
        return later, notices

    def _without_holes(self) -> tuple[PriceTable, tuple[str, ...]]:
        holes = np.isnan(self.close)
        whole = np.logical_not(np.any(holes, axis=0))
        if whole.all():
            return self, ()
        dropped = "; ".join(
            f"{self.assets[column]} (none on {self.dates[int(np.argmax(holes[:, column]))]})"
            for column in np.flatnonzero(~whole).tolist()
        )
        if not whole.any():
            raise InputError(
                f"{self.name}: every asset lacks a price somewhere: {dropped}",
                "Add them, or set data.incomplete=start_later",
            )
        kept = tuple(asset for asset, keep in zip(self.assets, whole, strict=True) if keep)
        left = replace(self, assets=kept, close=self.close[:, whole])
        return left, (
            f"{self.name}: left out, a choice made in hindsight, are the assets without a price on "
            f"every session: {dropped}",
        )

    def _from_first_whole_session(self) -> tuple[PriceTable, tuple[str, ...]]:
        present = ~np.isnan(self.close)
        for column in np.flatnonzero(~present.any(axis=0)).tolist():
            raise InputError(
                f"{self.name}: {self.assets[column]} has no price at all", "Leave it out"
            )
        whole = present.all(axis=1)
        if not whole.any():
            raise InputError(
                f"{self.name}: there is no session on which all assets have a price",
                "Choose assets whose years overlap: data.assets",
            )
        first = int(np.argmax(whole))
        if first == 0:
            return self, ()
        last_to_begin = self.assets[int(np.argmax(np.argmax(present, axis=0)))]
        later = replace(self, dates=self.dates[first:], close=self.close[first:])
        return later, (
            f"{self.name}: starts on {later.dates[0]}, {first} sessions after its first: "
            f"{last_to_begin} has no price before",
        )
