"""Sells part of a position when the drawdown has grown past its threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Protocol

from risk.errors import InputError


class ExchangeClient(Protocol):
    """Anything with the `create_order` of ccxt."""

    def create_order(
        self,
        symbol: str,
        type: str,
        side: str,
        amount: float,
        price: float | None = None,
        params: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
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

    hedged: bool
    ratio: float  # share of the position hedged, 0..1
    amount: float  # units traded, never negative
    side: str | None  # of the order: "sell" against a long position, "buy" against a short one
    order: dict[str, Any] | None  # what the exchange answered
    reason: str


@dataclass(frozen=True)
class HedgingStrategy:
    """Hedges nothing up to the threshold, everything from twice the threshold on, linearly."""

    max_drawdown_threshold: float = 0.05  # share of the peak
    symbol: str = "HEDGE"

    def __post_init__(self) -> None:
        if not 0.0 < self.max_drawdown_threshold < 1.0:
            raise InputError(
                f"max_drawdown_threshold is {self.max_drawdown_threshold}",
                "Give a share between 0 and 1",
            )

    def hedge_ratio(self, drawdown: float) -> float:
        """Share of the position to hedge at a drawdown (0..1)."""
        if not math.isfinite(drawdown) or drawdown < 0.0:
            raise InputError(f"drawdown is {drawdown}", "Give the loss from the peak as a share")
        beyond = drawdown / self.max_drawdown_threshold - 1.0
        return min(max(beyond, 0.0), 1.0)

    def execute_hedge(
        self, position_size: float, drawdown: float, exchange_client: ExchangeClient
    ) -> HedgeResult:
        """Send the market order that hedges a position of `position_size` units (signed).

        What the client raises is passed on: an order whose fate is unknown must not look done.
        """
        if not math.isfinite(position_size):
            raise InputError(f"position_size is {position_size}", "Give the units held")
        ratio = self.hedge_ratio(drawdown)
        amount = abs(position_size) * ratio
        if amount == 0.0:
            reason = "no position" if ratio else "drawdown within its threshold"
            return HedgeResult(False, 0.0, 0.0, None, None, reason)
        side = "sell" if position_size > 0 else "buy"
        order = exchange_client.create_order(self.symbol, "market", side, amount)
        reason = f"drawdown {drawdown:.1%} beyond {self.max_drawdown_threshold:.1%}"
        return HedgeResult(True, ratio, amount, side, order, reason)
