"""Panels in the forms of vendors: an asset is what can be bought, and each is known once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from envs.market.sources.panel_file import load_panel_file
from tests.envs.market.sources.vendor_forms import BARS, CLOSE, DAYS, Lines, Writer, plain, refusal


@pytest.mark.parametrize("adjusted", [False, True])
@pytest.mark.parametrize("ticker_first", [False, True])
@pytest.mark.parametrize("parquet", [False, True])
def test_several_tickers_of_yfinance_are_a_panel(
    tmp_path: Path, adjusted: bool, ticker_first: bool, parquet: bool
) -> None:
    fields = [*(["Adj Close"] if adjusted else []), "Close", "High", "Low", "Open", "Volume"]
    names = pd.MultiIndex.from_product([fields, ["AAA", "BBB"]], names=["Price", "Ticker"])
    values = {
        name: np.array(CLOSE) / (2.0 if name[0] == "Adj Close" else 1.0) + (name[1] == "BBB")
        for name in names
    }
    frame = pd.DataFrame(values, pd.DatetimeIndex(DAYS, name="Date"))
    frame.columns.names = ["Price", "Ticker"]
    if ticker_first:
        frame = frame.swaplevel(axis=1).sort_index(axis=1)
    path = tmp_path / "prices"
    frame.to_parquet(path) if parquet else frame.to_csv(path)
    history, _ = load_panel_file(path, 0.025, None, "error")
    assert history.assets == ("AAA", "BBB")
    expected = np.array(CLOSE) / (2.0 if adjusted else 1.0)
    assert history.close[0, :, 0].tolist() == expected.tolist()
    assert history.close[0, :, 1].tolist() == (expected + 1).tolist()


@pytest.mark.parametrize(
    ("head", "marks"),
    [
        ([",SPX Index,NDX Index", "Dates,PX_LAST,PX_LAST"], "cc"),
        (
            [
                "Attributes,Adj Close,Close,Adj Close,Close",
                "Symbols,SPX Index,SPX Index,NDX Index,NDX Index",
                "Date,,,,",
            ],
            "cxcx",
        ),
        (
            [",SPX Index,SPX Index,NDX Index,NDX Index", ",Close,Volume,Close,Volume", "Date,,,,"],
            "cvcv",
        ),
        (
            [
                "Date,"
                + ",".join(
                    f"\"('{name}', '{field}')\""
                    for name in ("SPX Index", "NDX Index")
                    for field in ("Close", "Volume")
                )
            ],
            "cvcv",
        ),
    ],
    ids=["bloomberg", "pandas-datareader", "yfinance by ticker", "columns as text"],
)
def test_two_lines_of_fields_and_tickers_are_a_panel(
    write: Writer, head: Lines, marks: str
) -> None:
    rows = []
    for day, _, _, _, close, volume in BARS:
        cells = {"c": close, "x": 4.0 * close, "v": volume}
        rows.append(",".join([f"{day:%m/%d/%Y}", *(str(cells[mark]) for mark in marks)]))
    history, _ = load_panel_file(write([*head, *rows]), 0.025, None, "error")
    assert history.assets == ("SPX Index", "NDX Index")
    assert history.dates.tolist() == DAYS
    assert history.close[0].T.tolist() == [CLOSE, CLOSE]


@pytest.mark.parametrize(
    "asset",
    [
        *("ticker", "tic", "symbol", "Name", "Ticker", "<TICKER>"),
        *("Instrument", "ric", "code", "isin"),
    ],
)
@pytest.mark.parametrize(
    "price", ["close", "Adj Close", "adjusted_close", "price", "<CLOSE>", "Price Close", "closeadj"]
)
def test_long_panels_of_all_vendors(write: Writer, asset: str, price: str) -> None:
    rows = [f"{d},{n},{c:.2f},{v}" for d, _, _, _, c, v in BARS for n in ("AAA", "BBB")]
    history, _ = load_panel_file(
        write([f"date,{asset},{price},volume", *rows]), 0.025, None, "error"
    )
    assert history.assets == ("AAA", "BBB")
    assert history.close[0, :, 1].tolist() == CLOSE


def test_long_panels_with_bars_use_the_adjusted_close(write: Writer) -> None:
    rows = [f"{d},{o},{h},{lo},{c},{c / 2},{v},AAA" for d, o, h, lo, c, v in BARS]
    head = "date,open,high,low,close,adjclose,volume,Name"
    history, notices = load_panel_file(write([head, *rows]), 0.025, None, "error")
    assert history.close[0, :, 0].tolist() == [price / 2 for price in CLOSE]
    assert "adj_close" in notices[0]


def test_an_unnamed_first_column_of_dates(write: Writer) -> None:
    for name in ("", "Unnamed: 0", "index"):
        rows = [f"{d},{c},{c + 1}" for d, _, _, _, c, _ in BARS]
        history, notices = load_panel_file(write([f"{name},AA,BB", *rows]), 0.0, None, "error")
        assert history.assets == ("AA", "BB")
        assert notices == ()


def test_a_panel_may_run_from_the_newest_day(write: Writer) -> None:
    rows = [f"{d},{c},{c + 1},{0.01 + at / 1e4}" for at, (d, _, _, _, c, _) in enumerate(BARS)]
    oldest, _ = load_panel_file(write(["Date,AA,BB,rate", *rows]), 0.0, None, "error")
    newest, _ = load_panel_file(write(["Date,AA,BB,rate", *rows[::-1]]), 0.0, None, "error")
    assert newest.fingerprint == oldest.fingerprint


NUMBERED = "date,1. open,2. high,3. low,4. close,5. volume"


@pytest.mark.parametrize(
    "header",
    [
        NUMBERED,
        "<DATE>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>",
        "date,SPY Open,SPY High,SPY Low,SPY Close,SPY Volume",
        "date,SPY.Open,SPY.High,SPY.Low,SPY.Close,SPY.Volume",
        "date,open_spy,high_spy,low_spy,close_spy,volume_spy",
        "date,x,SPY High,SPY Low,SPY Close,SPY Volume",
        "date,SPY_close,SPY_adj_close,QQQ_close,QQQ_adj_close,SPY_volume",
        "date,SPY Bid,SPY Ask,QQQ Bid,QQQ Ask,SPY Volume",
        "date,Bid,Ask,Mid,VWAP,Volume",
    ],
)
def test_bars_are_no_panel(write: Writer, header: str) -> None:
    assert "bars of one asset" in refusal(write(plain(header)), panel=True).problem


@pytest.mark.parametrize(
    "other",
    [
        *("Volume", "volume_usd", "5. volume", "Vol.", "OpenInt", "Dividends", "Trade Count"),
        *("Prev. Day Open Interest", "AdrActCnt", "CapMrktCurUSD", "DGS3MO", "TB3MS", "^VIX"),
        *("VIXCLS", "('Volume', 'AA')", "10 Yr", "risk_free_rate"),
    ],
)
def test_volume_and_its_like_are_never_an_asset(write: Writer, other: str) -> None:
    rows = [f"{d},{c},{c},{v}" for d, _, _, _, c, v in BARS]
    head = f'date,AA,BB,"{other}"'
    history, notices = load_panel_file(write([head, *rows]), 0.0, None, "error")
    assert history.assets == ("AA", "BB")
    assert notices == (f"prices.csv: left out, for they are no asset: {other}",)


def test_of_close_and_volume_the_close_is_the_one_asset(write: Writer) -> None:
    rows = [f"{d},{c},{v}" for d, _, _, _, c, v in BARS]
    history, notices = load_panel_file(write(["Date,Close,Volume", *rows]), 0.0, None, "error")
    assert history.assets == ("Close",)
    assert history.close[0, :, 0].tolist() == CLOSE
    assert "Volume" in notices[0]
    beside = [f"{d},{c - 1},{c},{c + 1}" for d, _, _, _, c, _ in BARS]
    history, _ = load_panel_file(write(["Date,Bid,Close,Ask", *beside]), 0.0, None, "error")
    assert (history.assets, history.close[0, :, 0].tolist()) == (("Close",), CLOSE)
    only = [f"{d},{v}" for d, _, _, _, _, v in BARS]
    assert "no column of prices" in refusal(write(["Date,Volume", *only]), panel=True).problem


def test_a_price_beside_what_may_be_its_indicators_has_to_be_chosen(write: Writer) -> None:
    rows = [f"{d},{c},{c * 0.99},{50 + d.day}" for d, _, _, _, c, _ in BARS]
    path = write(["Date,Close,SMA 20,RSI", *rows])
    error = refusal(path, panel=True)
    assert "has a column 'Close' beside sma_20, rsi" in error.problem
    assert "Set data.assets=[Close]" in error.remedy
    history, _ = load_panel_file(path, 0.0, ["Close"], "error")
    assert (history.assets, history.close[0, :, 0].tolist()) == (("Close",), CLOSE)


def test_row_numbers_and_columns_twice_are_no_assets(write: Writer) -> None:
    rows = [f"{at},{bar[0]},{bar[4]}" for at, bar in enumerate(BARS, start=7)]
    assert "No. counts the rows" in refusal(write(["No.,Date,AA", *rows]), panel=True).problem
    twice = [f"{d},{c},{c}" for d, _, _, _, c, _ in BARS]
    problem = refusal(write(["Date,AA,AA.1", *twice]), panel=True).problem
    assert "'aa' and 'aa.1', as pandas names two columns alike" in problem


def test_a_column_that_moves_like_volume_is_refused_whatever_its_name(write: Writer) -> None:
    amounts = np.exp(np.random.default_rng(1).normal(12.0, 1.0, len(DAYS)))
    rows = [f"{bar[0]},{bar[4]},{amount:.0f}" for bar, amount in zip(BARS, amounts, strict=True)]
    assert "not prices" in refusal(write(["Date,AA,Umsatz", *rows]), panel=True).problem


def test_tickers_that_are_words_of_bars_stay_assets(write: Writer) -> None:
    rows = [f"{d},{c},{c},{c}" for d, _, _, _, c, _ in BARS]
    for header in ("Date,LOW,HD,OPEN", "Date,High Yield,Min Vol,High Dividend"):
        history, notices = load_panel_file(write([header, *rows]), 0.0, None, "error")
        assert (",".join(history.assets), notices) == (header[5:], ())


def test_returns_and_numbers_of_assets_are_no_prices(write: Writer) -> None:
    rows = [f"14593,{d},{c},0.01" for d, _, _, _, c, _ in BARS]
    error = refusal(write(["PERMNO,date,PRC,RET", *rows]), panel=True)
    assert "has a column 'permno' but none of prices" in error.problem
    rows = [f"{d},{c},-0.01" for d, _, _, _, c, _ in BARS]
    assert "is not positive" in refusal(write(["date,AA,Return", *rows]), panel=True).problem
