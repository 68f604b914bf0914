"""Position sizing: Kelly fraction, stops by average true range, leverage by volatility."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from conf.errors import InputError, checked_number, checked_positive
from risk.metrics import kelly_of_odds

MIN_KELLY, MAX_KELLY = 0.01, 0.25


def kelly_fraction(
    win_rate: float, avg_win: float, avg_loss: float, *, kelly_share: float = 0.5
) -> float:
    """Fraction of capital to risk, between 1 % and 25 %, or 0 where there is no edge.

    Kelly's p - q / (W / L) times `kelly_share` (half-Kelly by default: most of the growth at half
    the volatility). `avg_win` and `avg_loss` are positive amounts for one unit at risk. Raises
    InputError for a win rate outside [0, 1] or an amount that is not positive.

    Reference: J. L. Kelly, A New Interpretation of Information Rate (1956).

    Examples:
        >>> round(kelly_fraction(win_rate=0.6, avg_win=1.0, avg_loss=1.0), 3)
        0.1
    """
    if not 0.0 <= checked_number("win_rate", win_rate) <= 1.0:
        raise InputError(f"win_rate is {win_rate}", "Give a share between 0 and 1")
    win, loss = checked_positive("avg_win", avg_win), checked_positive("avg_loss", avg_loss)
    checked_positive("kelly_share", kelly_share)
    full = kelly_of_odds(float(win_rate), win, (1.0 - win_rate) * loss)
    if full <= 0.0:
        return 0.0
    return min(max(full * kelly_share, MIN_KELLY), MAX_KELLY)


def volatility_leverage(
    volatility: float,
    leverage_range: tuple[float, float] = (1.0, 10.0),
    target_volatility: float = 0.30,
) -> float:
    """Leverage that brings an annual volatility to its target, kept inside the range.

    A volatility of 0 or below, or one that is not finite, gets the lowest leverage.

    Examples:
        >>> volatility_leverage(0.15, target_volatility=0.3)
        2.0
    """
    if not isinstance(volatility, Real):
        raise InputError(
            f"volatility is {volatility!r}", "Give the annual volatility as a number, as 0.2"
        )
    if not isinstance(leverage_range, list | tuple) or len(leverage_range) != 2:
        raise InputError(f"leverage_range is {leverage_range!r}", "Give (low, high)")
    low, high = (checked_number("leverage_range", bound) for bound in leverage_range)
    if not 0.0 < low <= high:
        raise InputError(f"leverage_range is {leverage_range}", "Give (low, high), 0 < low <= high")
    checked_positive("target_volatility", target_volatility)
    try:
        volatility = float(volatility)
    except OverflowError:
        volatility = math.inf
    if not math.isfinite(volatility) or volatility <= 0.0:
        return low
    return min(max(target_volatility / volatility, low), high)


@dataclass(frozen=True)
class PositionSizer:
    """Sizes a position so that its stop costs a fixed share of the account.

    The stop is `atr_multiple` average true ranges away from the entry, or `stop_loss_points` where
    that is farther; the position is never worth more than `max_leverage` times the account.

    Examples:
        >>> PositionSizer(risk_per_trade=0.02).calculate_size(10_000, atr=2.0, entry_price=50)
        50.0
    """

    risk_per_trade: float = 0.02  # share of the account that a stopped trade may cost, up to 1
    atr_multiple: float = 2.0
    max_leverage: float = 1.0

    def __post_init__(self) -> None:
        for name in ("risk_per_trade", "atr_multiple", "max_leverage"):
            checked_positive(name, getattr(self, name))
        if self.risk_per_trade > 1.0:
            raise InputError(
                f"risk_per_trade is {self.risk_per_trade}", "Give a share of the account, up to 1"
            )

    def calculate_size(
        self, account_balance: float, atr: float, entry_price: float, stop_loss_points: float = 0.0
    ) -> float:
        """Units to hold. Balance in dollars; range, price and stop distance in dollars a unit.

        Raises InputError for a balance, range or price that is not positive.
        """
        balance = checked_positive("account_balance", account_balance)
        price = checked_positive("entry_price", entry_price)
        by_risk = self.risk_per_trade * balance / self.stop_distance(atr, stop_loss_points)
        return checked_number("the size", min(by_risk, self.max_leverage * balance / price))

    def stop_distance(self, atr: float, stop_loss_points: float = 0.0) -> float:
        """Distance of the stop from the entry, dollars a unit."""
        checked_positive("atr", atr)
        if checked_number("stop_loss_points", stop_loss_points) < 0.0:
            raise InputError(
                f"stop_loss_points is {stop_loss_points}", "Give a distance of 0 or more"
            )
        return max(self.atr_multiple * atr, stop_loss_points)

    def stop_price(
        self, entry_price: float, atr: float, stop_loss_points: float = 0.0, *, short: bool = False
    ) -> float:
        """The price at which the position is closed: below the entry, above it for a short.

        A long position has no stop below a price of 0.
        """
        entry = checked_positive("entry_price", entry_price)
        distance = self.stop_distance(atr, stop_loss_points)
        return entry + distance if short else max(entry - distance, 0.0)
