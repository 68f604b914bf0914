"""The static portfolio against hand-made cases and slow independent formulas."""

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from agents.baselines.mean_variance import (
    mean_variance_weights,
    slot_returns,
    tangency,
)
from envs.core.batch import Window
from envs.options.surface import VixSurface
from tests.markets import market_of, options_of, perturbed_after, random_walk, wandering_vol


def wandering(paths=1, sessions=220):
    vol = np.repeat(wandering_vol(sessions), paths, axis=0)
    return random_walk(sessions, paths=paths, seed=2, implied_vol=vol)


def test_weights_of_two_assets_by_hand():
    """C = diag(4, 1) e-4, n = 1000, prior Sharpe .5: g = 5e-4 / (.25/252 x 1000) = 5.04e-4."""
    covariance, mean = np.diag([4e-4, 1e-4]), np.array([3e-4, 1e-4])
    penalty = 5e-4 / (0.25 / 252 * 1000)
    expected = [3e-4 / (4e-4 + penalty), 1e-4 / (1e-4 + penalty)]
    np.testing.assert_allclose(tangency(mean, covariance, 1000), expected, rtol=1e-12)


def test_with_unlimited_data_it_is_the_portfolio_of_markowitz():
    covariance = np.array([[4e-4, 1e-4], [1e-4, 1e-4]])
    mean = np.array([3e-4, -2e-4])
    determinant = 3e-8
    inverse = np.array([[1e-4, -1e-4], [-1e-4, 4e-4]]) / determinant
    np.testing.assert_allclose(tangency(mean, covariance, 10**12), inverse @ mean, rtol=1e-6)


def test_the_shrinkage_is_the_posterior_mean_of_its_prior():
    """Inverse-covariance times the mean that Bayes' rule gives, in its usual two-precision form."""
    rng = np.random.default_rng(0)
    root = rng.standard_normal((3, 3)) * 0.01
    covariance, mean, count = root @ root.T, rng.standard_normal(3) * 1e-3, 500
    prior = 0.25 / 252 / np.trace(covariance) * covariance @ covariance
    precision = np.linalg.inv(prior) + count * np.linalg.inv(covariance)
    posterior = np.linalg.solve(precision, count * np.linalg.solve(covariance, mean))
    expected = np.linalg.solve(covariance, posterior)
    np.testing.assert_allclose(tangency(mean, covariance, count), expected, rtol=1e-8)


def test_the_weights_meet_the_target_volatility_or_the_notional():
    rng = np.random.default_rng(1)
    returns = rng.standard_normal((2000, 3)) * [0.01, 0.02, 0.005] + [1e-3, 0.0, -5e-4]
    free = mean_variance_weights(returns, max_notional=100.0)
    risk = np.sqrt(252 * free @ ledoit_wolf(returns)[0] @ free)
    assert risk == pytest.approx(0.10, rel=1e-12)
    assert free[0] > 0 > free[2]
    bounded = mean_variance_weights(returns, max_notional=0.2)
    assert np.abs(bounded).max() == pytest.approx(0.2)
    np.testing.assert_allclose(bounded / bounded[0], free / free[0], rtol=1e-12)


def test_a_market_that_never_moves_gives_no_weights():
    assert (mean_variance_weights(np.zeros((50, 4)), 1.0) == 0.0).all()


@pytest.mark.parametrize("roll", ["expiry", "daily"])
def test_the_profit_of_a_unit_is_that_of_the_ledger(roll):
    history = wandering(paths=2)
    market = market_of(history, options_of(chain={"roll": roll}), VixSurface())
    returns = slot_returns(market, Window(70, 100))
    assert returns.shape == (2 * 29, 20)
    tape, row = market.tape, 29 + 11  # the second path, session 81
    for slot in (0, 7, 19):
        cash = -tape.mark[1, 81, slot]
        gained = tape.aged[1, 82, slot] + cash * np.exp(0.025 * history.days_to_next[81] / 365)
        assert returns[row, slot] == pytest.approx(gained / history.close[1, 81], rel=1e-9)


def test_nothing_outside_the_training_window_is_read():
    history, window = wandering(), Window(70, 150)
    later = perturbed_after(history, 149)
    fitted = slot_returns(market_of(history, surface=VixSurface()), window)
    again = slot_returns(market_of(later, surface=VixSurface()), window)
    np.testing.assert_array_equal(fitted, again)
    wider = slot_returns(market_of(later, surface=VixSurface()), Window(70, 151))
    assert not np.array_equal(
        wider, slot_returns(market_of(history, surface=VixSurface()), Window(70, 151))
    )
