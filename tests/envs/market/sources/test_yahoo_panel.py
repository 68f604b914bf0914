from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from yfinance.data import YfData

from conf.errors import InputError
from envs.market.exchange_calendar import exchange_sessions
from envs.market.panel import PanelHistory
from envs.market.sources.panel_gaps import Incomplete
from envs.market.sources.yahoo_index import MAX_MISSING_SESSIONS, YahooWindow
from envs.market.sources.yahoo_panel import load_yahoo_panel
from tests.envs.market.sources.yahoo_server import Exchange

WINDOW = YahooWindow(dt.date(2024, 1, 2), dt.date(2024, 6, 28))
SESSIONS = exchange_sessions(WINDOW.start, WINDOW.end)
EVERY_DAY = np.arange(np.datetime64(WINDOW.start), np.datetime64(WINDOW.end) + 1)
TICKERS = ("SPY", "BTC-USD", "AAPL")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:yfinance.*")

Loader = Callable[..., tuple[PanelHistory, tuple[str, ...]]]


@dataclass
class ExchangeWithCoins(Exchange):
    """An exchange with coins, which trade every day; adjusted closes are half the closes."""

    blank: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def sessions_of(self, symbol: str) -> np.ndarray:
        return EVERY_DAY if symbol.endswith("-USD") else self.sessions

    def blank_of(self, symbol: str) -> tuple[int, ...]:
        return self.blank.get(symbol, ())

    def close(self, symbol: str) -> np.ndarray:
        days = (self.sessions_of(symbol) - EVERY_DAY[0]).astype(int)
        prices: np.ndarray = self.close_factor * (10.0 * len(symbol) + days)
        return prices


@pytest.fixture
def exchange() -> ExchangeWithCoins:
    return ExchangeWithCoins(SESSIONS)


@pytest.fixture
def load(tmp_path: Path) -> Loader:
    def loader(
        *tickers: str, incomplete: Incomplete = "error", window: YahooWindow = WINDOW
    ) -> tuple[PanelHistory, tuple[str, ...]]:
        YfData.cache_get.cache_clear()
        return load_yahoo_panel(tickers or TICKERS, window, str(tmp_path), 10.0, 0.025, incomplete)

    return loader


def cached(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


def test_adjusted_closes_on_the_sessions_of_the_exchange(
    server: str, exchange: ExchangeWithCoins, load: Loader
) -> None:
    history, notices = load()
    assert history.assets == TICKERS
    assert np.array_equal(history.dates, SESSIONS)
    for column, ticker in enumerate(TICKERS):
        on_sessions = np.isin(exchange.sessions_of(ticker), SESSIONS)
        expected = exchange.close(ticker)[on_sessions] * 0.5
        np.testing.assert_allclose(history.close[0, :, column], expected, rtol=1e-12)
    assert len(notices) == 1
    assert notices[0].startswith("yahoo: BTC-USD trade every day")


def test_coins_alone_trade_every_day(server: str, load: Loader) -> None:
    history, notices = load("BTC-USD", "ETH-USD")
    assert np.array_equal(history.dates, EVERY_DAY)
    assert notices == ()


def test_a_second_run_needs_no_network_whatever_the_order(
    server: str, exchange: ExchangeWithCoins, load: Loader, tmp_path: Path
) -> None:
    first, notices = load()
    exchange.requested.clear()
    exchange.status, exchange.body = 500, b"{}"
    second, again = load()
    assert (second.fingerprint, again) == (first.fingerprint, notices)
    turned, _ = load(*reversed(TICKERS))
    assert turned.assets == tuple(reversed(TICKERS))
    assert np.array_equal(turned.close, first.close[:, :, ::-1])
    assert exchange.requested == []
    assert len(cached(tmp_path)) == 1
    with pytest.raises(InputError, match="asked for SPY and GLD"):
        load("SPY", "GLD")


def test_a_damaged_cache_is_downloaded_again_and_said_so(
    server: str, load: Loader, tmp_path: Path
) -> None:
    first, _ = load()
    cached(tmp_path)[0].write_bytes(b"PAR1 nonsense")
    again, notices = load()
    assert again.fingerprint == first.fingerprint
    assert "is damaged" in notices[0]


def test_no_answer_is_one_error_that_names_the_stocks_at_hand(
    server: str, exchange: ExchangeWithCoins, load: Loader, tmp_path: Path
) -> None:
    exchange.status, exchange.body = 429, b"Too Many Requests"
    with pytest.raises(InputError, match="asked for SPY, BTC-USD and AAPL") as caught:
        load()
    assert "data=panel_stocks" in caught.value.remedy
    assert cached(tmp_path) == []


def test_a_few_missing_sessions_are_left_out_for_all_and_named(
    server: str, exchange: ExchangeWithCoins, load: Loader
) -> None:
    exchange.blank = {"AAPL": (10, 20)}
    history, notices = load("SPY", "AAPL")
    assert np.array_equal(history.dates, np.delete(SESSIONS, [10, 20]))
    assert f"{SESSIONS[10]}, {SESSIONS[20]}" in notices[0]


@pytest.mark.parametrize(
    "missing", [tuple(range(10, 11 + MAX_MISSING_SESSIONS)), (len(SESSIONS) - 1,)]
)
def test_more_missing_sessions_or_the_last_are_a_partial_answer(
    server: str, exchange: ExchangeWithCoins, load: Loader, tmp_path: Path, missing: tuple[int, ...]
) -> None:
    exchange.blank = {"AAPL": missing}
    with pytest.raises(InputError, match="partial answer: AAPL has a price on") as caught:
        load("SPY", "AAPL")
    assert "data.end" in caught.value.remedy
    assert cached(tmp_path) == []


def test_an_asset_that_begins_later_is_what_the_settings_say(
    server: str, exchange: ExchangeWithCoins, load: Loader
) -> None:
    exchange.blank = {"AAPL": tuple(range(40))}
    with pytest.raises(InputError, match="AAPL has no price on 2024-01-02"):
        load("SPY", "AAPL")
    later, notices = load("SPY", "AAPL", incomplete="start_later")
    assert np.array_equal(later.dates, SESSIONS[40:])
    assert "AAPL has no price before" in notices[0]
    fewer, notices = load("SPY", "AAPL", incomplete="drop_assets")
    assert (fewer.assets, fewer.num_sessions) == (("SPY",), len(SESSIONS))
    assert "AAPL (none on 2024-01-02)" in notices[0]


def test_impossible_prices_are_refused_and_not_kept(
    server: str, exchange: ExchangeWithCoins, load: Loader, tmp_path: Path
) -> None:
    exchange.close_factor = -1.0
    with pytest.raises(InputError, match="unusable data: yahoo: the price of SPY"):
        load()
    assert cached(tmp_path) == []


def test_a_day_that_is_not_over_has_no_close(load: Loader) -> None:
    with pytest.raises(InputError, match="is not over yet"):
        load(window=YahooWindow(dt.date(2024, 1, 2), dt.date.today()))
