"""An account's difference from the backtest adds up, and each cause has its own part."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.accounts.account import Account
from experiments.accounts.difference import CAUSES, difference
from experiments.accounts.events import open_store
from experiments.accounts.trading_day import run_session


def split(folder, final):
    with open_store(folder) as store:
        result = difference(Account(folder, store), final)
    total = sum(result.causes_usd.values())
    assert total == pytest.approx(result.account_usd - result.backtest_usd, abs=1e-7)
    return {cause for cause in CAUSES if abs(result.causes_usd[cause]) > 1e-6}


@pytest.mark.parametrize(
    ("broker", "causes"),
    [
        ({"kind": "model"}, set()),
        ({"kind": "simulated"}, set()),
        ({"kind": "simulated", "faults": {"rejected": 0.5}}, {"decision", "missed"}),
    ],
)
def test_a_broker_parts_it_from_the_backtest_by_what_it_did_not_do(
    play, tested, tmp_path, broker, causes
):
    play(tmp_path, tested, 4, broker=broker)
    assert split(tmp_path, tested.setup.history) <= causes
    assert causes == set() or "missed" in split(tmp_path, tested.setup.history)


def test_fills_at_the_next_open(play, tested, tmp_path):
    history = tested.setup.history
    play(tmp_path, tested, 1, decide="after_close", broker={"kind": "simulated"})
    opens = replace(history, open=0.5 * (history.high + history.low))
    for stop in range(history.num_sessions - 58, history.num_sessions - 55):
        with open_store(tmp_path) as store:
            run_session(Account(tmp_path, store), opens.sessions(0, stop))
    assert split(tmp_path, opens) == {"fill", "decision"}


@pytest.mark.parametrize(("name", "cause"), [("close", "price"), ("implied_vol", "volatility")])
def test_a_day_seen_before_its_end(play, tested, tmp_path, name, cause):
    history = tested.setup.history
    play(tmp_path, tested, 2)
    t = history.num_sessions - 58
    values = getattr(history, name) * np.where(np.arange(history.num_sessions) == t, 0.999, 1.0)
    seen = replace(history, **{name: values, "low": np.minimum(history.low, 0.999 * history.low)})
    with open_store(tmp_path) as store:
        run_session(Account(tmp_path, store), seen.sessions(0, t + 1), final=False)
    with open_store(tmp_path) as store:
        run_session(Account(tmp_path, store), history.sessions(0, t + 2))
    found = split(tmp_path, history)
    assert cause in found
    assert found <= {"decision", cause}
