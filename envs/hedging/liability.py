"""What is hedged: European options sold at one close and paid out at a later one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field

from conf.errors import InputError
from conf.settings import settings
from conf.types import BoolArray, DateArray, FloatArray, IntArray
from envs.market.clock import DAYS_PER_YEAR
from envs.market.exchange_calendar import trading_days
from envs.market.history import MarketHistory
from envs.options.black_scholes import price_and_greeks
from envs.options.surface import FlatSurface, SurfaceSettings

DATA_VOLATILITY = FlatSurface(vol_annual=None)  # that of the data, whatever the strike
LiabilityName = Literal["call", "put", "straddle"]


@settings
class Contract:
    """A European option that is struck when a liability is sold."""

    kind: Literal["call", "put"] = "call"
    moneyness: Annotated[float, Field(ge=0.2, le=5.0)] = 1.0  # strike over spot when it is struck

    def payoff(self, spot: FloatArray, struck_at: FloatArray) -> FloatArray:
        """Dollars at its expiry."""
        gain = spot - self.moneyness * struck_at
        payoff: FloatArray = np.maximum(gain if self.kind == "call" else -gain, 0.0)
        return payoff


@settings
class Leg(Contract):
    """One option of the liability, for one unit of it."""

    quantity: Annotated[float, Field(ge=-100.0, le=100.0)] = -1.0  # negative: sold
    sessions: Annotated[int, Field(ge=2)] | None = None  # to its expiry; None: the whole life

    def expiry(self, life: int) -> int:
        """Sessions from its sale to its expiry, where the liability lives for `life`."""
        return life if self.sessions is None else self.sessions

    def name(self, life: int) -> str:
        """As call_1.00_20: kind, moneyness, sessions."""
        return f"{self.kind}_{self.moneyness:.2f}_{self.expiry(life)}"


_NAMED: Mapping[LiabilityName, tuple[Leg, ...]] = {
    "call": (Leg(kind="call"),),
    "put": (Leg(kind="put"),),
    "straddle": (Leg(kind="call"), Leg(kind="put")),
}


def legs_of(liability: LiabilityName | tuple[Leg, ...]) -> tuple[Leg, ...]:
    """The legs of a liability, by name (sold at the money) or as they are given."""
    return _NAMED[liability] if isinstance(liability, str) else liability


class Calendar(NamedTuple):
    """When liabilities live: a new one is sold at the close at which one ends."""

    dates: DateArray  # of the sessions (T,), then scheduled ones
    sold: IntArray  # (T,) session at which what is held after this close was sold
    ends: IntArray  # (T,) session at which it ends, which may be one after the last

    def closes(self, after: int) -> IntArray:
        """The sessions of the history that are `after` sessions after a sale."""
        closes = np.unique(self.sold) + after
        return closes[closes < len(self.sold)]


def calendar_of(history: MarketHistory, life: int, longest: int = 0) -> Calendar:
    """Sold at every `life`-th session; InputError for a history too short for a single one.

    The last may end after the history, so that nothing depends on where that is cut off. Its dates
    go on for as long as the longest option lives.
    """
    now = np.arange(history.num_sessions)
    if len(now) <= life:
        raise InputError(
            f"{history.name} has {len(now)} sessions, and a liability lives for {life}",
            "Give a longer history, or set env.episode.sessions lower",
        )
    last: dt.date = history.dates[-1].astype(object)
    later = trading_days(last + dt.timedelta(days=1), max(life, longest))
    sold = now - now % life
    return Calendar(np.concatenate([history.dates, later]), sold, sold + life)


@dataclass(frozen=True)
class PricedLiability:
    """L legs along P paths of T sessions; delta, gamma, vega and price are of one unit in all.

    Delta, gamma and vega have the sign of the hedge: holding `delta` shares is neutral.
    """

    mark: FloatArray  # (P, T, L) dollars an option; 0 where it is not held
    aged: FloatArray  # (P, T, L) of what was held into the close
    held: FloatArray  # (P, T, L) options a unit that are held after the close
    leaves: BoolArray  # (T, L) closes at which a leg expires
    price: FloatArray  # (P, T) dollars, legs bought and sold alike
    delta: FloatArray  # (P, T) shares
    gamma: FloatArray  # (P, T) change of that a dollar
    vega: FloatArray  # (P, T) dollars for 1.00 of volatility
    seen: FloatArray  # (P, T, 2 L) of each leg: see `Priced`


def price_liability(
    spot: FloatArray, quotes: Quotes, legs: tuple[Leg, ...], life: int, calendar: Calendar
) -> PricedLiability:
    """Every leg, struck anew at each sale; `spot` (P, T)."""
    now = np.arange(spot.shape[1])
    paths, sessions = spot.shape
    mark, aged, held = np.zeros((3, paths, sessions, len(legs)))
    leaves = np.zeros((sessions, len(legs)), np.bool_)
    price, delta, gamma, vega = np.zeros((4, paths, sessions))
    seen: list[FloatArray] = []
    for number, leg in enumerate(legs):
        after = leg.expiry(life)
        living = now - calendar.sold < after
        priced = quotes.of(leg, now, calendar.sold, calendar.dates[calendar.sold + after])
        value = Priced(*(np.where(living, part, 0.0) for part in priced))
        ended = calendar.closes(after)
        mark[..., number] = aged[..., number] = value.price
        aged[:, ended, number] = leg.payoff(spot[:, ended], spot[:, ended - after])
        leaves[ended, number] = True
        held[..., number] = leg.quantity * living
        price += abs(leg.quantity) * value.price
        delta -= leg.quantity * value.delta
        gamma -= leg.quantity * value.gamma
        vega -= leg.quantity * value.vega
        seen += [value.deviations, np.broadcast_to(value.share_left, spot.shape)]
    return PricedLiability(
        mark, aged, held, leaves, price, delta, gamma, vega, np.stack(seen, axis=-1)
    )


class Priced(NamedTuple):
    """One option, at n sessions of every path."""

    price: FloatArray  # (P, n) dollars
    delta: FloatArray  # (P, n)
    gamma: FloatArray  # (P, n)
    vega: FloatArray  # (P, n) dollars for 1.00 of volatility
    deviations: FloatArray  # (P, n) log of forward over strike, in standard deviations left
    share_left: FloatArray  # (n,) of its life, by the clock of variance


class Quotes:
    """Prices options along every path at the volatility of a surface.

    Variance runs by the history's clock, interest by calendar days. With `variance_multiple`, a
    number or (P, T), the surface's variance is multiplied by it.
    """

    def __init__(
        self,
        history: MarketHistory,
        surface: SurfaceSettings,
        variance_multiple: float | FloatArray = 1.0,
    ) -> None:
        self._history, self._surface = history, surface
        self._multiple = np.broadcast_to(np.sqrt(variance_multiple), history.close.shape)
        self._drivers = surface.drivers(history.implied_vol)
        surface.check_calendar(self._drivers)

    def of(self, option: Contract, now: IntArray, sold: IntArray, expiry: DateArray) -> Priced:
        """At sessions `now`, struck at sessions `sold`, expiring at `expiry`, (n,) each."""
        history = self._history
        today, rate, dividend = history.dates[now], history.rate[now], history.dividend_yield[now]
        days = np.maximum((expiry - today).astype(np.float64), 0.0) / DAYS_PER_YEAR
        years = history.clock.years(today, expiry)
        pace = np.sqrt(np.divide(years, days, out=np.zeros_like(years), where=days > 0.0))
        spot, strike = history.close[:, now], option.moneyness * history.close[:, sold]
        log_forward = np.log(spot / strike) + (rate - dividend) * days
        quoted = self._surface.vol(self._drivers[:, now], -log_forward, days)
        vol = self._multiple[:, now] * quoted
        value = price_and_greeks(
            spot, strike, days, vol * pace, rate, dividend, option.kind == "call"
        )
        deviation, distance = vol * np.sqrt(years), np.zeros_like(log_forward)
        np.divide(log_forward, deviation, out=distance, where=deviation > 0.0)
        share = years / history.clock.years(history.dates[sold], expiry)
        return Priced(*value[:3], value.vega * pace, distance, share)
