"""What a whole series shows: odd things get one notice, impossible ones are refused in one line."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conf.errors import InputError
from envs.market.history import MarketHistory
from envs.market.sources.index import FileData, Sp500Data, SyntheticData, load_market
from envs.market.sources.index_file import load_file
from envs.market.sources.panel import PanelFileData, PanelStocksData, load_panel
from envs.market.sources.panel_file import load_panel_file
from envs.market.sources.series_checks import index_notices

T = 300
Frames = Callable[..., pd.DataFrame]


def index_frame(rows: int = T, seed: int = 3) -> pd.DataFrame:
    """Bars of quiet weekdays from 2015-01-05 on, prices near 100."""
    moves = np.random.default_rng(seed).normal(0.0, 0.008, rows)
    close = 100.0 * np.exp(np.cumsum(moves))
    opening = np.append(100.0, close[:-1])
    days = np.busday_offset("2015-01-05", np.arange(rows), roll="forward")
    frame = pd.DataFrame({"open": opening, "close": close}, pd.DatetimeIndex(days, name="date"))
    frame["high"] = 1.003 * frame[["open", "close"]].max(axis=1)
    frame["low"] = 0.997 * frame[["open", "close"]].min(axis=1)
    return frame.assign(volume=1e6 + np.arange(rows), implied_vol=0.15)


def panel_frame(rows: int = T, assets: int = 3) -> pd.DataFrame:
    columns = {"ABC"[at]: index_frame(rows, seed=at)["close"] for at in range(assets)}
    return pd.DataFrame(columns)


@pytest.fixture
def file(tmp_path: Path) -> Callable[[pd.DataFrame], Path]:
    def write(frame: pd.DataFrame) -> Path:
        path = tmp_path / "prices.csv"
        frame.to_csv(path, date_format="%Y-%m-%d")
        return path

    return write


File = Callable[[pd.DataFrame], Path]


def index(path: Path) -> tuple[str, ...]:
    return load_file(path, 0.025, 0.015)[1]


def panel(path: Path) -> tuple[str, ...]:
    return load_panel_file(path, 0.025, None, "error")[1]


def refusal(load: Callable[[Path], object], path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert "prices.csv" in caught.value.problem
    assert caught.value.remedy
    return str(caught.value)


def long_form(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.reset_index().melt("date", None, "ticker", "close").set_index("date")


def test_quiet_bars_need_no_notice(file: File) -> None:
    assert index(file(index_frame())) == ()
    assert panel(file(panel_frame())) == ()
    assert panel(file(long_form(panel_frame()))) == ()


def test_the_data_at_hand_needs_no_new_notice() -> None:
    notices = load_market(Sp500Data(), embargo_days=35).notices
    assert notices == (
        "sp500: implied volatility is estimated from the index's past on 3,774 of 5,031 sessions",
    )
    assert len(load_panel(PanelStocksData()).notices) == 1  # that the stocks are survivors


# Splits and other moves


def test_a_split_gets_one_notice_with_day_and_size_and_names_the_adjusted_close(file: File) -> None:
    frame = index_frame()
    frame["adj_close"] = frame["close"]
    frame.loc[: frame.index[199], ["open", "high", "low", "close"]] *= 4.0
    (notice,) = index(file(frame))
    day, change = frame.index[200], frame["adj_close"].pct_change().iloc[200]
    size = f"{100 * ((1 + change) / 4 - 1):+.1f} %"
    assert notice.startswith(f"prices.csv, line 202: close moves by {size} on {day:%Y-%m-%d}")
    assert size.startswith("-7")
    assert "splits have to be in the prices" in notice
    assert f"adj_close, which is in the file and not used, moves by {100 * change:+.1f} %" in notice


def test_a_split_without_an_adjusted_close_promises_none(file: File) -> None:
    frame = index_frame()
    frame.loc[: frame.index[199], ["open", "high", "low", "close"]] *= 4.0
    (notice,) = index(file(frame))
    assert "adj_close" not in notice


@pytest.mark.parametrize("ratio", [4.0, 2.0, 1.5, 0.1])
@pytest.mark.parametrize("long", [False, True])
def test_a_split_of_one_asset_of_a_panel_is_named(file: File, ratio: float, long: bool) -> None:
    frame = panel_frame()
    frame.loc[: frame.index[99], "B"] *= ratio
    lines = file(long_form(frame) if long else frame)
    (notice,) = [notice for notice in panel(lines) if "moves" in notice]
    line = 2 + (T if long else 0) + 100
    assert notice.startswith(f"prices.csv, line {line}: B moves by {'+' if ratio < 1 else '-'}")
    assert f"on {frame.index[100]:%Y-%m-%d}" in notice


def test_several_moves_are_counted_in_one_notice_and_the_largest_is_shown(file: File) -> None:
    frame = panel_frame()
    frame.loc[: frame.index[99], "A"] *= 2.0
    frame.loc[: frame.index[149], "B"] *= 3.0
    (notice,) = panel(file(frame))
    assert "B moves by" in notice
    assert "the largest of 2 such moves" in notice


@pytest.mark.parametrize("factor", [100.0, 0.01, 10.0])
@pytest.mark.parametrize("days", [1, 2, 3])
def test_a_price_out_of_place_for_days_is_refused(file: File, factor: float, days: int) -> None:
    bars, prices = index_frame(), panel_frame()
    bars.iloc[120 : 120 + days, :4] *= factor
    prices.iloc[120 : 120 + days, 1] *= factor
    for load, frame, name in ((index, bars, "close"), (panel, prices, "B")):
        text = refusal(load, file(frame))
        assert f"line 122: {name} moves by" in text
        assert f"is back on {frame.index[120 + days]:%Y-%m-%d}" in text


@pytest.mark.parametrize("rows", [slice(120, None), slice(120, 200)])
def test_pence_in_place_of_pounds_are_refused(file: File, rows: slice) -> None:
    frame = panel_frame()
    frame.iloc[rows, 1] *= 100.0
    assert "which no price does in a day" in refusal(panel, file(frame))


def test_a_real_collapse_is_only_a_notice(file: File) -> None:
    frame = panel_frame()
    frame.iloc[120:, 2] *= 0.004
    (notice,) = panel(file(frame))
    assert "C moves by -99.6 %" in notice


# Bars


def test_close_and_volume_swapped_are_refused(file: File) -> None:
    frame = index_frame()
    whole = frame.rename(columns={"close": "volume", "volume": "close"})
    assert "line 2: close 1e+06 lies far outside" in refusal(index, file(whole))
    once = frame.copy()
    once.iloc[7, [1, 4]] = frame.iloc[7, [4, 1]].to_numpy()
    assert "line 9: close 1.00001e+06 lies far outside" in refusal(index, file(once))


@pytest.mark.parametrize("name", ["close", "open"])
@pytest.mark.parametrize("factor", [1.5, 0.6])
def test_a_price_far_outside_the_days_range_is_refused(
    file: File, name: str, factor: float
) -> None:
    frame = index_frame()
    frame.loc[frame.index[199], name] *= factor
    text = refusal(index, file(frame))
    assert f"line 201: {name} {frame[name].iloc[199]:g} lies far outside low" in text


def test_a_few_closes_a_little_outside_get_one_notice(file: File) -> None:
    frame = index_frame()
    for row in (17, 30, 230):
        frame.loc[frame.index[row], "close"] = 1.004 * frame["high"].iloc[row]
    (notice,) = index(file(frame))
    assert "prices.csv, line 19: open" in notice
    assert f"close {frame['close'].iloc[17]:g} lies outside low" in notice
    assert "the first of 3 such rows" in notice


def test_rounding_is_no_violation(file: File) -> None:
    frame = index_frame()
    frame["high"] = frame[["open", "close"]].max(axis=1) * (1 - 1e-9)
    frame["low"] = frame[["open", "close"]].min(axis=1) * (1 + 1e-9)
    frame["high"] = frame[["high", "low"]].max(axis=1)
    assert index(file(frame)) == ()


def test_adjusted_closes_beside_raw_bars_are_refused(file: File) -> None:
    frame = index_frame()
    frame["close"] *= np.linspace(0.9, 1.0, T)
    assert "all adjusted or none" in refusal(index, file(frame))


@pytest.mark.parametrize(("name", "factor"), [("high", 10.0), ("low", 0.1)])
def test_a_high_or_low_of_another_magnitude_is_refused(
    file: File, name: str, factor: float
) -> None:
    frame = index_frame()
    frame.loc[frame.index[50], name] *= factor
    assert "line 52: low" in refusal(index, file(frame))
    frame.loc[frame.index[50], name] /= factor / (2.0 if name == "high" else 0.5)
    (notice,) = index(file(frame))
    assert "line 52" in notice


# Days


@pytest.mark.parametrize("load", [index, panel])
def test_sundays_in_place_of_mondays_get_a_notice(
    file: File, load: Callable[[Path], tuple[str, ...]]
) -> None:
    frame = index_frame() if load is index else panel_frame()
    frame.index = pd.DatetimeIndex(frame.index) - pd.Timedelta(days=1)
    (notice,) = load(file(frame))
    assert "60 rows lie on a Saturday or Sunday, the first on 2015-01-04" in notice
    assert "hardly any on a Friday" in notice


def test_a_row_on_a_saturday_gets_a_notice(file: File) -> None:
    frame = index_frame()
    frame.index = frame.index.where(frame.index != frame.index[4], pd.Timestamp("2015-01-10"))
    (notice,) = index(file(frame))
    assert "1 rows lie on a Saturday or Sunday, the first on 2015-01-10" in notice
    assert "hardly" not in notice


def test_a_market_that_never_closes_needs_no_notice(file: File) -> None:
    for frame, load in ((index_frame(), index), (panel_frame(), panel)):
        frame.index = pd.date_range("2015-01-05", periods=T, name="date")
        assert load(file(frame)) == ()


@pytest.mark.parametrize(("step", "days"), [(5, 7), (2, 2), (21, 29)])
def test_rows_that_are_not_daily_suit_an_allocation_alone(file: File, step: int, days: int) -> None:
    frame = index_frame(60 * step).iloc[::step]
    text = refusal(index, file(frame))
    assert "the rows are not daily" in text
    assert "they are" in text
    prices = panel_frame(60 * step).iloc[::step]
    assert panel(file(prices)) == ()


def test_years_of_weekly_rows_within_daily_ones(file: File) -> None:
    frame, prices = index_frame(), panel_frame()
    weekly = [*range(0, 100, 5), *range(100, T)]
    assert "from 2015-01-05 on they are 7 days apart" in refusal(index, file(frame.iloc[weekly]))
    (notice,) = panel(file(prices.iloc[weekly]))
    assert "not evenly spaced" in notice


@pytest.mark.parametrize("load", [index, panel])
@pytest.mark.parametrize(
    ("day", "words"),
    [
        ("0001-01-01", "before 1800"),
        ("1799-12-31", "before 1800"),
        ("9999-12-31", "in the future"),
        ("3020-01-02", "in the future"),
    ],
)
def test_years_that_no_market_has_are_refused(
    file: File, load: Callable[[Path], object], day: str, words: str
) -> None:
    frame = index_frame(5) if load is index else panel_frame(5)
    frame.index = pd.Index([day, *frame.index[1:].astype(str)], name="date")
    assert f"line 2: date {day} is {words}" in refusal(load, file(frame))


@pytest.mark.parametrize("load", [index, panel])
@pytest.mark.parametrize("year", [-1, 10_000, 250_000])
def test_parquet_knows_years_that_no_calendar_has(
    tmp_path: Path, load: Callable[[Path], object], year: int
) -> None:
    frame = (index_frame(5) if load is index else panel_frame(5)).reset_index()
    frame["date"] = np.array([f"{year:+07d}-01-01"] * 5, dtype="datetime64[s]")
    path = tmp_path / "prices.csv"
    frame.to_parquet(path)
    assert "row 1" in refusal(load, path)


def test_weekends_that_repeat_the_price_before_get_a_notice(file: File) -> None:
    for frame, load in ((index_frame(), index), (panel_frame(), panel)):
        filled = frame.resample("D").ffill()
        (notice,) = load(file(filled.assign(volume=1.0) if load is index else filled))
        assert "118 rows on weekends repeat the price before: leave them out" in notice


def test_a_price_that_stands_still_gets_a_notice(file: File) -> None:
    frame = panel_frame()
    frame.iloc[100:131, 1] = frame["B"].to_numpy()[100]
    (notice,) = panel(file(frame))
    assert (
        notice == f"file prices.csv: B stands still for 30 rows from {frame.index[100]:%Y-%m-%d} on"
    )
    frame["B"] = frame["C"] = 14593
    (notice,) = panel(file(frame))
    assert "B stands still for 299 rows from 2015-01-05 on (1 others do so)" in notice


def test_returns_in_place_of_prices_get_a_notice(file: File) -> None:
    frame = panel_frame()
    frame["C"] = 1.0 + frame["C"].pct_change().fillna(0.0)
    (notice,) = panel(file(frame))
    assert "C undoes each move with the next: are these prices?" in notice


# Magnitudes of volatilities, rates and prices


@pytest.mark.parametrize(
    ("name", "usual", "odd", "impossible"),
    [("vix", 15.0, 150.0, 1500.0), ("implied_vol", 0.15, 1.5, 15.0), ("vix", 15.0, 1.5, 0.15)],
)
def test_volatilities(file: File, name: str, usual: float, odd: float, impossible: float) -> None:
    frame = index_frame().drop(columns="implied_vol").assign(**{name: usual})
    assert index(file(frame)) == ()
    frame.iloc[[70, 90], -1] = odd
    (notice,) = index(file(frame))
    decimal = odd if name == "implied_vol" else odd / 100
    assert notice.startswith("prices.csv, line 72: implied volatility of")
    assert f"{decimal:.1%}" in notice
    assert "the first of 2 such rows" in notice
    frame.iloc[70, -1] = impossible
    assert f"line 72: {name} {impossible:g} is" in refusal(index, file(frame))


@pytest.mark.parametrize("name", ["rate", "dividend_yield"])
def test_a_rate_meant_in_per_cent_gets_a_notice(file: File, name: str) -> None:
    path = str(file(index_frame().assign(**{name: 0.5})))
    (notice,) = load_market(FileData(path=path), embargo_days=0).notices
    assert notice.startswith(
        f"{name} is 0.5 in absolute value on 2015-01-05, which means 50% a year"
    )
    changes: dict[str, Any] = {name: -0.5}
    synthetic = replace(SyntheticData(sessions=100), **changes)
    assert "means 50% a year" in load_market(synthetic, embargo_days=0).notices[0]


def test_a_high_rate_of_a_panel_gets_a_notice(file: File) -> None:
    path = str(file(panel_frame()))
    assert "50% a year" in load_panel(PanelFileData(path=path, rate=0.5)).notices[0]
    assert load_panel(PanelFileData(path=path, rate=0.2)).notices == ()
    text = refusal(panel, file(panel_frame().assign(rate=2.5)))
    assert "rate 2.5 is not a decimal rate" in text


@pytest.mark.parametrize("factor", [1e-20, 1e20, 1e300])
def test_prices_of_impossible_size_are_refused(file: File, factor: float) -> None:
    frame = index_frame()
    frame.iloc[:, :4] *= factor
    assert "is beyond any" in refusal(index, file(frame))
    assert "is beyond any" in refusal(panel, file(panel_frame() * factor))


def test_notices_name_the_file_and_no_folder(file: File, tmp_path: Path) -> None:
    frame = index_frame().assign(note="x")
    frame.iloc[:100, :4] *= 2.0
    notices = index(file(frame))
    assert len(notices) == 2
    assert not any(str(tmp_path) in notice for notice in notices)


def test_checks_of_a_history_without_a_file() -> None:
    frame = index_frame()
    columns: dict[str, Any] = {name: frame[name].to_numpy() for name in frame.columns}
    flat = np.full(T, 0.02)
    history = MarketHistory(
        name="yahoo",
        dates=frame.index.to_numpy(),
        implied_vol_source=np.ones(T, np.int8),
        rate=flat,
        dividend_yield=flat,
        **columns,
    )

    def place(day: np.datetime64, asset: str) -> str:
        return f"yahoo, {day}"

    assert index_notices(history, place) == ()
    close = history.close.copy()
    close[0, 9] *= 1.5
    with pytest.raises(InputError, match=f"yahoo, {dt.date(2015, 1, 16)}: close"):
        index_notices(replace(history, close=close), place)
