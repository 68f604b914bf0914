"""What a backtest held: an option book with its strategy's name, a portfolio with its weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from conf.errors import InputError
from conf.types import FloatArray
from envs.allocation.market import PanelMarket
from envs.option_portfolio.market import OptionMarket
from experiments.backtests.backtest import Backtest, first_session
from experiments.environments.attribution import closing_cost
from experiments.environments.strategy_names import Leg, name_strategy
from experiments.statistics.performance import iv_rank
from risk.metrics import drawdown, sharpe_ratio, simple_returns

SHARPE_SESSIONS = 60
IV_RANK_SESSIONS = 252
CASH = "cash"


def position_report(
    backtest: Backtest, market: OptionMarket, day: int = -1, book: int = 0
) -> dict[str, Any]:
    """The book after the trade of a day (-1: the last trade), as JSON can hold it.

    Money in dollars, quantities in units of the index, signed; strikes in index points; Greeks as
    in `OptionPortfolioKernel.exposures`; `sharpe` over the 60 sessions before, drawdowns as
    positive fractions; null where undefined. `portfolio_value` is cash and positions together,
    after the cost of the trade. Raises InputError for a day or a book that does not exist, and
    where the backtest was not run on this market.
    """
    day, book = _checked(backtest, day, book)
    session = first_session(backtest, market) + day
    path = book % market.history.num_paths
    value, quantity = backtest.position[book, day], backtest.quantity[book, day]
    trade_cost = backtest.cost[book, day] - closing_cost(backtest, market)[book, day]
    portfolio_value = backtest.equity[book, day] - trade_cost
    greeks = {f"portfolio_{name}": _number(x[book, day]) for name, x in backtest.exposures.items()}
    return {
        "date": str(backtest.dates[day]),
        "held_until": str(backtest.dates[day + 1]),
        "portfolio_value": _number(portfolio_value),
        "cash": _number(portfolio_value - value.sum()),
        "positions": [
            {
                "option": market.tape.slots[slot].name,
                "strike": _number(market.tape.strike[path, session, slot]),
                "days_to_expiry": _number(market.tape.days_to_expiry[session, slot]),
                "quantity": _number(quantity[slot]),
                "value": _number(value[slot]),
            }
            for slot in np.flatnonzero(quantity).tolist()
        ],
        "total_exposure": _number(np.abs(value).sum()),
        "iv_rank": _iv_rank(market, path, session),
        **greeks,
        **_past(backtest, day, book),
        "strategy": _names(backtest, market, slice(day, day + 1), book)[0],
    }


def strategy_by_day(backtest: Backtest, market: OptionMarket, book: int = 0) -> list[str]:
    """What the book would be called after each day's trade, T names; see `name_strategy`."""
    _, book = _checked(backtest, 0, book)
    return _names(backtest, market, slice(0, backtest.quantity.shape[1]), book)


def _iv_rank(market: OptionMarket, path: int, session: int) -> float | None:
    """Where implied volatility stands in its range of the last year, 0 to 1."""
    if session + 1 < IV_RANK_SESSIONS:
        return None
    year = slice(session + 1 - IV_RANK_SESSIONS, session + 1)
    return _number(float(iv_rank(market.history.implied_vol[path, year])))


def _past(backtest: Backtest, day: int, book: int) -> dict[str, float | None]:
    """Sharpe ratio of the last 60 sessions and drawdowns, up to the close of the trade."""
    if day == 0:
        return {"sharpe": None, "drawdown": 0.0, "max_drawdown": 0.0}
    curve = backtest.equity[book, : day + 1]
    sharpe, depth = math.nan, drawdown(curve)
    if day >= SHARPE_SESSIONS:
        recent = simple_returns(curve)[-SHARPE_SESSIONS:]
        free = backtest.risk_free[day - SHARPE_SESSIONS : day]
        sharpe = float(sharpe_ratio(recent, free, backtest.sessions_per_year))
    return {
        "sharpe": _number(sharpe),
        "drawdown": _number(depth[-1]),
        "max_drawdown": _number(depth.max()),
    }


def _names(backtest: Backtest, market: OptionMarket, days: slice, book: int) -> list[str]:
    """The name of the book after each of these days' trades."""
    tape, history = market.tape, market.history
    start, path = first_session(backtest, market), book % history.num_paths
    then = slice(start + days.start, start + days.stop)
    spot, quantity = history.close[path, then, None], backtest.quantity[book, days]
    columns = (
        np.broadcast_to(tape.is_call, quantity.shape),
        tape.strike[path, then] / spot,
        tape.days_to_expiry[then],
        quantity * spot / backtest.equity[book, days, None],
        tape.delta[path, then],
        tape.vega[path, then],
    )
    # Lists: taking numbers one by one from an array is slow.
    by_day = zip(*[column.tolist() for column in columns], strict=True)
    legs = [[Leg(*leg) for leg in zip(*day, strict=True)] for day in by_day]
    return [name_strategy([leg for leg in day if leg.weight != 0.0]) for day in legs]


def _checked(backtest: Backtest, day: int, book: int) -> tuple[int, int]:
    books, days = backtest.quantity.shape[:2]
    if not (-days <= day < days and -books <= book < books):
        raise InputError(
            f"there is no day {day} of book {book} among {books} books of {days} days",
            f"Give a day from {-days} to {days - 1} and a book from 0 to {books - 1}",
        )
    return day % days, book % books


def _number(value: float | np.floating[Any]) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def weights_held(backtest: Backtest) -> FloatArray:
    """Weights after each trade, (N, T, A + 1), cash last; all cash after ruin."""
    worth = backtest.equity[:, :-1] - backtest.cost
    assets = backtest.position / worth[..., None]
    return np.concatenate([assets, 1.0 - assets.sum(axis=-1, keepdims=True)], axis=-1)


def portfolio_report(backtest: Backtest, market: PanelMarket) -> dict[str, Any]:
    """Mean weights over all portfolios and days, and the first one after the last trade.

    By asset, cash last, as JSON can hold it. Raises InputError where the backtest was not run on
    this market.
    """
    first_session(backtest, market)
    weights, names = weights_held(backtest), (*market.instruments, CASH)
    lived = weights[backtest.alive]
    last = weights[0, -1]
    return {
        "mean_weights": {name: float(x) for name, x in zip(names, lived.mean(axis=0), strict=True)},
        "last_book": {
            "date": str(backtest.dates[-2]),
            "portfolio_value": float(backtest.equity[0, -2] - backtest.cost[0, -1]),
            "weights": {name: float(x) for name, x in zip(names, last, strict=True)},
        },
    }
