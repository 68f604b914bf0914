"""Sells options over weekends, when volatility is priced by the calendar but little happens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agents.baselines.book_view import BookReader, sessions_since, starts
from agents.policy import PolicyState
from conf.types import BoolArray, DateArray, FloatArray, IntArray, ObsArray
from envs.market.exchange_calendar import scheduled_holidays
from envs.option_portfolio.market import OptionMarket
from envs.option_portfolio.sizing import SizingSettings

LONG_GAP_DAYS = 3  # calendar days from close to close: a plain weekend


def before_long_gaps(dates: DateArray) -> BoolArray:
    """Whether a weekend or longer is scheduled to follow each close, (T,).

    By the schedule that is known years ahead, not by the next date: nobody knew on 10 September
    2001 that the exchange would stay shut for a week.
    """
    day = dates.astype("datetime64[D]")
    holidays = scheduled_holidays(day[0].item(), (day[-1] + np.timedelta64(14, "D")).item())
    following = np.busday_offset(day + np.timedelta64(1, "D"), 0, roll="forward", holidays=holidays)
    return np.asarray((following - day).astype(np.int64) >= LONG_GAP_DAYS)


@dataclass(frozen=True)
class WeekendSeller:
    """Short the call and the put nearest the money over each long gap, flat at every other close.

    Of the slots in `calls` and `puts` it sells the one whose strike is nearest to spot, `notional`
    (quantity x spot / equity) of each.
    """

    reader: BookReader
    sizing: SizingSettings
    sells: BoolArray  # (T,) from the episode's first session on
    calls: IntArray
    puts: IntArray
    slots: int  # M
    notional: float

    @classmethod
    def of(
        cls,
        market: OptionMarket,
        reader: BookReader,
        sizing: SizingSettings,
        start: int,
        notional: float,
    ) -> WeekendSeller:
        """The seller of the shortest maturity in a market, for episodes from session `start`."""
        slots = market.tape.slots
        shortest = min(slot.maturity_days for slot in slots)
        near = np.array([slot.maturity_days == shortest for slot in slots])
        return cls(
            reader=reader,
            sizing=sizing,
            sells=before_long_gaps(market.history.dates)[start:],
            calls=np.nonzero(near & market.tape.is_call)[0],
            puts=np.nonzero(near & ~market.tape.is_call)[0],
            slots=len(slots),
            notional=notional,
        )

    def predict(
        self,
        observation: ObsArray,
        state: PolicyState = None,
        episode_start: BoolArray | None = None,
        deterministic: bool = False,
    ) -> tuple[FloatArray, PolicyState]:
        """Actions (N, M); the state is the number of sessions since the episode's start, (N,)."""
        begins = starts(state, episode_start, len(observation))
        if begins.any():
            self.reader.spot_at_start(observation[begins])  # the calendar holds for that start only
        session = sessions_since(state, begins)
        selling = self.sells[np.minimum(session, len(self.sells) - 1)]
        view, books = self.reader.read(observation), np.arange(len(observation))
        distance = np.abs(view.moneyness - 1.0)
        action = np.zeros((len(observation), self.slots))
        for side in (self.calls, self.puts):
            slot = side[distance[:, side].argmin(axis=-1)]
            premium = self.notional * view.price[books, slot]
            action[books, slot] = -np.where(selling, premium, 0.0) / self.sizing.max_premium
        # Both legs alike, or the straddle would lean to one side.
        action /= np.maximum(np.abs(action).max(axis=-1, keepdims=True), 1.0)
        return action, (session + 1,)
