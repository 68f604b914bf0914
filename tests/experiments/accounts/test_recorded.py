"""What an account recorded of its market comes back as it was, however it lay in memory."""

import numpy as np
import pytest

from conf.errors import Unavailable
from experiments.accounts.recorded import changed_columns, load_history, save_history
from tests.panels import panel_of


@pytest.mark.parametrize("order", ["C", "F"])
def test_prices_come_back_in_whatever_order_they_lay(tmp_path, order):
    close = np.array(np.arange(1.0, 61.0).reshape(1, 20, 3), order=order)
    history = panel_of(close).sessions(0, 15)
    save_history(history, tmp_path / "history")
    loaded = load_history(tmp_path / "history")
    assert loaded.fingerprint == history.fingerprint
    assert changed_columns(loaded, history) == []
    with pytest.raises(Unavailable, match="no longer has close as it was recorded"):
        changed_columns(loaded, panel_of(close[:, :, :2]))
