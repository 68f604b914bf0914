from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.errors import InputError
from envs.market.panel import PanelHistory
from envs.market.sources.panel_file import load_panel_file
from envs.market.sources.panel_gaps import Incomplete

WIDE = [
    "Date,AAPL,BRK-B,Gold Fund",
    "2020-01-02,10,100,50",
    "2020-01-03,11,101,51",
    "2020-01-06,12,102,52",
    "2020-01-07,13,103,53",
]
LONG = ["date,ticker,Adj Close"] + [
    f"{row.split(',')[0]},{asset},{price}"
    for row in WIDE[1:]
    for asset, price in zip(WIDE[0].split(",")[1:], row.split(",")[1:], strict=True)
]

Writer = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    def writer(lines: Sequence[str], name: str = "prices.csv") -> Path:
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n")
        return path

    return writer


def load(
    path: Path, assets: Sequence[str] | None = None, incomplete: Incomplete = "error"
) -> tuple[PanelHistory, tuple[str, ...]]:
    return load_panel_file(path, 0.025, assets, incomplete)


def refusal(path: Path, incomplete: Incomplete = "error") -> InputError:
    with pytest.raises(InputError) as caught:
        load(path, incomplete=incomplete)
    assert path.name in caught.value.problem
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    return caught.value


def changed(lines: Sequence[str], at: int, cell: int, value: str) -> list[str]:
    rows = [line.split(",") for line in lines]
    rows[at][cell] = value
    return [",".join(row) for row in rows]


def test_a_wide_file_is_read_as_it_stands(write: Writer) -> None:
    history, notices = load(write(WIDE))
    assert history.assets == ("AAPL", "BRK-B", "Gold Fund")
    assert history.dates.astype(str).tolist() == [line[:10] for line in WIDE[1:]]
    assert history.close.shape == (1, 4, 3)
    assert history.close[0, :, 0].tolist() == [10, 11, 12, 13]
    assert history.close[0, 3].tolist() == [13, 103, 53]
    assert set(history.rate) == {0.025}
    assert history.name == "file prices.csv"
    assert notices == ()


def test_a_long_file_holds_the_same_panel_in_any_order(write: Writer) -> None:
    wide = load(write(WIDE))[0]
    assert load(write(LONG))[0].fingerprint == wide.fingerprint
    by_asset = [LONG[0], *sorted(LONG[1:], key=lambda line: line.split(",")[1])]
    assert load(write(by_asset))[0].fingerprint == wide.fingerprint


@pytest.mark.parametrize("lines", [WIDE, LONG])
@pytest.mark.parametrize("indexed", [False, True])
def test_parquet_holds_the_same_panel(
    write: Writer, tmp_path: Path, lines: list[str], indexed: bool
) -> None:
    csv = write(lines)
    frame = pd.read_csv(csv)
    name = str(frame.columns[0])
    frame[name] = pd.to_datetime(frame[name])
    path = tmp_path / "prices.parquet"
    (frame.set_index(name) if indexed else frame).to_parquet(path)
    assert load(path)[0].fingerprint == load(csv)[0].fingerprint


def test_chosen_assets_come_in_the_requested_order(write: Writer) -> None:
    for lines in (WIDE, LONG):
        history = load(write(lines), assets=("Gold Fund", "AAPL"))[0]
        assert history.assets == ("Gold Fund", "AAPL")
        assert history.close[0, 0].tolist() == [50, 10]
    with pytest.raises(InputError, match=r"has no asset 'APPL'.*Did you mean 'AAPL'"):
        load(write(WIDE), assets=("APPL",))


def test_a_column_that_is_not_chosen_may_hold_anything(write: Writer) -> None:
    path = write(changed(WIDE, 2, 3, "n/a"))
    assert load(path, assets=("AAPL", "BRK-B"))[0].num_assets == 2
    assert "holds 'n/a'" in refusal(path).problem


def test_a_rate_column_wins_over_the_constant(write: Writer) -> None:
    path = write([f"{line},{'rate' if at == 0 else at / 100}" for at, line in enumerate(WIDE)])
    history, _ = load(path)
    assert history.assets == ("AAPL", "BRK-B", "Gold Fund")
    assert history.rate.tolist() == [0.01, 0.02, 0.03, 0.04]


def test_row_numbers_in_front_are_left_out_and_said_so(write: Writer) -> None:
    path = write([f"{'' if at == 0 else at - 1},{line}" for at, line in enumerate(WIDE)])
    history, notices = load(path)
    assert history.fingerprint == load(write(WIDE))[0].fingerprint
    assert "column without a name" in notices[0]


def test_adjusted_closes_come_first_and_what_is_left_out_is_said(write: Writer) -> None:
    lines = [f"{line},{'close' if at == 0 else 999}" for at, line in enumerate(LONG)]
    history, notices = load(write(lines))
    assert history.close[0, 0].tolist() == [10, 100, 50]
    assert "column adj_close; left out: close" in notices[0]


@pytest.mark.parametrize(
    "lines", [changed(WIDE, 3, 2, ""), [*LONG[:8], *LONG[9:]], changed(LONG, 8, 2, "")]
)
def test_a_missing_price_is_named_by_asset_and_day(write: Writer, lines: list[str]) -> None:
    error = refusal(write(lines))
    assert "BRK-B has no price on 2020-01-06 (1 prices are missing in all)" in error.problem
    assert "drop_assets or start_later" in error.remedy


def test_assets_with_a_hole_can_be_dropped_and_are_named(write: Writer) -> None:
    history, notices = load(write(changed(WIDE, 3, 2, "")), incomplete="drop_assets")
    assert history.assets == ("AAPL", "Gold Fund")
    assert history.close[0, :, 1].tolist() == [50, 51, 52, 53]
    assert "BRK-B (none on 2020-01-06)" in notices[0]
    every = changed(changed(changed(WIDE, 1, 1, ""), 2, 2, ""), 3, 3, "")
    assert "every asset lacks a price" in refusal(write(every), "drop_assets").problem


def test_the_panel_can_start_where_all_assets_have_a_price(write: Writer) -> None:
    rated = [f"{line},{'rate' if at == 0 else at / 100}" for at, line in enumerate(WIDE)]
    late = changed(changed(changed(rated, 1, 2, ""), 2, 2, ""), 1, 1, "")
    history, notices = load(write(late), incomplete="start_later")
    assert history.dates.astype(str).tolist() == ["2020-01-06", "2020-01-07"]
    assert history.rate.tolist() == [0.03, 0.04]
    assert "starts on 2020-01-06, 2 sessions after its first: BRK-B has no price" in notices[0]
    whole, notices = load(write(WIDE), incomplete="start_later")
    assert (whole.num_sessions, notices) == (4, ())


def test_a_hole_after_the_start_stays_an_error(write: Writer) -> None:
    holed = changed(changed(WIDE, 1, 2, ""), 3, 1, "")
    error = refusal(write(holed), "start_later")
    assert "AAPL has no price on 2020-01-06" in error.problem
    never = [
        ",".join([*line.split(",")[:-1], "" if at else "Gold"]) for at, line in enumerate(WIDE)
    ]
    assert "Gold has no price at all" in refusal(write(never), "start_later").problem
    apart = [WIDE[0], "2020-01-02,10,,1", "2020-01-03,,101,1"]
    assert "no session on which all assets" in refusal(write(apart), "start_later").problem


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (changed(WIDE, 2, 1, "0"), "line 3: aapl 0 is not positive"),
        (changed(WIDE, 2, 1, "-4"), "line 3: aapl -4 is not positive"),
        (changed(WIDE, 2, 1, "inf"), "line 3: column aapl holds 'inf'"),
        (changed(WIDE, 2, 1, "nan"), "line 3: column aapl holds 'nan'"),
        (changed(WIDE, 2, 1, "1,5"), "line 3 has 5 cells, the header has 4"),
        (changed(WIDE, 2, 0, "03.01.2020"), "line 3: '03.01.2020' in column date is not a date"),
        (changed(WIDE, 2, 0, "2020-01-02"), "line 3: date 2020-01-02 appears twice"),
        (changed(WIDE, 2, 0, "2020-01-01"), "line 3: date 2020-01-01 comes after 2020-01-02"),
        (changed(WIDE, 4, 0, "2020-02-07"), "line 5: date 2020-02-07 leaves 23 weekdays missing"),
        (changed(WIDE, 0, 0, "day"), "has no column 'date'"),
        (changed(WIDE, 0, 1, "brk-b"), "two columns named 'brk-b'"),
        ([line.split(",")[0] for line in WIDE], "has no column of prices"),
        (["date,open,high,low,close", "2020-01-02,1,1,1,1"], "looks like the bars of one asset"),
        (changed(LONG, 4, 2, "0"), "line 5: adj_close 0 is not positive"),
        (changed(LONG, 4, 2, "x"), "line 5: column adj_close holds 'x'"),
        (changed(LONG, 4, 1, ""), "line 5: column ticker holds no name"),
        (changed(LONG, 4, 0, "soon"), "line 5: 'soon' in column date"),
        ([*LONG, "2020-01-06,AAPL,12"], "line 14: AAPL has a second row for 2020-01-06; the first"),
        (changed(LONG, 0, 2, "value"), "has a column 'ticker' but none of prices"),
        (changed(WIDE, 3, 3, "5x"), "line 4: column gold_fund holds '5x'"),
    ],
)
def test_bad_input_is_one_error_with_its_place(write: Writer, lines: list[str], words: str) -> None:
    assert words in refusal(write(lines)).problem


def test_a_long_file_with_a_hole_in_time_is_refused(write: Writer) -> None:
    lines = [LONG[0], *(line.replace("2020-01-07", "2020-02-07") for line in LONG[1:])]
    assert "23 weekdays are missing" in refusal(write(lines)).problem


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "there is no file" in refusal(tmp_path / "none.csv").problem


@settings(max_examples=100, deadline=None)
@given(
    long=st.booleans(),
    at=st.integers(0, 4),
    cell=st.integers(0, 2),
    value=st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=8),
)
def test_no_cell_whatever_breaks_the_reader(
    tmp_path_factory: pytest.TempPathFactory, long: bool, at: int, cell: int, value: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "panel.csv"
    lines = changed(LONG if long else WIDE, at, cell, value)
    path.write_text("\n".join(lines), newline="", encoding="utf-8")
    try:
        result = f"{path.name} holds {np.isfinite(load(path)[0].close).sum()} prices"
    except InputError as error:
        result = error.problem
    assert path.name in result
