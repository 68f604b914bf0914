"""The broker of an account at a session, and what a session brings to a simulated one."""

from __future__ import annotations

import numpy as np

from conf.types import FloatArray
from envs.core.market import BookMarket
from envs.market.clock import DAYS_PER_YEAR
from envs.option_portfolio.market import OptionMarket, OptionMarketSettings
from envs.options.black_scholes import price
from experiments.accounts.account import AFTER_CLOSE, Account, Book
from experiments.accounts.orders import Broker, BrokerPair, symbols_at
from experiments.accounts.simulated_broker import (
    BACKUP_BOOKS,
    BOOKS,
    BrokerSession,
    Faults,
    Quotes,
    SimulatedBroker,
)


def open_broker(account: Account, book: Book) -> Broker | None:
    """The account's broker at the newest session; None where the kernel itself trades."""
    chosen, options = account.settings.broker, account.market_settings
    if chosen.kind == "model":
        return None
    at_open = account.settings.decide == AFTER_CLOSE
    cash, folder = options.env.initial_equity_usd, account.folder
    first = SimulatedBroker(folder / BOOKS, cash, chosen.faults, at_open)
    backup = SimulatedBroker(folder / BACKUP_BOOKS, 0.0, Faults(), at_open)
    for broker in (first, backup) if chosen.backup else (first,):
        _bring_up_to_date(broker, account, book)
    return BrokerPair(first, backup) if chosen.backup else first


def _bring_up_to_date(broker: SimulatedBroker, account: Account, book: Book) -> None:
    """Take it through the sessions since its last one, missed ones too: a broker misses none."""
    market, newest = book.market, book.session
    days = market.history.dates.astype(str).tolist()
    behind = days.index(broker.settled) + 1 if broker.settled else newest
    for t in range(min(behind, newest), newest + 1):
        broker.open_session(
            BrokerSession(
                days[t],
                quotes=_quotes(book, t, market.mark[0, t]),
                opening=_quotes(book, t - 1, opening_marks(account, market, t)),
                interest=float(market.cash_return[t - 1]),
                paid_out=_paid_out(market, t),
            )
        )


def opening_marks(account: Account, market: BookMarket, session: int) -> FloatArray:
    """Dollars (M,) at the open of a session of what was in the book the evening before.

    Options by the formula of Black and Scholes, off the surface of the evening before: the night
    has moved the index and nothing else. Assets have no open: their close.
    """
    options = account.market_settings
    if not isinstance(market, OptionMarket) or not isinstance(options, OptionMarketSettings):
        return np.asarray(market.aged[0, session])
    t, tape, history = session - 1, market.tape, market.history
    spot, strike = float(history.open[0, session]), tape.strike[0, t]
    tau = tape.days_to_expiry[t] / DAYS_PER_YEAR
    rate, dividends = history.rate[t], history.dividend_yield[t]
    drivers = options.surface.drivers(history.implied_vol)[0, t]
    log_moneyness = np.log(strike / spot) - (rate - dividends) * tau
    vol = options.surface.vol(drivers, log_moneyness, tau) * tape.vol_scale[t]
    return price(spot, strike, tau, vol, rate, dividends, tape.is_call)


def _quotes(book: Book, session: int, mark: FloatArray) -> Quotes:
    """Of each instrument of a session its mark, and dollars that trading a unit costs."""
    names, rows = symbols_at(book.market, session), np.array([session])
    units = np.eye(len(names))[:, None]
    close = book.market.mark[0, session][None]
    costs = [float(book.kernel.trading_cost(unit, close, rows)[0]) for unit in units]
    return {name: (float(p), cost) for name, p, cost in zip(names, mark, costs, strict=True)}


def _paid_out(market: BookMarket, session: int) -> dict[str, float]:
    """What a unit of each contract that left the book at a session was worth there."""
    before, now = symbols_at(market, session - 1), symbols_at(market, session)
    return {
        name: float(value)
        for name, after, value in zip(before, now, market.aged[0, session], strict=True)
        if name != after
    }
