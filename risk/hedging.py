"""Sells part of a position when the drawdown has grown past its threshold."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from conf.errors import InputError
from conf.numbers import checked_number


class ExchangeClient(Protocol):
    """Anything with the `create_order` of ccxt, or of ccxt.async_support."""

    def create_order(
        self,
        symbol: str,
        type: str,
        side: str,
        amount: float,
        price: float | None = None,
        params: dict[str, Any] | None = None,
    ) -> dict[str, Any] | Awaitable[dict[str, Any]]:
        """Send an order; returns what the exchange says about it."""


@dataclass
class PaperExchange:
    """Fills every market order at once and remembers it; ships for tests and paper trading."""

    orders: list[dict[str, Any]] = field(default_factory=list)

    def create_order(
        self,
        symbol: str,
        type: str,
        side: str,
        amount: float,
        price: float | None = None,
        params: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Fill an order; InputError for a side or an amount that no exchange would take."""
        if side not in ("buy", "sell"):
            raise InputError(f"side is {side!r}", "Give buy or sell")
        if not math.isfinite(amount) or amount <= 0.0:
            raise InputError(f"amount is {amount}", "Give a positive amount")
        order = {
            "id": str(len(self.orders) + 1),
            "symbol": symbol,
            "type": type,
            "side": side,
            "amount": amount,
            "price": price,
            "filled": amount,
            "status": "closed",
        }
        self.orders.append(order)
        return order


@dataclass(frozen=True)
class HedgeResult:
    """What was done about a drawdown."""

    hedged: bool  # the hedge stands, by the order sent or, where none was needed, by earlier ones
    ratio: float  # share of the position that is hedged now, 0..1
    amount: float  # units traded by this call, never negative
    side: str | None  # of the order: "sell" to hedge a long position or to take back a short's
    order: dict[str, Any] | None  # what the exchange answered
    reason: str


@dataclass
class HedgingStrategy:
    """Hedges nothing up to the threshold, everything from twice the threshold on, linearly.

    It remembers in `hedge_units` what it has traded (negative: sold), and each call trades only the
    difference to what the drawdown asks for: nothing where that is held already, and back again
    when the drawdown recovers. One strategy watches one position. Orders that the exchange
    acknowledges without saying what was filled are counted in full. When a client raises, nobody
    knows whether the order arrived: it is not counted; look at the exchange and set `hedge_units`.
    """

    max_drawdown_threshold: float = 0.05  # share of the peak
    symbol: str = "HEDGE"
    hedge_units: float = 0.0

    def __post_init__(self) -> None:
        threshold = checked_number("max_drawdown_threshold", self.max_drawdown_threshold)
        if not 0.0 < threshold < 1.0:
            raise InputError(
                f"max_drawdown_threshold is {threshold}", "Give a share between 0 and 1"
            )

    def hedge_ratio(self, drawdown: float) -> float:
        """Share of the position to hedge at a drawdown (0..1)."""
        if checked_number("drawdown", drawdown) < 0.0:
            raise InputError(f"drawdown is {drawdown}", "Give the loss from the peak as a share")
        beyond = drawdown / self.max_drawdown_threshold - 1.0
        return min(max(beyond, 0.0), 1.0)

    def execute_hedge(
        self, position_size: float, drawdown: float, exchange_client: ExchangeClient
    ) -> HedgeResult:
        """Send the market order that gives the hedge of `position_size` units (signed) its size.

        What the client raises is passed on: an order whose fate is unknown must not look done.
        InputError for an asynchronous client, whose order would never be sent.
        """
        plan = self._plan(position_size, drawdown)
        if not plan.amount:
            return self._standing(plan)
        if inspect.iscoroutinefunction(exchange_client.create_order):
            raise _asynchronous()
        answer = exchange_client.create_order(self.symbol, "market", plan.side, plan.amount)
        if inspect.isawaitable(answer):
            if inspect.iscoroutine(answer):
                answer.close()
            raise _asynchronous()
        return self._settle(plan, answer)

    async def execute_hedge_async(
        self, position_size: float, drawdown: float, exchange_client: ExchangeClient
    ) -> HedgeResult:
        """`execute_hedge` for a client of either kind: an order that must be awaited is.

        The order counts as sent while it is under way, so that calls side by side do not double it.
        """
        plan = self._plan(position_size, drawdown)
        if not plan.amount:
            return self._standing(plan)
        self.hedge_units += plan.units
        try:
            sent: Any = exchange_client.create_order(self.symbol, "market", plan.side, plan.amount)
            answer = await sent if inspect.isawaitable(sent) else sent
        finally:
            self.hedge_units -= plan.units
        return self._settle(plan, answer)

    def _plan(self, position_size: float, drawdown: float) -> _Plan:
        position = checked_number("position_size", position_size)
        ratio = self.hedge_ratio(drawdown)
        wanted = -position * ratio
        units = wanted - self.hedge_units
        if abs(units) <= _NEGLIGIBLE * max(abs(wanted), abs(self.hedge_units)):
            units = 0.0
        reason = f"drawdown {drawdown:.1%} beyond {self.max_drawdown_threshold:.1%}"
        if not ratio:
            reason = "drawdown within its threshold"
        return _Plan(position, units, reason)

    def _standing(self, plan: _Plan) -> HedgeResult:
        ratio = self._ratio(plan.position)
        reason = f"{plan.reason}, hedged already" if ratio else plan.reason
        return HedgeResult(
            ratio > 0.0, ratio, 0.0, None, None, reason if plan.position else "no position"
        )

    def _settle(self, plan: _Plan, answer: Any) -> HedgeResult:
        """Count what the exchange says it filled of the order."""
        order = dict(answer) if isinstance(answer, Mapping) else None
        status, filled = (order or {}).get("status"), (order or {}).get("filled")
        refused = str(status).lower() in _REFUSED
        amount = (0.0 if refused else plan.amount) if filled is None else float(filled)
        # An open order may still be filled: it counts, so that it is not sent twice.
        counted = plan.amount if str(status).lower() == "open" else amount
        self.hedge_units += math.copysign(counted, plan.units)
        reason = plan.reason
        if amount < plan.amount:
            reason += f"; the exchange filled {amount:g} of {plan.amount:g} ({status})"
        ratio = self._ratio(plan.position)
        return HedgeResult(amount > 0.0 and ratio > 0.0, ratio, amount, plan.side, order, reason)

    def _ratio(self, position: float) -> float:
        """Share of the position that the units traded so far hedge."""
        return min(max(-self.hedge_units / position, 0.0), 1.0) if position else 0.0


class _Plan(NamedTuple):
    position: float
    units: float  # to be traded, signed
    reason: str

    @property
    def side(self) -> str:
        return "sell" if self.units < 0.0 else "buy"

    @property
    def amount(self) -> float:
        return abs(self.units)


_NEGLIGIBLE = 1e-9  # of the hedge: rounding, not worth an order
_REFUSED = ("rejected", "canceled", "cancelled", "expired", "failed")


def _asynchronous() -> InputError:
    return InputError(
        "exchange_client.create_order is asynchronous, and nobody would await the order",
        "Use `await execute_hedge_async(...)`, or a client that is not",
    )
