"""A local server in the place of Yahoo Finance: it answers well, badly, slowly or not at all."""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import yfinance
import yfinance.base
import yfinance.cache
import yfinance.scrapers.history
from yfinance.data import YfData

NEW_YORK = ZoneInfo("America/New_York")


@dataclass
class Exchange:
    """The data of the server and how it behaves."""

    sessions: np.ndarray
    status: int = 200
    body: bytes | None = None  # instead of an answer
    delay_seconds: float = 0.0
    vix_blank: tuple[int, ...] = ()
    index_blank: tuple[int, ...] = ()
    close_factor: float = 1.0
    requested: list[str] = field(default_factory=list)

    def close(self, symbol: str) -> np.ndarray:
        steps = np.arange(len(self.sessions), dtype=np.float64)
        level = 4700.0 + steps if symbol == "^GSPC" else 15.0 + 0.01 * steps
        return level * (self.close_factor if symbol == "^GSPC" else 1.0)

    def sessions_of(self, symbol: str) -> np.ndarray:
        return self.sessions

    def blank_of(self, symbol: str) -> tuple[int, ...]:
        return self.index_blank if symbol == "^GSPC" else self.vix_blank

    def answer(self, symbol: str, query: dict[str, list[str]]) -> bytes:
        opening = [_opening(day) for day in self.sessions_of(symbol)]
        first = int(query.get("period1", ["0"])[0])
        last = int(query.get("period2", [str(2**40)])[0])
        kept = [at for at, stamp in enumerate(opening) if first <= stamp < last]
        blank = set(self.blank_of(symbol))
        close = self.close(symbol)

        def column(scale: float) -> list[float | None]:
            return [None if at in blank else float(close[at] * scale) for at in kept]

        quote = {"open": column(0.999), "high": column(1.01), "low": column(0.99)}
        quote |= {"close": column(1.0), "volume": [None if at in blank else 1000 for at in kept]}
        meta = {
            "currency": "USD",
            "symbol": symbol,
            "instrumentType": "INDEX",
            "exchangeTimezoneName": "America/New_York",
            "timezone": "EST",
            "validRanges": ["1d", "max"],
            "dataGranularity": "1d",
            "range": "",
        }
        result: dict[str, Any] = {
            "meta": meta,
            "timestamp": [opening[at] for at in kept],
            "indicators": {"quote": [quote], "adjclose": [{"adjclose": column(0.5)}]},
        }
        return json.dumps({"chart": {"result": [result], "error": None}}).encode()


def _opening(day: np.datetime64) -> int:
    date = dt.date.fromisoformat(str(day))
    return int(dt.datetime.combine(date, dt.time(9, 30), NEW_YORK).timestamp())


@contextmanager
def served(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The exchange on a port of this machine, and yfinance led there; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            symbol = unquote(parts.path).removeprefix("/v8/finance/chart/")
            exchange.requested.append(symbol)
            time.sleep(exchange.delay_seconds)
            body = exchange.body
            if body is None:
                body = exchange.answer(symbol, parse_qs(parts.query))
            try:
                self.send_response(exchange.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                pass  # the client gave up waiting

        def log_message(self, format: str, *args: Any) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"http://127.0.0.1:{httpd.server_address[1]}"
    lead_to(url, monkeypatch)
    yield url
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def lead_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (yfinance.scrapers.history, yfinance.base):
        monkeypatch.setattr(module, "_BASE_URL_", url)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(YfData, "_get_cookie_and_crumb", lambda *_, **__: (None, "basic"))
    monkeypatch.setattr(yfinance.cache._TzCacheManager, "_tz_cache", None)
    monkeypatch.setattr(yfinance.Ticker, "info", {})
    ask = YfData._make_request

    def ask_here(self: YfData, address: str, *arguments: Any, **options: Any) -> Any:
        if not address.startswith("http://127.0.0.1:"):
            pytest.exit(f"a test would have requested {address}", returncode=1)
        return ask(self, address, *arguments, **options)

    monkeypatch.setattr(YfData, "_make_request", ask_here)
    YfData.cache_get.cache_clear()
