"""The risk module as one object: from the quantities an agent requests to those it may trade.

The same object serves backtests, training (with `in_training`) and paper trading.
After each close `observe` shows it the account; before each trade `apply` takes the requested
quantities through the guard and then the limits, and says what was changed and by which rule.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from conf.settings import settings
from conf.types import BoolArray, FloatArray
from risk.book import Book
from risk.bounds import RULES, LimitSettings, keeps_limits
from risk.guard import Guard, GuardSettings, Restrictions, appended, restored
from risk.limits import apply_limits
from risk.lots import whole_lots
from risk.margin import ScanSettings
from risk.metrics import SESSIONS_PER_YEAR

TURNOVER_SESSIONS = 21
OVERLAY_RULES = ("guard", *RULES)


@settings
class RiskSettings:
    """What the risk module does; with `enabled` false there is none."""

    enabled: bool = True
    in_training: bool = False  # also inside the environment that the agent learns in
    limits: LimitSettings = Field(default_factory=LimitSettings)
    guard: GuardSettings = Field(default_factory=GuardSettings)
    scan: ScanSettings = Field(default_factory=ScanSettings)


class OverlayResult(NamedTuple):
    """What may be traded, and why it differs from the request. Rules are OVERLAY_RULES."""

    quantity: FloatArray  # (N, M) allowed
    clipped: FloatArray  # (N, rules) dollars of requested value that each rule took away
    bound: BoolArray  # (N, rules) the rule changed something
    state: NDArray[np.int8]  # (N,) GuardState
    alert: BoolArray  # (N,) an input was not finite: the book is closed and halted


class RiskOverlay:
    """The risk module over N books; with `lot`, they hold whole lots of that many units."""

    def __init__(
        self,
        num_books: int,
        options: RiskSettings,
        lot: float | None = None,
        sessions_per_year: float = SESSIONS_PER_YEAR,
    ) -> None:
        self.options, self.lot = options, lot
        self.guard = Guard(num_books, options.guard, sessions_per_year)
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
        """Let the masked books (N,) trade again from their next trade on, as a person decided."""
        self.guard.reset(books)

    def observe(self, equity: FloatArray, index_return: FloatArray) -> Restrictions:
        """Take in a close: equity (N,) and the index's return since the last one (N,)."""
        return self.guard.observe(equity, index_return)

    def apply(self, requested: FloatArray, book: Book) -> OverlayResult:
        """The requested quantities (N, M) through guard and limits.

        `book.traded` is replaced by what the overlay has seen traded. Turnover limits what is
        opened: reductions always pass and are counted.
        """
        book = replace(book, traded=self.recent_trades.sum(axis=-1))
        restrictions = self.guard.restrictions
        finite = np.isfinite(requested)
        clean = requested if finite.all() else np.where(finite, requested, 0.0)
        scaled = restrictions.scaled(clean)
        if clean is not requested:
            scaled = np.where(finite, scaled, requested)  # the limits raise the alert
        may_open = restrictions.may_open | restrictions.close
        result = apply_limits(scaled, book, self.options.limits, may_open)
        self.guard.kill(result.alert, "not_finite")

        quantity, traded = result.quantity, result.traded
        if self.lot is not None:
            sound = np.flatnonzero(~result.alert)
            quantity = quantity.copy()
            quantity[sound] = whole_lots(
                quantity[sound], book.rows(sound), self.options.limits, self.lot
            )
            traded = book.value(quantity - book.quantity)
        self.recent_trades = appended(self.recent_trades, _finite(traded))
        guarded = restrictions.applied(clean, book.quantity)
        by_guard = _finite(book.value(clean - guarded))
        return OverlayResult(
            quantity,
            np.concatenate([by_guard[:, None], result.clipped], axis=-1),
            np.concatenate([(clean != guarded).any(axis=-1)[:, None], result.bound], axis=-1),
            self.guard.state.copy(),
            result.alert,
        )

    def within_limits(self, book: Book) -> FloatArray:
        """What is left (N, M) of books until they keep every limit; nothing is opened."""
        held, closed = book.quantity, np.zeros(len(book.equity), np.bool_)
        result = apply_limits(held, book, self.options.limits, closed)
        kept = keeps_limits(held, book, self.options.limits) & ~result.alert
        left = np.where(kept[:, None], held, result.quantity)
        if self.lot is not None:
            left = whole_lots(left, book, self.options.limits, self.lot)
        return left

    def record_trade(self, dollars: FloatArray) -> None:
        """Count dollars (N,) traded since `apply` without a request, as when rolling."""
        self.recent_trades[:, -1] += _finite(dollars)

    def correct_trade(self, dollars: FloatArray) -> None:
        """Of the last trade these dollars (N,) were really traded: orders were filled otherwise."""
        self.recent_trades[:, -1] = _finite(dollars)

    def nothing_traded(self, books: BoolArray) -> None:
        """Take back the last trade of the masked books (N,): their market was closed."""
        self.recent_trades[books, -1] = 0.0

    def get_state(self) -> dict[str, Any]:
        """Everything it remembers, as arrays."""
        guard = {f"guard.{name}": value for name, value in self.guard.get_state().items()}
        return {"recent_trades": self.recent_trades.copy(), **guard}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take back what `get_state` gave; InputError where the number of books differs."""
        recent_trades = restored("overlay", "recent_trades", state, self.recent_trades)
        self.guard.set_state(
            {k.removeprefix("guard."): v for k, v in state.items() if k.startswith("guard.")}
        )
        self.recent_trades = recent_trades


def _finite(dollars: FloatArray) -> FloatArray:
    """0 for sums over inputs that were not all finite."""
    return np.nan_to_num(dollars, nan=0.0, posinf=0.0, neginf=0.0)
