"""Where the P&L of each day came from.

An option book: a second-order expansion around the close before,

    dV = delta dS + gamma dS² / 2 + vega dvol + theta dt + rho dr + residual,

summed over contracts, beside interest on cash and costs.

An allocation: with x_i dollars in asset i over a session, r_i its return and m the mean return of
all assets,

    sum x_i r_i = m sum x_i + sum x_i (r_i - m)

splits what the assets gained into what any portfolio of that size would have gained in the equally
weighted market, and what the choice of assets added to it. Reference: G. Brinson, L. R. Hood and
G. Beebower, Determinants of portfolio performance, Financial Analysts Journal 42 (1986), with equal
weights as the benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from conf.types import FloatArray
from envs.allocation.market import PanelMarket
from envs.option_portfolio.market import OptionMarket
from experiments.backtests.backtest import FLOOR_USD, Backtest, first_session

TERMS = (
    *("delta", "gamma", "vega", "theta", "rates"),  # of the expansion
    *("carry", "roll", "cost", "write_off", "residual"),
)
ALLOCATION_TERMS = ("market", "selection", "carry", "cost", "write_off", "residual")


@dataclass(frozen=True)
class Attribution:
    """The P&L of N books on T days by cause, in dollars; the terms of a day add up to its `pnl`."""

    terms: Mapping[str, FloatArray]  # cause -> (N, T); cost is negative
    pnl: FloatArray  # (N, T) change of equity
    held_pnl: FloatArray  # (N, T) of what was held, before interest and costs

    @property
    def residual_share(self) -> FloatArray:
        """Sum over days of |residual| over that of |held P&L|, (N,); NaN if nothing was held.

        Absolute, so that days with residuals of opposite sign do not cancel.
        """
        unexplained = np.abs(self.terms["residual"]).sum(axis=-1)
        total = np.abs(self.held_pnl).sum(axis=-1)
        share = np.full(total.shape, np.nan)
        np.divide(unexplained, total, out=share, where=total > 0)
        return share


def attribute(backtest: Backtest, market: OptionMarket) -> Attribution:
    """Split every day's P&L of every book into TERMS.

    `carry` is interest on cash; `roll` is what the expansion leaves unexplained of contracts on the
    day they expire; `write_off` is what a ruined book owed and the backtest does not record: its
    equity is shown as one cent. Raises InputError where the backtest was not run on this market.
    """
    days, quantity = _Days(backtest, market), backtest.quantity
    expires = np.asarray(market.tape.expired[days.after])
    expiring = quantity * expires
    option_pnl, terms = days.option_pnl(quantity), days.expansion(quantity)
    roll, residual = np.zeros_like(option_pnl), option_pnl - sum(terms.values())
    if expires.any():
        roll = days.option_pnl(expiring) - sum(days.expansion(expiring).values())
        residual = residual - roll
    carry = days.carry()
    terms |= {
        "carry": carry,
        "roll": roll,
        "cost": -backtest.cost,
        "write_off": write_off(backtest, option_pnl + carry),
        "residual": residual,
    }
    return Attribution(terms, np.diff(backtest.equity, axis=1), option_pnl)


def attribute_allocation(backtest: Backtest, market: PanelMarket) -> Attribution:
    """Split every day's P&L of every portfolio into ALLOCATION_TERMS, (N, T) dollars each.

    `carry` is interest on the cash that was left after the trade; `residual` is rounding. Raises
    InputError where the backtest was not run on this market.
    """
    start, length = first_session(backtest, market), backtest.quantity.shape[1]
    now, after = slice(start, start + length), slice(start + 1, start + length + 1)
    path = np.arange(len(backtest.equity)) % market.history.num_paths
    returns = (market.aged[:, after] / market.mark[:, now] - 1.0)[path]
    position, pnl = backtest.position, np.diff(backtest.equity, axis=1)
    gained, invested = (position * returns).sum(axis=-1), position.sum(axis=-1)
    in_market = invested * returns.mean(axis=-1)
    cash = backtest.equity[:, :-1] - backtest.cost - invested
    carry = np.where(backtest.alive, cash * market.cash_return[now], 0.0)
    terms = {
        "market": in_market,
        "selection": gained - in_market,
        "carry": carry,
        "cost": -backtest.cost,
        "write_off": write_off(backtest, gained + carry),
    }
    terms["residual"] = pnl - sum(terms.values())
    return Attribution(terms, pnl, gained)


def write_off(backtest: Backtest, gained: FloatArray) -> FloatArray:
    """What a ruined book owed and the backtest does not record, (N, T) dollars.

    `gained` (N, T): of what was held and of cash, before costs.
    """
    unfloored = backtest.equity[:, :-1] + gained - backtest.cost
    return np.where(backtest.alive, np.maximum(FLOOR_USD - unfloored, 0.0), 0.0)


def closing_cost(backtest: Backtest, market: OptionMarket) -> FloatArray:
    """The part of each day's cost that was paid at its end, to close what is rolled, (N, T)."""
    return _Days(backtest, market).closing_cost()


class _Days:
    """A market cut to the days of a backtest, a row of it for each book."""

    def __init__(self, backtest: Backtest, market: OptionMarket) -> None:
        start, length = first_session(backtest, market), backtest.quantity.shape[1]
        self.backtest, self.market = backtest, market
        self.now, self.after = slice(start, start + length), slice(start + 1, start + length + 1)
        books, paths = len(backtest.equity), market.history.num_paths
        self._path = None if books == paths else np.arange(books) % paths

    def option_pnl(self, quantity: FloatArray) -> FloatArray:
        """Gain of the contracts held, (N, T) dollars."""
        tape = self.market.tape
        gain = self._at(tape.aged, self.after) - self._at(tape.mark, self.now)
        return _total(quantity, gain)

    def expansion(self, quantity: FloatArray) -> dict[str, FloatArray]:
        """The terms of the expansion, (N, T) dollars each."""
        tape, history = self.market.tape, self.market.history
        move = self._at(history.close, self.after) - self._at(history.close, self.now)
        new_vol, old_vol = self._at(tape.aged_vol, self.after), self._at(tape.vol, self.now)

        def exposure(greek: FloatArray) -> FloatArray:
            return _total(quantity, self._at(greek, self.now))

        return {
            "delta": exposure(tape.delta) * move,
            "gamma": exposure(tape.gamma) * (0.5 * move * move),
            "vega": _total(quantity, self._at(tape.vega, self.now) * (new_vol - old_vol)),
            "theta": exposure(tape.theta) * history.units_to_next[self.now],
            "rates": exposure(tape.rho) * (history.rate[self.after] - history.rate[self.now]),
        }

    def carry(self) -> FloatArray:
        """Interest on the cash that was left after each trade, (N, T) dollars."""
        backtest = self.backtest
        trade_cost = backtest.cost - self.closing_cost()
        cash = backtest.equity[:, :-1] - trade_cost - backtest.position.sum(axis=-1)
        return np.where(backtest.alive, cash * self.market.cash_return[self.now], 0.0)

    def closing_cost(self) -> FloatArray:
        """Paid at the close after, to sell what leaves its slot without having expired."""
        unit = self.market.closing_unit_cost
        if unit is None:
            return np.zeros_like(self.backtest.cost)
        return _total(np.abs(self.backtest.quantity), self._at(unit, self.after))

    def _at(self, values: FloatArray, sessions: slice) -> FloatArray:
        """(P, T, ...) of the market -> (N, T, ...) of the books."""
        cut = values[:, sessions]
        return cut if self._path is None else cut[self._path]


def _total(quantity: FloatArray, each: FloatArray) -> FloatArray:
    total: FloatArray = np.einsum("ntm,ntm->nt", quantity, each)
    return total
