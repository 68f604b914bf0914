"""What a classical strategy reads off the observation: its book and the contracts in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from conf.errors import InputError
from conf.types import BoolArray, FloatArray, IntArray, ObsArray
from envs.option_portfolio.market import OptionMarket
from envs.option_portfolio.observation import MARKET, OPTION

_OPTION_NAMES = [feature.name for feature in OPTION]


@dataclass(frozen=True)
class BookView:
    """N books over M slots in natural units, to the seven digits that an observation has."""

    price: FloatArray  # (N, M) price / spot, at most 0.5
    moneyness: FloatArray  # (N, M) strike / spot
    years: FloatArray  # (N, M) to expiry
    position: FloatArray  # (N, M) quantity x spot / equity
    value: FloatArray  # (N, M) quantity x price / equity
    growth: FloatArray  # (N,) spot / spot at the episode's start


class BookReader:
    """Reads observations of one market, in episodes that begin at session `start`."""

    def __init__(self, market: OptionMarket, start: int) -> None:
        observed = market.observed
        slots, width = market.tape.num_slots, len(OPTION)
        first_option, own = len(MARKET), observed.portfolio.start
        self._options = slice(first_option, first_option + slots * width)
        self._position = slice(own + 2, own + 2 + slots)
        self._value = slice(own + 2 + slots, own + 2 + 2 * slots)
        self._width = observed.portfolio.start
        self._scale = np.array([feature.scale for feature in observed.features])
        self._center = np.array([feature.center for feature in observed.features])
        self._shape = (slots, width)
        self._when = f"session {start} ({market.history.dates[start]}) of {market.history.name}"
        # The first feature is relative to the episode's start and stands in no row.
        rows = np.ascontiguousarray(observed.before[:, start, 1:])
        spots = market.history.close[:, start]
        self._spot_at_start = {
            row.tobytes(): float(spot) for row, spot in zip(rows, spots, strict=True)
        }

    def read(self, observation: ObsArray) -> BookView:
        """The books behind observations (N, D)."""
        raw = observation * self._scale + self._center
        options = raw[:, self._options].reshape(len(raw), *self._shape)

        def column(name: str) -> FloatArray:
            values: FloatArray = options[:, :, _OPTION_NAMES.index(name)]
            return values

        return BookView(
            price=column("price"),
            moneyness=column("moneyness"),
            years=column("time"),
            position=raw[:, self._position],
            value=raw[:, self._value],
            growth=np.exp(raw[:, 0]),
        )

    def spot_at_start(self, observation: ObsArray) -> FloatArray:
        """Index points (N,) at the first observations (N, D) of episodes.

        Raises InputError for an observation that is of no path at session `start`.
        """
        rows = np.ascontiguousarray(observation[:, 1 : self._width])
        found = [self._spot_at_start.get(row.tobytes()) for row in rows]
        missing = [book for book, spot in enumerate(found) if spot is None]
        if missing:
            raise InputError(
                f"book {missing[0]} does not begin at {self._when}",
                "Build the baselines for the market and the window that they run in",
            )
        return np.array(found, dtype=np.float64)


def sessions_since(state: Any, begins: BoolArray) -> IntArray:
    """Sessions since each episode's start, (N,), where the state's first entry counts them."""
    return np.where(begins, 0, 0 if state is None else state[0])


def starts(state: Any, episode_start: BoolArray | None, books: int) -> BoolArray:
    """Which of N books are at the first observation of their episode, (N,)."""
    if state is None:
        return np.ones(books, np.bool_)
    if episode_start is None:
        return np.zeros(books, np.bool_)
    return np.asarray(episode_start, dtype=np.bool_)
