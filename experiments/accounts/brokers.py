"""The broker of an account at a session, and what a session brings to a simulated one."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from conf.errors import InputError
from conf.types import FloatArray
from envs.core.kernel import BookKernel
from envs.core.market import BookMarket
from envs.market.clock import DAYS_PER_YEAR
from envs.option_portfolio.market import OptionMarket, OptionMarketSettings
from envs.options.black_scholes import price
from experiments.accounts.account import Account
from experiments.accounts.listed_broker import ListedBroker
from experiments.accounts.settings import AFTER_CLOSE, AT_CLOSE, AccountSettings
from experiments.brokers.listed import Root, contract_of
from experiments.brokers.orders import Broker, BrokerPair, symbols_at
from experiments.brokers.simulated import (
    BACKUP_BOOKS,
    BOOKS,
    BrokerSession,
    Faults,
    Quotes,
    Shares,
    SimulatedBroker,
)

if TYPE_CHECKING:
    from experiments.brokers.alpaca import AlpacaBroker

_SHARE_COST_USD = 0.01  # what the simulated broker takes for a share, dollars


def open_broker(account: Account) -> Broker | None:
    """The account's broker at the newest session; None where the kernel itself trades."""
    chosen, options = account.settings.broker, account.market_settings
    root = account.root
    if chosen.kind == "model":
        return None
    if chosen.kind == "alpaca" and root is not None:
        return ListedBroker(open_alpaca(account.settings), root, account)
    at_open = account.settings.decide == AFTER_CLOSE
    cash, folder = options.env.initial_equity_usd, account.folder
    first = SimulatedBroker(folder / BOOKS, cash, chosen.faults, at_open, root is not None)
    backup = SimulatedBroker(folder / BACKUP_BOOKS, 0.0, Faults(), at_open, root is not None)
    kernel, _, market = account.kernel_at_opening()
    for each in (first, backup) if chosen.backup else (first,):
        _bring_up_to_date(each, account, market, kernel)
    broker = BrokerPair(first, backup) if chosen.backup else first
    return broker if root is None else ListedBroker(broker, root, account)


def _bring_up_to_date(
    broker: SimulatedBroker, account: Account, market: BookMarket, kernel: BookKernel
) -> None:
    """Take it through the sessions since its last one, missed ones too: a broker misses none."""
    root, history = account.root, market.history
    ratio, newest = 0.0 if root is None else root.ratio, history.num_sessions - 1
    close, opening = (
        ratio * getattr(history, name, history.close)[0] for name in ("close", "open")
    )
    days = history.dates.astype(str).tolist()
    first = days.index(account.sessions[0].content["session"])
    behind = days.index(broker.settled) + 1 if broker.settled else first
    quotes = partial(_quotes, kernel, root)
    for t in range(min(behind, newest), newest + 1):
        broker.open_session(
            BrokerSession(
                days[t],
                quotes=quotes(t, market.mark[0, t], close[t]),
                opening=quotes(t - 1, opening_marks(account, market, t), opening[t]),
                interest=float(market.cash_return[t - 1]),
                paid_out=_paid_out(market, t, root),
                shares=None
                if root is None or not root.american
                else Shares(root.name, days[t - 1], float(close[t - 1])),
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


def _quotes(
    kernel: BookKernel, root: Root | None, session: int, mark: FloatArray, share_usd: float
) -> Quotes:
    """Of each instrument of a session its mark, and dollars that trading a unit costs.

    Of listed contracts, and of a root's shares, for one of them.
    """
    names, rows = symbols_at(kernel.market, session, root), np.array([session])
    units = np.eye(len(names))[:, None]
    close = kernel.market.mark[0, session][None]
    costs = [float(kernel.trading_cost(unit, close, rows)[0]) for unit in units]
    quotes = {name: (float(p), cost) for name, p, cost in zip(names, mark, costs, strict=True)}
    if root is None:
        return quotes
    lot = root.lot
    listed = {contract_of(name): (lot * p, lot * cost) for name, (p, cost) in quotes.items()}
    return {**listed, root.name: (float(share_usd), _SHARE_COST_USD)}


def _paid_out(market: BookMarket, session: int, root: Root | None) -> dict[str, float]:
    """What a unit, or a listed contract, that left the book at a session was worth there."""
    before, now = (symbols_at(market, at, root) for at in (session - 1, session))
    lot = 1.0 if root is None else root.lot
    return {
        (name if root is None else contract_of(name)): lot * float(value)
        for name, after, value in zip(before, now, market.aged[0, session], strict=True)
        if name != after
    }


def check_broker(chosen: AccountSettings, equity_usd: float | None = None) -> None:
    """InputError where the account's broker cannot be traded with, or must not.

    equity_usd: with which the account is about to be opened; the broker has to hold just that.
    """
    broker = chosen.broker
    if equity_usd is not None and broker.kind != "simulated" and broker.faults != Faults():
        raise InputError(
            "broker.faults are those of a simulated broker",
            "Give broker.kind=simulated, or leave them out",
        )
    if broker.kind == "alpaca":
        if equity_usd is not None and chosen.decide == AT_CLOSE:
            raise InputError(
                "decide=close sends orders when the exchange has closed, and Alpaca fills none",
                "Give decide=before_close, or decide=after_close for the next open",
            )
        open_alpaca(chosen).check(equity_usd, broker.adjust_usd)
    elif broker.live:
        raise InputError(
            "live=true is for a real broker", "Give broker.kind=alpaca, or leave it out"
        )


def open_alpaca(chosen: AccountSettings) -> AlpacaBroker:
    """A paper account; with real money only where a person has typed that it shall be."""
    broker, typed = chosen.broker, f"trade {chosen.name} with real money"
    if broker.root is None:
        raise InputError(
            "Alpaca trades whole listed contracts", "Give broker.contracts=SPX, XSP or SPY"
        )
    if broker.adjust_usd == 0.0:
        raise InputError(
            "broker.adjust_usd is 0, and Alpaca pays no interest as the book's cash earns it",
            "Give the gap of cash a session that the book may take over, as broker.adjust_usd=100",
        )
    if broker.live and (broker.confirm != typed or broker.alpaca.url is not None):
        raise InputError(
            "trading with real money is a person's decision, and it was not confirmed",
            f"Open the account with broker.confirm='{typed}', or leave out broker.live",
        )
    try:
        from experiments.brokers.alpaca import AlpacaBroker
    except ImportError as error:
        raise InputError(
            f"Alpaca needs alpaca-py, which cannot be imported: {error}",
            "Install the extra: pip install 'polyhedgerl[alpaca]'",
        ) from None
    # What is sent after the close waits for the open, and nobody for it.
    patience_s = 0.0 if chosen.decide == AFTER_CLOSE else broker.alpaca.patience_s
    return AlpacaBroker(replace(broker.alpaca, patience_s=patience_s), live=broker.live)
