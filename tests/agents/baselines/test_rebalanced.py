"""Target weights that drift with the prices, and the constant mix."""

import numpy as np
import pytest

from agents.baselines.rebalanced import Rebalanced
from conf.errors import InputError
from envs.core.batch import Window
from tests.agents.panel_runs import run, walk, weights_of

EQUAL = np.array([0.25] * 4 + [0.0])


@pytest.fixture(scope="module")
def market():
    return walk()


def rebalanced(market, weights, step=None, start=150):
    return Rebalanced(market, start, np.asarray(weights), step)


def test_cash_beside_assets_grows_with_interest(market):
    policy = rebalanced(market, [0.3, 0.0, 0.0, 0.0, 0.7])
    held = weights_of(policy, market, Window(150, 251))[-1, 0]
    days = (market.history.dates[249] - market.history.dates[150]).astype(int)
    stock = 0.3 * market.history.close[0, 249, 0] / market.history.close[0, 150, 0]
    cash = 0.7 * np.exp(0.03 * days / 365.0)
    assert held[-1] == pytest.approx(cash / (stock + cash), rel=1e-12)


def test_the_constant_mix_is_restored_at_every_close(market):
    weights = np.array([0.1, 0.2, 0.3, 0.1, 0.3])
    held = weights_of(rebalanced(market, weights, step=1), market, Window(150, 181))[:, 0]
    np.testing.assert_allclose(held, np.tile(weights, (30, 1)), rtol=1e-12)
    with pytest.raises(InputError, match="do not sum to 1"):
        rebalanced(market, [0.1, 0.2, 0.3, 0.1, 0.4])
    with pytest.raises(InputError, match="below 0"):
        rebalanced(market, [1.1, 0.0, 0.0, 0.0, -0.1])
    with pytest.raises(InputError, match="do not fit 4 assets on 1 paths"):
        rebalanced(market, [0.5, 0.5])


def test_nothing_is_traded_between_the_dates(market):
    _, traded = run(rebalanced(market, EQUAL, step=21), market, Window(150, 250))
    assert np.flatnonzero(traded[:, 0]).tolist() == [0, 21, 42, 63, 84]


def test_another_window_is_refused(market):
    with pytest.raises(InputError, match=r"book 0 does not begin at session 150 \(2001-07-30\)"):
        run(rebalanced(market, EQUAL, step=21), market, Window(151, 260))
