"""Resampling against arch's sampler, theory and slow twins."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from arch.bootstrap import optimal_block_length
from arch.bootstrap._samplers_python import stationary_bootstrap_sample_python
from scipy import stats

from conf.errors import InputError
from risk import bootstrap, metrics


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0005, 0.01, shape)


def autoregression(sessions: int, slope: float, seed: int = 0) -> np.ndarray:
    series = noise(sessions, seed=seed)
    for t in range(1, sessions):
        series[t] += slope * series[t - 1]
    return series


@pytest.mark.parametrize("block", [1.0, 2.5, 20.0, 500.0])
def test_days_equal_those_of_archs_sampler(block: float) -> None:
    index = bootstrap.stationary_indices(60, block, 40, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    start, uniform = rng.integers(60, size=(40, 60)), rng.random((40, 60))
    for row in range(40):
        expected = stationary_bootstrap_sample_python(start[row].copy(), uniform[row], 1 / block)
        assert index[row].tolist() == expected.tolist()


def test_blocks_are_geometric_and_wrap_around() -> None:
    index = bootstrap.stationary_indices(1000, 8.0, 400, np.random.default_rng(0))
    assert index.min() == 0
    assert index.max() == 999
    follows = index[:, 1:] == (index[:, :-1] + 1) % 1000
    # A new block can start on the next day by chance.
    assert follows.mean() == pytest.approx(7 / 8 + 1 / 8000, abs=0.002)
    assert (np.diff(index, axis=1) == -999).mean() == pytest.approx(7 / 8 / 1000, rel=0.2)
    # Geometric: that a block goes on does not depend on how long it is.
    after_three = follows[:, 3:][follows[:, 2:-1] & follows[:, 1:-2] & follows[:, :-3]]
    assert after_three.mean() == pytest.approx(7 / 8, abs=0.003)
    counts = np.bincount(index.ravel(), minlength=1000)
    # No day is favoured, the first and the last included.
    assert counts.std() == pytest.approx(math.sqrt(400), rel=0.2)
    assert abs(counts[[0, -1]] - 400).max() < 5 * math.sqrt(400)


def test_block_length_is_the_longest_of_archs_estimates() -> None:
    series = np.stack([autoregression(600, 0.5), autoregression(600, 0.2, seed=1), noise(600)])
    lengths = optimal_block_length(series.T)["stationary"]
    assert bootstrap.mean_block_length(series) == pytest.approx(lengths.max(), rel=1e-12)
    assert 4 < lengths.max() < 24
    assert bootstrap.mean_block_length(noise(600)) < 4


def test_block_length_is_bounded_for_any_series() -> None:
    trend = np.cumsum(noise(400))
    assert bootstrap.mean_block_length(trend) == 20.0
    assert bootstrap.mean_block_length(np.full(300, 0.0001)) == 1.0
    assert bootstrap.mean_block_length(np.zeros((2, 300))) == 1.0
    assert bootstrap.mean_block_length(trend[:10]) == 1.0
    one_day = np.zeros(300)
    one_day[100] = 0.01
    assert 1.0 <= bootstrap.mean_block_length(one_day) <= math.sqrt(300)
    mixed = np.stack([np.full(400, 1e-4), trend])
    assert bootstrap.mean_block_length(mixed) == 20.0


def test_percentiles_by_hand() -> None:
    low, high = bootstrap.percentile_interval(np.arange(101.0), level=0.9)
    assert (low, high) == pytest.approx((5, 95))
    pair = np.stack([np.arange(101.0), -np.arange(101.0)], axis=1)
    low, high = bootstrap.percentile_interval(pair, level=0.9)
    assert low.tolist() == pytest.approx([5, -95])
    assert high.tolist() == pytest.approx([95, -5])


def test_nan_is_left_out_unless_most_samples_are_nan() -> None:
    values = np.tile(np.arange(101.0), (2, 1)).T
    values[:20, 0] = np.nan
    values[:60, 1] = np.nan
    low, high = bootstrap.percentile_interval(values, level=0.9)
    assert low[0] == pytest.approx(np.quantile(np.arange(20, 101), 0.05))
    assert high[0] == pytest.approx(np.quantile(np.arange(20, 101), 0.95))
    assert np.isnan([low[1], high[1]]).all()


def interval_of_mean(days: np.ndarray, block: float, reps: int, seed: int = 0) -> tuple[Any, Any]:
    index = bootstrap.stationary_indices(len(days), block, reps, np.random.default_rng(seed))
    return bootstrap.percentile_interval(days[index].mean(axis=-1))


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    returns = noise(800)
    low, high = interval_of_mean(returns, 1.0, 4000)
    error = returns.std() / math.sqrt(800)
    assert low == pytest.approx(returns.mean() - 1.96 * error, abs=0.12 * error)
    assert high == pytest.approx(returns.mean() + 1.96 * error, abs=0.12 * error)


@pytest.mark.parametrize("slope", [0.0, 0.4])
def test_the_interval_of_a_mean_covers_it(slope: float) -> None:
    seeds, covered, covered_by_single_days = 150, 0, 0
    for seed in range(seeds):
        days = autoregression(500, slope, seed=seed)
        true = 0.0005 / (1 - slope)
        low, high = interval_of_mean(days, bootstrap.mean_block_length(days), 200, seed)
        covered += low <= true <= high
        low, high = interval_of_mean(days, 1.0, 200, seed)
        covered_by_single_days += low <= true <= high
    # Blocks cut some of the dependence: a few per cent are lost where there is much of it.
    assert covered / seeds == pytest.approx(0.95 if slope == 0 else 0.92, abs=0.055)
    if slope:
        assert covered_by_single_days / seeds < 0.85


def test_equity_compounds() -> None:
    curve = bootstrap.equity_curve([[0.1, -0.5], [0.0, 1.0]])
    assert curve.ravel().tolist() == pytest.approx([1, 1.1, 0.55, 1, 1, 2])
    assert metrics.simple_returns(bootstrap.equity_curve(noise(50))) == pytest.approx(noise(50))


@pytest.mark.parametrize("shape", [(7,), (8, 1), (5, 3), (10, 26), (1, 1)])
def test_interquartile_mean_equals_scipys_trimmed_mean(shape: tuple[int, ...]) -> None:
    scores = noise(*shape)
    expected = stats.trim_mean(scores, 0.25, axis=None)
    assert bootstrap.interquartile_mean(scores) == pytest.approx(expected, rel=1e-12)
    batch = np.stack([scores.reshape(shape[0], -1)] * 2) * [[[1.0]], [[2.0]]]
    assert bootstrap.interquartile_mean(batch) == pytest.approx([expected, 2 * expected])


def test_runs_are_drawn_within_each_task() -> None:
    scores = np.arange(5.0)[:, None] + np.array([0.0, 100.0, 200.0])
    seen = []

    def keep(batch: np.ndarray) -> np.ndarray:
        seen.append(batch)
        means: np.ndarray = batch.mean(axis=(1, 2))
        return means

    interval = bootstrap.stratified_bootstrap_interval(scores, keep, reps=500)
    drawn = seen[0]
    assert drawn.shape == (500, 5, 3)
    assert ((drawn // 100) == np.arange(3)).all()
    runs = drawn % 100
    assert (runs[..., 0] != runs[..., 1]).mean() == pytest.approx(0.8, abs=0.05)
    assert interval.value == scores.mean()
    error = math.sqrt(2 / 5 / 3)  # of a mean of five equally spaced scores in three tasks
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_the_interval_of_an_interquartile_mean_covers_it() -> None:
    covered = []
    for seed in range(300):
        scores = np.random.default_rng(seed).normal(size=(20, 2)) + 1.0
        interval = bootstrap.stratified_bootstrap_interval(scores, reps=200, seed=seed)
        covered.append(interval.low <= 1.0 <= interval.high)
    # Percentile intervals of 20 runs are a little short.
    assert np.mean(covered) == pytest.approx(0.93, abs=0.04)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda: bootstrap.stationary_indices(0, 1, 5, np.random.default_rng()), "0 sessions"),
        (lambda: bootstrap.stationary_indices(9, 0.5, 5, np.random.default_rng()), "of 0.5"),
        (lambda: bootstrap.stationary_indices(9, math.nan, 5, np.random.default_rng()), "nan"),
        (lambda: bootstrap.percentile_interval([]), "no bootstrap values"),
        (lambda: bootstrap.percentile_interval([1.0], 95), "level is 95"),
        (lambda: bootstrap.mean_block_length([0.1, math.inf]), "is inf"),
        (lambda: bootstrap.interquartile_mean([]), "is empty"),
        (lambda: bootstrap.stratified_bootstrap_interval(noise(5)), r"shape \(5,\)"),
    ],
)
def test_bad_input_is_refused(action: Callable[[], Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        action()
