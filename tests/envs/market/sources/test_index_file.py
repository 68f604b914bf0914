from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.errors import InputError
from envs.market.history import VOL_ESTIMATED, VOL_OBSERVED, MarketHistory
from envs.market.sources.index_file import load_file
from envs.market.volatility_estimate import estimate_implied_vol

HEADER = "Date,Open,High,Low,Close,Volume"
ROWS = [
    "2020-01-02,100,102,99,101,1000",
    "2020-01-03,101,103,100,102,1100",
    "2020-01-06,102,104,101,103,0",
    "2020-01-07,103,105,102,104,1300",
]

Writer = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    def writer(*lines: str, name: str = "prices.csv", ending: str = "\n") -> Path:
        path = tmp_path / name
        path.write_bytes((ending.join(lines) + ending).encode())
        return path

    return writer


def load(path: Path) -> MarketHistory:
    return load_file(path, 0.025, 0.015)[0]


def refusal(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        load_file(path, 0.025, 0.015)
    assert str(path) in caught.value.problem
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_plain_file_is_read_as_it_stands(write: Writer) -> None:
    history = load(write(HEADER, *ROWS))
    assert history.dates.astype(str).tolist() == [row[:10] for row in ROWS]
    assert history.open[0].tolist() == [100, 101, 102, 103]
    assert history.high[0].tolist() == [102, 103, 104, 105]
    assert history.low[0].tolist() == [99, 100, 101, 102]
    assert history.close[0].tolist() == [101, 102, 103, 104]
    assert history.volume[0].tolist() == [1000, 1100, 0, 1300]
    assert set(history.rate) == {0.025}
    assert set(history.dividend_yield) == {0.015}
    assert history.name == "file prices.csv"


def test_without_vix_the_volatility_is_estimated_and_said_so(write: Writer) -> None:
    history, notices = load_file(write(HEADER, *ROWS), 0.025, 0.015)
    expected = estimate_implied_vol(history.high, history.low, history.close)
    assert np.array_equal(history.implied_vol, expected)
    assert not history.implied_vol_source.any()
    assert "estimated from the index's past on 4 of 4 sessions" in notices[0]


def test_vix_is_points_and_a_blank_cell_is_estimated(write: Writer) -> None:
    lines = [f"{row},{vix}" for row, vix in zip(ROWS, ("15", "", "16.5", "17"), strict=True)]
    history = load(write(HEADER + ",VIX", *lines))
    assert history.implied_vol[0, [0, 2, 3]].tolist() == [0.15, 0.165, 0.17]
    source = [VOL_OBSERVED, VOL_ESTIMATED, VOL_OBSERVED, VOL_OBSERVED]
    assert history.implied_vol_source.tolist() == source


def test_implied_vol_is_a_decimal_and_needs_no_notice(write: Writer) -> None:
    path = write(HEADER + ",implied_vol", *(f"{row},0.2" for row in ROWS))
    history, notices = load_file(path, 0.025, 0.015)
    assert set(history.implied_vol[0]) == {0.2}
    assert notices == ()


def test_rate_columns_win_over_the_constants(write: Writer) -> None:
    path = write(HEADER + ",rate,dividend_yield", *(f"{row},0.01,-0.002" for row in ROWS))
    history = load(path)
    assert set(history.rate) == {0.01}
    assert set(history.dividend_yield) == {-0.002}


def test_other_numeric_columns_become_extras_and_texts_are_left_out(write: Writer) -> None:
    path = write(HEADER + ",Adj Close,flows,ticker", *(f"{row},99.5,0,SPX" for row in ROWS))
    history, notices = load_file(path, 0.025, 0.015)
    assert sorted(history.extras) == ["adj_close", "flows"]
    assert history.extras["adj_close"].tolist() == [[99.5] * 4]
    assert history.extras["flows"].tolist() == [[0.0] * 4]
    assert "'ticker'" in notices[0]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_delimiters_line_ends_case_order_and_byte_order_mark(
    write: Writer, delimiter: str, ending: str
) -> None:
    plain = load(write(HEADER, *ROWS))
    swapped = [",".join(reversed(row.split(","))) for row in ROWS]
    header = ",".join(reversed(HEADER.upper().split(",")))
    lines = [line.replace(",", delimiter) for line in (header, *swapped)]
    odd = load(write("\ufeff" + lines[0], "", *lines[1:], name="odd.txt", ending=ending))
    assert odd.fingerprint == plain.fingerprint


@pytest.mark.parametrize(
    "dates",
    [
        ("2020/01/02", "2020/01/03", "2020/01/06", "2020/01/07"),
        ("20200102", "20200103", "20200106", "20200107"),
        tuple(f"2020-01-0{day} 00:00:00-05:00" for day in (2, 3, 6, 7)),
        tuple(f"2020-01-0{day}T16:00:00" for day in (2, 3, 6, 7)),
    ],
)
def test_unambiguous_date_styles_are_read(write: Writer, dates: tuple[str, ...]) -> None:
    lines = [date + row[10:] for date, row in zip(dates, ROWS, strict=True)]
    assert load(write(HEADER, *lines)).fingerprint == load(write(HEADER, *ROWS)).fingerprint


@pytest.mark.parametrize("indexed", [False, True])
def test_parquet_holds_the_same_market_as_csv(write: Writer, tmp_path: Path, indexed: bool) -> None:
    csv = write(HEADER, *ROWS)
    frame = pd.read_csv(csv, parse_dates=["Date"])
    path = tmp_path / "prices.parquet"
    (frame.set_index("Date") if indexed else frame).to_parquet(path)
    assert load(path).fingerprint == load(csv).fingerprint


def changed(at: int, cell: int, value: str) -> list[str]:
    rows = [row.split(",") for row in ROWS]
    rows[at][cell] = value
    return [",".join(row) for row in rows]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (changed(2, 4, "0"), "line 4: close 0 is not positive"),
        (changed(2, 1, "-5"), "line 4: open -5 is not positive"),
        (changed(1, 4, ""), "line 3: column close is empty"),
        (changed(1, 4, "nan"), "line 3: column close holds 'nan'"),
        (changed(1, 4, "inf"), "line 3: column close holds 'inf'"),
        (changed(1, 4, "n/a"), "line 3: column close holds 'n/a'"),
        (changed(1, 4, "1_0"), "line 3: column close holds '1_0'"),
        (changed(3, 5, "-1"), "line 5: volume -1 is negative"),
        (changed(3, 5, ""), "line 5: column volume is empty"),
        (changed(0, 2, "98"), "line 2: high 98 is below low 99"),
        (changed(0, 0, "soon"), "line 2: 'soon' in column date is not a date"),
        (changed(0, 0, "2020-02-30"), "line 2: '2020-02-30' in column date is not a date"),
        (changed(0, 0, "01/02/2020"), "line 2: '01/02/2020' in column date is not a date"),
        (changed(0, 0, ""), "line 2: '' in column date is not a date"),
        (changed(1, 0, "2020-01-02"), "line 3: date 2020-01-02 appears twice"),
        (changed(2, 0, "2020-01-01"), "line 4: date 2020-01-01 comes after 2020-01-03"),
        (changed(3, 0, "2020-01-22"), "line 5: date 2020-01-22 leaves 11 weekdays missing"),
        ([*ROWS, "2020-01-08,1,2"], "line 6 has 3 cells, the header has 6"),
        ([*ROWS, '2020-01-08,"1'], "line 6 is not valid CSV"),
    ],
)
def test_a_bad_row_is_named_with_its_value(write: Writer, rows: list[str], words: str) -> None:
    assert words in refusal(write(HEADER, *rows)).problem


def test_a_gap_of_ten_weekdays_is_still_allowed(write: Writer) -> None:
    assert load(write(HEADER, *changed(3, 0, "2020-01-21"))).num_sessions == 4


def test_the_line_is_that_of_an_editor_even_after_blank_lines(write: Writer) -> None:
    path = write("", HEADER, "", *changed(1, 4, "x"))
    assert f"{path}, line 5:" in refusal(path).problem
    assert "'x'" in path.read_text().splitlines()[4].replace("x", "'x'")


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("vix", "0.15", "vix 0.15 is too low for points"),
        ("vix", "0", "vix 0 is not positive"),
        ("vix", "high", "column vix holds 'high'"),
        ("implied_vol", "15", "implied_vol 15 is too high for a decimal"),
        ("rate", "2.5", "rate 2.5 is not a decimal rate"),
        ("rate", "", "column rate is empty"),
        ("dividend_yield", "x", "column dividend_yield holds 'x'"),
    ],
)
def test_a_bad_optional_column_is_named(write: Writer, column: str, value: str, words: str) -> None:
    lines = [
        f"{row},{value if at == 1 else 0.2 if column != 'vix' else 15}"
        for at, row in enumerate(ROWS)
    ]
    assert f"line 3: {words}" in refusal(write(f"{HEADER},{column}", *lines)).problem


def test_a_quote_left_open_is_found_where_it_opens(write: Writer) -> None:
    rows = [ROWS[0], '"' + ROWS[1], *ROWS[2:]]
    assert "line 3 is not valid CSV" in refusal(write(HEADER, *rows)).problem


def test_an_extra_with_a_hole_is_refused(write: Writer) -> None:
    lines = [f"{row},{'' if at == 2 else at}" for at, row in enumerate(ROWS)]
    assert "line 4: column flow is empty" in refusal(write(f"{HEADER},flow", *lines)).problem


@pytest.mark.parametrize("missing", ["date", "open", "high", "low", "close", "volume"])
def test_a_missing_column_is_named(write: Writer, missing: str) -> None:
    position = HEADER.lower().split(",").index(missing)
    lines = []
    for line in (HEADER, *ROWS):
        cells = line.split(",")
        del cells[position]
        lines.append(",".join(cells))
    assert f"has no column {missing!r}" in refusal(write(*lines)).problem


def test_a_misspelt_column_gets_a_suggestion(write: Writer) -> None:
    error = refusal(write(HEADER.replace("Close", "Closing"), *ROWS))
    assert "Rename 'closing'" in error.remedy


def test_columns_that_differ_in_case_only_are_refused(write: Writer) -> None:
    path = write(HEADER + ",close", *(f"{row},1" for row in ROWS))
    assert "two columns named 'close'" in refusal(path).problem


def test_vix_and_implied_vol_together_are_refused(write: Writer) -> None:
    path = write(HEADER + ",vix,implied_vol", *(f"{row},15,0.15" for row in ROWS))
    assert "both vix and implied_vol" in refusal(path).problem


def test_a_file_that_is_not_there_or_a_folder(tmp_path: Path) -> None:
    assert "there is no file" in refusal(tmp_path / "none.csv").problem
    assert "is a folder" in refusal(tmp_path).problem


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"\xef\xbb\xbf\n", "is empty"),
        (HEADER.encode(), "has a header but no rows"),
        (b"\x00\x01\x02\xff" * 50, "is not a text file"),
        (HEADER.encode() + b"\n2020-01-02,\xe9", "line 2 is not UTF-8 text"),
        (b"PAR1 and then nothing of the sort", "is a damaged Parquet file"),
        (b"<!doctype html><html><body>Sign in</body></html>", "JSON or a web page"),
        (b'{"Information": "25 requests a day"}', "JSON or a web page"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "prices.csv"
    path.write_bytes(content)
    assert words in refusal(path).problem


def test_a_parquet_row_is_counted_from_one(tmp_path: Path) -> None:
    dates = [dt.date(2020, 1, 2), dt.date(2020, 1, 3)]
    frame = pd.DataFrame({"date": dates, "volume": [1, 2]})
    for name in ("open", "high", "low", "close"):
        frame[name] = pd.array([100, None], dtype="Int64")
    path = tmp_path / "prices.parquet"
    frame.to_parquet(path)
    assert "row 2: column open is empty" in refusal(path).problem


@settings(max_examples=150, deadline=None)
@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_no_content_whatever_raises_anything_but_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "anything.csv"
    path.write_bytes(content)
    with pytest.raises(InputError):
        load_file(path, 0.025, 0.015)


@settings(max_examples=150, deadline=None)
@given(
    at=st.integers(0, 3),
    cell=st.integers(0, 5),
    value=st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=8),
)
def test_no_cell_whatever_breaks_the_reader(
    tmp_path_factory: pytest.TempPathFactory, at: int, cell: int, value: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "cells.csv"
    path.write_text("\n".join([HEADER, *changed(at, cell, value)]), newline="", encoding="utf-8")
    try:
        result = f"{path} holds {load(path).num_sessions} sessions"
    except InputError as error:
        result = error.problem
    assert str(path) in result
