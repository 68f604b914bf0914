"""Every contract of the chain, priced once, for every path and session."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from conf.errors import InputError
from conf.types import BoolArray, FloatArray
from envs.market.clock import DAYS_PER_YEAR
from envs.market.history import MarketHistory
from envs.options.black_scholes import price, price_and_greeks
from envs.options.chain import ChainSettings, Listings, Slot, list_contracts, slots
from envs.options.surface import FlatSurface, VixSurface


@dataclass(frozen=True)
class OptionTape:
    """The prices and Greeks of every contract, immutable; the environment only looks them up.

    P paths, T sessions, M slots. Prices are per unit of the index. Greeks belong to `mark`.
    Volatilities are quoted on calendar days; in the formula of Black and Scholes stands
    `vol * vol_scale`, the root of business over calendar time (`envs.market.clock`).
    """

    slots: tuple[Slot, ...]  # M
    is_call: BoolArray  # (M,)
    mark: FloatArray  # (P, T, M) price of the contract in the slot after the close of t
    aged: FloatArray  # (P, T, M) value at t of the contract of t-1
    strike: FloatArray  # (P, T, M) index points
    vol: FloatArray  # (P, T, M) quoted volatility of `mark`, annual decimal
    aged_vol: FloatArray  # (P, T, M) that of `aged`; of the session before where it expired
    delta: FloatArray  # (P, T, M) per index point
    gamma: FloatArray  # (P, T, M) per index point squared
    theta: FloatArray  # (P, T, M) per unit of the clock: a session, or a calendar day
    vega: FloatArray  # (P, T, M) per 1.00 of quoted volatility
    rho: FloatArray  # (P, T, M) per 1.00 of the rate
    days_to_expiry: FloatArray  # (T, M) calendar days
    variance_years: FloatArray  # (T, M) years left by the clock
    vol_scale: FloatArray  # (T, M) of the contract of `mark`
    aged_vol_scale: FloatArray  # (T, M) of the contract of `aged`
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

    clock, dates = history.clock, history.dates
    variance_years = clock.years(dates[:, None], by_slot.expiry)
    scale = _vol_scale(variance_years, by_slot.days_to_expiry)

    drivers = surface.drivers(history.implied_vol)
    surface.check_calendar(drivers)
    spot, rate, dividend_yield = history.close, history.rate, history.dividend_yield
    strike = chain.strikes(spot[:, by_slot.listed_at] * moneyness)
    tau = by_slot.days_to_expiry / DAYS_PER_YEAR

    carry = rate - dividend_yield
    log_forward = np.log(spot)[:, :, None] + carry[:, None] * tau
    vol = surface.vol(drivers[:, :, None, :], np.log(strike) - log_forward, tau)
    values = price_and_greeks(
        spot[:, :, None], strike, tau, vol * scale, rate[:, None], dividend_yield[:, None], is_call
    )
    # In a year of the clock time value decays by gamma S^2 vol^2 / 2. The formula's theta, of a
    # calendar year, has the scaled volatility there.
    overstated = 0.5 * values.gamma * np.square(spot[:, :, None] * vol) * (np.square(scale) - 1.0)

    # Only contracts that leave their slot need a price of their own.
    aged, aged_vol, aged_scale = values.price.copy(), vol.copy(), scale.copy()
    t, slot = np.nonzero(by_slot.rolled)
    old_strike, old_tau = strike[:, t - 1, slot], by_slot.aged_days[t, slot] / DAYS_PER_YEAR
    log_forward = np.log(spot[:, t]) + carry[t] * old_tau
    old_vol = surface.vol(drivers[:, t], np.log(old_strike) - log_forward, old_tau)
    old_years = clock.years(dates[t], by_slot.expiry[t - 1, slot])
    old_scale = _vol_scale(old_years, by_slot.aged_days[t, slot])
    aged[:, t, slot] = price(
        *(spot[:, t], old_strike, old_tau, old_vol * old_scale),
        *(rate[t], dividend_yield[t], is_call[slot]),
    )
    aged_vol[:, t, slot], aged_scale[t, slot] = old_vol, old_scale
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
        theta=(values.theta + overstated) / clock.units_per_year,
        vega=values.vega * scale,
        rho=values.rho,
        days_to_expiry=by_slot.days_to_expiry,
        variance_years=variance_years,
        vol_scale=scale,
        aged_vol_scale=aged_scale,
        rolled=by_slot.rolled,
        expired=by_slot.expired,
    )


def _vol_scale(variance_years: FloatArray, days: FloatArray) -> FloatArray:
    """Root of business over calendar time to expiry; 1 once it is over."""
    left = days > 0.0
    ratio = np.where(left, variance_years / np.where(left, days / DAYS_PER_YEAR, 1.0), 1.0)
    return np.sqrt(ratio)
