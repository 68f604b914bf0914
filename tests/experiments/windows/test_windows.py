import datetime as dt
import itertools

import numpy as np
import pytest

from conf.errors import InputError
from conf.settings import build_settings
from envs.market.exchange_calendar import exchange_sessions
from experiments.windows.windows import (
    MIN_TEST_SESSIONS,
    WalkForwardSettings,
    find_window,
    plan_windows,
)

EMBARGO = 60
SESSIONS = exchange_sessions(dt.date(1999, 1, 4), dt.date(2018, 12, 31))


def plan(dates=SESSIONS, **chosen):
    return plan_windows(
        dates, WalkForwardSettings(**chosen), embargo_days=EMBARGO, warmup_sessions=50
    )


def span(split, dates=SESSIONS):
    return str(dates[split.start]), str(dates[split.stop - 1])


def test_the_first_window_of_the_embedded_data_written_out():
    window = plan()[0]
    assert window.name == "2005"
    assert span(window.splits.train) == ("1999-03-16", "2003-10-31")
    assert span(window.splits.validation) == ("2004-01-02", "2004-10-29")
    # From the last close of 2004, so that the first return is that of 2005's first session.
    assert span(window.splits.test) == ("2004-12-31", "2005-12-30")


def test_rolling_windows_move_by_a_year_and_keep_their_length():
    windows = plan()
    assert [window.name for window in windows] == [str(year) for year in range(2005, 2019)]
    for window in windows[1:]:
        assert window.dates.train_start == dt.date(window.first_test - 6, 1, 1)
        assert window.dates.train_end == dt.date(window.first_test - 2, 12, 31)
        assert 1150 < window.splits.train.num_sessions < 1230


def test_anchored_windows_grow():
    windows = plan(mode="anchored")
    assert {window.splits.train.start for window in windows} == {49}
    lengths = [window.splits.train.num_sessions for window in windows]
    assert all(longer > shorter + 200 for shorter, longer in itertools.pairwise(lengths))
    assert windows[0].splits == plan()[0].splits


CASES = [
    {},
    {"mode": "anchored"},
    {"train_years": 2, "validation_years": 2, "test_years": 3},
    {"train_years": 1, "first_test": 2003, "last_test": 2011, "mode": "anchored"},
    {"test_years": 4, "last_test": 2015},
]


@pytest.mark.parametrize("chosen", CASES)
def test_within_a_window_nothing_overlaps_and_no_contract_reaches_into_the_next_stretch(chosen):
    for window in plan(**chosen):
        parts = (window.splits.train, window.splits.validation, window.splits.test)
        for earlier, later in itertools.pairwise(parts):
            # What is listed on the last session has expired before the next stretch begins: the
            # purge. One session more and it would not have.
            assert SESSIONS[earlier.stop - 1] + EMBARGO < SESSIONS[later.start]
            assert SESSIONS[earlier.stop] + EMBARGO >= SESSIONS[later.start]


@pytest.mark.parametrize("chosen", CASES)
def test_the_days_tested_tile_the_years_without_gap_or_overlap(chosen):
    windows = plan(**chosen)
    # A stretch of n sessions has n - 1 returns, each of the session that it leads to.
    days = [SESSIONS[w.splits.test.start + 1 : w.splits.test.stop] for w in windows]
    first, last = f"{windows[0].first_test}-01-01", f"{windows[-1].last_test}-12-31"
    inside = (np.datetime64(first) <= SESSIONS) & (np.datetime64(last) >= SESSIONS)
    np.testing.assert_array_equal(np.concatenate(days), SESSIONS[inside])
    for window, tested in zip(windows, days, strict=True):
        years = np.unique(tested.astype("datetime64[Y]")).astype(int) + 1970
        assert list(years) == list(range(window.first_test, window.last_test + 1))


def test_the_last_window_tests_what_is_left():
    windows = plan(test_years=4, first_test=2008)
    assert [window.years for window in windows] == ["2008 to 2011", "2012 to 2015", "2016 to 2018"]


def test_a_year_that_the_data_only_touches_is_neither_trained_on_nor_tested():
    late = exchange_sessions(dt.date(1999, 2, 1), dt.date(2018, 12, 31))
    assert plan(late)[0].name == "2006"
    begun = exchange_sessions(dt.date(1999, 1, 4), dt.date(2019, 3, 1))
    assert plan(begun)[-1].name == "2018"
    quarter = exchange_sessions(dt.date(1999, 1, 4), dt.date(2019, 4, 5))
    assert (quarter >= np.datetime64("2019-01-01")).sum() >= MIN_TEST_SESSIONS
    assert plan(quarter)[-1].name == "2019"


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"train_years": 19}, "no year is left to be tested: the data has 1999-01-04 to 2018"),
        ({"first_test": 2004}, "first_test = 2004 cannot be tested.*from 2005 to 2018"),
        ({"last_test": 2019}, "last_test = 2019 cannot be tested.*from 2005 to 2018"),
    ],
)
def test_years_that_the_data_does_not_have_are_refused(chosen, words):
    with pytest.raises(InputError, match=words):
        plan(**chosen)


def test_a_validation_year_that_the_embargo_eats_up_is_refused():
    with pytest.raises(InputError, match="window 2005: the validation split keeps 0"):
        plan_windows(SESSIONS, WalkForwardSettings(), embargo_days=365, warmup_sessions=50)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mode": "sliding"}, "walk_forward.mode"),
        ({"train_years": 0}, "walk_forward.train_years = 0"),
        ({"first_test": 2010, "last_test": 2009}, "must not come after"),
        ({"fine_tune_timesteps": 100}, "retrain is fresh"),
        ({"test_yeers": 1}, "Did you mean 'test_years'"),
    ],
)
def test_bad_settings_are_explained(values, words):
    with pytest.raises(InputError, match=words):
        build_settings(WalkForwardSettings, values, "walk_forward")


def test_a_window_is_found_by_its_year():
    windows = plan(last_test=2007)
    assert find_window(windows, 2006) is windows[1]
    with pytest.raises(InputError, match=r"no window 1990. Choose .* 2005, 2006, 2007"):
        find_window(windows, 1990)
