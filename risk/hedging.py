"""Hedging a position in proportion to its drawdown beyond a threshold, by market orders."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from conf.errors import InputError, checked_number

log = logging.getLogger(__name__)

_NEGLIGIBLE = 1e-9  # of the hedge: rounding, not worth an order
_REFUSED = ("rejected", "canceled", "cancelled", "expired", "failed")


class ExchangeClient(Protocol):
    """Anything with the `create_order` of ccxt, or of ccxt.async_support."""

    def create_order(
        self, symbol: str, type: str, side: str, amount: float
    ) -> dict[str, Any] | Awaitable[dict[str, Any]]:
        """Send an order; returns the exchange's answer."""


@dataclass
class PaperExchange:
    """Fills every order at once and remembers it: for tests and paper trading."""

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
        """Fill an order; InputError for an unknown side or an amount that is not positive."""
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
    """The hedge after one call."""

    hedged: bool  # by the order sent or, where none was needed, by earlier ones
    ratio: float  # share of the position that is hedged now, 0..1
    amount: float  # units traded by this call, never negative
    side: str | None  # of the order: "sell" to hedge a long position or to take back a short's
    order: dict[str, Any] | None  # the exchange's answer
    reason: str


@dataclass
class HedgingStrategy:
    """Hedges nothing up to the threshold, everything from twice the threshold on, linearly.

    `hedge_units` counts what was traded (negative: sold). Each call trades only the difference to
    the hedge that the drawdown calls for, also back when the drawdown recovers. One strategy
    watches one position. Orders that the exchange acknowledges without saying what was filled are
    counted in full. When a client raises, the order may or may not have arrived: it is not counted;
    look at the exchange and set `hedge_units`. An answer that cannot be right (more filled than
    ordered, NaN, text) leaves the order unresolved: it is logged as an error and nothing more is
    sent until a person has called `settle`.

    Examples:
        >>> result = HedgingStrategy().execute_hedge(1000, 0.1, PaperExchange())
        >>> result.side, result.amount
        ('sell', 1000.0)
    """

    max_drawdown_threshold: float = 0.05  # share of the peak
    symbol: str = "HEDGE"
    hedge_units: float = 0.0
    unresolved: str | None = field(default=None, init=False)  # the order and its answer

    def __post_init__(self) -> None:
        threshold = checked_number("max_drawdown_threshold", self.max_drawdown_threshold)
        if not 0.0 < threshold < 1.0:
            raise InputError(
                f"max_drawdown_threshold is {threshold}", "Give a share between 0 and 1"
            )

    def settle(self, hedge_units: float) -> None:
        """Go on after an unresolved order: what the exchange shows as the hedge, in units."""
        self.hedge_units = checked_number("hedge_units", hedge_units)
        self.unresolved = None

    def hedge_ratio(self, drawdown: float) -> float:
        """Share of the position to hedge at a drawdown (0..1)."""
        if checked_number("drawdown", drawdown) < 0.0:
            raise InputError(f"drawdown is {drawdown}", "Give the loss from the peak, 0 or more")
        beyond = drawdown / self.max_drawdown_threshold - 1.0
        return min(max(beyond, 0.0), 1.0)

    def execute_hedge(
        self, position_size: float, drawdown: float, exchange_client: ExchangeClient
    ) -> HedgeResult:
        """Send the market order that gives the hedge of `position_size` units (signed) its size.

        Errors of the client are passed on: an order whose fate is unknown must not look done.
        InputError for an asynchronous client, whose order would never be sent.
        """
        units, plan = self._plan(position_size, drawdown)
        if not units:
            return plan
        asynchronous, answer = inspect.iscoroutinefunction(exchange_client.create_order), None
        if not asynchronous:
            answer = self._send(exchange_client, units)
        if asynchronous or inspect.isawaitable(answer):
            if inspect.iscoroutine(answer):
                answer.close()
            raise InputError(
                "exchange_client.create_order is asynchronous, so the order would never be sent",
                "Use `await execute_hedge_async(...)`, or a synchronous client",
            )
        return self._settle(position_size, units, plan.reason, answer)

    async def execute_hedge_async(
        self, position_size: float, drawdown: float, exchange_client: ExchangeClient
    ) -> HedgeResult:
        """`execute_hedge` for a synchronous or an asynchronous client.

        The order counts as sent while it is under way, so that concurrent calls do not double it.
        """
        units, plan = self._plan(position_size, drawdown)
        if not units:
            return plan
        self.hedge_units += units
        try:
            sent = self._send(exchange_client, units)
            answer = await sent if inspect.isawaitable(sent) else sent
        finally:
            self.hedge_units -= units
        return self._settle(position_size, units, plan.reason, answer)

    def _plan(self, position_size: float, drawdown: float) -> tuple[float, HedgeResult]:
        """Units to trade (negative: sell), and the result if there are none."""
        position = checked_number("position_size", position_size)
        ratio = self.hedge_ratio(drawdown)
        held = checked_number("hedge_units", self.hedge_units)
        target = -position * ratio
        units = checked_number("the order", target - held)
        if abs(units) <= _NEGLIGIBLE * max(abs(target), abs(self.hedge_units)):
            units = 0.0
        reason = "drawdown within its threshold"
        if ratio:
            reason = f"drawdown {drawdown:.1%} beyond {self.max_drawdown_threshold:.1%}"
        hedged = self._ratio(position)
        if self.unresolved is not None:
            return 0.0, HedgeResult(hedged > 0.0, hedged, 0.0, None, None, self.unresolved)
        if not units:
            reason = f"{reason}, hedged already" if hedged else reason
            reason = reason if position else "no position"
        return units, HedgeResult(hedged > 0.0, hedged, 0.0, None, None, reason)

    def _send(self, exchange_client: ExchangeClient, units: float) -> Any:
        return exchange_client.create_order(self.symbol, "market", _side(units), abs(units))

    def _settle(self, position: float, units: float, reason: str, answer: Any) -> HedgeResult:
        """Count what the exchange says it filled."""
        order = dict(answer) if isinstance(answer, Mapping) else None
        status, filled = (order or {}).get("status"), (order or {}).get("filled")
        requested = abs(units)
        refused = str(status).lower() in _REFUSED
        amount = 0.0 if refused else requested
        if filled is not None or (order is None and answer is not None):
            amount = _filled(filled, requested)
        if math.isnan(amount):
            self.unresolved = (
                f"the order to {_side(units)} {requested:g} {self.symbol} is unresolved, the "
                f"exchange answered {str(answer)[:200]!r}: look at it and call settle(hedge_units)"
            )
            log.error(self.unresolved)
            ratio = self._ratio(float(position))
            return HedgeResult(False, ratio, 0.0, _side(units), order, self.unresolved)
        # An open order may still be filled: it counts, so that it is not sent twice.
        counted = requested if str(status).lower() == "open" else amount
        self.hedge_units += math.copysign(counted, units)
        if amount < requested:
            reason += f"; the exchange filled {amount:g} of {requested:g} ({status})"
        ratio, traded = self._ratio(float(position)), amount > 0.0
        return HedgeResult(traded and ratio > 0.0, ratio, amount, _side(units), order, reason)

    def _ratio(self, position: float) -> float:
        """Share of the position that the units traded so far hedge."""
        return min(max(-self.hedge_units / position, 0.0), 1.0) if position else 0.0


def _filled(filled: Any, requested: float) -> float:
    """What was filled, in units; NaN where the answer cannot be right."""
    try:
        amount = checked_number("filled", filled)
    except InputError:
        return math.nan
    possible = 0.0 <= amount <= requested * (1.0 + _NEGLIGIBLE) and not isinstance(filled, bool)
    return amount if possible else math.nan


def _side(units: float) -> str:
    return "sell" if units < 0.0 else "buy"
