from __future__ import annotations

import arch.data.vix
import numpy as np

from envs.market.history import VOL_ESTIMATED, VOL_OBSERVED
from envs.market.sources.bundled import load_embedded


def test_embedded_history_is_the_whole_of_1999_to_2018() -> None:
    history, notices = load_embedded(0.03, 0.02)
    assert history.num_sessions == 5031
    assert (str(history.dates[0]), str(history.dates[-1])) == ("1999-01-04", "2018-12-31")
    assert set(history.rate) == {0.03}
    assert set(history.dividend_yield) == {0.02}
    assert "3,774 of 5,031" in notices[0]


def test_vix_is_taken_as_decimals_where_it_is_observed_and_nowhere_else() -> None:
    history, _ = load_embedded(0.025, 0.015)
    vix = arch.data.vix.load()["vix"].dropna()
    day = np.datetime64("2014-01-03")
    at = int(np.searchsorted(history.dates, day))
    assert history.implied_vol[0, at] == 0.1376
    known = np.isin(history.dates, vix.index.to_numpy().astype("datetime64[D]"))
    expected = np.where(known, VOL_OBSERVED, VOL_ESTIMATED)
    assert np.array_equal(history.implied_vol_source, expected)
    assert not history.implied_vol_source[:at].any()


def test_the_same_content_has_the_same_fingerprint_and_another_rate_another() -> None:
    first, again = load_embedded(0.025, 0.015)[0], load_embedded(0.025, 0.015)[0]
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint != load_embedded(0.026, 0.015)[0].fingerprint
