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

from conf.errors import InputError
from conf.settings import settings
from conf.types import BoolArray, FloatArray
from risk.book import Book
from risk.guard import Guard, GuardOrders, GuardSettings
from risk.limits import RULES, LimitResult, LimitSettings, apply_limits
from risk.lots import whole_lots
from risk.margin import ScanSettings

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
    clipped: FloatArray  # (N, rules) dollars of wanted value that each rule took away
    bound: BoolArray  # (N, rules) the rule changed something
    state: NDArray[np.int8]  # (N,) GuardState
    alert: BoolArray  # (N,) a number was none: the book is closed and halted
    wanted: FloatArray  # (N, M) as it was asked for


class RiskOverlay:
    """The risk module over N books; with `lot`, they hold whole lots of that many units."""

    def __init__(self, num_books: int, options: RiskSettings, lot: float | None = None) -> None:
        self.options, self.lot = options, lot
        self.guard = Guard(num_books, options.guard)
        # Dollars by session, the newest last: of those before the next trade.
        self.recent_trades: FloatArray = np.zeros((num_books, TURNOVER_SESSIONS - 1))

    def open(self, books: BoolArray, equity: float) -> None:
        """Begin to watch the masked books (N,) afresh."""
        self.guard.open(books, equity)
        self.recent_trades[books] = 0.0

    def kill(self, books: BoolArray) -> None:
        """The kill switch: the masked books (N,) are closed at their next trade and stay so."""
        self.guard.kill(books)

    def reset(self, books: BoolArray) -> None:
        """A person lets the masked books (N,) trade again, from their next trade on."""
        self.guard.reset(books)

    def observe(self, equity: FloatArray, index_return: FloatArray) -> GuardOrders:
        """Take in a close: equity (N,) and the index's return since the last one (N,)."""
        return self.guard.observe(equity, index_return)

    def apply(self, wanted: FloatArray, book: Book) -> OverlayResult:
        """The wanted quantities (N, M) through guard and limits.

        `book.traded` is filled in from what the overlay has seen traded; what is given is not
        read. Turnover limits what is opened: reductions always pass and are counted.
        """
        book = replace(book, traded=self.recent_trades.sum(axis=-1))
        orders = self.guard.orders
        finite = np.isfinite(wanted)
        clean = wanted if finite.all() else np.where(finite, wanted, 0.0)
        scaled = self.guard.scaled(clean, orders)
        asked = scaled if clean is wanted else np.where(finite, scaled, wanted)
        result = apply_limits(asked, book, self.options.limits, orders.may_open | orders.close)
        self.guard.kill(result.alert, "not_finite")

        kept = self.guard.restrain(clean, book.quantity, orders)
        quantity, traded = result.quantity, result.traded
        if self.lot is not None:
            quantity = self._in_lots(result, book, self.lot)
            traded = book.value(quantity - book.quantity)
        self.recent_trades = np.concatenate(
            [self.recent_trades[:, 1:], np.zeros((len(traded), 1))], axis=1
        )
        self.record_trade(traded)
        by_guard = _finite(book.value(clean - kept))
        clipped = np.concatenate([by_guard[:, None], result.clipped], axis=-1)
        bound = np.concatenate([(clean != kept).any(axis=-1)[:, None], result.bound], axis=-1)
        return OverlayResult(
            quantity, clipped, bound, self.guard.state.copy(), result.alert, wanted
        )

    def record_trade(self, dollars: FloatArray) -> None:
        """Count dollars (N,) traded since `apply` without being asked for, as when rolling."""
        self.recent_trades[:, -1] += _finite(dollars)

    def nothing_traded(self, books: BoolArray) -> None:
        """Of the masked books (N,) nothing was traded after all: the market was shut."""
        self.recent_trades[books, -1] = 0.0

    def get_state(self) -> dict[str, Any]:
        """Everything it remembers, as arrays."""
        guard = {f"guard.{name}": value for name, value in self.guard.get_state().items()}
        return {"recent_trades": self.recent_trades.copy(), **guard}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take back what `get_state` gave; InputError where it is of other books."""
        found = np.shape(state["recent_trades"]) if "recent_trades" in state else None
        if found != self.recent_trades.shape:
            raise InputError(
                f"overlay: recent_trades has shape {found}, not {self.recent_trades.shape}",
                "Restore it for the same number of books",
            )
        self.guard.set_state(
            {k.removeprefix("guard."): v for k, v in state.items() if k.startswith("guard.")}
        )
        self.recent_trades = np.array(state["recent_trades"], np.float64)

    def _in_lots(self, result: LimitResult, book: Book, lot: float) -> FloatArray:
        quantity = result.quantity.copy()
        sound = np.flatnonzero(~result.alert)
        some = book.rows(sound)
        quantity[sound] = whole_lots(quantity[sound], some, self.options.limits, lot)
        return quantity


def _finite(dollars: FloatArray) -> FloatArray:
    """0 where the inputs were not all numbers."""
    return np.nan_to_num(dollars, nan=0.0, posinf=0.0, neginf=0.0)
