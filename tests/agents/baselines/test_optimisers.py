"""Each optimiser against a closed form."""

import numpy as np
import pytest

from agents.baselines.optimisers import optimisers

OPTIMISERS = optimisers() or {}
EQUALLY_CORRELATED = np.full((4, 4), 0.2) + 0.8 * np.eye(4)


def sample(covariance, mean=0.0, sessions=300, seed=0):
    """Returns (n, A) whose sample mean and covariance (ddof=1) are exactly these."""
    size = len(covariance)
    noise = np.random.default_rng(seed).standard_normal((sessions, size))
    noise -= noise.mean(axis=0)
    whitening = np.linalg.inv(np.linalg.cholesky(np.cov(noise.T)))
    return noise @ whitening.T @ np.linalg.cholesky(covariance).T + mean


def covariance_of(vols, correlation=EQUALLY_CORRELATED):
    return np.outer(vols, vols) * correlation


def test_minimum_variance_is_the_closed_form_where_no_weight_binds():
    covariance = covariance_of(np.array([0.010, 0.012, 0.014, 0.016]))
    free = np.linalg.solve(covariance, np.ones(4))
    assert (free > 0.0).all()
    weights = OPTIMISERS["minimum_variance"](sample(covariance), 0.0)
    np.testing.assert_allclose(weights, free / free.sum(), atol=1e-4)


def test_minimum_variance_leaves_out_what_would_be_sold_short():
    covariance = covariance_of(np.array([0.01, 0.05]), np.array([[1.0, 0.9], [0.9, 1.0]]))
    assert np.linalg.solve(covariance, np.ones(2))[1] < 0.0
    np.testing.assert_allclose(
        OPTIMISERS["minimum_variance"](sample(covariance), 0.0), [1.0, 0.0], atol=1e-5
    )


def test_risk_parity_has_equal_contributions():
    correlation = np.array(
        [[1.0, 0.7, 0.1, -0.2], [0.7, 1.0, 0.0, 0.1], [0.1, 0.0, 1.0, 0.3], [-0.2, 0.1, 0.3, 1.0]]
    )
    covariance = covariance_of(np.array([0.005, 0.01, 0.02, 0.03]), correlation)
    weights = OPTIMISERS["risk_parity"](sample(covariance), 0.0)
    contribution = weights * (covariance @ weights)
    np.testing.assert_allclose(contribution / contribution.sum(), 0.25, atol=1e-4)
    assert weights.sum() == pytest.approx(1.0, abs=1e-6)


def test_risk_parity_of_equal_correlations_is_inverse_volatility():
    vols = np.array([0.005, 0.01, 0.02, 0.03])
    weights = OPTIMISERS["risk_parity"](sample(covariance_of(vols)), 0.0)
    np.testing.assert_allclose(weights, (1 / vols) / (1 / vols).sum(), atol=1e-4)


def test_hrp_of_a_diagonal_covariance_is_inverse_variance():
    vols = np.array([0.005, 0.01, 0.02, 0.03])
    weights = OPTIMISERS["hrp"](sample(np.diag(vols**2)), 0.0)
    np.testing.assert_allclose(weights, vols**-2 / (vols**-2).sum(), rtol=1e-6)


def test_hrp_splits_between_clusters_by_the_variance_of_each():
    # Two pairs, alike inside and strangers to each other: the pairs by inverse variance of their
    # own inverse-variance portfolio, the members of a pair by inverse variance.
    vols, rho = np.array([0.01, 0.02, 0.015, 0.03]), 0.9
    pair = np.array([[1.0, rho], [rho, 1.0]])
    correlation = np.block([[pair, np.zeros((2, 2))], [np.zeros((2, 2)), pair]])
    covariance = covariance_of(vols, correlation)
    inside = vols**-2
    inside = inside / np.repeat([inside[:2].sum(), inside[2:].sum()], 2)
    variance = [inside[k : k + 2] @ covariance[k : k + 2, k : k + 2] @ inside[k : k + 2]
                for k in (0, 2)]  # fmt: skip
    share = 1.0 - variance[0] / sum(variance)
    expected = inside * np.repeat([share, 1.0 - share], 2)
    weights = OPTIMISERS["hrp"](sample(covariance), 0.0)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_the_best_sharpe_ratio_is_the_tangency_portfolio():
    covariance = covariance_of(np.array([0.010, 0.012, 0.014, 0.016]))
    mean, cash = np.array([4e-4, 5e-4, 6e-4, 8e-4]), 1e-4
    free = np.linalg.solve(covariance, mean - cash)
    assert (free > 0.0).all()
    weights = OPTIMISERS["mean_variance"](sample(covariance, mean), cash)
    np.testing.assert_allclose(weights, free / free.sum(), atol=1e-4)
    # The rate matters: without it the direction is another one.
    other = np.linalg.solve(covariance, mean)
    assert np.abs(weights - other / other.sum()).max() > 0.01


def test_the_best_sharpe_ratio_where_nothing_beats_cash_is_no_asset():
    covariance = covariance_of(np.array([0.01, 0.02, 0.02, 0.02]))
    assert not OPTIMISERS["mean_variance"](sample(covariance, 1e-4), 1.1e-4).any()
