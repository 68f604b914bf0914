import itertools

import numpy as np
import pytest

from conf.errors import InputError
from envs.core.batch import Window
from experiments.backtests.backtest import run_backtest
from experiments.environments.opening import market_settings, open_market
from tests.experiments.backtests.test_backtest import Constant

SHORT = np.where(np.arange(20) % 10 < 5, 0.0, -0.05)


@pytest.fixture(scope="module")
def setup():
    return open_market(
        market_settings(
            {
                "data": {"source": "synthetic", "sessions": 700, "model": "heston"},
                "surface": {"kind": "vix"},
                "env": {"episode": {"sessions": 40}},
                "costs": {"kind": "realistic"},
                "reward": {},
                "risk": {"enabled": False},
            }
        )
    )


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_score_is_that_of_its_own_split(setup, split):
    stretch = setup.loaded.splits.named(split)
    window = Window(stretch.start, stretch.stop)
    backtest = run_backtest(Constant(SHORT), setup.market, setup.settings.env, window)
    score = setup.scorer(split)(Constant(SHORT))
    assert score["sharpe"] == float(backtest.performance().sharpe[0])
    assert score["ruined"] == 0.0
    others = {
        other: setup.scorer(other)(Constant(SHORT))["sharpe"]
        for other in ("train", "validation", "test")
    }
    assert len(set(others.values())) == 3


def test_splits_do_not_overlap_and_keep_their_embargo(setup):
    windows = [setup.window(name) for name in ("train", "validation", "test")]
    dates = setup.loaded.history.dates
    for earlier, later in itertools.pairwise(windows):
        gap = (dates[later.start] - dates[earlier.stop - 1]).astype(int)
        assert gap >= 60


def test_an_unknown_section_is_refused():
    with pytest.raises(InputError, match="section 'data'"):
        market_settings({"costs": {"kind": "flat"}, "reward": {}, "env": {}})
