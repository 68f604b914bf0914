"""One question to Yahoo Finance, through yfinance, answered or failed within a deadline."""

from __future__ import annotations

import datetime as dt
import logging
import re
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from conf.errors import InputError

INDEX_SYMBOL, VIX_SYMBOL = "^GSPC", "^VIX"
REMEDY = "Check the network and try again later, or use the embedded data: data=sp500"

_COLUMNS = ("Open", "High", "Low", "Close", "Volume")
_MAX_COMPLAINT = 240
_CURL_MANUAL = re.compile(r" See https://curl\.se\S* first for more details\.?")
_STATUS = re.compile(r"response code=(\d{3})")
_HEADLINE = re.compile(r"\d+ Failed downloads?:?")


@dataclass(frozen=True)
class Question:
    """What is asked for: daily bars of symbols, both days inclusive."""

    symbols: tuple[str, ...]
    start: dt.date
    end: dt.date
    remedy: str  # what a person can do if there is no answer

    def __str__(self) -> str:
        *others, last = self.symbols
        names = f"{', '.join(others)} and {last}" if others else last
        return f"{names}, {self.start} to {self.end}"

    def failure(self, complaint: str) -> InputError:
        """The error that says what was asked and what came of it."""
        words = " ".join(complaint.split())
        if len(words) > _MAX_COMPLAINT:
            words = words[: _MAX_COMPLAINT - 3] + "..."
        return InputError(f"Yahoo Finance gave no data (asked for {self}): {words}", self.remedy)


def download(
    start: dt.date, end: dt.date, *, timeout_seconds: float, scratch: Path
) -> pd.DataFrame:
    """Daily index prices and VIX closes from `start` to `end`, both inclusive.

    Columns open, high, low, close, volume and vix (points, NaN where there is none), indexed by
    date, one row for each session that Yahoo has a close of the index for. Else as `ask_yahoo`.
    """
    question = Question((INDEX_SYMBOL, VIX_SYMBOL), start, end, REMEDY)
    frame = ask_yahoo(question, timeout_seconds=timeout_seconds, scratch=scratch)
    table = pd.DataFrame({name.lower(): frame[name, INDEX_SYMBOL] for name in _COLUMNS})
    table["vix"] = frame["Close", VIX_SYMBOL]
    return table[table["close"].notna()]


def ask_yahoo(question: Question, *, timeout_seconds: float, scratch: Path) -> pd.DataFrame:
    """Daily bars as Yahoo has them: columns (Open .. Volume and Adj Close, symbol) by date.

    `scratch` is a folder for yfinance's own small cache. Raises InputError when there is no answer
    within `timeout_seconds` in total, or none for one of the symbols: yfinance raises nothing
    then.
    """
    deadline = time.monotonic() + timeout_seconds
    import yfinance  # heavy, and most runs need no network

    yfinance.set_tz_cache_location(str(scratch))
    answer: list[pd.DataFrame | Exception] = []
    said: list[logging.LogRecord] = []

    def ask() -> None:
        with _overheard(said):
            try:
                answer.append(
                    yfinance.download(
                        list(question.symbols),
                        start=question.start.isoformat(),
                        end=(question.end + dt.timedelta(days=1)).isoformat(),  # exclusive there
                        interval="1d",
                        actions=False,
                        auto_adjust=False,
                        group_by="column",
                        multi_level_index=True,
                        progress=False,
                        threads=False,
                        timeout=timeout_seconds / 2,
                    )
                )
            except Exception as error:
                answer.append(error)

    # yfinance's time limit is for each of its requests; only a thread can be left behind.
    worker = threading.Thread(target=ask, name="yahoo", daemon=True)
    # Not undone at the end: a thread that was left behind would still put it on the screen.
    warnings.filterwarnings("ignore", module=r"yfinance\.")
    worker.start()
    worker.join(max(deadline - time.monotonic(), 0.0))
    if not answer:
        raise InputError(
            f"Yahoo Finance gave no answer within {timeout_seconds:g} s (asked for {question})",
            question.remedy,
        )
    if isinstance(answer[0], Exception):
        raise question.failure(str(answer[0]) or type(answer[0]).__name__)
    return _checked(answer[0], question, said)


def _checked(
    frame: pd.DataFrame, question: Question, said: list[logging.LogRecord]
) -> pd.DataFrame:
    """The frame as floats by day; InputError if one of the symbols is missing."""
    for symbol in question.symbols:
        if ("Close", symbol) not in frame.columns or frame["Close", symbol].isna().all():
            raise question.failure(_complaints(said) or f"no prices for {symbol}")
    frame = frame.astype("float64")
    frame.index = pd.DatetimeIndex(frame.index).normalize().rename("date")
    return frame


def _complaints(said: list[logging.LogRecord]) -> str:
    """The first thing yfinance called an error, and the refusal that it does not mention."""
    codes = [_STATUS.fullmatch(record.getMessage().strip()) for record in said]
    refused = [code[1] for code in codes if code and int(code[1]) >= 400]
    errors = [" ".join(r.getMessage().split()) for r in said if r.levelno >= logging.ERROR]
    reason = _CURL_MANUAL.sub("", next((e for e in errors if not _HEADLINE.fullmatch(e)), ""))
    if "Expecting value" in reason:
        reason = "the answer is not JSON"
    reason = reason.replace("possibly delisted; ", "")  # said of everything that failed
    parts = [f"HTTP status {refused[0]}" if refused else "", reason.rstrip(".: ")]
    return ", ".join(part for part in parts if part)


class _Listener(logging.Handler):
    """Keeps what is said instead of letting it reach the screen."""

    def __init__(self, said: list[logging.LogRecord]) -> None:
        super().__init__()
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record."""
        self._said.append(record)


@contextmanager
def _overheard(said: list[logging.LogRecord]) -> Iterator[None]:
    """Collect all that yfinance logs in `said` and keep it off every other handler."""
    logger = logging.getLogger("yfinance")
    before = logger.handlers[:], logger.propagate, logger.level
    logger.handlers, logger.propagate = [_Listener(said)], False
    logger.setLevel(logging.DEBUG)  # HTTP status codes are told at this level only
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before[:2]
        logger.setLevel(before[2])
