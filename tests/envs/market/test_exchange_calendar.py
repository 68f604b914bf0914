from __future__ import annotations

import datetime as dt

import numpy as np

from envs.market.exchange_calendar import exchange_sessions, scheduled_holidays
from envs.market.sources.bundled import load_embedded


def test_calendar_has_exactly_the_sessions_that_traded_from_1999_to_2018() -> None:
    traded = load_embedded(0.0, 0.0)[0].dates
    assert np.array_equal(exchange_sessions(dt.date(1999, 1, 4), dt.date(2018, 12, 31)), traded)


def test_the_default_yahoo_window_has_5484_sessions() -> None:
    assert len(exchange_sessions(dt.date(2004, 1, 1), dt.date(2025, 10, 17))) == 5484


def test_holidays_of_2022_by_hand() -> None:
    # New Year fell on a Saturday (not made up for), Juneteenth on a Sunday (closed on Monday).
    sessions = exchange_sessions(dt.date(2021, 12, 31), dt.date(2022, 6, 21)).astype(str)
    assert sessions[0] == "2021-12-31"
    assert sessions[1] == "2022-01-03"
    assert "2022-06-20" not in sessions
    assert "2022-04-15" not in sessions
    assert exchange_sessions(dt.date(2022, 1, 1), dt.date(2022, 1, 2)).size == 0


def test_special_closings_are_no_scheduled_holidays() -> None:
    september = dt.date(2001, 9, 1), dt.date(2001, 9, 30)
    assert scheduled_holidays(*september).astype(str).tolist() == ["2001-09-03"]
    assert len(exchange_sessions(*september)) == 20 - 1 - 4
