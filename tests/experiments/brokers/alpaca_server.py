"""An exchange on this computer that speaks Alpaca's REST calls and keeps books of its own."""

import json
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from experiments.brokers.listed import read_symbol

KEY, SECRET = "PKLOOPBACK0KEY0ID", "loopback/secret/0123456789"


class Exchange:
    """Fills at `quotes` (bid, ask); `next` says what happens to the orders that come, in turn."""

    def __init__(self, cash=100_000.0):
        self.cash, self.positions, self.orders = cash, {}, {}
        self.activities: dict[str, list[Any]] = {"FILL": [], "OPASN": [], "OPEXC": []}
        self.quotes, self.unlisted, self.next, self.asked = {}, set(), [], []
        self.down = None  # a status that answers every call

    def price(self, symbol, buys):
        bid, ask = self.quotes.get(symbol, (1.00, 1.10))
        return ask if buys else bid

    def take(self, body):
        """Take an order: the status and the answer to its sender, and how long that is held."""
        how = self.next.pop(0) if self.next else "fill"
        if any(o["client_order_id"] == body["client_order_id"] for o in self.orders.values()):
            return 422, {"code": 40010001, "message": "client_order_id must be unique"}, 0.0
        if isinstance(how, int):
            return how, {"code": how * 10**5, "message": f"no, {KEY} {SECRET}"}, 0.0
        order = {**body, "id": str(uuid.uuid4()), "submitted_at": "2026-01-02T20:59:00.123456Z"}
        order["status"] = "new"
        self.orders[order["id"]] = order
        if how == "rejected":
            order["status"] = "rejected"
        elif how in ("fill", "partial", "late", "cut"):
            asked = float(body["qty"])
            self.fill(order, asked if how != "partial" else asked // 2)
        return 200, order, 1.0 if how == "late" else -1.0 if how == "cut" else 0.0

    def fill(self, order, qty):
        if qty == 0:
            return
        symbol, buys = order["symbol"], order["side"] == "buy"
        price = self.price(symbol, buys)
        limit = order.get("limit_price")
        assert limit is None or (float(limit) >= price if buys else float(limit) <= price)
        whole = qty == float(order["qty"])
        order["status"] = "filled" if whole else "partially_filled"
        for part in (qty - qty // 2, qty // 2):
            if part:
                fill = {"id": f"{len(self.activities['FILL']):020d}::x", "order_id": order["id"]}
                fill |= {"symbol": symbol, "side": order["side"], "qty": str(part)}
                self.activities["FILL"].append(fill | {"price": str(price)})
        signed = qty if buys else -qty
        self.change(symbol, signed, -signed * price * (100 if read_symbol(symbol) else 1))

    def change(self, symbol, amount, usd):
        self.positions[symbol] = self.positions.get(symbol, 0.0) + amount
        self.cash += usd

    def assign(self, symbol, contracts, day):
        contract = read_symbol(symbol)
        assert contract is not None
        shares = -100 * contracts * (1 if contract.is_call else -1)
        self.change(symbol, contracts, 0.0)
        self.change(contract.root, shares, -shares * contract.strike)
        event = {"id": f"{day}::{symbol}", "date": day, "symbol": symbol, "qty": str(contracts)}
        self.activities["OPASN"].append(event | {"activity_type": "OPASN", "status": "executed"})

    def answer(self, method, path, query, body):
        self.asked.append((method, path))
        if self.down is not None:
            return self.down, {"message": "out of order"}, 0.0
        if path == "/v2/account":
            return 200, {"cash": str(self.cash), "trading_blocked": False}, 0.0
        if path == "/v2/positions":
            held = {s: q for s, q in self.positions.items() if q}
            side = {s: "long" if q > 0 else "short" for s, q in held.items()}
            return 200, [{"symbol": s, "qty": str(q), "side": side[s]} for s, q in held.items()], 0
        if (method, path) == ("POST", "/v2/orders"):
            return self.take(body)
        if path == "/v2/orders:by_client_order_id":
            known = {o["client_order_id"]: o for o in self.orders.values()}
            order = known.get(query["client_order_id"][0])
            return (404, {"message": "order not found"}, 0) if order is None else (200, order, 0)
        if method == "DELETE":
            self.orders[path.rpartition("/")[2]]["status"] = "canceled"
            return 204, None, 0.0
        if path.startswith("/v2/account/activities/"):
            after = query.get("page_token", [""])[0]
            rows = [a for a in self.activities[path.rpartition("/")[2]] if a["id"] > after]
            return 200, rows[: int(query["page_size"][0])], 0.0
        if path == "/v1beta1/options/quotes/latest":
            symbol = query["symbols"][0]
            bid, ask = (self.price(symbol, buys) for buys in (False, True))
            return 200, {"quotes": {symbol: {"bp": bid, "ap": ask}}}, 0.0
        if path.startswith("/v2/options/contracts/"):
            listed = path.rpartition("/")[2] not in self.unlisted
            return (200, {"tradable": True}, 0) if listed else (404, {"message": "none"}, 0)
        raise AssertionError(path)


@contextmanager
def serving(exchange):
    """The address of the exchange while it is open."""

    class Handler(BaseHTTPRequestHandler):
        def reply(self):
            url = urlsplit(self.path)
            text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            keys = self.headers["APCA-API-KEY-ID"], self.headers["APCA-API-SECRET-KEY"]
            status, answer, delay = 401, {"message": f"unknown {keys}"}, 0.0
            if keys == (KEY, SECRET):
                body = json.loads(text) if text else None
                asked = self.command, url.path, parse_qs(url.query), body
                status, answer, delay = exchange.answer(*asked)
            if delay < 0:
                self.close_connection = True
                return
            time.sleep(delay)
            self.send_response(status)
            self.end_headers()
            if answer is not None:
                with suppress(BrokenPipeError):  # who asked has given up
                    self.wfile.write(json.dumps(answer).encode())

        do_GET = do_POST = do_DELETE = reply

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
