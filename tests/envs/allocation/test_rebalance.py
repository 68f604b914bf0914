"""The value after costs, against independent root finders."""

import numpy as np
import pytest
from scipy.optimize import brentq

from envs.allocation.rebalance import banded_quantity, edges, normalised, value_after_costs
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


# --- bands ----------------------------------------------------------------------------------------


def some_bands(number: int, assets: int, cash: float):
    value, held, _ = some_portfolios(number, assets)
    action = simplex_points(np.random.default_rng(5), number, 2 * assets + 1)
    action[:, assets] = cash
    return value, held, *edges(normalised(action, assets))


@pytest.mark.parametrize(("share", "assets"), CASES)
def test_with_cash_to_spare_each_asset_meets_its_nearer_edge_or_is_left_alone(share, assets):
    value, held, lower, upper = some_bands(200, assets, cash=2.0 * assets)
    middle = 0.5 * (lower + upper) * value[:, None]
    held[::2] *= 0.5  # so that all together are no more than the value
    held[::2, ::2] = middle[::2, ::2]
    price = np.random.default_rng(0).uniform(1.0, 500.0, held.shape)
    quantity = banded_quantity(lower, upper, held / price, value, price, share)
    after = value - share * np.abs(quantity * price - held).sum(axis=-1)
    aim = np.clip(held, lower * after[:, None], upper * after[:, None])
    np.testing.assert_allclose(quantity * price, aim, rtol=1e-12, atol=1e-9)
    alone = (held > lower * value[:, None]) & (held < upper * after[:, None])
    assert alone.any() or share > 0.9  # when buying takes nearly all, nothing is left as it is
    np.testing.assert_array_equal(quantity[alone], (held / price)[alone])


@pytest.mark.parametrize(("share", "assets"), CASES)
def test_nothing_is_borrowed_and_no_band_left_for_want_of_cash(share, assets):
    value, held, lower, upper = some_bands(200, assets, cash=0.0)
    price = np.ones_like(held)
    quantity = banded_quantity(lower, upper, held, value, price, share)
    after = value - share * np.abs(quantity - held).sum(axis=-1)
    weights = quantity / after[:, None]
    assert (weights.sum(axis=-1) <= 1.0).all()
    assert (weights >= lower - 1e-12).all()
    assert (weights <= upper + 1e-12).all()


def test_a_band_without_width_is_a_weight():
    value, held, weights = some_portfolios(50, 10)
    after = value_after_costs(value, held, weights, 0.01)
    quantity = banded_quantity(weights, weights, held, value, np.ones_like(held), 0.01)
    np.testing.assert_allclose(quantity, weights * after[:, None], rtol=1e-12)


def test_a_book_in_bands_alone_is_the_same_as_in_a_batch():
    value, held, lower, upper = some_bands(64, 10, cash=0.0)
    price = np.ones_like(held)
    together = banded_quantity(lower, upper, held, value, price, 0.01)
    for i in range(64):
        one = slice(i, i + 1)
        alone = banded_quantity(lower[one], upper[one], held[one], value[one], price[one], 0.01)
        np.testing.assert_array_equal(together[one], alone)


def test_an_action_without_weights_asks_for_cash():
    action = np.array([[0.0, 0.0, 0.0, 0.3, 0.7], [0.0] * 5, [1e300, 0.0, 1e300, 1e300, 0.0]])
    np.testing.assert_array_equal(
        normalised(action, 2), [[0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [0.5, 0, 0.5, 0.5, 0]]
    )
