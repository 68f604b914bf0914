"""The risk module as one object: what a book may trade, after the agent has said what it wants.

The same object stands in backtests, in training where asked for, and in paper trading. After each
close `observe` shows it the account; before each trade `apply` takes the wanted quantities through
the guard and then the limits, and says what was changed and by which rule.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from risk.guard import Guard, GuardOrders, GuardSettings, GuardState
from risk.limits import RULES, Book, LimitSettings, apply_limits
from risk.margin import ScanSettings
from risk.settings import settings

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

TURNOVER_SESSIONS = 21
OVERLAY_RULES = ("guard", *RULES)


@settings
class RiskSettings:
    """What the risk module does; off, it is not there at all."""

    enabled: bool = True
    in_training: bool = False  # also inside the environment that the agent learns in
    limits: LimitSettings = Field(default_factory=LimitSettings)
    guard: GuardSettings = Field(default_factory=GuardSettings)
    scan: ScanSettings = Field(default_factory=ScanSettings)


class OverlayResult(NamedTuple):
    """What may be traded, and why it is not what was wanted. Rules are OVERLAY_RULES."""

    quantity: FloatArray  # (N, M)
    taken: FloatArray  # (N, rules) dollars of wanted value that each rule took away
    bound: BoolArray  # (N, rules) the rule changed something
    state: NDArray[np.int8]  # (N,) GuardState
    alert: BoolArray  # (N,) a number was none: the book is closed and halted


class RiskOverlay:
    """The risk module over N books."""

    def __init__(self, num_books: int, options: RiskSettings) -> None:
        self.options = options
        self.guard = Guard(num_books, options.guard)
        self.recent_trades: FloatArray = np.zeros((num_books, TURNOVER_SESSIONS - 1))
        self._orders = _no_orders(num_books)

    def open(self, books: BoolArray, equity: float) -> None:
        """Begin to watch the masked books (N,) afresh."""
        self.guard.open(books, equity)
        self.recent_trades[books] = 0.0
        fresh, old = _no_orders(len(books)), self._orders
        self._orders = GuardOrders(
            np.where(books, fresh.state, old.state),
            np.where(books, fresh.close, old.close),
            np.where(books, fresh.scale, old.scale),
            np.where(books, fresh.reason, old.reason),
        )

    def observe(self, equity: FloatArray, index_return: FloatArray) -> GuardOrders:
        """Take in a close: equity (N,) and the index's return since the last one (N,)."""
        self._orders = self.guard.observe(equity, index_return)
        return self._orders

    def apply(self, wanted: FloatArray, book: Book) -> OverlayResult:
        """The wanted quantities (N, M) through guard and limits.

        `book.traded` is filled in from what the overlay has seen traded; what is given is not
        read.
        """
        book = replace(book, traded=self.recent_trades.sum(axis=-1))
        finite = np.isfinite(wanted)
        clean = wanted if finite.all() else np.where(finite, wanted, 0.0)
        kept = self.guard.restrain(clean, book.quantity, self._orders)
        asked = kept if clean is wanted else np.where(finite, kept, wanted)
        result = apply_limits(asked, book, self.options.limits)
        self.guard.kill(result.alert)
        by_guard = _value(clean - kept, book.price, result.alert)
        taken = np.concatenate([by_guard[:, None], result.taken], axis=-1)
        traded = _value(result.quantity - book.quantity, book.price, result.alert)
        self.recent_trades = np.concatenate([self.recent_trades[:, 1:], traded[:, None]], axis=1)
        state = np.where(result.alert, GuardState.HALTED, self._orders.state).astype(np.int8)
        return OverlayResult(result.quantity, taken, taken > 0.0, state, result.alert)

    def get_state(self) -> dict[str, Any]:
        """Everything it remembers, as arrays; the orders of the last close among it."""
        orders = {f"orders.{name}": value for name, value in self._orders._asdict().items()}
        del orders["orders.reason"]
        guard = {f"guard.{name}": value for name, value in self.guard.get_state().items()}
        return {"recent_trades": self.recent_trades.copy(), **guard, **orders}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take back what `get_state` gave."""
        self.guard.set_state(
            {k.removeprefix("guard."): v for k, v in state.items() if k.startswith("guard.")}
        )
        self.recent_trades = np.array(state["recent_trades"], np.float64)
        self._orders = GuardOrders(
            np.array(state["orders.state"], np.int8),
            np.array(state["orders.close"], np.bool_),
            np.array(state["orders.scale"], np.float64),
            self._orders.reason,
        )


def _value(units: FloatArray, price: FloatArray, unknown: BoolArray) -> FloatArray:
    """Dollars of absolute value, (N,); 0 where the inputs are not all numbers."""
    value: FloatArray = (np.abs(units) * price).sum(axis=-1)
    return np.where(unknown, 0.0, value) if unknown.any() else value


def _no_orders(num_books: int) -> GuardOrders:
    return GuardOrders(
        np.zeros(num_books, np.int8),
        np.zeros(num_books, np.bool_),
        np.ones(num_books),
        np.full(num_books, "", dtype="<U10"),
    )
