"""Damaged market files: each is read with sane values or refused in one line."""

from __future__ import annotations

import io
import random
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conf.errors import InputError
from envs.market.history import MarketHistory
from envs.market.indicators import market_features, panel_features
from envs.market.panel import PanelHistory
from envs.market.sources.index_file import load_file
from envs.market.sources.panel_file import load_panel_file

Rows = list[list[str]]
SESSIONS = 90
CELLS = (
    *("", " ", "nan", "NaN", "inf", "-inf", "1e308", "1e-308", "1e400", "0", "-0", "-1", "1e12"),
    *("1_000", "0x10", "true", "None", "#N/A", "-", ".", "$12.5", "1,234.5", "12,5", "1.2K", "5 %"),
    *('"', "'", "٣", "１２", "é", "\u202e", "\ufeff", "\x1b[31m", "=1+1", "a" * 6000, "9" * 5000),
    *("2020-01-02", "2020-13-45", "01/02/2020", "31/01/2020", "0001-01-01", "9999-12-31", "99999"),
    *(
        "1577923200",
        "1577923200000",
        "20200102",
        "2020-02-30",
        "Jan 02, 2020",
        "Foo 02, 2020",
        "NaT",
    ),
)
NAMES = (
    *("date", "Date", "", "open", "High", "close", "Close", "Adj Close", "volume", "vix", "rate"),
    *(
        "implied_vol",
        "dividend_yield",
        "ticker",
        "Price",
        "1. open",
        "<DATE>",
        "unix",
        "Volume BTC",
    ),
    *("symbol", "Name", "9" * 400, "\x00", "é", "a,b", '"', "Ticker", "asset", "price"),
)
FACTORS = (0.0, -1.0, 1e-300, 1e300, 1e-6, 1e6, 0.01, 100.0, 0.25, 4.0, 0.5, 1.1, 1e15)


def index_rows(dice: np.random.Generator) -> Rows:
    close = 100.0 * np.exp(np.cumsum(0.01 * dice.standard_normal(SESSIONS)))
    opening = np.append(100.0, close[:-1])
    days = np.busday_offset("2020-01-02", np.arange(SESSIONS), roll="forward")
    rows = [["Date", "Open", "High", "Low", "Close", "Volume", "VIX", "Adj Close", "rate"]]
    for at, day in enumerate(days):
        pair = (opening[at], close[at])
        prices = (opening[at], 1.005 * max(pair), 0.995 * min(pair), close[at])
        texts = [f"{price:.4f}" for price in prices]
        rows.append([str(day), *texts, str(1000 + at), f"{15 + at % 7}.5", texts[3], "0.02"])
    return rows


def panel_rows(dice: np.random.Generator, *, long: bool) -> Rows:
    close = 100.0 * np.exp(np.cumsum(0.01 * dice.standard_normal((SESSIONS, 3)), axis=0))
    days = np.busday_offset("2020-01-02", np.arange(SESSIONS), roll="forward").astype(str)
    names = ["AAA", "BBB", "CCC"]
    wide = [["Date", *names]]
    wide += [[day, *(f"{p:.4f}" for p in row)] for day, row in zip(days, close, strict=True)]
    if not long:
        return wide
    stacked = [[row[0], name, row[1 + at]] for row in wide[1:] for at, name in enumerate(names)]
    return [["date", "ticker", "Adj Close"], *stacked]


def change_cell(rows: Rows, dice: random.Random) -> None:
    row = dice.choice(rows[1:] or rows)
    row[dice.randrange(len(row))] = dice.choice(CELLS)


def change_magnitude(rows: Rows, dice: random.Random) -> None:
    column, factor = dice.randrange(len(rows[0])), dice.choice(FACTORS)
    first = dice.randrange(1, len(rows))
    last = dice.choice((first + 1, first + 1, first + 5, len(rows)))
    for row in rows[first:last]:
        try:
            row[column] = repr(float(row[column]) * factor)
        except (ValueError, IndexError):
            row[-1] = "7"


def change_dates(rows: Rows, dice: random.Random) -> None:
    shift = dice.choice((1, -1, 2, 7, 365, -1000, 40_000, -80_000, 3_000_000))
    style = dice.choice(("%Y-%m-%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%b %d, %Y", "%Y%m%d"))
    every = dice.choice((1, 5, 21))
    if every > 1:
        rows[1:] = rows[1::every]
    for row in rows[1:]:
        if dice.random() < dice.choice((1.0, 1.0, 0.1)):
            try:
                day = np.datetime64(row[0], "D") + shift
                row[0] = day.item().strftime(style)
            except (ValueError, AttributeError):
                pass


def change_rows(rows: Rows, dice: random.Random) -> None:
    kind = dice.randrange(6)
    at, other = dice.randrange(1, len(rows)), dice.randrange(1, len(rows))
    if kind == 0:
        rows[at], rows[other] = rows[other], rows[at]
    elif kind == 1:
        rows.insert(at, list(rows[other]))
    elif kind == 2:
        del rows[at : at + dice.choice((1, 3, 15))]
    elif kind == 3:
        rows[1:] = rows[:0:-1]
    elif kind == 4:
        rows[at] = rows[at][: dice.randrange(len(rows[at]) + 1)]
    else:
        del rows[dice.randrange(1, 4) :]


def change_header(rows: Rows, dice: random.Random) -> None:
    kind, header = dice.randrange(6), rows[0]
    at = dice.randrange(len(header)) if header else 0
    if kind == 0:
        del rows[0]
    elif kind == 1:
        rows.insert(0, [dice.choice(("https://example.org/", "Date", "Price", ""))])
    elif kind == 2:
        rows.insert(1, ["Ticker", *["X"] * (len(header) - 1)])
        rows[0] = ["Price", *header[1:]]
    elif kind == 3:
        dice.shuffle(header)
    else:
        header[at : at + 1] = [dice.choice(NAMES)]


def change_columns(rows: Rows, dice: random.Random) -> None:
    width = min(len(row) for row in rows)
    if width < 2:
        return
    at, other = dice.randrange(width), dice.randrange(width)
    for row in rows:
        if dice.random() < 0.9 or row is rows[0]:
            row[at], row[other] = row[other], row[at]


MUTATIONS: tuple[Callable[[Rows, random.Random], None], ...] = (
    change_cell,
    change_magnitude,
    change_dates,
    change_rows,
    change_header,
    change_columns,
)


def csv_bytes(rows: Rows, dice: random.Random) -> bytes:
    mark = dice.choice((",", ",", ",", ";", "\t", "|"))
    text = dice.choice(("\n", "\n", "\r\n", "\r")).join(mark.join(row) for row in rows)
    coding = dice.choice(("utf-8",) * 6 + ("utf-8-sig", "utf-16", "latin-1", "cp1252"))
    return text.encode(coding, errors="replace")


def parquet_bytes(rows: Rows, dice: random.Random) -> bytes:
    width = len(rows[0])
    even = [(row + [""] * width)[:width] for row in rows[1:]]
    frame = pd.DataFrame(even, columns=[f"{name}" for name in rows[0]])
    for position, name in enumerate(frame.columns):
        if dice.random() < 0.9 and not frame.columns.duplicated().any():
            values = frame.iloc[:, position]
            as_number = pd.to_numeric(values, errors="coerce")
            frame[name] = as_number if as_number.notna().any() else values
    if dice.random() < 0.5 and len(frame.columns):
        name = frame.columns[0]
        unit = dice.choice(("s", "ms", "us"))
        days = np.array([_day_or_nat(row[0]) for row in even], dtype=f"datetime64[{unit}]")
        if dice.random() < 0.1:
            days = days + np.timedelta64(3_000_000, "D").astype(f"timedelta64[{unit}]")
        if not frame.columns.duplicated().any():
            frame[name] = days
            frame = frame.set_index(name) if dice.random() < 0.5 else frame
    buffer = io.BytesIO()
    try:
        frame.to_parquet(buffer, compression=dice.choice(("snappy", "zstd", None)))
    except Exception:  # what cannot be written as Parquet
        return b"PAR1" + "\n".join(",".join(row) for row in rows).encode("utf-8", "replace")
    return buffer.getvalue()


def _day_or_nat(cell: object) -> np.datetime64:
    try:
        return np.datetime64(str(cell), "D")
    except ValueError:
        return np.datetime64("NaT")


def change_bytes(content: bytes, dice: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(dice.choice((1, 1, 2, 10))):
        at = dice.randrange(len(damaged)) if damaged else 0
        kind = dice.randrange(4)
        if kind == 0 and damaged:
            damaged[at] = dice.randrange(256)
        elif kind == 1:
            del damaged[at : at + dice.choice((1, 4, 100, len(damaged)))]
        elif kind == 2:
            damaged[at:at] = dice.randbytes(dice.choice((1, 4, 64)))
        elif damaged:
            damaged[at] ^= 1 << dice.randrange(8)
    return bytes(damaged)


def damaged_file(seed: int, *, panel: bool) -> bytes:
    """A file made wrong in one to three ways."""
    dice = random.Random(seed)
    numbers = np.random.default_rng(seed)
    rows = panel_rows(numbers, long=dice.random() < 0.5) if panel else index_rows(numbers)
    as_bytes = dice.random() < 0.25
    for _ in range(0 if as_bytes else dice.choice((1, 1, 2, 3))):
        if len(rows) > 2 and all(rows):
            dice.choice(MUTATIONS)(rows, dice)
    parquet = bool(rows) and dice.random() < 0.35
    content = parquet_bytes(rows, dice) if parquet else csv_bytes(rows, dice)
    return change_bytes(content, dice) if as_bytes else content


def damaged_parquet(seed: int) -> bytes:
    """A Parquet file with some bytes changed."""
    dice, numbers = random.Random(seed), np.random.default_rng(seed)
    rows = panel_rows(numbers, long=False) if seed % 2 else index_rows(numbers)
    return change_bytes(parquet_bytes(rows, dice), dice)


def outcome(path: Path, *, panel: bool) -> str:
    """ "read" with sane values, or "refused" in one line; anything else raises."""
    refusal: InputError | None = None
    history: MarketHistory | PanelHistory
    try:
        if panel:
            history, notices = load_panel_file(path, 0.025, None, "error")
            prices = history.close
            moves = np.diff(np.log(prices), axis=1)
            features = panel_features(history).volatility
        else:
            index, notices = load_file(path, 0.025, 0.015)
            prices = np.stack([index.open, index.high, index.low, index.close])
            moves = np.diff(np.log(index.close), axis=1)
            outside = np.maximum(index.close / index.high, index.low / index.close)
            assert outside.max() <= 1.2
            assert (index.high >= index.low).all()
            observed = index.implied_vol[:, index.implied_vol_source == 1]
            assert observed.size == 0 or (observed.max() <= 5.0 and observed.min() >= 0.001)
            assert np.isfinite(index.implied_vol).all()
            history, features = index, market_features(index)
    except InputError as error:
        refusal = error
    if refusal is not None:
        text = str(refusal)
        assert len(text.splitlines()) == 1, text
        assert len(text) < 1500, text
        assert refusal.remedy
        assert path.name in text
        return "refused"
    assert all(len(notice.splitlines()) == 1 and len(notice) < 1500 for notice in notices)
    assert np.isfinite(prices).all()
    assert prices.min() >= 1e-12
    assert prices.max() <= 1e12
    assert np.abs(history.rate).max() < 1
    assert "1800-01-01" <= str(history.dates[0]) <= str(history.dates[-1]) < "2100-01-01"
    large = np.abs(moves) > 0.35 * np.sqrt(21)
    assert not large.any() or any("moves by" in notice for notice in notices)
    assert moves.size == 0 or moves.max() <= np.log(50.0)
    assert not np.isinf(features).any()
    return "read"


@pytest.mark.slow
@pytest.mark.parametrize(("panel", "files"), [(False, 2400), (True, 1600)])
def test_damaged_files_are_read_with_sane_values_or_refused_in_one_line(
    panel: bool, files: int, tmp_path: Path
) -> None:
    path = tmp_path / "damaged.csv"
    counts = {"read": 0, "refused": 0}
    for seed in range(files):
        path.write_bytes(damaged_file(seed, panel=panel))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                counts[outcome(path, panel=panel)] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}, panel {panel}") from error
    assert sum(counts.values()) == files
    assert min(counts.values()) > files // 20, counts


@pytest.mark.slow
def test_damaged_parquet_files_do_not_abort_the_process_at_its_end(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from tests.envs.market.sources.test_fuzz import damaged_parquet, outcome
for seed in range(int(sys.argv[2]), int(sys.argv[2]) + 150):
    path = Path(sys.argv[1]) / f"{seed}.parquet"
    path.write_bytes(damaged_parquet(seed))
    outcome(path, panel=bool(seed % 2))
print("all read or refused")
"""
    for first in range(0, 600, 150):
        finished = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path), str(first)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (finished.returncode, finished.stdout) == (0, "all read or refused\n"), finished
        assert finished.stderr == ""
