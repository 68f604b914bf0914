"""Where the money came from: every day's P&L of every book, split by cause.

A contract bought at the close of t and worth `aged` at the close of t + 1 gained, by Taylor's
theorem around t,

    aged − mark = Δ·dS + Γ/2·dS² + vega·dσ + θ·days + ρ·dr + remainder

with dσ the change of the implied volatility of that same contract. The remainder is the third
order, the mixed second-order terms (vanna, volga, charm) and changes of the dividend yield. For
what expires it is called `roll`, the pin between a Greek of yesterday and an intrinsic value of
today; for everything else `residual`. Interest on cash and costs are counted by themselves, never
as what is left over, so that the sum of all terms is a check of the accounting.

Under a skew, volatility and index move together, and the residual of a book that is long one wing
and short the other has a sign: it is the vanna of that book.

Reference: N. Taleb, Dynamic Hedging (1997), chapters 7 to 9; J. Hull, Options, Futures, and Other
Derivatives, chapter 19 (Taylor series of a portfolio).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.book_market import BookMarket
from envs.option_market import OptionMarket
from experiments.backtest import FLOOR_USD, Backtest
from risk.errors import InputError

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

EXPANSION = ("delta", "gamma", "vega", "theta", "rates")
TERMS = (*EXPANSION, "carry", "roll", "cost", "forgiven", "residual")


@dataclass(frozen=True)
class Attribution:
    """The P&L of N books on T days by cause, in dollars; the terms of a day add up to its `pnl`."""

    terms: Mapping[str, FloatArray]  # cause -> (N, T); cost is negative
    pnl: FloatArray  # (N, T) change of equity
    held_pnl: FloatArray  # (N, T) of what was held, before interest and costs

    @property
    def residual_share(self) -> FloatArray:
        """Sum over days of |residual| over that of |held P&L|, (N,); NaN if nothing was held.

        Absolute values are added, so days that are explained badly in opposite directions do not
        make up for each other, and a book that ends where it began still has a scale.
        """
        unexplained = np.abs(self.terms["residual"]).sum(axis=-1)
        total = np.abs(self.held_pnl).sum(axis=-1)
        share = np.full(total.shape, np.nan)
        np.divide(unexplained, total, out=share, where=total > 0)
        return share


def attribute(done: Backtest, market: OptionMarket) -> Attribution:
    """Split every day's P&L of every book into TERMS.

    `forgiven` is what a ruined book owed and the backtest does not record: its equity is shown as
    one cent. It is 0 on every other day. Raises InputError where the backtest was not run on this
    market.
    """
    days = _Days(done, market)
    quantity = done.quantity
    expires = np.asarray(market.tape.expired[days.after])
    expiring = quantity * expires
    option_pnl = days.option_pnl(quantity)
    terms = days.expansion(quantity)
    roll, residual = np.zeros_like(option_pnl), option_pnl - sum(terms.values())
    if expires.any():
        roll = days.option_pnl(expiring) - sum(days.expansion(expiring).values())
        residual = residual - roll
    carry = days.carry()
    owed = forgiven(done, option_pnl + carry)
    terms |= {"carry": carry, "roll": roll, "cost": -done.cost, "forgiven": owed}
    terms["residual"] = residual
    return Attribution(
        {name: terms[name] for name in TERMS}, np.diff(done.equity, axis=1), option_pnl
    )


def first_session(done: Backtest, market: BookMarket) -> int:
    """The session of the market at which the backtest begins; InputError if it is another's."""
    dates = market.history.dates
    start = int(np.searchsorted(dates, done.dates[0]))
    same_days = np.array_equal(dates[start : start + len(done.dates)], done.dates)
    if not same_days or done.quantity.shape[-1] != len(market.instruments):
        raise InputError(
            f"{market.history.name}: the backtest of {done.dates[0]} to {done.dates[-1]} with "
            f"{done.quantity.shape[-1]} instruments was not run on this market",
            "Give the market that the backtest was run on",
        )
    return start


def forgiven(done: Backtest, gained: FloatArray) -> FloatArray:
    """What a ruined book owed and the backtest does not record, (N, T) dollars.

    `gained` (N, T): of what was held and of cash, before costs.
    """
    unfloored = done.equity[:, :-1] + gained - done.cost
    return np.where(done.alive, np.maximum(FLOOR_USD - unfloored, 0.0), 0.0)


def closing_cost(done: Backtest, market: OptionMarket) -> FloatArray:
    """The part of each day's cost that was paid at its end, to close what is rolled, (N, T)."""
    return _Days(done, market).closing_cost()


class _Days:
    """A market cut to the days of a backtest, a row of it for each book."""

    def __init__(self, done: Backtest, market: OptionMarket) -> None:
        start, length = first_session(done, market), done.quantity.shape[1]
        self.done, self.market = done, market
        self.now, self.after = slice(start, start + length), slice(start + 1, start + length + 1)
        books, paths = len(done.equity), market.history.num_paths
        self._path = None if books == paths else np.arange(books) % paths

    def option_pnl(self, quantity: FloatArray) -> FloatArray:
        """Gain of the contracts held, (N, T) dollars."""
        tape = self.market.tape
        return self._total(
            quantity, self._at(tape.aged, self.after) - self._at(tape.mark, self.now)
        )

    def expansion(self, quantity: FloatArray) -> dict[str, FloatArray]:
        """The EXPANSION terms, (N, T) dollars each."""
        tape, history = self.market.tape, self.market.history
        move = self._at(history.close, self.after) - self._at(history.close, self.now)
        new_vol, old_vol = self._at(tape.aged_vol, self.after), self._at(tape.vol, self.now)

        def exposure(greek: FloatArray) -> FloatArray:
            return self._total(quantity, self._at(greek, self.now))

        return {
            "delta": exposure(tape.delta) * move,
            "gamma": exposure(tape.gamma) * (0.5 * move * move),
            "vega": self._total(quantity, self._at(tape.vega, self.now) * (new_vol - old_vol)),
            "theta": exposure(tape.theta) * history.days_to_next[self.now],
            "rates": exposure(tape.rho) * (history.rate[self.after] - history.rate[self.now]),
        }

    def carry(self) -> FloatArray:
        """Interest on the cash that was left after each trade, (N, T) dollars."""
        done = self.done
        trade_cost = done.cost - self.closing_cost()
        cash = done.equity[:, :-1] - trade_cost - done.position.sum(axis=-1)
        return np.where(done.alive, cash * self.market.growth[self.now], 0.0)

    def closing_cost(self) -> FloatArray:
        """Paid at the close after, to sell what leaves its slot without having expired."""
        unit = self.market.closing_unit_cost
        if unit is None:
            return np.zeros_like(self.done.cost)
        return self._total(np.abs(self.done.quantity), self._at(unit, self.after))

    def _at(self, values: FloatArray, sessions: slice) -> FloatArray:
        """(P, T, ...) of the market -> (N, T, ...) of the books."""
        cut = values[:, sessions]
        return cut if self._path is None else cut[self._path]

    @staticmethod
    def _total(quantity: FloatArray, each: FloatArray) -> FloatArray:
        total: FloatArray = np.einsum("ntm,ntm->nt", quantity, each)
        return total
