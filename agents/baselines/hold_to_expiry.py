"""A book that is set when contracts are listed and then left alone until they expire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from agents.baselines.book_view import BookReader, BookView, starts
from agents.policy import PolicyState
from conf.errors import InputError
from conf.types import BoolArray, FloatArray, IntArray, ObsArray
from envs.option_portfolio.sizing import SizingSettings

# More than the rounding of a float32 observation, far less than a lot of any sensible book.
_NUDGE = 1e-6


@dataclass(frozen=True)
class HeldBook:
    """Opens the same book each time contracts are listed, and holds each contract to its expiry.

    `weight` (M,) is what is opened in each slot, as a share of equity: quantity x spot for
    `unit: notional`, quantity x price for `unit: premium`. Slots with the same number in `group`
    (M,) are opened together or, while one of them trades below the tick, not at all. Where the
    sizing does not allow a position, the whole book shrinks `alike`, or that position alone.

    A book begins with the contracts that it finds at the start of its episode. What the risk
    module or the sizing takes away is not bought back before the next listing.
    """

    reader: BookReader
    sizing: SizingSettings
    weight: FloatArray
    group: IntArray
    unit: Literal["notional", "premium"] = "notional"
    alike: bool = True

    def __post_init__(self) -> None:
        if self.weight.shape != self.group.shape or not np.isfinite(self.weight).all():
            raise InputError(
                f"held book: weight {self.weight} and group {self.group} do not fit",
                "Give every slot one finite weight and one group",
            )

    def predict(
        self,
        observation: ObsArray,
        state: PolicyState = None,
        episode_start: BoolArray | None = None,
        deterministic: bool = False,
    ) -> tuple[FloatArray, PolicyState]:
        """Actions (N, M); the state is the time to expiry seen last and the spot at the start."""
        view, books = self.reader.read(observation), len(observation)
        begins = starts(state, episode_start, books)
        last_years, first_spot = self._remembered(state, books)
        if begins.any():
            last_years = np.where(begins[:, None], -1.0, last_years)
            first_spot = first_spot.copy()
            first_spot[begins] = self.reader.spot_at_start(observation[begins])
        tick = (self.sizing.min_tick_usd / (first_spot * view.growth))[:, None]
        # Time to expiry only ever falls, unless another contract has taken the slot.
        listed = view.years >= last_years
        premium = np.where(listed, self._opened(view, tick), _held(view, tick))
        notional = np.where(listed, premium / np.maximum(view.price, tick), view.position)
        action = self._in_shape(premium / self.sizing.max_premium, notional)
        if not self.sizing.fractional:
            action = action * (1.0 + _NUDGE)  # or a lot is lost to rounding
        return action, (view.years, first_spot)

    def _remembered(self, state: PolicyState, books: int) -> tuple[FloatArray, FloatArray]:
        if state is None:
            return np.full((books, len(self.weight)), -1.0), np.ones(books)
        return state[0], state[1]

    def _opened(self, view: BookView, tick: FloatArray) -> FloatArray:
        """Premium (N, M) of a fresh book as a share of equity."""
        unit = view.price if self.unit == "notional" else 1.0
        untradable = (view.price < tick) & (self.weight != 0.0)
        together = self.group[:, None] == self.group
        left_out = (untradable[:, None, :] & together).any(axis=-1)
        premium: FloatArray = np.where(left_out, 0.0, self.weight * unit)
        return premium

    def _in_shape(self, action: FloatArray, notional: FloatArray) -> FloatArray:
        """Actions (N, M) made so small that the sizing takes each book as it is."""
        if not self.alike:
            return action
        excess = np.maximum(np.abs(action), np.abs(notional) / self.sizing.max_notional)
        shrunk: FloatArray = action / np.maximum(excess.max(axis=-1, keepdims=True), 1.0)
        return shrunk


def _held(view: BookView, tick: FloatArray) -> FloatArray:
    """What has to be asked for to keep the book: its premium (N, M) as a share of equity.

    The environment counts a contract below the tick at the tick.
    """
    size = np.maximum(np.abs(view.value), np.abs(view.position) * tick)
    return np.copysign(size, view.position)
