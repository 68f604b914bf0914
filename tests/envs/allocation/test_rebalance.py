"""The value after costs, against independent root finders."""

import numpy as np
import pytest
from scipy.optimize import brentq

from envs.allocation.env import value_after_costs
from tests.envs.allocation.portfolios import simplex_points

CASES = [
    (share, assets) for share in (0.0, 1e-4, 1e-3, 0.02, 0.3, 0.95) for assets in (1, 2, 10, 60)
]


def some_portfolios(number: int, assets: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    value = rng.uniform(100, 1e6, number)
    held = simplex_points(rng, number, assets + 1)[:, 1:] * value[:, None]
    weights = simplex_points(rng, number, assets + 1)[:, 1:]
    return value, held, weights


@pytest.mark.parametrize(("share", "assets"), CASES)
def test_it_solves_its_equation_to_the_last_digits(share, assets):
    value, held, weights = some_portfolios(200, assets)
    after = value_after_costs(value, held, weights, share)
    costs = share * np.abs(weights * after[:, None] - held).sum(axis=-1)
    np.testing.assert_allclose(after, value - costs, rtol=1e-14, atol=0)
    assert (after > 0).all()
    assert (after <= value).all()


@pytest.mark.parametrize(("share", "assets"), CASES)
def test_it_agrees_with_a_scalar_root_finder(share, assets):
    value, held, weights = some_portfolios(25, assets, seed=1)
    after = value_after_costs(value, held, weights, share)
    for one, x, w, solved in zip(value, held, weights, after, strict=True):

        def gap(v, one=one, x=x, w=w):
            return v - one + share * np.abs(w * v - x).sum()

        root = brentq(gap, 0.0, one * (1 + 1e-12), xtol=1e-14 * one, rtol=1e-14)
        assert solved == pytest.approx(root, rel=1e-13)


def test_from_cash_and_into_cash():
    value, c = np.array([1000.0]), 0.01
    into = value_after_costs(value, np.zeros((1, 2)), np.array([[0.5, 0.3]]), c)
    assert into[0] == pytest.approx(1000 / (1 + c * 0.8), rel=1e-15)
    out = value_after_costs(value, np.array([[500.0, 300.0]]), np.zeros((1, 2)), c)
    assert out[0] == pytest.approx(1000 - c * 800, rel=1e-15)


def test_of_one_asset_in_closed_form():
    # Bought: V' = V - c (w V' - x); sold: V' = V + c (w V' - x).
    value, held, c = np.array([1000.0, 1000.0]), np.array([[200.0], [900.0]]), 0.02
    after = value_after_costs(value, held, np.array([[0.6], [0.6]]), c)
    assert after[0] == pytest.approx((1000 + c * 200) / (1 + c * 0.6), rel=1e-15)
    assert after[1] == pytest.approx((1000 - c * 900) / (1 - c * 0.6), rel=1e-15)


def test_what_is_held_already_costs_nothing():
    value, held, _ = some_portfolios(50, 10)
    after = value_after_costs(value, held, held / value[:, None], 0.01)
    np.testing.assert_allclose(after, value, rtol=1e-15)


def test_a_portfolio_alone_is_the_same_as_in_a_batch():
    value, held, weights = some_portfolios(64, 10)
    together = value_after_costs(value, held, weights, 0.01)
    alone = [
        value_after_costs(value[i : i + 1], held[i : i + 1], weights[i : i + 1], 0.01)[0]
        for i in range(64)
    ]
    np.testing.assert_array_equal(together, alone)
