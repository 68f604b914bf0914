"""Which contracts exist, when they are listed, and when they expire or roll."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from conf.settings import settings
from conf.types import BoolArray, DateArray, FloatArray, IntArray
from envs.market.exchange_calendar import scheduled_holidays

WEEKLY_DAYS = 35  # exchanges list five Fridays in a row; farther out third Fridays


@settings
class ChainSettings:
    """The option chain: every maturity times every strike, as call and put.

    `roll: expiry` lists contracts that live until they expire. `roll: daily` re-strikes every
    slot at each close to constant maturity; both legs of that roll are traded and charged.
    `expiries: listed` takes the nearest day on which exchanges list contracts: Fridays up to
    `WEEKLY_DAYS` ahead, third Fridays beyond; the day before where a holiday falls on it.
    """

    maturities_days: Annotated[
        tuple[Annotated[int, Field(ge=7, le=365)], ...], Field(min_length=1, max_length=8)
    ] = (30, 60)
    moneyness: Annotated[
        tuple[Annotated[float, Field(ge=0.2, le=5.0)], ...], Field(min_length=1, max_length=25)
    ] = (0.90, 0.95, 1.00, 1.05, 1.10)
    roll: Literal["expiry", "daily"] = "expiry"
    strike_step: Annotated[float, Field(ge=0.0)] = 0.0  # index points between strikes; 0: any
    expiries: Literal["any", "listed"] = "any"

    def strikes(self, wanted: FloatArray) -> FloatArray:
        """The nearest strikes that there are, of the same shape, in index points."""
        step = self.strike_step
        return np.maximum(np.round(wanted / step), 1.0) * step if step > 0.0 else wanted

    @property
    def longest_life_days(self) -> int:
        """How long a contract can live, in calendar days: what an embargo has to cover."""
        longest = max(self.maturities_days)
        monthly = self.expiries == "listed" and longest > WEEKLY_DAYS
        return longest + 17 if monthly else longest  # third Fridays are up to 35 days apart


@dataclass(frozen=True)
class Slot:
    """A position of the book that always refers to one contract of the same kind."""

    maturity_index: int  # into ChainSettings.maturities_days
    maturity_days: int  # calendar days at listing
    is_call: bool
    moneyness: float  # strike over spot at listing

    @property
    def name(self) -> str:
        """For reports and logs: 30D_Call_0.95."""
        kind = "Call" if self.is_call else "Put"
        return f"{self.maturity_days}D_{kind}_{self.moneyness:.2f}"


@dataclass(frozen=True)
class Listings:
    """The contract that each maturity refers to at each session; G maturities over T sessions."""

    listed_at: IntArray  # (T, G) session at which the current contract was listed
    expiry: DateArray  # (T, G) day on which the current contract expires
    days_to_expiry: FloatArray  # (T, G) calendar days left to it
    aged_days: FloatArray  # (T, G) days left, at t, to the contract of t-1
    rolled: BoolArray  # (T, G) the contract was replaced at t
    expired: BoolArray  # (T, G) it was replaced because it expired (settles free of cost)


def slots(chain: ChainSettings) -> tuple[Slot, ...]:
    """Every slot in the order of the action: by maturity, calls before puts, strikes rising.

    Examples:
        >>> [slot.name for slot in slots(ChainSettings())][:3]
        ['30D_Call_0.90', '30D_Call_0.95', '30D_Call_1.00']
    """
    return tuple(
        Slot(index, days, is_call, moneyness)
        for index, days in enumerate(chain.maturities_days)
        for is_call in (True, False)
        for moneyness in chain.moneyness
    )


def list_contracts(chain: ChainSettings, dates: DateArray) -> Listings:
    """The listing calendar; it depends on dates alone, never on prices.

    An expiry is the listing date plus the maturity, moved on to a day on which the exchange is
    scheduled to be open; the contract settles at the first session on or after it. The rule uses
    no later session's date, and the exchange's regular holidays are known years ahead.
    """
    calendars = [_calendar_of(days, dates, chain) for days in chain.maturities_days]
    listed_at, expiry, days_to_expiry, aged_days, rolled = (
        np.stack(column, axis=1) for column in zip(*calendars, strict=True)
    )
    return Listings(
        listed_at=listed_at,
        expiry=expiry,
        days_to_expiry=days_to_expiry,
        aged_days=np.maximum(aged_days, 0.0),
        rolled=rolled,
        expired=rolled & (aged_days <= 0.0),
    )


def _calendar_of(
    maturity_days: int, dates: DateArray, chain: ChainSettings
) -> tuple[IntArray, DateArray, FloatArray, FloatArray, BoolArray]:
    """Columns of `Listings` for one maturity, without `expired`."""
    day = dates.astype("datetime64[D]").astype(np.int64)
    if chain.roll == "daily":
        listed_at, expiry = np.arange(len(day)), day + maturity_days
    else:
        nominal = (day + maturity_days).astype("datetime64[D]")
        if chain.expiries == "listed":
            nominal = _nearest_listed(nominal, third=maturity_days > WEEKLY_DAYS)
        week = np.timedelta64(7, "D")
        holidays = scheduled_holidays((nominal[0] - week).item(), (nominal[-1] + week).item())
        if chain.expiries == "listed":
            opened = np.busday_offset(nominal, 0, roll="backward", holidays=holidays)
        else:
            opened = np.busday_offset(nominal, 0, roll="forward", holidays=holidays)
        expiry = opened.astype(np.int64)  # of a contract listed at each session
        listed_at = np.zeros(len(day), dtype=np.int64)
        for t in range(1, len(day)):
            current = listed_at[t - 1]
            listed_at[t] = t if day[t] >= expiry[current] else current
    before = np.concatenate([listed_at[:1], listed_at[:-1]])
    days_left = (expiry[listed_at] - day).astype(np.float64)
    aged_days = (expiry[before] - day).astype(np.float64)
    days = expiry[listed_at].astype("datetime64[D]")
    return listed_at, days, days_left, aged_days, listed_at != before


def _nearest_listed(days: DateArray, *, third: bool) -> DateArray:
    """The nearest Friday, or third Friday of a month, to each of the days (T,)."""
    if not third:
        return np.busday_offset(days - np.timedelta64(3, "D"), 0, roll="forward", weekmask="Fri")
    months = days.astype("datetime64[M]")[:, None] + np.arange(-1, 2)
    fridays = np.busday_offset(months, 2, roll="forward", weekmask="Fri")
    nearest = np.abs(fridays - days[:, None]).argmin(axis=1)
    return np.take_along_axis(fridays, nearest[:, None], axis=1)[:, 0]
