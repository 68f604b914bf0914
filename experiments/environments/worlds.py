"""A market setup whose agent may learn in simulated worlds (`data.worlds`)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Generic, TypeVar

from envs.core.batch import Window
from envs.core.market import BookMarket
from envs.market.history import MarketHistory
from envs.market.models.worlds import WorldSettings
from envs.market.sources.index import LoadedMarket, past_of
from experiments.environments.setup import MarketSetup

_MARKETS, _PATHS = 30, 4  # of each market, to validate in

Market = TypeVar("Market", bound=BookMarket)


@dataclass(frozen=True)
class WorldsSetup(MarketSetup, Generic[Market]):
    """An index, and the worlds that are fitted to its training years."""

    loaded: LoadedMarket
    market: Market

    @abstractmethod
    def build_worlds(
        self, worlds: WorldSettings, past: MarketHistory, *, unseen: bool = False, draw: int = 0
    ) -> Market:
        """The market whose paths are those of all worlds; `past` is the training years."""

    @property
    def draws(self) -> int:
        """How many times `data.worlds` are drawn; 1 without them."""
        return 1 if self._worlds is None else self._worlds.draws

    def drawn(self, draw: int) -> tuple[Market, Window]:
        """The training years or, with `data.worlds`, simulated markets fitted to them."""
        if self._worlds is None:
            return self.market, self.window("train")
        market = self.build_worlds(self._worlds, past_of(self.loaded, "train"), draw=draw)
        return market, whole(market)

    @cached_property
    def unseen_worlds(self) -> Market | None:
        """Other worlds of the same kinds, to validate in; None without `data.worlds`."""
        worlds = self._worlds
        if worlds is None:
            return None
        few = replace(worlds, markets=min(worlds.markets, _MARKETS), paths=_PATHS)
        return self.build_worlds(few, past_of(self.loaded, "train"), unseen=True)

    @property
    def _worlds(self) -> WorldSettings | None:
        settings: Any = self.settings
        worlds: WorldSettings | None = settings.data_worlds
        return worlds


def whole(market: BookMarket) -> Window:
    """All sessions of a market that can be traded."""
    return Window(market.first_usable, market.history.num_sessions)
