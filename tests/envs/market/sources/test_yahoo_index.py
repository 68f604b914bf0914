from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yfinance
from yfinance.data import YfData

from conf.errors import InputError
from envs.market.exchange_calendar import exchange_sessions
from envs.market.history import VOL_ESTIMATED, MarketHistory
from envs.market.sources import cache as yahoo_cache
from envs.market.sources import yahoo_index as yahoo
from envs.market.sources.yahoo_client import ask_yahoo
from envs.market.sources.yahoo_index import YahooWindow, load_yahoo
from tests.envs.market.sources.yahoo_server import Exchange, lead_to

WINDOW = YahooWindow(dt.date(2024, 1, 2), dt.date(2024, 6, 28))
# yfinance's own business with pandas; a thread that was given up may mention it late.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:yfinance.*")


@pytest.fixture
def exchange() -> Exchange:
    return Exchange(exchange_sessions(WINDOW.start, WINDOW.end))


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., tuple[MarketHistory, tuple[str, ...]]]:
    def loader(
        window: YahooWindow = WINDOW, timeout_seconds: float = 10.0
    ) -> tuple[MarketHistory, tuple[str, ...]]:
        return load_yahoo(window, str(tmp_path), timeout_seconds, 0.025, 0.015)

    return loader


Load = Callable[..., tuple[MarketHistory, tuple[str, ...]]]


def cached(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


def refusal(load: Load, **arguments: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        load(**arguments)
    assert "data=sp500" in caught.value.remedy
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_whole_answer_becomes_a_history(server: str, exchange: Exchange, load: Load) -> None:
    history, notices = load()
    assert np.array_equal(history.dates, exchange.sessions)
    assert (str(history.dates[0]), str(history.dates[-1])) == ("2024-01-02", "2024-06-28")
    np.testing.assert_allclose(history.close[0], exchange.close("^GSPC"), rtol=1e-12)
    np.testing.assert_allclose(history.high[0], exchange.close("^GSPC") * 1.01, rtol=1e-12)
    np.testing.assert_allclose(history.implied_vol[0] * 100, exchange.close("^VIX"), rtol=1e-12)
    assert history.implied_vol_source.all()
    assert notices == ()


def test_a_second_run_needs_no_network(
    server: str, exchange: Exchange, load: Load, tmp_path: Path
) -> None:
    first, _ = load()
    assert [file.name for file in cached(tmp_path)] == [WINDOW.cache_name]
    exchange.requested.clear()
    exchange.status = 500
    written = cached(tmp_path)[0].stat().st_mtime_ns
    second, notices = load()
    assert cached(tmp_path)[0].stat().st_mtime_ns == written
    assert exchange.requested == []
    assert second.fingerprint == first.fingerprint
    assert notices == ()


def test_another_window_has_its_own_cache(server: str, load: Load, tmp_path: Path) -> None:
    load()
    load(window=YahooWindow(dt.date(2024, 1, 2), dt.date(2024, 3, 28)))
    assert len(cached(tmp_path)) == 2


def test_a_damaged_cache_is_downloaded_again_and_said_so(
    server: str, exchange: Exchange, load: Load, tmp_path: Path
) -> None:
    first, _ = load()
    path = cached(tmp_path)[0]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    again, notices = load()
    assert again.fingerprint == first.fingerprint
    assert "damaged" in notices[0]
    assert str(path) in notices[0]
    assert load()[1] == ()


def test_a_damaged_cache_without_network_is_one_error(
    server: str, exchange: Exchange, load: Load, tmp_path: Path
) -> None:
    load()
    cached(tmp_path)[0].write_bytes(b"PAR1 nonsense")
    exchange.status, exchange.body = 500, b"{}"
    YfData.cache_get.cache_clear()
    assert "is damaged" in refusal(load).problem


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (
            401,
            b'{"finance":{"result":null,"error":{"code":"Unauthorized","description":"no"}}}',
            "status 401",
        ),
        (
            404,
            b'{"chart":{"result":null,"error":{"code":"Not Found","description":"No data"}}}',
            "status 404",
        ),
        (429, b"Too Many Requests", "status 429, ['^"),
        (500, b"Internal Server Error", "status 500"),
        (200, b"<html><body>Please sign in</body></html>", "not JSON"),
        (200, b"{}", "for ticker '^"),
        (200, b"", "not JSON"),
        (200, b"Will be right back", "not JSON"),
    ],
)
def test_a_useless_answer_is_one_clear_error(
    server: str,
    exchange: Exchange,
    load: Load,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    status: int,
    body: bytes,
    words: str,
) -> None:
    exchange.status, exchange.body = status, body
    problem = refusal(load).problem
    assert "^GSPC and ^VIX, 2024-01-02 to 2024-06-28" in problem
    assert words in problem
    assert cached(tmp_path) == []
    assert capfd.readouterr() == ("", "")


def test_a_refused_connection_is_one_clear_error(
    load: Load, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lead_to("http://127.0.0.1:9", monkeypatch)
    assert "Yahoo Finance gave no data" in refusal(load).problem
    assert caplog.records == []


@pytest.mark.parametrize("delay_seconds", [0.4])
def test_a_silent_server_is_given_up_in_time(
    server: str, exchange: Exchange, load: Load, delay_seconds: float
) -> None:
    exchange.delay_seconds = delay_seconds
    started = time.monotonic()
    refusal(load, timeout_seconds=0.1)
    assert time.monotonic() - started < delay_seconds
    for thread in threading.enumerate():
        if thread.name == "yahoo":
            thread.join(5)
            assert not thread.is_alive()


def test_a_thread_that_never_ends_does_not_hold_the_caller(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    monkeypatch.setattr(yfinance, "download", lambda *_, **__: release.wait(10))
    try:
        assert "no answer within 0.2 s" in refusal(load, timeout_seconds=0.2).problem
    finally:
        release.set()


@pytest.mark.parametrize("kept", [slice(0, -1), slice(1, None), slice(0, 60)])
def test_an_answer_that_stops_short_is_an_error(
    server: str, exchange: Exchange, load: Load, tmp_path: Path, kept: slice
) -> None:
    whole = len(exchange.sessions)
    exchange.sessions = exchange.sessions[kept]
    problem = refusal(load).problem
    assert f"partial answer: {len(exchange.sessions)} of {whole} sessions" in problem
    assert cached(tmp_path) == []


def test_many_missing_sessions_are_an_error_and_a_few_are_named(
    server: str, exchange: Exchange, load: Load
) -> None:
    exchange.index_blank = tuple(range(10, 10 + yahoo.MAX_MISSING_SESSIONS + 1))
    assert "partial answer" in refusal(load).problem
    YfData.cache_get.cache_clear()
    exchange.index_blank = (10,)
    history, notices = load()
    assert history.num_sessions == len(exchange.sessions) - 1
    assert str(exchange.sessions[10]) in notices[0]


def test_missing_vix_is_estimated_up_to_a_hundredth_and_refused_beyond(
    server: str, exchange: Exchange, load: Load
) -> None:
    exchange.vix_blank = (20, 21)
    assert "^VIX is missing on 2" in refusal(load).problem
    YfData.cache_get.cache_clear()
    exchange.vix_blank = (20,)
    history, notices = load()
    assert np.flatnonzero(history.implied_vol_source == VOL_ESTIMATED).tolist() == [20]
    assert "1 of 124 sessions" in notices[0]


def test_impossible_prices_are_refused_and_not_kept(
    server: str, exchange: Exchange, load: Load, tmp_path: Path
) -> None:
    exchange.close_factor = -1.0
    assert "not positive" in refusal(load).problem
    assert cached(tmp_path) == []


def test_a_day_that_is_not_over_has_no_close(load: Load) -> None:
    window = YahooWindow(dt.date(2024, 1, 2), dt.date.today())
    with pytest.raises(InputError, match="is not over yet"):
        load(window=window)


def test_a_cache_that_cannot_be_written_costs_a_notice_only(
    server: str, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(yahoo_cache, "write_table", full)
    history, notices = load()
    assert history.num_sessions == 124
    assert "No space left on device" in notices[0]
    assert "data.cache_dir" in notices[0]


# --- what cash earns -----------------------------------------------------------------------------


def with_bills(tmp_path: Path) -> tuple[MarketHistory, tuple[str, ...]]:
    return load_yahoo(WINDOW, str(tmp_path), 10.0, "bills", 0.015)


def test_a_bill_at_a_discount_pays_its_face_in_91_days() -> None:
    rate = yahoo.bill_rate(np.array([0.0, 5.25, -0.05]))
    paid = np.exp(-rate * 91 / 365)  # for a dollar then
    np.testing.assert_allclose(paid, 1 - np.array([0.0, 0.0525, -0.0005]) * 91 / 360, rtol=1e-14)


def test_cash_earns_the_thirteen_week_bill_of_each_close(
    server: str, exchange: Exchange, tmp_path: Path
) -> None:
    history, notices = with_bills(tmp_path)
    np.testing.assert_allclose(history.rate, yahoo.bill_rate(exchange.close("^IRX")), rtol=1e-12)
    assert notices == ()
    assert len(cached(tmp_path)) == 2
    exchange.requested.clear()
    exchange.status = 500
    again, _ = with_bills(tmp_path)
    assert exchange.requested == []
    assert again.fingerprint == history.fingerprint


def test_before_its_first_quote_a_bill_is_the_monthly_one_and_later_holes_hold_on(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Exchange, "blank_of", lambda _, symbol: (0, 50) * (symbol == "^IRX"))
    history, _ = with_bills(tmp_path)
    assert history.rate[0] == pytest.approx(12 * np.log(1.0018))
    assert history.rate[50] == history.rate[49]


@pytest.mark.parametrize("factor", [np.nan, 100.0])
def test_without_bills_the_monthly_ones_stand_in_and_a_notice_says_so(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    def without(request: Any, **options: Any) -> Any:
        answer = ask_yahoo(request, **options)
        return answer if "^IRX" not in request.symbols else answer * factor

    monkeypatch.setattr(yahoo, "ask_yahoo", without)
    history, notices = with_bills(tmp_path)
    np.testing.assert_allclose(history.rate, 12 * np.log(1.0018), rtol=1e-12)
    assert notices[0].startswith("yahoo: ^IRX could not be had, so cash earns the monthly bill")
    assert len(cached(tmp_path)) == 1
