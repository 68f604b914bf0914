"""Which listed contracts the slots of a book stand for: options on SPX, XSP or SPY, in whole lots.

An account with a root lists its slots at the root's strikes and expiries, and trades in its lots:
the kernel's contract is then the listed one, and nothing has to be translated but units. SPX and
XSP are European and paid in cash at the close. SPY moves as the index times `spy_ratio` as far as
the book knows; what its price, an early exercise or a dividend make of it comes in by executions,
deliveries and adjustments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

import numpy as np

from conf.errors import InputError
from conf.types import FloatArray
from envs.core.market import MarketSettings
from envs.market.history import MarketHistory
from envs.option_portfolio.market import OptionMarketSettings
from envs.option_portfolio.sizing import at_price_level, largest_quantity
from envs.options.tape import OptionTape, build_tape

MULTIPLIER = 100  # a contract's dollars a point, or its shares
RootName = Literal["SPX", "XSP", "SPY"]
_WHOLE = 1e-9  # lots that a number may lack to a whole one


@dataclass(frozen=True)
class Root:
    """A class of listed options."""

    name: RootName
    occ: str  # as symbols begin
    ratio: float  # price of its underlying over the index
    strike_step: float  # dollars of the underlying
    american: bool = False  # may be exercised early, and is paid out in shares

    @property
    def lot(self) -> float:
        """Units of the index that one contract stands for."""
        return MULTIPLIER * self.ratio

    def symbol(self, expiry: str, is_call: bool, strike: float) -> str:
        """The OCC symbol of a contract at a strike of so many index points; expiry: YYYY-MM-DD."""
        return occ_symbol(self.occ, expiry, is_call, self.ratio * strike)


def occ_symbol(root: str, expiry: str, is_call: bool, strike: float) -> str:
    """The 21 characters by which the Options Clearing Corporation knows a contract.

    expiry: YYYY-MM-DD. The strike is rounded to a thousandth of a point.
    """
    year, month, day = expiry.split("-")
    kind = "C" if is_call else "P"
    return f"{root:<6}{year[2:]}{month}{day}{kind}{round(1000 * strike):08d}"


INDEX = Root("SPX", "SPX", 1.0, 0.0)  # the model's own contracts


def root_of(name: RootName, spy_ratio: float) -> Root:
    """SPXW are the contracts on SPX that end at the close, on third Fridays too."""
    return {
        "SPX": Root("SPX", "SPXW", 1.0, 5.0),
        "XSP": Root("XSP", "XSP", 0.1, 1.0),
        "SPY": Root("SPY", "SPY", spy_ratio, 1.0, american=True),
    }[name]


def with_contracts(options: MarketSettings, root: Root | None) -> MarketSettings:
    """The same market in listed contracts; InputError where its book holds none."""
    if root is None:
        return options
    if not isinstance(options, OptionMarketSettings):
        raise InputError(f"{root.name} contracts are for books of options", "Leave out contracts=")
    return _in_contracts(options, root)


def _in_contracts(options: OptionMarketSettings, root: Root) -> OptionMarketSettings:
    env = options.env
    if env.chain.roll != "expiry":
        raise InputError(
            "env.chain.roll is daily, and no contract is listed anew every day",
            "Choose a run of env.chain.roll=expiry",
        )
    chain = replace(env.chain, strike_step=root.strike_step / root.ratio, expiries="listed")
    sizing = replace(env.sizing, fractional=False, contract_multiplier=root.lot)
    return replace(options, env=replace(env, chain=chain, sizing=sizing))


@dataclass(frozen=True)
class Contract:
    """A listed option."""

    root: str
    expiry: date
    is_call: bool
    strike: float  # dollars of the underlying

    def in_the_money(self, price: float) -> float:
        """What exercising it brings at a price of the underlying, dollars a share; 0 at least."""
        return max(price - self.strike if self.is_call else self.strike - price, 0.0)


def read_symbol(symbol: str) -> Contract | None:
    """The contract of an OCC symbol, with or without blanks; None for another symbol, as SPY."""
    root, tail = symbol[:-15].strip(), symbol[-15:]
    if not root or tail[6] not in "CP" or not (tail[:6] + tail[7:]).isdigit():
        return None
    expiry = date(2000 + int(tail[:2]), int(tail[2:4]), int(tail[4:6]))
    return Contract(root, expiry, tail[6] == "C", int(tail[7:]) / 1000.0)


def contract_of(name: str) -> str:
    """The symbol in the name of a slot's contract (`orders.symbols_at`)."""
    return name.rpartition(":")[2]


def by_symbol(names: Sequence[str], quantity: FloatArray, root: Root | None) -> dict[str, float]:
    """What a broker should hold of each symbol for a book (M,), where it is not 0.

    Two slots may hold the same listed contract; a broker knows their sum.
    """
    held: dict[str, float] = {}
    for name, units in zip(names, quantity.tolist(), strict=True):
        symbol = name if root is None else contract_of(name)
        held[symbol] = held.get(symbol, 0.0) + units
    return {symbol: units for symbol, units in held.items() if units != 0.0}


# --- what it takes to buy one --------------------------------------------------------------------


@dataclass(frozen=True)
class SlotListing:
    """What becomes of one slot that is listed today and asked for in full."""

    slot: str
    symbol: str  # of the Options Clearing Corporation
    units: float  # of the index, that an action of 1 may hold
    lots: int  # whole contracts that they buy
    strike_off: float  # index points from the slot's own strike to the listed one
    days_off: int  # likewise of the expiry
    price_off: float  # listed price over the slot's own, less 1; by the model
    delta_off: float  # of one unit
    vega_off: float  # of one unit, dollars a volatility point

    def lost(self, root: Root) -> float:
        """Share of a full slot that rounding to whole lots leaves unbought."""
        return 1.0 - self.lots * root.lot / self.units


@dataclass(frozen=True)
class Listing:
    """A root's contracts for a book that is listed anew at one close."""

    root: Root
    equity_usd: float
    contract_usd: float  # notional of one contract
    least_equity_usd: float  # at which a slot buys one contract
    slots: tuple[SlotListing, ...]

    @property
    def lots(self) -> str:
        """Whole contracts that a full slot buys: one number, or the least and the most."""
        least, most = (of(slot.lots for slot in self.slots) for of in (min, max))
        return str(most) if least == most else f"{least} to {most}"

    @property
    def none(self) -> str:
        """How many of the slots buy no contract."""
        return f"{sum(not slot.lots for slot in self.slots)} of {len(self.slots)}"

    @property
    def summary(self) -> str:
        """One line: what a full slot buys."""
        return (
            f"at ${self.equity_usd:,.0f} a full slot buys {self.lots} {self.root.name} contracts "
            f"(one is ${self.contract_usd:,.0f} of notional); {self.none} slots buy none"
        )

    def check(self) -> None:
        """InputError where no slot buys a single contract."""
        if not any(slot.lots for slot in self.slots):
            raise InputError(
                self.summary,
                f"Choose another root (broker.contracts=XSP is a tenth of SPX) or "
                f"equity_usd={math.ceil(self.least_equity_usd)} or more",
            )


def list_today(
    options: OptionMarketSettings, history: MarketHistory, root: Root, equity_usd: float
) -> Listing:
    """All slots listed at the last close of a history, in the model's and in listed contracts."""
    listed = _in_contracts(options, root)
    today = history.sessions(history.num_sessions - 1, history.num_sessions)
    exact = build_tape(today, options.surface, options.env.chain)
    tape = build_tape(today, options.surface, listed.env.chain)
    spot, sizing = today.close[0], at_price_level(options.env.sizing, float(history.close[0, 0]))
    units = largest_quantity(tape.mark[0], spot, np.array([equity_usd]), sizing)[0]
    lots = np.floor(units / root.lot + _WHOLE).astype(int)
    days_off = (tape.days_to_expiry - exact.days_to_expiry)[0].astype(int)
    expiry = today.dates[0] + tape.days_to_expiry[0].astype("timedelta64[D]")
    off = {name: _difference(tape, exact, name) for name in ("strike", "delta", "vega")}
    slots = tuple(
        SlotListing(
            slot=slot.name,
            symbol=root.symbol(str(expiry[i]), slot.is_call, float(tape.strike[0, 0, i])),
            units=float(units[i]),
            lots=int(lots[i]),
            strike_off=float(off["strike"][i]),
            days_off=int(days_off[i]),
            price_off=float(tape.mark[0, 0, i] / exact.mark[0, 0, i] - 1.0),
            delta_off=float(off["delta"][i]),
            vega_off=float(0.01 * off["vega"][i]),
        )
        for i, slot in enumerate(tape.slots)
    )
    least = float(equity_usd * root.lot / units.max())
    return Listing(root, equity_usd, float(spot[0] * root.lot), least, slots)


def _difference(tape: OptionTape, exact: OptionTape, name: str) -> FloatArray:
    difference: FloatArray = (getattr(tape, name) - getattr(exact, name))[0, 0]
    return difference


def exercised(contract: Contract, contracts: float) -> tuple[float, float]:
    """Change of shares held and of dollars, where the position changes by so many contracts."""
    shares = -contracts * MULTIPLIER * (1.0 if contract.is_call else -1.0)
    return shares, -shares * contract.strike
