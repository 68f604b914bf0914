import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.market.indicators import (
    MARKET_FEATURES,
    WARMUP_SESSIONS,
    exponential_average,
    macd_signal,
    market_features,
    realised_volatility,
    relative_strength_index,
    simple_returns,
    volume_ratio,
)
from tests.markets import history_of, perturbed_after, random_walk


@pytest.fixture
def close():
    return random_walk(200, paths=2, seed=5).close


def test_volatility_is_the_annualised_sample_deviation_of_twenty_returns(close):
    volatility = realised_volatility(simple_returns(close), 20)
    for t in (20, 77, 199):
        window = [close[1, i] / close[1, i - 1] - 1 for i in range(t - 19, t + 1)]
        mean = sum(window) / 20
        variance = sum((x - mean) ** 2 for x in window) / 19
        assert volatility[1, t] == pytest.approx((252 * variance) ** 0.5, rel=1e-12)
    assert np.isnan(volatility[:, :20]).all()


def test_exponential_average_by_hand():
    average = exponential_average(np.array([[1.0, 2.0, 4.0]]), span=3)
    assert average.tolist() == [[1.0, 1.5, 2.75]]


def wilder(prices, window):
    """Wilder's own recipe, one price at a time."""
    changes = [b - a for a, b in itertools.pairwise(prices)]
    gain = sum(max(c, 0) for c in changes[:window]) / window
    loss = sum(max(-c, 0) for c in changes[:window]) / window
    result = [100 - 100 / (1 + gain / loss)]
    for change in changes[window:]:
        gain = (gain * (window - 1) + max(change, 0)) / window
        loss = (loss * (window - 1) + max(-change, 0)) / window
        result.append(100 - 100 / (1 + gain / loss))
    return result


def test_rsi_equals_wilders_recipe(close):
    index = relative_strength_index(close, 14)
    np.testing.assert_allclose(index[0, 14:], wilder(close[0].tolist(), 14), rtol=1e-12)
    assert np.isnan(index[:, :14]).all()


def test_rsi_at_its_limits():
    rising, still = np.arange(1.0, 60.0)[None], np.ones((1, 60))
    assert relative_strength_index(rising, 14)[0, -1] == 100
    assert relative_strength_index(-rising + 100, 14)[0, -1] == 0
    assert relative_strength_index(still, 14)[0, -1] == 50


def test_macd_signal_equals_its_plain_definition(close):
    def ema(values, span):
        out = [values[0]]
        for value in values[1:]:
            out.append(out[-1] + 2 / (span + 1) * (value - out[-1]))
        return out

    prices = close[0].tolist()
    line = [a - b for a, b in zip(ema(prices, 12), ema(prices, 26), strict=True)]
    np.testing.assert_allclose(macd_signal(close)[0], ema(line, 9), rtol=1e-9, atol=1e-9)


def test_zero_volume_is_a_gap_and_takes_the_last_known_one():
    volume = np.full((1, 60), 2.0)
    volume[0, 55] = 0.0
    volume[0, 59] = 4.0
    ratio = volume_ratio(volume, 50)
    assert ratio[0, 55] == 1.0
    assert ratio[0, 59] == pytest.approx(4 / (2 * 49 / 50 + 4 / 50))
    assert (volume_ratio(np.zeros((1, 60)), 50)[0, 49:] == 1.0).all()


def test_features_are_defined_after_the_warm_up_and_not_before():
    features = market_features(random_walk(120))
    assert features.shape == (1, 120, len(MARKET_FEATURES)) == (1, 120, 7)
    assert np.isfinite(features[:, WARMUP_SESSIONS - 1 :]).all()
    assert np.isnan(features[:, WARMUP_SESSIONS - 2]).any()


@settings(max_examples=25, deadline=None)
@given(session=st.integers(60, 140), seed=st.integers(0, 99))
def test_features_know_nothing_of_later_sessions(session, seed):
    history = random_walk(150, seed=seed)
    before = market_features(history)[:, : session + 1]
    after = market_features(perturbed_after(history, session, seed))[:, : session + 1]
    np.testing.assert_array_equal(before, after)
    cut = market_features(history.sessions(0, session + 1))
    np.testing.assert_array_equal(before, cut)


def test_log_price_and_return_by_hand():
    features = market_features(history_of([100.0, 110.0] * 40))
    assert features[0, 61, 0] == np.log(110.0)
    assert features[0, 61, 1] == pytest.approx(0.1)
    assert features[0, 61, 4] == pytest.approx(0.02)
