"""One call for the risk decisions of a trading loop: weights, leverage and hedge."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from conf.errors import InputError, checked_number, checked_positive
from risk.hedging import ExchangeClient, HedgingStrategy, PaperExchange
from risk.sizing import kelly_fraction, volatility_leverage

WEIGHT_TOLERANCE = 1e-9

CASH = "cash"

# Weights by asset from the market's state and the positions' values by asset.
Allocator = Callable[[Mapping[str, float], Mapping[str, float]], Mapping[str, float]]


def keep_weights(_: Mapping[str, float], positions: Mapping[str, float]) -> dict[str, float]:
    """The current weights: no rebalancing. All cash where nothing is held.

    A short position has a negative weight. InputError where positions and cash together are worth
    nothing or less, so that there are no weights.
    """
    if not any(positions.values()):
        return {CASH: 1.0}
    total = math.fsum(positions.values())
    if total <= 0.0:
        raise InputError(
            f"the portfolio is worth {total:g} in total, so its positions have no weights",
            f"Give the {CASH!r} from short sales too, or an allocator",
        )
    return {asset: value / total for asset, value in positions.items()}


@dataclass
class AdvancedRiskManager:
    """Weights, leverage and hedge for a portfolio, checked before they are handed out.

    `allocator` decides the weights (a trained agent, a classical rule); leverage follows the
    volatility; a drawdown beyond the threshold is hedged through `exchange_client`, which may be
    asynchronous. `hedging` counts what is hedged: one manager watches one portfolio.
    """

    allocator: Allocator = keep_weights
    leverage_range: tuple[float, float] = (1.0, 10.0)
    target_volatility: float = 0.30
    hedging: HedgingStrategy = field(default_factory=HedgingStrategy)
    exchange_client: ExchangeClient = field(default_factory=PaperExchange)

    async def manage_risk(
        self, market_state: Mapping[str, float], portfolio: Mapping[str, float]
    ) -> dict[str, Any]:
        """Decide for `market_state` (`volatility`, annual; `trend`) and `portfolio`.

        `portfolio` holds the positions' values by asset, in one currency, optionally `cash`, and
        `current_drawdown`. All but the cash is hedged, in units of the hedge instrument:
        `market_state["hedge_price"]` is the price of one in that currency, 1 unless given.
        Returns `rebalance_weights` (they sum to 1), `leverage` and `hedge` (a HedgeResult, in
        units). Raises InputError for a missing or non-finite entry, for weights that do not sum to
        1, and for a negative one of an asset that is not held short.
        """
        volatility = _entry(market_state, "volatility", "market_state")
        drawdown = _entry(portfolio, "current_drawdown", "portfolio")
        positions = {
            asset: _entry(portfolio, asset, "portfolio")
            for asset in portfolio
            if asset != "current_drawdown"
        }
        hedge_price = checked_positive(
            "market_state: hedge_price", market_state.get("hedge_price", 1.0)
        )
        short = {asset for asset, value in positions.items() if value < 0.0}
        weights = checked_weights(self.allocator(market_state, positions), short)
        leverage = self.compute_leverage(volatility)
        exposure = math.fsum(value for asset, value in positions.items() if asset != CASH)
        hedge = await self.hedging.execute_hedge_async(
            exposure / hedge_price, drawdown, self.exchange_client
        )
        return {"rebalance_weights": weights, "leverage": leverage, "hedge": hedge}

    def compute_leverage(self, volatility: float) -> float:
        """Leverage for an annual volatility, inside `leverage_range`."""
        return volatility_leverage(volatility, self.leverage_range, self.target_volatility)

    def apply_kelly_criterion(self, win_rate: float, avg_win: float, avg_loss: float) -> float:
        """Half-Kelly fraction of capital to risk, 1 to 25 %, or 0 without an edge."""
        return kelly_fraction(win_rate, avg_win, avg_loss)


def checked_weights(weights: Mapping[str, float], short: Collection[str] = ()) -> dict[str, float]:
    """The weights; InputError unless finite, with sum 1, and negative only for `short` assets."""
    for asset, weight in weights.items():
        if checked_number(f"the weight of {asset}", weight) < 0.0 and asset not in short:
            raise InputError(f"the weight of {asset} is {weight}", "Give finite weights >= 0")
    total = math.fsum(weights.values())
    if abs(total - 1.0) > WEIGHT_TOLERANCE:
        raise InputError(f"the weights sum to {total}", "Make them sum to 1, cash included")
    return dict(weights)


def _entry(values: Mapping[str, float], name: str, where: str) -> float:
    if name not in values:
        given = ", ".join(values) or "nothing"
        raise InputError(f"{where} has no {name!r}, only {given}", f"Add {name!r}")
    return checked_number(f"{where}: {name}", values[name])
