from itertools import pairwise

import numpy as np
import pytest

from envs.market.splits import Split
from experiments.evaluation.regimes import REGIMES, Period, calendar_years, period_rows
from tests.markets import weekdays

DATES = weekdays(600, "2007-06-01")


def rows_of(periods, curve, splits=()):
    free = np.zeros(len(DATES) - 1)
    return period_rows(periods, DATES, free, {"book": curve}, splits, DATES)


def test_regimes_neither_overlap_nor_leave_a_gap():
    for before, after in pairwise(REGIMES):
        assert after.first == before.last + np.timedelta64(1, "D")


def test_the_returns_of_the_years_compound_to_the_whole():
    curve = 100.0 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.01, len(DATES))))
    rows = rows_of(calendar_years(DATES), curve)
    assert [row.name for row in rows] == ["2007", "2008", "2009"]
    compounded = np.prod([1 + row.books["book"].total_return for row in rows])
    assert compounded == pytest.approx(curve[-1] / curve[0], rel=1e-12)


def test_a_period_begins_with_the_return_into_its_first_day():
    curve = np.ones(len(DATES))
    first_of_2008 = int(np.searchsorted(DATES, np.datetime64("2008-01-01")))
    curve[first_of_2008:] = 1.5  # the jump happens into the first session of 2008
    by_name = {row.name: row.books["book"] for row in rows_of(calendar_years(DATES), curve)}
    assert by_name["2007"].total_return == 0.0
    assert by_name["2008"].total_return == pytest.approx(0.5)
    assert by_name["2009"].total_return == 0.0


def test_periods_with_few_sessions_are_left_out():
    short = Period("short", DATES[5], DATES[10])
    never = Period("never", np.datetime64("1990-01-01"), np.datetime64("1991-01-01"))
    assert rows_of([short, never], np.ones(len(DATES))) == []


def test_a_period_says_which_splits_it_lies_in():
    splits = (Split("train", 0, 200), Split("validation", 210, 300), Split("test", 310, 600))
    rows = rows_of(calendar_years(DATES), np.ones(len(DATES)), splits)
    assert [row.seen for row in rows] == ["train", "train, validation, test", "test"]
