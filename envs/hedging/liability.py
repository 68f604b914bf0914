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
class Leg:
    """One option of the liability, for one unit of it."""

    kind: Literal["call", "put"] = "call"
    moneyness: Annotated[float, Field(ge=0.2, le=5.0)] = 1.0  # strike over spot when it is sold
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

    dates: DateArray  # (T + life,) of the sessions, and scheduled ones after the last
    sold: IntArray  # (T,) session at which what is held after this close was sold
    ends: IntArray  # (T,) session at which it ends, which may be one after the last

    def closes(self, after: int) -> IntArray:
        """The sessions of the history that are `after` sessions after a sale."""
        closes = np.unique(self.sold) + after
        return closes[closes < len(self.sold)]


def calendar_of(history: MarketHistory, life: int) -> Calendar:
    """Sold at every `life`-th session; InputError for a history too short for a single one.

    The last may end after the history, so that nothing depends on where that is cut off.
    """
    now = np.arange(history.num_sessions)
    if len(now) <= life:
        raise InputError(
            f"{history.name} has {len(now)} sessions, and a liability lives for {life}",
            "Give a longer history, or set env.episode.sessions lower",
        )
    last: dt.date = history.dates[-1].astype(object)
    later = trading_days(last + dt.timedelta(days=1), life)
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
    seen: FloatArray  # (P, T, 2 L) of each leg: see `_Priced`


def price_liability(
    history: MarketHistory,
    legs: tuple[Leg, ...],
    life: int,
    calendar: Calendar,
    surface: SurfaceSettings = DATA_VOLATILITY,
    variance_multiple: float | FloatArray = 1.0,
) -> PricedLiability:
    """Every leg, struck anew at each sale, at the surface's volatility of its strike and maturity.

    Its variance is multiplied by a number, or by (P, T) of them.
    """
    quotes = _Quotes(history, calendar, surface, variance_multiple)
    spot = history.close
    paths, sessions = spot.shape
    mark, aged, held = np.zeros((3, paths, sessions, len(legs)))
    leaves = np.zeros((sessions, len(legs)), np.bool_)
    price, delta, gamma, vega = np.zeros((4, paths, sessions))
    seen: list[FloatArray] = []
    for number, leg in enumerate(legs):
        after = leg.expiry(life)
        living = np.arange(sessions) - calendar.sold < after
        value = quotes.of(leg, life, living)
        ended = calendar.closes(after)
        strike = leg.moneyness * spot[:, ended - after]
        mark[..., number] = aged[..., number] = value.price
        aged[:, ended, number] = _payoff(leg, spot[:, ended], strike)
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


class _Priced(NamedTuple):
    """One leg along every path; 0 where it is not held."""

    price: FloatArray  # (P, T) dollars
    delta: FloatArray
    gamma: FloatArray
    vega: FloatArray
    deviations: FloatArray  # (P, T) log of forward over strike, in standard deviations left
    share_left: FloatArray  # (T,) of its life, by the clock of variance


class _Quotes:
    """Prices options along every path. Variance runs by its clock, interest by calendar days."""

    def __init__(
        self,
        history: MarketHistory,
        calendar: Calendar,
        surface: SurfaceSettings,
        variance_multiple: float | FloatArray,
    ) -> None:
        self._history, self._calendar, self._surface = history, calendar, surface
        self._vol_multiple = np.sqrt(variance_multiple)
        self._drivers = surface.drivers(history.implied_vol)
        surface.check_calendar(self._drivers)

    def of(self, leg: Leg, life: int, living: BoolArray) -> _Priced:
        """A leg at the sessions at which it is held (T,)."""
        history, calendar = self._history, self._calendar
        dates, sold = history.dates, calendar.sold
        expiry = calendar.dates[sold + leg.expiry(life)]
        days = np.maximum((expiry - dates).astype(np.float64), 0.0) / DAYS_PER_YEAR
        years = history.clock.years(dates, expiry)
        pace = np.sqrt(np.divide(years, days, out=np.zeros_like(years), where=days > 0.0))
        spot, strike = history.close, leg.moneyness * history.close[:, sold]
        rate, dividend = history.rate, history.dividend_yield
        log_forward = np.log(spot / strike) + (rate - dividend) * days
        vol = self._vol_multiple * self._surface.vol(self._drivers, -log_forward, days)
        value = price_and_greeks(spot, strike, days, vol * pace, rate, dividend, leg.kind == "call")
        deviation = vol * np.sqrt(years)
        distance = np.zeros_like(log_forward)
        np.divide(log_forward, deviation, out=distance, where=deviation > 0.0)
        whole = history.clock.years(dates[sold], expiry)
        share = np.divide(years, whole, out=np.zeros_like(years), where=living)
        parts = [np.where(living, x, 0.0) for x in (*value[:3], value.vega * pace, distance)]
        return _Priced(parts[0], parts[1], parts[2], parts[3], parts[4], share)


def _payoff(leg: Leg, spot: FloatArray, strike: FloatArray) -> FloatArray:
    payoff: FloatArray = np.maximum(spot - strike if leg.kind == "call" else strike - spot, 0.0)
    return payoff
