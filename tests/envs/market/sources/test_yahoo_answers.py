"""Answers of Yahoo Finance that are odd in themselves are input errors: a fallback can step in."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yfinance

from conf.errors import InputError
from envs.market.exchange_calendar import exchange_sessions
from envs.market.sources.index import Sp500Data, YahooData, load_market
from envs.market.sources.panel import PanelStocksData, PanelYahooData, load_panel

FIRST, LAST = dt.date(2019, 1, 2), dt.date(2021, 12, 30)
FIELDS = ("Adj Close", "Close", "High", "Low", "Open", "Volume")
Damage = Callable[[pd.DataFrame], pd.DataFrame]


def answer(*symbols: str) -> pd.DataFrame:
    days = pd.DatetimeIndex(exchange_sessions(FIRST, LAST), name="Date")
    close = 100.0 + 0.1 * np.sin(np.arange(len(days)))
    factors = {"High": 1.01, "Low": 0.99}
    columns = {
        (field, symbol): factors.get(field, 1.0) * close * (0.2 if symbol == "^VIX" else 1.0)
        for field in FIELDS
        for symbol in symbols
    }
    return pd.DataFrame(columns, days)


def last_row_twice(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame, frame.iloc[[-1]]])


def one_day_at_two_times(frame: pd.DataFrame) -> pd.DataFrame:
    again = frame.iloc[[9]].set_axis(frame.index[[9]] + pd.Timedelta(hours=5))
    return pd.concat([frame, again]).sort_index()


def without_adjusted_closes(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(columns="Adj Close", level=0)


def column_twice(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame, frame.iloc[:, :2]], axis=1)


def words_for_prices(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.astype(object)
    frame.iloc[5, 0] = "n/a"
    return frame


def numbers_for_days(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.set_axis([f"row {at}" for at in range(len(frame))])


def no_day(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.set_axis(frame.index.where(frame.index != frame.index[7], pd.NaT))


def one_day_a_hundredfold(frame: pd.DataFrame) -> pd.DataFrame:
    frame.iloc[300] *= 100.0
    return frame


DAMAGE: dict[str, Damage] = {
    "the day 2021-12-30 comes twice": last_row_twice,
    "the day 2019-01-15 comes twice": one_day_at_two_times,
    "no column Adj Close": without_adjusted_closes,
    "a column comes twice": column_twice,
    "no table of prices by day": words_for_prices,
    "no table of prices by day: ": numbers_for_days,
    "no day": no_day,
    "and is back on": one_day_a_hundredfold,
}


@pytest.fixture(params=DAMAGE)
def damage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    def download(symbols: list[str], **_: object) -> pd.DataFrame:
        return DAMAGE[request.param](answer(*symbols))

    monkeypatch.setattr(yfinance, "download", download)
    return str(request.param)


def test_a_panels_odd_answer_is_an_input_error_and_the_fallback_steps_in(
    damage: str, tmp_path: Path
) -> None:
    data = PanelYahooData(tickers=("AAA", "BBB"), start=FIRST, end=LAST, cache_dir=str(tmp_path))
    with pytest.raises(InputError) as caught:
        load_panel(data)
    assert damage in caught.value.problem
    assert "\n" not in str(caught.value)
    assert list(tmp_path.glob("*.parquet")) == []
    data = PanelYahooData(
        tickers=("AAA", "BBB"),
        start=FIRST,
        end=LAST,
        cache_dir=str(tmp_path),
        fallback="panel_stocks",
    )
    panel = load_panel(data)
    assert isinstance(panel.settings, PanelStocksData)
    assert panel.notices[0].startswith("FALLBACK")
    assert damage.rstrip(": ") in panel.notices[0]


def test_an_index_odd_answer_is_an_input_error_and_the_fallback_steps_in(
    damage: str, tmp_path: Path
) -> None:
    data = YahooData(start=FIRST, end=LAST, cache_dir=str(tmp_path), fallback="sp500")
    market = load_market(data, embargo_days=0)
    assert isinstance(market.settings, Sp500Data)
    assert market.notices[0].startswith("FALLBACK")
    assert list(tmp_path.glob("*.parquet")) == []


def test_an_odd_but_possible_answer_is_used_with_a_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def halved(symbols: list[str], **_: object) -> pd.DataFrame:
        frame = answer(*symbols)
        frame.iloc[:300, np.flatnonzero(frame.columns.get_level_values(1) != "^VIX")] *= 2.0
        return frame

    monkeypatch.setattr(yfinance, "download", halved)
    day = exchange_sessions(FIRST, LAST)[300]
    panel = load_panel(
        PanelYahooData(tickers=("AAA", "BBB"), start=FIRST, end=LAST, cache_dir=str(tmp_path))
    )
    (notice,) = panel.notices
    assert notice.startswith(f"yahoo, {day}: AAA moves by -50.")
    assert "the largest of 2 such moves: splits have to be in the prices" in notice
    market = load_market(YahooData(start=FIRST, end=LAST, cache_dir=str(tmp_path)), embargo_days=0)
    assert f"yahoo, {day}: close moves by -50." in " ".join(market.notices)
