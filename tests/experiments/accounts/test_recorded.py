"""What an account recorded of its market comes back as it was, however it lay in memory."""

from dataclasses import replace

import numpy as np
import pytest

from conf.errors import Unavailable
from experiments.accounts.recorded import (
    at_recorded_level,
    changed_columns,
    load_history,
    save_history,
    session_row,
)
from tests.panels import panel_of


@pytest.mark.parametrize("order", ["C", "F"])
def test_prices_come_back_in_whatever_order_they_lay(tmp_path, order):
    close = np.array(np.arange(1.0, 61.0).reshape(1, 20, 3), order=order)
    history = panel_of(close).sessions(0, 15)
    save_history(history, tmp_path / "history")
    loaded = load_history(tmp_path / "history")
    assert loaded.fingerprint == history.fingerprint
    assert changed_columns(loaded, history) == []
    for others in ([0, 1], [2, 1, 0]):
        other = panel_of(close[:, :, others])
        names = tuple(history.assets[i] for i in others)
        with pytest.raises(Unavailable, match="no longer has the assets that were recorded"):
            changed_columns(loaded, replace(other, assets=names))


def test_a_dividend_that_restates_the_past_of_a_panel_changes_no_return():
    close = np.random.default_rng(0).uniform(90.0, 110.0, (1, 20, 3))
    seen = panel_of(close).sessions(0, 15)
    fresh = panel_of(close * [0.98, 1.0, 0.5])
    assert changed_columns(seen, fresh)
    day = str(seen.dates[-1])
    spliced = at_recorded_level(seen, fresh, set())
    assert changed_columns(seen, spliced) == []
    np.testing.assert_allclose(session_row(spliced, 15)["close"], close[0, 15], rtol=1e-15)
    assert (
        at_recorded_level(seen, panel_of(close), set()).fingerprint == panel_of(close).fingerprint
    )
    # The newest day was seen before its close.
    early = close.copy()
    early[0, 14] *= 1.01
    spliced = at_recorded_level(panel_of(early).sessions(0, 15), fresh, {day})
    np.testing.assert_allclose(spliced.close, close, rtol=1e-15)
    # A day that differs is a contradiction still, the newest one too.
    for day_revised in (7, 14):
        revised = close.copy()
        revised[0, day_revised, 1] *= 1.01
        again = at_recorded_level(seen, panel_of(revised), set())
        assert changed_columns(seen, again) == [f"close of {seen.dates[day_revised]}"]
