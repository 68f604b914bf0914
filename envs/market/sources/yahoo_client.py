"""Requests to Yahoo Finance through yfinance, each of which ends by a deadline."""

from __future__ import annotations

import datetime as dt
import logging
import re
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging.handlers import BufferingHandler
from pathlib import Path

import pandas as pd

from conf.errors import InputError

_COLUMNS = ("Open", "High", "Low", "Close", "Adj Close", "Volume")
_MAX_COMPLAINT = 240
_CURL_MANUAL = re.compile(r" See https://curl\.se\S* first for more details\.?")
_STATUS = re.compile(r"response code=(\d{3})")
_HEADLINE = re.compile(r"\d+ Failed downloads?:?")


@dataclass(frozen=True)
class Request:
    """Daily bars of symbols, both days inclusive."""

    symbols: tuple[str, ...]
    start: dt.date
    end: dt.date
    remedy: str  # what to do if there is no answer

    def __str__(self) -> str:
        *others, last = self.symbols
        names = f"{', '.join(others)} and {last}" if others else last
        return f"{names}, {self.start} to {self.end}"

    def failure(self, complaint: str) -> InputError:
        """The error that names the request and what came of it."""
        words = " ".join(complaint.split())
        if len(words) > _MAX_COMPLAINT:
            words = words[: _MAX_COMPLAINT - 3] + "..."
        return InputError(f"Yahoo Finance gave no data (asked for {self}): {words}", self.remedy)


def ask_yahoo(request: Request, *, timeout_seconds: float, scratch: Path) -> pd.DataFrame:
    """Daily bars as Yahoo has them: columns (Open .. Volume and Adj Close, symbol) by date.

    `scratch` is a folder for yfinance's own small cache. Raises InputError when there is no answer
    within `timeout_seconds` in total, or none for one of the symbols: yfinance raises nothing
    then.
    """
    deadline = time.monotonic() + timeout_seconds
    import yfinance  # slow to import, and most runs need no network

    yfinance.set_tz_cache_location(str(scratch))
    answer: list[pd.DataFrame | Exception] = []
    log = BufferingHandler(sys.maxsize)

    def ask() -> None:
        with _logged_to(log):
            try:
                bars = yfinance.download(
                    list(request.symbols),
                    start=request.start.isoformat(),
                    end=(request.end + dt.timedelta(days=1)).isoformat(),  # exclusive there
                    interval="1d",
                    actions=False,
                    auto_adjust=False,
                    group_by="column",
                    multi_level_index=True,
                    progress=False,
                    threads=False,
                    timeout=timeout_seconds / 2,
                )
                answer.append(bars)
            except Exception as error:
                answer.append(error)

    # yfinance's time limit is for each of its requests; only a thread can be left behind.
    worker = threading.Thread(target=ask, name="yahoo", daemon=True)
    # Not undone at the end: a thread that was left behind would still print the warnings.
    warnings.filterwarnings("ignore", module=r"yfinance\.")
    worker.start()
    worker.join(max(deadline - time.monotonic(), 0.0))
    if not answer:
        raise InputError(
            f"Yahoo Finance gave no answer within {timeout_seconds:g} s (asked for {request})",
            request.remedy,
        )
    if isinstance(answer[0], Exception):
        raise request.failure(str(answer[0]) or type(answer[0]).__name__)
    return _checked(answer[0], request, log.buffer)


def _checked(frame: pd.DataFrame, request: Request, log: list[logging.LogRecord]) -> pd.DataFrame:
    """The frame as floats by day; InputError for a symbol or a column missing, or a day twice."""
    for symbol in request.symbols:
        if ("Close", symbol) not in frame.columns or frame["Close", symbol].isna().all():
            raise request.failure(_complaints(log) or f"no prices for {symbol}")
        for name in _COLUMNS:
            if (name, symbol) not in frame.columns:
                raise request.failure(f"no column {name} for {symbol}")
    if frame.columns.has_duplicates:
        raise request.failure("a column comes twice")
    try:
        frame = frame.astype("float64")
        frame.index = pd.DatetimeIndex(frame.index).normalize().rename("date")
    except (TypeError, ValueError) as error:
        raise request.failure(f"the answer is no table of prices by day: {error}") from None
    if frame.index.has_duplicates or frame.index.hasnans:
        twice = frame.index[frame.index.duplicated() | frame.index.isna()][0]
        raise request.failure(
            f"the day {twice:%Y-%m-%d} comes twice" if twice == twice else "no day"
        )
    return frame


def _complaints(log: list[logging.LogRecord]) -> str:
    """The first error that yfinance logged, and the HTTP status, which it logs apart from that."""
    codes = [_STATUS.fullmatch(record.getMessage().strip()) for record in log]
    refused = [code[1] for code in codes if code and int(code[1]) >= 400]
    errors = [" ".join(r.getMessage().split()) for r in log if r.levelno >= logging.ERROR]
    reason = _CURL_MANUAL.sub("", next((e for e in errors if not _HEADLINE.fullmatch(e)), ""))
    if "Expecting value" in reason:
        reason = "the answer is not JSON"
    reason = reason.replace("possibly delisted; ", "")  # yfinance says so of every failure
    parts = [f"HTTP status {refused[0]}" if refused else "", reason.rstrip(".: ")]
    return ", ".join(part for part in parts if part)


@contextmanager
def _logged_to(handler: logging.Handler) -> Iterator[None]:
    """Send everything that yfinance logs to this handler and to no other."""
    logger = logging.getLogger("yfinance")
    before = logger.handlers[:], logger.propagate, logger.level
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.DEBUG)  # the only level at which HTTP status codes are logged
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before[:2]
        logger.setLevel(before[2])
