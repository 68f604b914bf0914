"""Alpaca as a broker, through alpaca-py (the extra `alpaca`): whole option contracts and shares.

A paper account unless the settings say live. Keys come from the environment alone and are written
nowhere. No answer in time, or an error on Alpaca's side, is `BrokerSilent`; a no is a rejection.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from alpaca.common.exceptions import APIError
from alpaca.common.rest import RESTClient
from alpaca.data.historical.option import OptionHistoricalDataClient
from alpaca.data.requests import OptionLatestQuoteRequest
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderSide, TimeInForce
from alpaca.trading.requests import LimitOrderRequest, MarketOrderRequest, OrderRequest
from requests import RequestException

from conf.errors import InputError, Unavailable
from experiments.brokers.listed import MULTIPLIER, read_symbol
from experiments.brokers.orders import BrokerSilent, Delivery, Execution, Order, OrderStatus
from experiments.brokers.settings import AlpacaSettings

log = logging.getLogger(__name__)

KEYS = ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY")
_REMEDY = f"Try again later, or check {' and '.join(KEYS)} (paper and live keys differ)"
_ENDED = {
    "filled": OrderStatus.FILLED,
    "canceled": OrderStatus.CANCELLED,
    "expired": OrderStatus.CANCELLED,
    "done_for_day": OrderStatus.CANCELLED,
    "replaced": OrderStatus.CANCELLED,
    "rejected": OrderStatus.REJECTED,
}
_NO_ANSWER = (401, 408, 429)  # of the errors below 500: nothing is known of the order
_PAGE = 100  # activities at once, Alpaca's most
_DELIVERIES_DAYS = 45  # back to which deliveries are asked for
_SYMBOL_CHARS = 6  # of a root in an OCC symbol, padded with blanks

T = TypeVar("T")


class _Refused(Exception):
    """Alpaca understood and said no."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class AlpacaBroker:
    """One account at Alpaca. Quantities are contracts or shares, prices dollars for one of them."""

    def __init__(self, chosen: AlpacaSettings, *, live: bool = False) -> None:
        key, secret = read_keys()
        self._chosen, self._secrets = chosen, (key, secret)
        self._trading: Any = TradingClient(
            key, secret, paper=not live, raw_data=True, url_override=chosen.url
        )
        self._data: Any = OptionHistoricalDataClient(
            key, secret, raw_data=True, url_override=chosen.url
        )
        for client in (self._trading, self._data):
            _give_up_in_time(client, chosen.timeout_s)
        self._refused: set[str] = set()

    def check(self, equity_usd: float | None, adjust_usd: float) -> None:
        """InputError where the account cannot trade, before anything is recorded; Unavailable where
        Alpaca does not answer.

        equity_usd: the cash that it has to hold, but for `adjust_usd`, and nothing else; None: any.
        """
        try:
            account, cash, held = (
                self._ask(self._trading.get_account),
                self.cash(),
                self.positions(),
            )
        except (_Refused, BrokerSilent) as error:
            kind = Unavailable if isinstance(error, BrokerSilent) else InputError
            raise kind(f"Alpaca does not open the account: {error}", _REMEDY) from None
        if account.get("trading_blocked") or account.get("account_blocked"):
            raise InputError("Alpaca has blocked the account from trading", "Ask Alpaca why")
        if equity_usd is not None and (held or abs(cash - equity_usd) > adjust_usd):
            raise InputError(
                f"the account would begin with ${equity_usd:,.2f} of cash, and Alpaca holds "
                f"${cash:,.2f} and {len(held)} positions",
                f"Give equity_usd={cash:.2f}, and close what is held there",
            )

    def unlisted(self, symbols: Sequence[str]) -> list[str]:
        """Which of these contracts Alpaca does not list; InputError where it does not answer."""
        try:
            return [symbol for symbol in symbols if not self._is_listed(symbol)]
        except BrokerSilent as error:
            raise InputError(f"Alpaca does not say what it lists: {error}", _REMEDY) from None

    # --- orders ----------------------------------------------------------------------------------

    def status(self, order: str) -> OrderStatus | None:
        """What became of an order; None: it was never received."""
        if order in self._refused:
            return OrderStatus.REJECTED
        found = self._find(order)
        return None if found is None else _ENDED.get(found["status"], OrderStatus.OPEN)

    def submit(self, order: Order) -> None:
        """Send an order unless Alpaca has it, and wait as long as it may stay open."""
        if self._find(order.id) is None:
            try:
                request = self._request(order)
                self._ask(lambda: self._trading.submit_order(request))
            except _Refused as error:
                # The identifier may have been taken by the same order, sent a moment ago.
                if self._find(order.id) is None:
                    self._refused.add(order.id)
                    log.warning("Alpaca refused %s: %s", order.symbol, error)
                    return
        self._wait(order.id)

    def cancel(self, order: str) -> None:
        """Let what is open of an order be, and wait until it is."""
        found = self._find(order)
        if found is None or found["status"] in _ENDED:
            return
        try:
            self._ask(lambda: self._trading.cancel_order_by_id(found["id"]))
        except _Refused:  # it ended in the meantime
            return
        self._wait(order)

    def executions(self, order: str) -> Sequence[Execution]:
        """All that was done of an order so far."""
        found = self._find(order)
        if found is None:
            return ()
        begun = datetime.fromisoformat(found["submitted_at"]) - timedelta(minutes=1)
        return self._ask(
            lambda: [
                Execution(
                    id=fill["id"],
                    order=order,
                    quantity=abs(float(fill["qty"])) * (1.0 if fill["side"] == "buy" else -1.0),
                    price=float(fill["price"]) * _multiplier(fill["symbol"]),
                )
                for fill in self._activities("FILL", begun)
                if fill["order_id"] == found["id"]
            ]
        )

    # --- the account -----------------------------------------------------------------------------

    def positions(self) -> Mapping[str, float]:
        """Contracts and shares held of each symbol."""
        return self._ask(
            lambda: {
                _padded(held["symbol"]): abs(float(held["qty"]))
                * (-1.0 if held["side"] == "short" else 1.0)
                for held in self._trading.get_all_positions()
            }
        )

    def cash(self) -> float:
        """Dollars."""
        return self._ask(lambda: float(self._trading.get_account()["cash"]))

    def deliveries(self) -> Sequence[Delivery]:
        """Exercises and assignments of the last weeks."""
        since = datetime.now(UTC) - timedelta(days=_DELIVERIES_DAYS)
        return self._ask(
            lambda: [
                Delivery(
                    id=each["id"],
                    day=each["date"],
                    symbol=_padded(each["symbol"]),
                    contracts=abs(float(each["qty"])) * (1.0 if kind == "OPASN" else -1.0),
                )
                for kind in ("OPASN", "OPEXC")
                for each in self._activities(kind, since)
                if each.get("status", "executed") == "executed"
            ]
        )

    # --- what is asked ---------------------------------------------------------------------------

    def _request(self, order: Order) -> OrderRequest:
        """A limit at the quote with a cushion; where there is none, a reduction at the market.

        An order that opens a position without a quote is refused: at what price nobody knows.
        Shares are closed at the market.
        """
        symbol, buys = order.symbol.replace(" ", ""), order.quantity > 0
        common: dict[str, Any] = {
            "symbol": symbol,
            "qty": abs(order.quantity),
            "side": OrderSide.BUY if buys else OrderSide.SELL,
            "time_in_force": TimeInForce.DAY,
            "client_order_id": order.id,
        }
        if read_symbol(symbol) is None:
            return MarketOrderRequest(**common)
        quote = self._quote(symbol)
        price = 0.0 if quote is None else float(quote["ap" if buys else "bp"])
        if price > 0.0:
            limit = price * (1.0 + self._chosen.cushion * (1.0 if buys else -1.0))
            return LimitOrderRequest(**common, limit_price=_on_tick(limit, symbol, up=buys))
        held = self.positions().get(order.symbol, 0.0)
        if held * order.quantity < 0.0 and abs(order.quantity) <= abs(held):
            return MarketOrderRequest(**common)
        raise _Refused(0, "there is no quote to open it at")

    def _quote(self, symbol: str) -> Mapping[str, Any] | None:
        request = OptionLatestQuoteRequest(symbol_or_symbols=symbol)
        try:
            quotes = self._ask(lambda: self._data.get_option_latest_quote(request))
        except _Refused:
            return None
        found: Mapping[str, Any] | None = quotes.get(symbol)
        return found

    def _is_listed(self, symbol: str) -> bool:
        try:
            contract = self._ask(lambda: self._trading.get_option_contract(symbol.replace(" ", "")))
        except _Refused:
            return False
        return bool(contract["tradable"])

    def _find(self, order: str) -> Mapping[str, str] | None:
        def found() -> dict[str, str]:
            answer: Any = self._trading.get_order_by_client_id(order)
            return {name: str(answer[name]) for name in ("id", "status", "submitted_at")}

        try:
            return self._ask(found)
        except _Refused as error:
            if error.status == 404:
                return None
            raise BrokerSilent(str(error)) from None

    def _wait(self, order: str) -> None:
        until, pause = time.monotonic() + self._chosen.patience_s, 0.1
        while True:
            found = self._find(order)
            left = until - time.monotonic()
            if found is None or found["status"] in _ENDED or left <= 0.0:
                return
            time.sleep(min(pause, left))
            pause = min(2.0 * pause, 2.0)

    def _activities(self, kind: str, since: datetime) -> Iterator[Mapping[str, Any]]:
        asked = {"after": since.isoformat(), "direction": "asc", "page_size": _PAGE}
        while True:
            page = self._trading.get(f"/account/activities/{kind}", asked)
            yield from page
            if len(page) < _PAGE:
                return
            asked["page_token"] = page[-1]["id"]

    def _ask(self, call: Callable[[], T]) -> T:
        """The answer; `_Refused` for a no, `BrokerSilent` for none. Neither names a key."""
        try:
            return call()
        except APIError as error:
            status = error.status_code or 500
            text = f"{status} {str(error)[:200]}"
            for secret in self._secrets:
                text = text.replace(secret, "***")
            if 400 <= status < 500 and status not in _NO_ANSWER:
                raise _Refused(status, text) from None
            raise BrokerSilent(text) from None
        except (RequestException, ValueError, LookupError, TypeError) as error:
            raise BrokerSilent(f"no answer that can be read: {type(error).__name__}") from None


def read_keys() -> tuple[str, str]:
    """The keys of the environment; InputError that names what is missing."""
    missing = [name for name in KEYS if not os.environ.get(name)]
    if missing:
        raise InputError(
            f"{' and '.join(missing)} is not set", "Put Alpaca's keys into the environment"
        )
    return os.environ[KEYS[0]], os.environ[KEYS[1]]


def _give_up_in_time(client: RESTClient, timeout_s: float) -> None:
    """Let each request end in time and never be repeated by the library, which would wait long."""
    once = client._one_request

    def in_time(method: str, url: str, opts: dict[str, Any], retry: int) -> Any:
        return once(method, url, {**opts, "timeout": timeout_s}, 0)

    client._one_request = in_time  # type: ignore[method-assign]


def _multiplier(symbol: str) -> float:
    return 1.0 if read_symbol(symbol) is None else float(MULTIPLIER)


def _padded(symbol: str) -> str:
    """With the blanks that an OCC symbol has and Alpaca leaves out."""
    if read_symbol(symbol) is None:
        return symbol
    return f"{symbol[:-15].strip():<{_SYMBOL_CHARS}}{symbol[-15:]}"


def _on_tick(price: float, symbol: str, *, up: bool) -> float:
    """A price that may be quoted: SPX in steps of .05 below 3 dollars and .10 above, others .01."""
    tick = 0.01 if not symbol.startswith("SPX") else 0.05 if price < 3.0 else 0.10
    steps = price / tick
    whole = math.ceil(steps - 1e-9) if up else max(math.floor(steps + 1e-9), 1)
    return round(whole * tick, 2)
