"""The option book as the risk module sees it: prices, Greeks in dollars, and a margin scan."""

from __future__ import annotations

import numpy as np

from conf.types import FloatArray, IntArray
from envs.core.market import as_rows
from envs.market.clock import DAYS_PER_YEAR
from envs.option_portfolio.market import OptionMarket
from envs.options.black_scholes import price
from risk.book import Book
from risk.margin import ScanSettings, scan_gains


class RiskView:
    """Rows of a market, one for each (path, session), in the units of `risk.book.Book`."""

    def __init__(self, market: OptionMarket, scan: ScanSettings | None) -> None:
        tape, spot = market.tape, market.history.close[:, :, None]
        self._price = as_rows(tape.mark)
        self._delta = as_rows(tape.delta * spot)
        self._gamma = as_rows(tape.gamma * spot * spot * 0.01)
        self._vega = as_rows(tape.vega * 0.01)
        self._scan = None if scan is None else as_rows(scan_market(market, scan))

    def book(self, row: IntArray, quantity: FloatArray, equity: FloatArray) -> Book:
        """The books (N, M) as they stand at the close of their rows (N,)."""
        return Book(
            quantity=quantity,
            price=self._price[row],
            equity=equity,
            delta=self._delta[row],
            gamma=self._gamma[row],
            vega=self._vega[row],
            traded=np.zeros(len(equity)),  # the overlay keeps count of that itself
            scan=None if self._scan is None else self._scan[row],
        )


def scan_market(
    market: OptionMarket, options: ScanSettings, sessions: slice = slice(None)
) -> FloatArray:
    """What a unit of each contract gains in each margin scenario, (P, T, M, 16) dollars."""
    tape, history = market.tape, market.history
    by_session = (sessions, None, None)
    rate, dividend_yield = history.rate[by_session], history.dividend_yield[by_session]
    tau = (tape.days_to_expiry[sessions] / DAYS_PER_YEAR)[:, :, None]
    strike, is_call = tape.strike[:, sessions, :, None], tape.is_call[:, None]
    vol_scale, mark = tape.vol_scale[sessions, :, None], tape.mark[:, sessions]

    def reprice(spot: FloatArray, vol: FloatArray) -> FloatArray:
        return price(spot, strike, tau, vol * vol_scale, rate, dividend_yield, is_call)

    spot = np.broadcast_to(history.close[:, sessions, None], mark.shape)
    return scan_gains(reprice, spot, tape.vol[:, sessions], mark, options)
