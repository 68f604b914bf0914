"""Self-financing accounts: what a book owns and what it is worth. One engine for every environment.

For each of N accounts, cash plus the value of M instruments is the equity. Trading moves money
between the two and pays the cost; settling revalues, earns interest on cash and pays out the
contracts that left their slot. Between two closes

    change of equity = sum(quantity * (aged - mark)) + interest on cash - costs

holds exactly; there is no other source of money.
"""

from __future__ import annotations

import numpy as np

from conf.types import BoolArray, FloatArray
from envs.core.batch import SavedArrays


class Ledger(SavedArrays):
    """N accounts over M instruments; all money in dollars, quantities in units of the underlying.

    Fields, all float64: `cash` (N,), `quantity` (N, M), `equity` (N,), `peak` (N,) highest equity
    so far, `traded` (N,) dollars traded since opening, `costs` (N,) dollars of cost since opening.
    """

    FIELDS = ("cash", "quantity", "equity", "peak", "traded", "costs")

    def __init__(self, num_accounts: int, num_instruments: int) -> None:
        self.cash: FloatArray = np.zeros(num_accounts)
        self.quantity: FloatArray = np.zeros((num_accounts, num_instruments))
        self.equity: FloatArray = np.zeros(num_accounts)
        self.peak: FloatArray = np.zeros(num_accounts)
        self.traded: FloatArray = np.zeros(num_accounts)
        self.costs: FloatArray = np.zeros(num_accounts)

    def open(self, accounts: BoolArray, cash_usd: float) -> None:
        """Start the masked accounts (N,) afresh with nothing but cash."""
        for values in (self.cash, self.equity, self.peak):
            values[accounts] = cash_usd
        self.quantity[accounts] = 0.0
        self.traded[accounts] = 0.0
        self.costs[accounts] = 0.0

    def trade(self, target: FloatArray, mark: FloatArray, cost_usd: FloatArray) -> FloatArray:
        """Move to the target quantities (N, M) at prices `mark`, paying `cost_usd` (N,).

        Returns the dollars traded, (N,).
        """
        flow = (target - self.quantity) * mark
        traded: FloatArray = np.abs(flow).sum(axis=-1)
        self.cash = self.cash - flow.sum(axis=-1) - cost_usd
        self.equity = self.equity - cost_usd
        self.quantity = target
        self.traded = self.traded + traded
        self.costs = self.costs + cost_usd
        return traded

    def settle(
        self,
        aged: FloatArray,
        left: BoolArray,
        interest: FloatArray,
        closing_cost_usd: FloatArray | None = None,
    ) -> FloatArray:
        """Go to the next close.

        aged (N, M): value there of the contracts held; left (N, M): the contract is paid out at
        that value and its slot is empty again; interest (N,): growth of cash since the last
        close, exp(rate * days / 365) - 1; closing_cost_usd (N,): cost of what was closed, where
        that was a trade and not an expiry. Returns what every contract held is worth, (N, M).
        """
        value = staying = self.quantity * aged
        self.cash = self.cash + self.cash * interest
        if np.count_nonzero(left):  # on most days of a single book nothing leaves
            self.cash = self.cash + (value * left).sum(axis=-1)
            self.quantity = np.where(left, 0.0, self.quantity)
            staying = value * ~left
        if closing_cost_usd is not None:
            self.cash = self.cash - closing_cost_usd
            self.costs = self.costs + closing_cost_usd
            self.traded = self.traded + np.abs(value * left).sum(axis=-1)
        self.equity = self.cash + staying.sum(axis=-1)
        self.peak = np.maximum(self.peak, self.equity)
        return value

    @property
    def drawdown(self) -> FloatArray:
        """Loss from the peak as a share of the peak, (N,), 0 at a new high."""
        return (self.peak - self.equity) / self.peak
