"""Bars in the forms of vendors."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from envs.market.sources.index_file import load_file
from tests.envs.market.sources.vendor_forms import (
    BARS,
    CLOSE,
    DAYS,
    FORMS,
    HIGH,
    LOW,
    OPEN,
    VOLUME,
    Lines,
    Writer,
    investing,
    load,
    plain,
    refusal,
)


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


def test_a_first_row_without_numbers_is_no_line_of_tickers(write: Writer) -> None:
    lines = plain("Date,Open,High,Low,Close,Volume")
    lines[1] = "2020-01-02,null,null,null,null,null"
    assert "line 2: column open holds 'null'" in refusal(write(lines)).problem


def test_a_bad_row_of_a_file_from_the_newest_day_keeps_its_line(write: Writer) -> None:
    lines = plain("Date,Open,High,Low,Close,Volume", newest_first=True)
    lines[3] = lines[3].rpartition(",")[0] + ",-5"
    assert "line 4: volume -5" in refusal(write(lines)).problem


def test_bars_that_change_their_asset_on_the_way_get_a_notice(write: Writer) -> None:
    lines = plain("date,open,high,low,close,volume")
    names = ["symbol", *["FB"] * 20, *["META"] * 20]
    path = write([f"{name},{line}" for name, line in zip(names, lines, strict=True)])
    notices = load_file(path, 0.025, 0.015)[1]
    assert any("line 22: symbol changes from FB to META" in notice for notice in notices)


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
    below_one = [f"{d};{o:.2f};0,999;0,998;0,999;1" for d, o, *_ in BARS]
    assert "holds '0,999', not a finite" in refusal(write([head, *below_one])).problem
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
