from __future__ import annotations

import datetime as dt
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from conf.errors import InputError
from conf.settings import build_settings
from envs.market.exchange_calendar import exchange_sessions, trading_days
from envs.market.splits import (
    MIN_SPLIT_SESSIONS,
    Split,
    SplitDates,
    Splits,
    split_history,
)

EMBEDDED = SplitDates(train_end=dt.date(2013, 12, 31), validation_end=dt.date(2015, 12, 31))


def embedded(embargo_days: int = 60, warmup: int = 50) -> tuple[np.ndarray, Splits]:
    dates = exchange_sessions(dt.date(1999, 1, 4), dt.date(2018, 12, 31))
    splits = split_history(dates, EMBEDDED, embargo_days=embargo_days, warmup_sessions=warmup)
    return dates, splits


def test_validation_and_test_years_are_whole() -> None:
    dates, splits = embedded()
    assert str(dates[splits.validation.start]) == "2014-01-02"
    assert str(dates[splits.test.start]) == "2016-01-04"
    assert splits.test.stop == len(dates)


def test_no_contract_of_an_earlier_split_lives_into_the_next() -> None:
    dates, splits = embedded(embargo_days=60)
    for earlier, later in ((splits.train, splits.validation), (splits.validation, splits.test)):
        expiry = dates[earlier.stop - 1] + 60
        assert expiry < dates[later.start]
        # The next session would already break it: no more is given up than needed.
        assert dates[earlier.stop] + 60 >= dates[later.start]


def test_warmup_leaves_the_5435_sessions_that_are_usable_of_2004_to_2025() -> None:
    dates = exchange_sessions(dt.date(2004, 1, 1), dt.date(2025, 10, 17))
    ends = SplitDates(train_end=dt.date(2017, 12, 31), validation_end=dt.date(2019, 12, 31))
    splits = split_history(dates, ends, embargo_days=60, warmup_sessions=50)
    assert splits.train.start == 49
    assert splits.all.num_sessions == 5435


def test_without_an_embargo_the_splits_touch() -> None:
    _, splits = embedded(embargo_days=0)
    assert splits.train.stop == splits.validation.start
    assert splits.validation.stop == splits.test.start


def test_without_boundaries_sessions_are_cut_60_20_20_after_the_warmup() -> None:
    dates = trading_days(dt.date(2001, 1, 1), 1049)
    splits = split_history(dates, SplitDates(), embargo_days=0, warmup_sessions=50)
    assert splits == Splits(
        Split("train", 49, 649), Split("validation", 649, 849), Split("test", 849, 1049)
    )
    assert splits.all == Split("all", 49, 1049)


@settings(deadline=None)
@given(
    lengths=st.tuples(*[st.integers(0, 900)] * 3),
    embargo=st.integers(0, 120),
    warmup=st.integers(1, 100),
)
def test_splits_are_ordered_disjoint_and_apart(
    lengths: tuple[int, int, int], embargo: int, warmup: int
) -> None:
    # An embargo of so many days never costs more sessions, so each split keeps enough of them.
    train, validation, test = (length + embargo + MIN_SPLIT_SESSIONS for length in lengths)
    train_stop = warmup - 1 + train
    sessions = train_stop + validation + test
    dates = trading_days(dt.date(1999, 1, 4), sessions)
    boundaries = SplitDates(
        train_end=dates[train_stop - 1].astype(dt.date),
        validation_end=dates[train_stop + validation - 1].astype(dt.date),
    )
    splits = split_history(dates, boundaries, embargo_days=embargo, warmup_sessions=warmup)
    assert splits.validation.start == train_stop
    assert splits.test.start == train_stop + validation
    parts = (splits.train, splits.validation, splits.test)
    assert warmup - 1 <= parts[0].start
    assert parts[-1].stop == sessions
    for part in parts:
        assert part.num_sessions >= MIN_SPLIT_SESSIONS
    for earlier, later in itertools.pairwise(parts):
        assert earlier.stop <= later.start
        gap = (dates[later.start] - dates[earlier.stop - 1]).astype(int)
        assert gap > embargo


@pytest.mark.parametrize(
    ("train_end", "validation_end", "which"),
    [
        ("1998-01-01", "2005-12-31", "train"),
        ("2010-12-31", "2011-02-15", "validation"),
        ("2010-12-31", "2018-12-20", "test"),
        ("2010-12-31", "2030-12-31", "test"),
    ],
)
def test_a_split_without_sessions_is_named(train_end: str, validation_end: str, which: str) -> None:
    dates = exchange_sessions(dt.date(1999, 1, 4), dt.date(2018, 12, 31))
    ends = SplitDates(
        train_end=dt.date.fromisoformat(train_end),
        validation_end=dt.date.fromisoformat(validation_end),
    )
    with pytest.raises(InputError, match=f"the {which} split keeps") as caught:
        split_history(dates, ends, embargo_days=60, warmup_sessions=50)
    assert "data.splits" in caught.value.remedy
    assert "1999-01-04 to 2018-12-31" in caught.value.problem


def test_both_ends_can_be_cut_off() -> None:
    dates, whole = embedded()
    cut = SplitDates(
        train_start=dt.date(2005, 1, 1),
        train_end=dt.date(2013, 12, 31),
        validation_end=dt.date(2015, 12, 31),
        test_end=dt.date(2016, 12, 31),
    )
    splits = split_history(dates, cut, embargo_days=60, warmup_sessions=50)
    assert str(dates[splits.train.start]) == "2005-01-03"
    assert splits.train.stop == whole.train.stop
    assert splits.validation == whole.validation
    assert splits.test.start == whole.test.start
    assert str(dates[splits.test.stop - 1]) == "2016-12-30"
    assert splits.all == Split("all", splits.train.start, splits.test.stop)


def test_a_start_within_the_warmup_changes_nothing() -> None:
    dates, whole = embedded()
    early = SplitDates(
        train_start=dt.date(1999, 2, 1),
        train_end=EMBEDDED.train_end,
        validation_end=EMBEDDED.validation_end,
        test_end=dt.date(2030, 1, 1),
    )
    assert split_history(dates, early, embargo_days=60, warmup_sessions=50) == whole


def test_shares_are_of_what_lies_between_the_ends() -> None:
    dates = trading_days(dt.date(2001, 1, 1), 1500)
    ends = SplitDates(train_start=dates[100].astype(dt.date), test_end=dates[1099].astype(dt.date))
    splits = split_history(dates, ends, embargo_days=0, warmup_sessions=50)
    assert splits == Splits(
        Split("train", 100, 700), Split("validation", 700, 900), Split("test", 900, 1100)
    )


def test_ends_that_are_open_are_not_written_down() -> None:
    """So a run's settings, and their hash, are those of runs made before there were ends."""
    write = TypeAdapter(SplitDates).dump_python
    assert write(EMBEDDED, mode="json") == {
        "train_end": "2013-12-31",
        "validation_end": "2015-12-31",
    }
    cut = SplitDates(test_end=dt.date(2016, 12, 31))
    assert write(cut, mode="json") == {
        "train_end": None,
        "validation_end": None,
        "test_end": "2016-12-31",
    }
    assert build_settings(SplitDates, write(cut, mode="json"), "data.splits") == cut


def test_a_short_history_is_refused_rather_than_split_into_nothing() -> None:
    with pytest.raises(InputError, match="the data has 30 sessions"):
        split_history(
            trading_days(dt.date(2020, 1, 1), 30), SplitDates(), embargo_days=60, warmup_sessions=50
        )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"train_end": "2013-12-31"}, "give both"),
        ({"train_end": "2015-12-31", "validation_end": "2013-12-31"}, "must come before"),
        ({"train_start": "2015-01-01", "test_end": "2014-01-01"}, "train_start .* before test_end"),
        (
            {"train_end": "2013-12-31", "validation_end": "2015-12-31", "test_end": "2015-12-31"},
            "validation_end 2015-12-31 must come before test_end",
        ),
        ({"train_end": 2013, "validation_end": 2015}, "YYYY-MM-DD"),
        ({"train_end": "soon", "validation_end": "2015-12-31"}, "soon"),
    ],
)
def test_bad_boundaries_are_explained(values: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        build_settings(SplitDates, values, "data.splits")


def test_splits_are_found_by_name() -> None:
    _, splits = embedded()
    assert splits.named("validation") is splits.validation
    assert splits.named("all").num_sessions == 5031 - 49
    with pytest.raises(InputError, match="no split 'holdout'"):
        splits.named("holdout")


def test_an_empty_stretch_is_no_split() -> None:
    with pytest.raises(InputError, match="split train"):
        Split("train", 10, 10)
