"""Sells options over weekends, when volatility is priced by the calendar but little happens."""

from __future__ import annotations

import numpy as np

from agents.baselines.hold_to_expiry import shrunk_alike
from conf.types import BoolArray, DateArray, FloatArray
from envs.core.kernel import BookState
from envs.market.exchange_calendar import scheduled_holidays
from envs.option_portfolio.market import OptionMarket
from envs.option_portfolio.sizing import largest_quantity

LONG_GAP_DAYS = 3  # calendar days from close to close: a plain weekend


def before_long_gaps(dates: DateArray) -> BoolArray:
    """Whether a weekend or longer is scheduled to follow each close, (T,).

    By the schedule that is known years ahead, not by the next date: on 10 September 2001 it was
    not known that the exchange would close for a week.
    """
    day = dates.astype("datetime64[D]")
    holidays = scheduled_holidays(day[0].item(), (day[-1] + np.timedelta64(14, "D")).item())
    following = np.busday_offset(day + np.timedelta64(1, "D"), 0, roll="forward", holidays=holidays)
    return np.asarray((following - day).astype(np.int64) >= LONG_GAP_DAYS)


class WeekendSeller:
    """Short the call and the put nearest the money over each long gap, flat at every other close.

    Of the contracts of the shortest maturity it sells the ones whose strike is nearest to spot,
    `notional` (quantity x spot / equity) of each; what trades below the tick is not sold.
    """

    def __init__(self, market: OptionMarket, notional: float) -> None:
        self._market, self._notional = market, notional
        slots = market.tape.slots
        shortest = min(slot.maturity_days for slot in slots)
        near = np.array([slot.maturity_days == shortest for slot in slots])
        is_call = market.tape.is_call
        self._sides = (np.flatnonzero(near & is_call), np.flatnonzero(near & ~is_call))
        self._sells = before_long_gaps(market.history.dates)

    def quantities(self, books: BookState) -> FloatArray:
        """Units (N, M) to hold from this close on."""
        tape, at = self._market.tape, (books.path, books.session)
        spot, row = self._market.history.close[at], np.arange(len(books.session))
        distance = np.abs(tape.strike[at] - spot[:, None])
        short = -np.where(self._sells[books.session], self._notional * books.equity / spot, 0.0)
        quantity, price, sizing = np.zeros_like(books.quantity), tape.mark[at], books.options.sizing
        for side in self._sides:
            quantity[row, side[distance[:, side].argmin(axis=-1)]] = short
        quantity[price < sizing.min_tick_usd] = 0.0
        # Both legs alike, or the straddle would lean to one side.
        return shrunk_alike(quantity, largest_quantity(price, spot, books.equity, sizing))
