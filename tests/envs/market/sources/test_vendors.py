"""The same forty days in the forms in which vendors hand them out."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conf.errors import InputError
from envs.market.history import MarketHistory
from envs.market.sources.index_file import load_file
from envs.market.sources.panel_file import load_panel_file

DAYS = [
    np.busday_offset("2020-01-02", at, roll="forward").astype("datetime64[D]").item()
    for at in range(40)
]
MOVES = np.random.default_rng(7).normal(0.0, 0.01, len(DAYS))
CLOSE = (3200.0 * np.exp(np.cumsum(MOVES))).round(2).tolist()
OPEN = [3200.0, *CLOSE[:-1]]
HIGH = [round(1.004 * max(pair), 2) for pair in zip(OPEN, CLOSE, strict=True)]
LOW = [round(0.996 * min(pair), 2) for pair in zip(OPEN, CLOSE, strict=True)]
VOLUME = [1_230_000 + 10_000 * at for at in range(len(DAYS))]
BARS = list(zip(DAYS, OPEN, HIGH, LOW, CLOSE, VOLUME, strict=True))

Lines = list[str]


def epoch(day: dt.date, unit: int = 1) -> int:
    return unit * int(dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC).timestamp())


def plain(
    header: str, date: str = "%Y-%m-%d", mark: str = ",", newest_first: bool = False
) -> Lines:
    """Bars in the order date, open, high, low, close, volume."""
    rows = [
        mark.join([f"{d:{date}}", f"{o:.2f}", f"{h:.2f}", f"{lo:.2f}", f"{c:.2f}", str(v)])
        for d, o, h, lo, c, v in BARS
    ]
    return [header.replace(",", mark), *(rows[::-1] if newest_first else rows)]


def yahoo(fields: str = "Close,High,Low,Open,Volume") -> Lines:
    rows = [f"{d},{c:.2f},{h:.2f},{lo:.2f},{o:.2f},{v}" for d, o, h, lo, c, v in BARS]
    return [f"Price,{fields}", "Ticker" + ",^GSPC" * 5, "Date,,,,,", *rows]


def investing(date: str = "%m/%d/%Y") -> Lines:
    rows = [
        f'"{d:{date}}","{c:,.2f}","{o:,.2f}","{h:,.2f}","{lo:,.2f}","{v / 1e6:.2f}M","-0.52%"'
        for d, o, h, lo, c, v in BARS
    ]
    return ['"Date","Price","Open","High","Low","Vol.","Change %"', *rows[::-1]]


def klines(unit: int) -> Lines:
    head = (
        "Open time,Open,High,Low,Close,Volume,Close time,Quote asset volume,Number of trades,Ignore"
    )
    return [
        head,
        *(
            f"{epoch(d, unit)},{o:.8f},{h:.8f},{lo:.8f},{c:.8f},{v}.0,{epoch(d, unit) + 1},9.5,77,0"
            for d, o, h, lo, c, v in BARS
        ),
    ]


def crypto_data_download() -> Lines:
    rows = [
        f"{epoch(d)},{d} 00:00:00,SPX/USD,{o:.2f},{h:.2f},{lo:.2f},{c:.2f},{v},7.5"
        for d, o, h, lo, c, v in BARS
    ]
    head = "unix,date,symbol,open,high,low,close,Volume SPX,Volume USD"
    return ["https://www.example.org", head, *rows[::-1]]


FORMS: dict[str, Lines] = {
    "yahoo": plain("Date,Open,High,Low,Close,Volume"),
    "yahoo with three header lines": yahoo(),
    "yahoo copied from the page": plain(
        "Date,Open,High,Low,Close*,Volume", "%b %d, %Y", "\t", True
    ),
    "stooq": plain("Date,Open,High,Low,Close,Volume"),
    "stooq bulk": [
        "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>",
        *(
            f"^SPX,D,{d:%Y%m%d},000000,{o:.2f},{h:.2f},{lo:.2f},{c:.2f},{v},0"
            for d, o, h, lo, c, v in BARS
        ),
    ],
    "investing": investing(),
    "investing, day first": investing("%d/%m/%Y"),
    "alpha vantage": plain("timestamp,open,high,low,close,volume", newest_first=True),
    "alpha vantage, numbered": plain("date,1. open,2. high,3. low,4. close,5. volume"),
    "alpha vantage, a frame without a name": plain(",1. open,2. high,3. low,4. close,5. volume"),
    "nasdaq": [
        "Date,Close/Last,Volume,Open,High,Low",
        *(
            f"{d:%m/%d/%Y},${c:.2f},{v},${o:.2f},${h:.2f},${lo:.2f}"
            for d, o, h, lo, c, v in BARS[::-1]
        ),
    ],
    "binance, ms": klines(1000),
    "binance, us": klines(1_000_000),
    "cryptodatadownload": crypto_data_download(),
    "metatrader": plain("<DATE>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<TICKVOL>", "%Y.%m.%d", "\t"),
    "tradingview": [
        "time,open,high,low,close,Volume",
        *(f"{epoch(d)},{o:.2f},{h:.2f},{lo:.2f},{c:.2f},{v}" for d, o, h, lo, c, v in BARS),
    ],
    "marketwatch": [
        "Date,Open,High,Low,Close,Volume",
        *(
            f'{d:%m/%d/%Y},"{o:,.2f}","{h:,.2f}","{lo:,.2f}","{c:,.2f}","{v:,}"'
            for d, o, h, lo, c, v in BARS[::-1]
        ),
    ],
    "refinitiv": [
        "Exchange Date,Close,Net,%Chg,Open,Low,High,Volume",
        *(
            f'{d:%d-%b-%Y},"{c:,.2f}",1.5,0.1%,"{o:,.2f}","{lo:,.2f}","{h:,.2f}","{v:,}"'
            for d, o, h, lo, c, v in BARS[::-1]
        ),
    ],
    "bloomberg": [
        "Security,SPX Index,,,,",
        "Start Date,01/02/2020,,,,",
        "",
        *plain("Dates,PX_OPEN,PX_HIGH,PX_LOW,PX_LAST,PX_VOLUME", "%d.%m.%Y"),
    ],
    "tiingo": [
        "date,close,high,low,open,volume,adjClose,adjVolume,divCash,splitFactor",
        *(
            f"{d}T00:00:00+00:00,{c:.2f},{h:.2f},{lo:.2f},{o:.2f},{v},{c:.2f},{v},0.0,1.0"
            for d, o, h, lo, c, v in BARS
        ),
    ],
    "dukascopy": plain("Gmt time,Open,High,Low,Close,Volume", "%d.%m.%Y 00:00:00.000"),
    "interactive brokers": plain("date,open,high,low,close,volume", "%Y%m%d  16:00:00"),
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Lines], Path]:
    def writer(lines: Lines) -> Path:
        path = tmp_path / "prices.csv"
        path.write_text("\n".join(lines) + "\n")
        return path

    return writer


Writer = Callable[[Lines], Path]


def load(path: Path) -> MarketHistory:
    return load_file(path, 0.025, 0.015)[0]


def refusal(path: Path, *, panel: bool = False) -> InputError:
    with pytest.raises(InputError) as caught:
        load_panel_file(path, 0.025, None, "error") if panel else load(path)
    assert path.name in caught.value.problem
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("form", FORMS)
def test_a_vendors_form_is_read_as_the_bars_it_holds(write: Writer, form: str) -> None:
    history = load(write(FORMS[form]))
    assert history.dates.tolist() == DAYS
    for name, values in (("open", OPEN), ("high", HIGH), ("low", LOW), ("close", CLOSE)):
        assert getattr(history, name)[0].tolist() == values, name
    assert history.volume[0] == pytest.approx(VOLUME)


def test_a_form_needs_no_notice_but_for_what_is_left_out_or_estimated(write: Writer) -> None:
    for form, lines in FORMS.items():
        for notice in load_file(write(lines), 0.025, 0.015)[1]:
            assert "left out" in notice or "estimated" in notice, (form, notice)


def test_yfinance_writes_the_same_to_parquet(tmp_path: Path) -> None:
    names = pd.MultiIndex.from_product(
        [["Close", "High", "Low", "Open", "Volume"], ["^GSPC"]], names=["Price", "Ticker"]
    )
    frame = pd.DataFrame(
        list(zip(CLOSE, HIGH, LOW, OPEN, VOLUME, strict=True)),
        pd.DatetimeIndex(DAYS, name="Date"),
        names,
    )
    frame.to_parquet(tmp_path / "prices.parquet")
    history = load(tmp_path / "prices.parquet")
    assert history.close[0].tolist() == CLOSE
    assert history.open[0].tolist() == OPEN


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
    "asset", [*("ticker", "tic", "symbol", "Name", "Ticker", "<TICKER>"), "Instrument", "ric"]
)
@pytest.mark.parametrize(
    "price", ["close", "Adj Close", "adjusted_close", "price", "<CLOSE>", "Price Close"]
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


def test_a_bad_row_of_a_file_from_the_newest_day_keeps_its_line(write: Writer) -> None:
    lines = plain("Date,Open,High,Low,Close,Volume", newest_first=True)
    lines[3] = lines[3].rpartition(",")[0] + ",-5"
    assert "line 4: volume -5" in refusal(write(lines)).problem


NUMBERED = "date,1. open,2. high,3. low,4. close,5. volume"


@pytest.mark.parametrize(
    "header",
    [
        NUMBERED,
        "<DATE>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>",
        "date,SPY Open,SPY High,SPY Low,SPY Close,SPY Volume",
        "date,SPY.Open,SPY.High,SPY.Low,SPY.Close,SPY.Volume",
        "date,open_spy,high_spy,low_spy,close_spy,volume_spy",
    ],
)
def test_bars_are_no_panel(write: Writer, header: str) -> None:
    assert "bars of one asset" in refusal(write(plain(header)), panel=True).problem


@pytest.mark.parametrize(
    "other", ["Volume", "volume_usd", "5. volume", "Vol.", "OpenInt", "Dividends", "Trade Count"]
)
def test_volume_and_its_like_are_never_an_asset(write: Writer, other: str) -> None:
    rows = [f"{d},{c},{c},{v}" for d, _, _, _, c, v in BARS]
    history, notices = load_panel_file(write([f"date,AA,BB,{other}", *rows]), 0.0, None, "error")
    assert history.assets == ("AA", "BB")
    assert notices == (f"prices.csv: left out, for they are no asset: {other}",)


def test_of_close_and_volume_the_close_is_the_one_asset(write: Writer) -> None:
    rows = [f"{d},{c},{v}" for d, _, _, _, c, v in BARS]
    history, notices = load_panel_file(write(["Date,Close,Volume", *rows]), 0.0, None, "error")
    assert history.assets == ("Close",)
    assert history.close[0, :, 0].tolist() == CLOSE
    assert "Volume" in notices[0]
    only = [f"{d},{v}" for d, _, _, _, _, v in BARS]
    assert "no column of prices" in refusal(write(["Date,Volume", *only]), panel=True).problem


def test_a_column_that_moves_like_volume_is_refused_whatever_its_name(write: Writer) -> None:
    amounts = np.exp(np.random.default_rng(1).normal(12.0, 1.0, len(DAYS)))
    rows = [f"{bar[0]},{bar[4]},{amount:.0f}" for bar, amount in zip(BARS, amounts, strict=True)]
    assert "not prices" in refusal(write(["Date,AA,Umsatz", *rows]), panel=True).problem


def test_tickers_that_are_words_of_bars_stay_assets(write: Writer) -> None:
    rows = [f"{d},{c},{c},{c}" for d, _, _, _, c, _ in BARS]
    for header in ("Date,LOW,HD,OPEN", "Date,High Yield,Min Vol,High Dividend"):
        history, notices = load_panel_file(write([header, *rows]), 0.0, None, "error")
        assert (",".join(history.assets), notices) == (header[5:], ())


@pytest.mark.parametrize("panel", [False, True])
def test_a_day_order_that_no_row_decides_is_not_guessed(write: Writer, panel: bool) -> None:
    short = [bar for bar in BARS if bar[0].day <= 12]
    for date in ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y"):
        rows = [f"{d:{date}},{o},{h},{lo},{c},{v}" for d, o, h, lo, c, v in short]
        if panel:
            rows = [f"{d:{date}},{c}" for d, _, _, _, c, _ in short]
        error = refusal(
            write(["Date,AA" if panel else "Date,Open,High,Low,Close,Volume", *rows]), panel=panel
        )
        assert "do not show whether its day or month comes first" in error.problem
        assert "YYYY-MM-DD" in error.remedy


def test_rows_that_contradict_each_other_decide_nothing(write: Writer) -> None:
    lines = investing()
    lines[5] = '"30/01/2020"' + lines[5][12:]
    assert "is not a date" in refusal(write(lines)).problem


def test_thousands_are_grouped_only_where_the_file_shows_the_decimal_point(write: Writer) -> None:
    rows = [f'{d},"{o:,.3f}","{h:,.3f}","{lo:,.3f}","{c:,.3f}",1' for d, o, h, lo, c, _ in BARS]
    german = [row.translate(str.maketrans(",.", ".,")).replace(".", ",", 1) for row in rows]
    head = "Date;Open;High;Low;Close;Volume"
    with_points = [f"{d};{o / 1000:.3f};4,321;1,0;2,0;1" for d, o, *_ in BARS]
    assert "not a finite number" in refusal(write([head, *with_points])).problem
    assert load(write([head.replace(";", ","), *rows])).close[0].tolist() == CLOSE
    assert refusal(write([head.replace(";", ","), *german]))


def test_a_volume_without_any_number_is_taken_as_not_known(write: Writer) -> None:
    lines = [line.replace('M","-0.52%"', "") for line in investing()]
    lines = [lines[0], *(line[: line.rindex(",")] + ',"-","-0.52%"' for line in lines[1:])]
    history, notices = load_file(write(lines), 0.025, 0.015)
    assert set(history.volume[0]) == {0.0}
    assert any("volume holds no number" in notice for notice in notices)


@pytest.mark.parametrize(
    ("lines", "problem", "remedy"),
    [
        (plain("Date,Open,High,Low,Closing price,Volume"), "no column 'close'", "closing_price"),
        (plain("Datum,Open,High,Low,Close,Volume"), "no column 'date'", "Rename"),
        (plain("Date,Open,High,Low,Close,Volume")[1:], "holds values, not names", "first line"),
        (plain("1a. open,2a. high,3a. low,x,y,z"), "no column 'date'", "needed are"),
        (
            ["Date,Open,Open (USD),Low,Close,Volume", "2020-01-02,1,1,1,1,1"],
            "no column 'high'",
            "",
        ),
        (["date,1a. open (EUR),1b. open (USD)", "2020-01-02,1,1"], "may both be the open", "one"),
    ],
)
def test_what_is_not_recognised_is_refused_with_the_column_to_rename(
    write: Writer, lines: Lines, problem: str, remedy: str
) -> None:
    error = refusal(write(lines))
    assert problem in error.problem
    assert remedy in error.remedy


def test_returns_and_numbers_of_assets_are_no_prices(write: Writer) -> None:
    rows = [f"14593,{d},{c},0.01" for d, _, _, _, c, _ in BARS]
    error = refusal(write(["PERMNO,date,PRC,RET", *rows]), panel=True)
    assert "has a column 'permno' but none of prices" in error.problem
    rows = [f"{d},{c},-0.01" for d, _, _, _, c, _ in BARS]
    assert "is not positive" in refusal(write(["date,AA,Return", *rows]), panel=True).problem
