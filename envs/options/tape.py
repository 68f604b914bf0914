"""Every contract of the chain, priced once, for every path and session."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from conf.errors import InputError
from conf.types import BoolArray, FloatArray
from envs.market.history import MarketHistory
from envs.options.black_scholes import price, price_and_greeks
from envs.options.chain import ChainSettings, Listings, Slot, list_contracts, slots
from envs.options.surface import FlatSurface, VixSurface

CALENDAR_DAYS = 365.0


@dataclass(frozen=True)
class OptionTape:
    """The option market as the environment meets it; immutable, and the hot loop only gathers.

    P paths, T sessions, M slots. Prices are per unit of the index. Greeks belong to `mark`.
    """

    slots: tuple[Slot, ...]  # M
    is_call: BoolArray  # (M,)
    mark: FloatArray  # (P, T, M) price of the contract in the slot after the close of t
    aged: FloatArray  # (P, T, M) value at t of the contract that sat there at t-1
    strike: FloatArray  # (P, T, M) index points
    vol: FloatArray  # (P, T, M) implied volatility of `mark`, annual decimal
    aged_vol: FloatArray  # (P, T, M) that of `aged`; of the session before where it expired
    delta: FloatArray  # (P, T, M) per index point
    gamma: FloatArray  # (P, T, M) per index point squared
    theta: FloatArray  # (P, T, M) per calendar day
    vega: FloatArray  # (P, T, M) per 1.00 of volatility
    rho: FloatArray  # (P, T, M) per 1.00 of the rate
    days_to_expiry: FloatArray  # (T, M) calendar days
    rolled: BoolArray  # (T, M) the slot's contract was replaced at t
    expired: BoolArray  # (T, M) it was replaced because it expired: settlement is free

    def __post_init__(self) -> None:
        paths, sessions, count = self.mark.shape
        for item in fields(self):
            values = getattr(self, item.name)
            if not isinstance(values, np.ndarray):
                continue
            expected = {1: (count,), 2: (sessions, count), 3: (paths, sessions, count)}
            if values.shape != expected[values.ndim]:
                raise InputError(f"tape: {item.name} has shape {values.shape}", "Rebuild the tape")
            if not np.isfinite(values).all():
                where = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
                raise InputError(
                    f"tape: {item.name}{list(where)} is {values[where]}",
                    "Check the prices and volatilities of that session",
                )
            values.setflags(write=False)

    @property
    def num_slots(self) -> int:
        """M, the number of contracts held side by side."""
        return len(self.slots)


def build_tape(
    history: MarketHistory, surface: FlatSurface | VixSurface, chain: ChainSettings
) -> OptionTape:
    """Price the whole chain over a history.

    Row t depends only on sessions up to t. Raises InputError where a term structure of the
    surface would allow calendar arbitrage or a price is not finite.
    """
    chain_slots = slots(chain)
    group = np.array([slot.maturity_index for slot in chain_slots])
    is_call = np.array([slot.is_call for slot in chain_slots])
    moneyness = np.array([slot.moneyness for slot in chain_slots])
    listings = list_contracts(chain, history.dates)
    by_slot = Listings(**{f.name: getattr(listings, f.name)[:, group] for f in fields(Listings)})

    drivers = surface.drivers(history.implied_vol)
    surface.check_calendar(drivers)
    market = _Market(history, surface, drivers)
    strike = history.close[:, by_slot.listed_at] * moneyness

    tau = by_slot.days_to_expiry / CALENDAR_DAYS
    vol = market.vol(strike, tau)
    values = price_and_greeks(*market.contract(strike, tau, vol), is_call)

    earlier_strike = np.concatenate([strike[:, :1], strike[:, :-1]], axis=1)
    aged_tau = by_slot.aged_days / CALENDAR_DAYS
    aged, aged_vol = values.price.copy(), vol.copy()
    changed, expired = by_slot.rolled, by_slot.expired
    if changed.any():
        aged[:, changed], aged_vol[:, changed] = market.price_at(
            changed, earlier_strike, aged_tau, is_call
        )
        # At expiry volatility means nothing: the last one stands, so that it did not change.
        aged_vol[:, 1:][:, expired[1:]] = vol[:, :-1][:, expired[1:]]
    return OptionTape(
        slots=chain_slots,
        is_call=is_call,
        mark=values.price,
        aged=aged,
        strike=strike,
        vol=vol,
        aged_vol=aged_vol,
        delta=values.delta,
        gamma=values.gamma,
        theta=values.theta / CALENDAR_DAYS,
        vega=values.vega,
        rho=values.rho,
        days_to_expiry=by_slot.days_to_expiry,
        rolled=by_slot.rolled,
        expired=by_slot.expired,
    )


@dataclass(frozen=True)
class _Market:
    """A history seen with a trailing slot axis, as the pricing functions want it."""

    history: MarketHistory
    surface: FlatSurface | VixSurface
    drivers: FloatArray  # (P, T, D)

    def contract(
        self, strike: FloatArray, tau: FloatArray, vol: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
        """Arguments of the pricing functions for (P, T, M) contracts, but for is_call."""
        spot = self.history.close[:, :, None]
        rate = self.history.rate[None, :, None]
        dividend_yield = self.history.dividend_yield[None, :, None]
        return spot, strike, tau, vol, rate, dividend_yield

    def vol(self, strike: FloatArray, tau: FloatArray) -> FloatArray:
        """Implied volatility of (P, T, M) contracts."""
        carry = (self.history.rate - self.history.dividend_yield)[None, :, None]
        log_forward = np.log(self.history.close)[:, :, None] + carry * tau
        return self.surface.vol(self.drivers[:, :, None, :], np.log(strike) - log_forward, tau)

    def price_at(
        self, where: BoolArray, strike: FloatArray, tau: FloatArray, is_call: BoolArray
    ) -> tuple[FloatArray, FloatArray]:
        """Prices and volatilities of only the (session, slot) pairs in `where`, (P, count)."""
        t, slot = np.nonzero(where)
        spot, rate = self.history.close[:, t], self.history.rate[t]
        dividend_yield = self.history.dividend_yield[t]
        strike, tau = strike[:, t, slot], tau[t, slot]
        log_forward = np.log(spot) + (rate - dividend_yield) * tau
        vol = self.surface.vol(self.drivers[:, t, :], np.log(strike) - log_forward, tau)
        return price(spot, strike, tau, vol, rate, dividend_yield, is_call[slot]), vol
