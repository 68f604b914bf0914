"""The sum tree draws in proportion to the weights, and is a function of them alone."""

import numpy as np
import pytest
from scipy import stats

from agents.off_policy.sum_tree import SumTree


@pytest.mark.parametrize("size", [1, 2, 7, 64, 100])
def test_points_fall_where_the_running_sum_says(size):
    rng = np.random.default_rng(size)
    weights = rng.random(size) * (rng.random(size) < 0.7)
    weights[size // 2] = 0.5
    tree = SumTree(size)
    for _ in range(5):  # what is set later counts
        some = rng.integers(0, size, size)
        tree.set(some, rng.random(size))
    tree.set(np.arange(size), weights)
    assert tree.total == pytest.approx(weights.sum(), rel=1e-12)
    points = rng.random(1000) * tree.total
    expected = np.searchsorted(np.cumsum(weights), points, side="right")
    np.testing.assert_array_equal(tree.find(points), expected)


def test_frequencies_are_in_proportion_to_the_weights():
    rng = np.random.default_rng(1)
    weights = rng.random(50) ** 3
    tree = SumTree(50)
    tree.set(np.arange(50), weights)
    count = np.bincount(tree.find(rng.random(100_000) * tree.total), minlength=50)
    assert stats.chisquare(count, 100_000 * weights / weights.sum()).pvalue > 1e-3


def test_what_has_no_weight_is_never_found():
    tree = SumTree(5)
    tree.set(np.array([1, 3]), np.array([0.3, 0.1]))
    points = np.array([0.0, 0.3, tree.total, np.nextafter(tree.total, 1.0)])
    assert set(tree.find(points)) <= {1, 3}


def test_a_tree_of_the_same_weights_is_the_same_to_the_last_bit():
    rng = np.random.default_rng(2)
    one, two = SumTree(37), SumTree(37)
    for _ in range(20):
        one.set(rng.integers(0, 37, 8), rng.random(8))
    two.set(np.arange(37), one.weights)
    points = rng.random(500) * one.total
    assert one.total == two.total
    np.testing.assert_array_equal(one.find(points), two.find(points))
