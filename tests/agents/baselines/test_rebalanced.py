"""Target weights that drift with the prices, from the right start; the weights of Merton."""

import numpy as np
import pytest

from agents.baselines.allocation import merton_policy, merton_weights
from agents.baselines.rebalanced import RebalancedPolicy
from conf.errors import InputError
from envs.core.batch import Window
from tests.agents.panel_runs import asked, first_observation, run, walk

EQUAL = np.array([0.25] * 4 + [0.0])


@pytest.fixture(scope="module")
def market():
    return walk()


def test_cash_beside_assets_grows_with_interest(market):
    policy = RebalancedPolicy.of(market, 150, np.array([0.3, 0.0, 0.0, 0.0, 0.7]), None)
    wanted = asked(policy, 1, 100)[-1, 0]
    days = (market.history.dates[249] - market.history.dates[150]).astype(int)
    stock = 0.3 * market.history.close[0, 249, 0] / market.history.close[0, 150, 0]
    cash = 0.7 * np.exp(0.03 * days / 365.0)
    assert wanted[-1] == pytest.approx(cash / (stock + cash), rel=1e-12)


def test_books_that_begin_anew_begin_with_the_first_weights(market):
    policy = RebalancedPolicy.of(market, 150, EQUAL, None)
    seen = first_observation(policy, 2)
    first, state = policy.predict(seen, None, np.ones(2, np.bool_))
    _, state = policy.predict(seen, state, np.zeros(2, np.bool_))
    action, _ = policy.predict(seen, state, np.array([True, False]))
    np.testing.assert_array_equal(action[0], first[0])
    assert not np.array_equal(action[1], first[1])


def test_merton_weights():
    # R. C. Merton (1969): a premium of 8 %, a volatility of 16 %, a risk aversion of 5.
    np.testing.assert_allclose(merton_weights([0.11], [[0.16**2]], 0.03, 5.0), [0.625, 0.375])
    covariance = np.array([[0.04, 0.01], [0.01, 0.09]])
    found = merton_weights(np.array([0.07, 0.10]), covariance, 0.02, 3.0)
    np.testing.assert_allclose(3.0 * covariance @ found[:2], [0.05, 0.08])
    assert found.sum() == pytest.approx(1.0)
    with pytest.raises(InputError, match="singular"):
        merton_weights([0.1, 0.1], np.full((2, 2), 0.04), 0.0, 2.0)


def test_the_policy_of_merton_restores_its_mix_at_every_close(market):
    weights = np.array([0.1, 0.2, 0.3, 0.1, 0.3])
    wanted = asked(merton_policy(market, 150, weights), 1, 30)[:, 0]
    np.testing.assert_allclose(wanted, np.tile(weights, (30, 1)), rtol=1e-15)
    with pytest.raises(InputError, match="do not sum to 1"):
        merton_policy(market, 150, np.array([0.1, 0.2, 0.3, 0.1, 0.4]))
    with pytest.raises(InputError, match="below 0"):
        merton_policy(market, 150, np.array([1.1, 0.0, 0.0, 0.0, -0.1]))
    with pytest.raises(InputError, match="do not fit 4 assets on 1 paths"):
        merton_policy(market, 150, np.array([0.5, 0.5]))


def test_another_window_or_path_is_refused(market):
    policy = RebalancedPolicy.of(market, 150, EQUAL, 21)
    with pytest.raises(InputError, match=r"book 0 does not begin at session 150 \(2001-07-30\)"):
        run(policy, market, Window(151, 260))
    both = walk(paths=2, seed=3)
    policy = merton_policy(both, 150, np.array([0.2] * 5))
    seen = np.roll(first_observation(policy, 2), 1, axis=0)
    with pytest.raises(InputError, match="book 0 does not begin"):
        policy.predict(seen)
