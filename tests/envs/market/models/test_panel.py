from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from conf.errors import InputError
from conf.settings import build_settings
from envs.market.exchange_calendar import exchange_sessions, trading_days
from envs.market.models.panel import (
    PanelModel,
    PanelScenario,
    RegimeModel,
    asset_names,
    correlation_root,
    each_asset,
    simulate_gbm,
    simulate_regimes,
)

RATE = 0.04
SCENARIO = PanelScenario(
    assets=asset_names(3),
    dates=trading_days(dt.date(2001, 1, 2), 64),
    num_paths=8000,
    initial_price=100.0,
    rate=RATE,
)
MATRIX = ((1.0, 0.6, -0.2), (0.6, 1.0, 0.1), (-0.2, 0.1, 1.0))
MODEL = PanelModel(drift=(0.02, 0.12, 0.30), vol_annual=(0.1, 0.2, 0.4), correlation=MATRIX)


def excess_returns(close: np.ndarray) -> np.ndarray:
    """Log returns above what cash earned over the same calendar days, (P, T-1, A)."""
    excess: np.ndarray = np.diff(np.log(close), axis=1) - SCENARIO.interest[:, None]
    return excess


def within(sample: np.ndarray, expected: float, errors: float = 4.5) -> bool:
    return bool(abs(sample.mean() - expected) < errors * sample.std() / np.sqrt(sample.size))


def test_simulated_sessions_are_those_of_the_exchange_without_special_closings() -> None:
    real = exchange_sessions(dt.date(2022, 1, 3), dt.date(2024, 12, 31))
    assert np.array_equal(trading_days(dt.date(2022, 1, 1), len(real)), real)


def test_a_year_of_sessions_is_a_year_of_days() -> None:
    dates = trading_days(dt.date(1999, 1, 4), 252 * 40 + 1)
    years = float((dates[-1] - dates[0]).astype(int)) / 365.25
    assert years == pytest.approx(40.0, rel=0.002)


def test_drift_and_volatility_are_those_of_the_model() -> None:
    close = simulate_gbm(MODEL, SCENARIO, np.random.default_rng(1)).close
    excess = excess_returns(close)
    assert (close[:, 0] == 100.0).all()
    for asset, (drift, vol) in enumerate(((0.02, 0.1), (0.12, 0.2), (0.30, 0.4))):
        sample = excess[:, :, asset]
        assert within(sample, (drift - RATE - vol**2 / 2) / 252)
        assert within((sample - sample.mean()) ** 2, vol**2 / 252)
        assert stats.kstest(stats.zscore(sample[:50].ravel()), "norm").pvalue > 1e-3


def test_correlations_are_those_of_the_matrix() -> None:
    excess = excess_returns(simulate_gbm(MODEL, SCENARIO, np.random.default_rng(2)).close)
    measured = np.corrcoef(excess.reshape(-1, 3).T)
    np.testing.assert_allclose(measured, MATRIX, atol=0.006)
    lagged = np.corrcoef(excess[:, 1:, 0].ravel(), excess[:, :-1, 1].ravel())[0, 1]
    assert abs(lagged) < 0.006


def test_interest_runs_over_weekends_and_risk_does_not() -> None:
    model = PanelModel(drift=RATE, vol_annual=0.0, correlation=0.0)
    returns = np.diff(np.log(simulate_gbm(model, SCENARIO, np.random.default_rng(0)).close), axis=1)
    days = np.diff(SCENARIO.dates).astype(float)
    np.testing.assert_allclose(returns[0, :, 0], RATE * days / 365, rtol=1e-9)
    excess = excess_returns(simulate_gbm(MODEL, SCENARIO, np.random.default_rng(3)).close)
    assert excess[:, days == 3].std() / excess[:, days == 1].std() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("regimes", [False, True])
def test_discounted_prices_are_martingales_where_the_drift_is_the_rate(regimes: bool) -> None:
    fair = replace(MODEL, drift=RATE)
    rng = np.random.default_rng(4)
    if regimes:
        model = RegimeModel(states=(fair, replace(fair, vol_annual=0.5, correlation=0.9)))
        history = simulate_regimes(model, SCENARIO, rng)[0]
    else:
        history = simulate_gbm(fair, SCENARIO, rng)
    discount = np.exp(-(history.rate * history.days_to_next / 365).sum())
    for asset in range(3):
        assert within(history.close[:, -1, asset] * discount, 100.0)


def test_mertons_weight_is_the_same_on_every_session() -> None:
    model = PanelModel(drift=RATE + 0.08, vol_annual=0.16, correlation=0.0)
    history = simulate_gbm(model, SCENARIO, np.random.default_rng(5))
    earned = np.exp(SCENARIO.interest)[:, None]
    excess = history.close[:, 1:] / history.close[:, :-1] - earned
    days = np.diff(SCENARIO.dates).astype(int)
    for gap in (1, 3):
        sample = excess[:, days == gap].ravel()
        weight = sample.mean() / (5 * sample.var())
        assert weight == pytest.approx(0.625, abs=4.5 / (5 * sample.std() * np.sqrt(sample.size)))


def test_the_chain_spends_its_stationary_share_in_each_state_from_the_start() -> None:
    model = RegimeModel(
        states=(MODEL,) * 3, transition=((0.9, 0.1, 0.0), (0.1, 0.8, 0.1), (0.3, 0.0, 0.7))
    )
    shares = model.stationary()
    np.testing.assert_allclose(shares @ model.transition_matrix(), shares, atol=1e-12)
    _, states = simulate_regimes(model, SCENARIO, np.random.default_rng(6))
    for step in (0, 1, 30, 62):
        measured = np.bincount(states[:, step], minlength=3) / len(states)
        errors = np.sqrt(shares * (1 - shares) / len(states))
        assert (np.abs(measured - shares) < 4.5 * errors).all()
    for state in range(3):
        following = states[:, 1:][states[:, :-1] == state]
        measured = np.bincount(following, minlength=3) / following.size
        np.testing.assert_allclose(measured, model.transition_matrix()[state], atol=0.006)


def test_squares_of_a_switching_market_have_the_memory_of_the_chain() -> None:
    calm, storm = 0.1, 0.4
    # Drifts that leave the log returns without a mean, whatever the state.
    regimes = tuple(
        PanelModel(drift=RATE + vol**2 / 2, vol_annual=vol, correlation=0.0)
        for vol in (calm, storm)
    )
    model = RegimeModel(states=regimes, transition=((0.95, 0.05), (0.15, 0.85)))
    history, _ = simulate_regimes(model, SCENARIO, np.random.default_rng(7))
    squares = excess_returns(history.close) ** 2
    shares, variances = np.array([0.75, 0.25]), np.array([calm, storm]) ** 2
    level = shares @ variances
    assert squares.mean() == pytest.approx(level / 252, rel=0.03)
    spread = 3 * shares @ variances**2 - level**2
    for lag in (1, 5, 10):
        covariance = (variances[1] - variances[0]) ** 2 * shares.prod() * 0.8**lag
        product = (squares[:, lag:] - level / 252) * (squares[:, :-lag] - level / 252)
        measured = product.mean() / (spread / 252**2)
        assert measured == pytest.approx(covariance / spread, abs=0.02)


def test_each_regime_has_its_own_parameters() -> None:
    storm = PanelModel(drift=-0.5, vol_annual=0.6, correlation=0.9)
    model = RegimeModel(states=(MODEL, storm), transition=((0.9, 0.1), (0.1, 0.9)))
    history, states = simulate_regimes(model, SCENARIO, np.random.default_rng(8))
    excess = excess_returns(history.close)
    np.testing.assert_allclose(np.corrcoef(excess[states == 0].T), MATRIX, atol=0.01)
    stormy = np.corrcoef(excess[states == 1].T)
    np.testing.assert_allclose(stormy[np.triu_indices(3, 1)], 0.9, atol=0.01)
    assert within(excess[states == 1][:, 0], (-0.5 - RATE - 0.6**2 / 2) / 252)


def test_same_seed_same_panel_and_another_seed_another() -> None:
    few = replace(SCENARIO, num_paths=2)
    for simulate in (
        lambda rng: simulate_gbm(MODEL, few, rng),
        lambda rng: simulate_regimes(RegimeModel(), few, rng)[0],
    ):
        first = simulate(np.random.default_rng(1)).fingerprint
        assert simulate(np.random.default_rng(1)).fingerprint == first
        assert simulate(np.random.default_rng(2)).fingerprint != first


def test_names_sort_in_order() -> None:
    assert asset_names(3) == ("asset_01", "asset_02", "asset_03")
    names = asset_names(120)
    assert list(names) == sorted(names)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"vol_annual": -0.1}, r"data\.gbm\.vol_annual of asset_01 is -0\.1"),
        ({"vol_annual": "0.1..20.0"}, "vol_annual of asset_02 is 10.05"),
        ({"drift": 8.0}, "drift of asset_01 is 8"),
        ({"drift": (0.1,)}, "1 numbers for 3 assets"),
        ({"correlation": -0.9}, "no correlation matrix"),
    ],
)
def test_impossible_parameters_are_refused(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        simulate_gbm(PanelModel(**parameters), SCENARIO, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("transition", "words"),
    [
        (((0.9, 0.1),), "not 2 by 2"),
        (((0.9, 0.2), (0.1, 0.9)), "add up to 1"),
        (((1.1, -0.1), (0.1, 0.9)), "add up to 1"),
        (((1.0, 0.0), (0.0, 1.0)), "never meet"),
    ],
)
def test_an_impossible_chain_is_refused(transition: Any, words: str) -> None:
    model = RegimeModel(transition=transition)
    with pytest.raises(InputError, match=words):
        simulate_regimes(model, SCENARIO, np.random.default_rng(0))


def test_prices_that_overflow_are_refused() -> None:
    wild = PanelModel(drift=5.0, vol_annual=5.0, correlation=0.0)
    long = replace(SCENARIO, num_paths=1, dates=trading_days(dt.date(1950, 1, 2), 25_000))
    with pytest.raises(InputError, match=r"the price of asset_0\d on .* is (inf|0\.0)"):
        simulate_gbm(wild, long, np.random.default_rng(0))


# --- one number an asset, and correlations -------------------------------------------------------


def test_a_number_a_list_and_a_spread_give_one_number_an_asset() -> None:
    assert each_asset(0.2, 3, "vol").tolist() == [0.2, 0.2, 0.2]
    assert each_asset((0.1, 0.3), 2, "vol").tolist() == [0.1, 0.3]
    assert each_asset("0.1..0.3", 3, "vol") == pytest.approx([0.1, 0.2, 0.3])
    assert each_asset(" 1 .. -1e-1", 2, "vol").tolist() == [1.0, -0.1]
    assert each_asset("0.1..0.3", 1, "vol").tolist() == [0.1]


def test_a_list_of_another_length_is_refused() -> None:
    with pytest.raises(InputError, match="vol has 2 numbers for 3 assets"):
        each_asset((0.1, 0.3), 3, "vol")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.2, 0.2),
        ([0.1, 0.2], (0.1, 0.2)),
        ("0.1..0.2", "0.1..0.2"),
    ],
)
def test_all_three_are_read_from_plain_data(value: Any, expected: Any) -> None:
    assert build_settings(PanelModel, {"vol_annual": value}, "data.gbm").vol_annual == expected


@pytest.mark.parametrize(
    "value", ["high", "0.1...0.2", "..", "0.1..", {"first": 0.1}, [0.1, "x"], None]
)
def test_anything_else_is_one_error_that_says_what_to_write(value: Any) -> None:
    with pytest.raises(InputError, match=r"data\.gbm\.vol_annual = .*write one number") as caught:
        build_settings(PanelModel, {"vol_annual": value}, "data.gbm")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 1.0, -0.5])
def test_the_root_gives_back_the_constant_correlation(correlation: float) -> None:
    root = correlation_root(correlation, 3, "correlation")
    np.testing.assert_allclose(root, root.T, atol=1e-14)
    np.testing.assert_allclose(
        root @ root, np.where(np.eye(3, dtype=bool), 1.0, correlation), atol=1e-12
    )


def test_the_root_gives_back_a_matrix() -> None:
    matrix = ((1.0, 0.2, -0.3), (0.2, 1.0, 0.5), (-0.3, 0.5, 1.0))
    root = correlation_root(matrix, 3, "correlation")
    np.testing.assert_allclose(root @ root, matrix, atol=1e-12)


def test_one_asset_needs_no_correlation() -> None:
    assert correlation_root(0.3, 1, "correlation").tolist() == [[1.0]]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (-0.6, "smallest eigenvalue is -0.2.*allow -0.5000 or more"),
        (1.5, "outside -1 to 1"),
        (((1.0, 0.9, -0.9), (0.9, 1.0, 0.9), (-0.9, 0.9, 1.0)), "smallest eigenvalue is -0.8"),
        (((1.0, 0.2), (0.2, 1.0)), "2 rows of .* for 3 assets"),
        (((1.0, 0.2, 0.1), (0.3, 1.0, 0.1), (0.1, 0.1, 1.0)), r"\[0\]\[1\] is 0.2 but"),
        (((0.04, 0.0, 0.0), (0.0, 0.04, 0.0), (0.0, 0.0, 0.04)), "not covariances"),
    ],
)
def test_what_is_no_correlation_matrix_is_refused(value: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        correlation_root(value, 3, "correlation")
