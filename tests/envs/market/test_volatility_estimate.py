from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.market.history import VOL_ESTIMATED, VOL_OBSERVED, MarketHistory
from envs.market.sources.bundled import load_embedded
from envs.market.volatility_estimate import (
    MIN_VOL_ANNUAL,
    estimate_implied_vol,
    fill_implied_vol,
    weighted_mean,
)


@pytest.fixture(scope="module")
def history() -> MarketHistory:
    return load_embedded(0.025, 0.015)[0]


def plain_mean(values: list[float], half_life: float) -> float:
    weights = [0.5 ** ((len(values) - 1 - i) / half_life) for i in range(len(values))]
    return float(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))


def plain_estimate(high: list[float], low: list[float], close: list[float]) -> list[float]:
    estimates = []
    for t in range(len(close)):
        squares = [math.log(high[s] / low[s]) ** 2 / (4 * math.log(2)) for s in range(t + 1)]
        returns = [math.log(close[s] / close[s - 1]) for s in range(1, t + 1)]
        p7 = math.sqrt(252 * plain_mean(squares, 7))
        v90 = math.sqrt(252 * plain_mean([r * r for r in returns], 90)) if returns else p7
        l5 = -math.sqrt(252) * plain_mean(returns, 5) if returns else 0.0
        estimates.append(max(0.0384 + 0.3865 * v90 + 0.6760 * p7 + 0.3920 * l5, MIN_VOL_ANNUAL))
    return estimates


def bars(sessions: int, seed: int, paths: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    close = 1000 * np.exp(np.cumsum(rng.normal(0, 0.02, (paths, sessions)), axis=1))
    high = close * np.exp(rng.exponential(0.01, close.shape))
    low = close * np.exp(-rng.exponential(0.01, close.shape))
    return high, low, close


def test_estimate_equals_its_plain_formula() -> None:
    high, low, close = bars(60, seed=1)
    expected = plain_estimate(high[0].tolist(), low[0].tolist(), close[0].tolist())
    np.testing.assert_allclose(estimate_implied_vol(high, low, close)[0], expected, rtol=1e-12)


def test_weighted_mean_of_two_values_by_hand() -> None:
    # half-life 1: the older value counts half, (2 * 1 + 1 * 4) / 3 with the newer first.
    mean = weighted_mean(np.array([[4.0, 1.0]]), half_life=1.0)
    np.testing.assert_allclose(mean, [[4.0, 2.0]], rtol=1e-15)


def test_estimate_meets_vix_where_vix_is_known(history: MarketHistory) -> None:
    estimate = estimate_implied_vol(history.high, history.low, history.close)[0]
    observed = history.implied_vol_source == VOL_OBSERVED
    error = (estimate - history.implied_vol[0])[observed] * 100
    correlation = np.corrcoef(estimate[observed], history.implied_vol[0, observed])[0, 1]
    assert correlation == pytest.approx(0.936, abs=0.001)
    assert np.sqrt(np.mean(error**2)) == pytest.approx(1.5, abs=0.05)
    assert error.mean() == pytest.approx(0.1, abs=0.05)


@settings(deadline=None)
@given(at=st.integers(0, 298), factor=st.floats(0.5, 2.0))
def test_the_future_never_changes_the_estimate(at: int, factor: float) -> None:
    high, low, close = bars(300, seed=2, paths=2)
    before = estimate_implied_vol(high, low, close)
    moved = [prices.copy() for prices in (high, low, close)]
    for prices in moved:
        prices[:, at + 1 :] *= factor
    moved[0][:, at + 1 :] *= 1.5
    after = estimate_implied_vol(moved[0], moved[1], moved[2])
    assert np.array_equal(before[:, : at + 1], after[:, : at + 1])
    assert not np.array_equal(before[:, at + 1 :], after[:, at + 1 :])


def test_paths_do_not_mix() -> None:
    high, low, close = bars(80, seed=3, paths=3)
    together = estimate_implied_vol(high, low, close)
    alone = estimate_implied_vol(high[1:2], low[1:2], close[1:2])
    assert np.array_equal(together[1:2], alone)


def test_losses_raise_the_estimate_more_than_gains_of_the_same_size() -> None:
    ups = np.exp(np.cumsum(np.full((1, 30), 0.01), axis=1))
    downs = np.exp(np.cumsum(np.full((1, 30), -0.01), axis=1))
    rising = estimate_implied_vol(ups * 1.01, ups, ups)
    falling = estimate_implied_vol(downs * 1.01, downs, downs)
    difference = 2 * 0.392 * 0.01 * math.sqrt(252)
    assert falling[0, -1] - rising[0, -1] == pytest.approx(difference, rel=1e-9)


def test_a_long_calm_rise_stays_at_the_floor() -> None:
    close = np.exp(np.cumsum(np.full((1, 50), 0.05), axis=1))
    assert estimate_implied_vol(close, close, close)[0, -1] == MIN_VOL_ANNUAL


def test_only_missing_sessions_are_estimated_and_flagged() -> None:
    high, low, close = bars(5, seed=4)
    observed = np.array([0.11, np.nan, 0.13, np.nan, 0.15])
    vol, source = fill_implied_vol(observed, high[0], low[0], close[0])
    estimate = estimate_implied_vol(high, low, close)
    expected = [VOL_OBSERVED, VOL_ESTIMATED, VOL_OBSERVED, VOL_ESTIMATED, VOL_OBSERVED]
    assert source.tolist() == expected
    assert vol[0, [0, 2, 4]].tolist() == [0.11, 0.13, 0.15]
    assert np.array_equal(vol[0, [1, 3]], estimate[0, [1, 3]])
