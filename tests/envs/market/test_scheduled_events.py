"""Days of scheduled news, against the calendars as they were published."""

import numpy as np
import pytest

from envs.market.exchange_calendar import scheduled_holidays
from envs.market.scheduled_events import days_to_next, scheduled_days


@pytest.mark.parametrize(("event", "years", "a_year"), [("fomc", 28, 8), ("cpi", 20, 12)])
def test_each_year_has_all_its_days_and_each_is_a_session(event, years, a_year):
    days = scheduled_days(event)
    _, counts = np.unique(days.astype("datetime64[Y]"), return_counts=True)
    assert counts.tolist() == [a_year] * years
    holidays = scheduled_holidays(days[0].item(), days[-1].item())
    assert (np.diff(days) > np.timedelta64(20, "D")).all()
    closed = days[~np.is_busday(days, holidays=holidays)]
    # Good Fridays: the reports come out while the exchange is closed.
    assert set(closed.astype(str)) <= {"2017-04-14", "2020-04-10"}


def test_counts_calendar_days_to_what_was_scheduled():
    dates = np.array(
        ["2020-03-13", "2020-03-18", "2020-03-19", "2013-10-16", "2013-10-17"], "datetime64[D]"
    )
    # The meeting of 18 March 2020 was held on the 15th instead, which nobody knew before.
    np.testing.assert_array_equal(days_to_next("fomc", dates)[:3], [5, 0, 41])
    # The report of 16 October 2013 came two weeks late.
    np.testing.assert_array_equal(days_to_next("cpi", dates)[3:], [0, 29])


def test_what_is_not_known_is_endlessly_far():
    dates = np.array(["1998-12-31", "2006-12-29", "2007-01-03", "2026-12-11"], "datetime64[D]")
    np.testing.assert_array_equal(days_to_next("cpi", dates), [np.inf, np.inf, 15, np.inf])
    np.testing.assert_array_equal(days_to_next("fomc", dates), [np.inf, 33, 28, np.inf])
