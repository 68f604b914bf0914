"""The same forty days in the forms in which vendors hand them out."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import numpy as np
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
    "dukascopy, utc": plain("Etc/UTC time,Open,High,Low,Close,Volume", "%d.%m.%Y 00:00:00.000 UTC"),
    "polygon, flat files": [
        "ticker,volume,open,close,high,low,window_start,transactions",
        *(
            f"SPX,{v},{o:.2f},{c:.2f},{h:.2f},{lo:.2f},{epoch(d, 10**9) + 18_000 * 10**9},5521"
            for d, o, h, lo, c, v in BARS
        ),
    ],
    "amibroker": plain("Date/Time,Open,High,Low,Close,Volume", "%m/%d/%Y"),
    "finam": plain("<DATE>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>", "%Y%m%d", ";"),
    "barchart": [
        "Time,Open,High,Low,Last,Change,Volume,Open Interest",
        *(
            f"{d:%m/%d/%Y},{o:.2f},{h:.2f},{lo:.2f},{c:.2f},1.2,{v},777"
            for d, o, h, lo, c, v in BARS[::-1]
        ),
    ],
    "moscow exchange": [
        "history",
        "",
        "BOARDID;TRADEDATE;SECID;NUMTRADES;OPEN;LOW;HIGH;LEGALCLOSEPRICE;CLOSE;VOLUME;",
        *(
            f"TQBR;{d};SBER;55;{o:.2f};{lo:.2f};{h:.2f};{c:.2f};{c:.2f};{v};"
            for d, o, h, lo, c, v in BARS
        ),
    ],
    "futures of quandl": [
        "Date,Open,High,Low,Change,Settle,Volume,Previous Day Open Interest",
        *(f"{d},{o:.2f},{h:.2f},{lo:.2f},,{c:.2f},{v},9" for d, o, h, lo, c, v in BARS),
    ],
    "columns of pandas as text": [
        """Date,"('Close', '^GSPC')","('High', '^GSPC')","('Low', '^GSPC')","('Open', '^GSPC')","""
        "\"('Volume', '^GSPC')\"",
        *(f"{d},{c:.2f},{h:.2f},{lo:.2f},{o:.2f},{v}" for d, o, h, lo, c, v in BARS),
    ],
    "dukascopy": plain("Gmt time,Open,High,Low,Close,Volume", "%d.%m.%Y 00:00:00.000"),
    "interactive brokers": plain("date,open,high,low,close,volume", "%Y%m%d  16:00:00"),
}


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
