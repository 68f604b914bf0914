"""Every contract of the chain, priced once, for every path and session."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from conf.errors import InputError
from conf.types import BoolArray, FloatArray
from envs.market.history import DAYS_PER_YEAR, MarketHistory
from envs.options.black_scholes import price, price_and_greeks
from envs.options.chain import ChainSettings, Listings, Slot, list_contracts, slots
from envs.options.surface import FlatSurface, VixSurface


@dataclass(frozen=True)
class OptionTape:
    """The prices and Greeks of every contract, immutable; the environment only looks them up.

    P paths, T sessions, M slots. Prices are per unit of the index. Greeks belong to `mark`.
    """

    slots: tuple[Slot, ...]  # M
    is_call: BoolArray  # (M,)
    mark: FloatArray  # (P, T, M) price of the contract in the slot after the close of t
    aged: FloatArray  # (P, T, M) value at t of the contract of t-1
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
        """M, the number of contracts."""
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
    spot, rate, dividend_yield = history.close, history.rate, history.dividend_yield
    strike = spot[:, by_slot.listed_at] * moneyness
    tau = by_slot.days_to_expiry / DAYS_PER_YEAR

    carry = rate - dividend_yield
    log_forward = np.log(spot)[:, :, None] + carry[:, None] * tau
    vol = surface.vol(drivers[:, :, None, :], np.log(strike) - log_forward, tau)
    values = price_and_greeks(
        spot[:, :, None], strike, tau, vol, rate[:, None], dividend_yield[:, None], is_call
    )

    # Only contracts that leave their slot need a price of their own.
    aged, aged_vol = values.price.copy(), vol.copy()
    t, slot = np.nonzero(by_slot.rolled)
    old_strike, old_tau = strike[:, t - 1, slot], by_slot.aged_days[t, slot] / DAYS_PER_YEAR
    log_forward = np.log(spot[:, t]) + carry[t] * old_tau
    old_vol = surface.vol(drivers[:, t], np.log(old_strike) - log_forward, old_tau)
    aged[:, t, slot] = price(
        spot[:, t], old_strike, old_tau, old_vol, rate[t], dividend_yield[t], is_call[slot]
    )
    aged_vol[:, t, slot] = old_vol
    # At expiry volatility means nothing: the last one is kept, so that it did not change.
    t, slot = np.nonzero(by_slot.expired)
    aged_vol[:, t, slot] = vol[:, t - 1, slot]
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
        theta=values.theta / DAYS_PER_YEAR,
        vega=values.vega,
        rho=values.rho,
        days_to_expiry=by_slot.days_to_expiry,
        rolled=by_slot.rolled,
        expired=by_slot.expired,
    )
