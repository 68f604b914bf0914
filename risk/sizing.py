"""How much to risk: Kelly, stops by average true range, leverage by volatility."""

from __future__ import annotations

import math
from dataclasses import dataclass

from risk.errors import InputError

MIN_KELLY, MAX_KELLY = 0.01, 0.25


def kelly_fraction(
    win_rate: float, avg_win: float, avg_loss: float, *, kelly_share: float = 0.5
) -> float:
    """Fraction of capital to risk, between 1 % and 25 %, or 0 where there is no edge.

    Kelly's p - q / (W / L) times `kelly_share` (half-Kelly by default: most of the growth at half
    the volatility). `avg_win` and `avg_loss` are positive amounts for one unit at risk. Raises
    InputError for a win rate outside [0, 1] or an amount that is not positive.

    Reference: J. L. Kelly, A New Interpretation of Information Rate (1956).
    """
    if not 0.0 <= win_rate <= 1.0:
        raise InputError(f"win_rate is {win_rate}", "Give a share between 0 and 1")
    for name, amount in (
        ("avg_win", avg_win),
        ("avg_loss", avg_loss),
        ("kelly_share", kelly_share),
    ):
        _positive(name, amount)
    full = win_rate - (1.0 - win_rate) * avg_loss / avg_win
    if full <= 0.0:
        return 0.0
    return min(max(full * kelly_share, MIN_KELLY), MAX_KELLY)


def volatility_leverage(
    volatility: float,
    leverage_range: tuple[float, float] = (1.0, 10.0),
    target_volatility: float = 0.30,
) -> float:
    """Leverage that brings an annual volatility to its target, kept inside the range.

    A volatility of 0 or one that is not finite tells nothing and gets the lowest leverage.
    """
    low, high = leverage_range
    if not 0.0 < low <= high < math.inf:
        raise InputError(f"leverage_range is {leverage_range}", "Give (low, high), 0 < low <= high")
    _positive("target_volatility", target_volatility)
    if not math.isfinite(volatility) or volatility <= 0.0:
        return low
    return min(max(target_volatility / volatility, low), high)


@dataclass(frozen=True)
class PositionSizer:
    """Sizes a position so that its stop costs a fixed share of the account.

    The stop stands `atr_multiple` average true ranges away, or farther where `stop_loss_points`
    says so; the position is never worth more than `max_leverage` times the account.
    """

    risk_per_trade: float = 0.02  # share of the account that a stopped trade may cost
    atr_multiple: float = 2.0
    max_leverage: float = 1.0

    def __post_init__(self) -> None:
        for name in ("risk_per_trade", "atr_multiple", "max_leverage"):
            _positive(name, getattr(self, name))

    def calculate_size(
        self, account_balance: float, atr: float, entry_price: float, stop_loss_points: float = 0.0
    ) -> float:
        """Units to hold. Balance in dollars; range, price and stop distance in dollars a unit.

        Raises InputError for a balance, range or price that is not positive.
        """
        for name, value in (
            ("account_balance", account_balance),
            ("atr", atr),
            ("entry_price", entry_price),
        ):
            _positive(name, value)
        if not math.isfinite(stop_loss_points) or stop_loss_points < 0.0:
            raise InputError(
                f"stop_loss_points is {stop_loss_points}", "Give a distance of 0 or more"
            )
        distance = max(self.atr_multiple * atr, stop_loss_points)
        by_risk = self.risk_per_trade * account_balance / distance
        return min(by_risk, self.max_leverage * account_balance / entry_price)


def _positive(name: str, value: float) -> None:
    if not math.isfinite(value) or value <= 0.0:
        raise InputError(f"{name} is {value}", "Give a positive number")
