"""Fitted models: simulations against closed forms, fits against the models that made the data."""

from __future__ import annotations

import datetime as dt
import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from conf.errors import InputError
from envs.market.clock import CALENDAR, CLOSED_DAY_WEIGHT
from envs.market.exchange_calendar import trading_days
from envs.market.history import MarketHistory
from envs.market.models.bootstrap import DayPool, pool_days, simulate_bootstrap
from envs.market.models.fits import (
    by_calendar_day,
    fit_gbm,
    fit_heston,
    fit_regimes,
    fit_two_regimes,
    moves_of,
    smooth,
)
from envs.market.models.garch import GarchFit, IndexGarch, fit_index_garch, simulate_index_garch
from envs.market.models.gbm import GbmModel, Scenario
from envs.market.models.heston import HestonModel
from envs.market.models.index_models import simulate_index
from envs.market.models.regimes import IndexRegimes, IndexState, simulate_index_regimes
from envs.market.sources.index import Sp500Data, SyntheticData, load_market, past_of
from tests.markets import history_of

MONDAY = dt.date(2001, 1, 1)
SCENARIO = Scenario(
    dates=trading_days(MONDAY, 253),
    num_paths=2000,
    initial_price=1000.0,
    drift=0.04,
    rate=0.04,
    dividend_yield=0.015,
)
YEAR, DAY = 0.2**2, 0.2**2 / 252


@pytest.fixture(scope="module")
def real() -> MarketHistory:
    """Training years of the S&P 500."""
    return past_of(load_market(Sp500Data(), embargo_days=0), "train")


@pytest.fixture(scope="module")
def pool(real: MarketHistory) -> DayPool:
    return pool_days(real, mean_block=20.0)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def log_returns(history: MarketHistory) -> np.ndarray:
    return np.diff(np.log(history.close), axis=1)


def garch_model(alpha: float, gamma: float, beta: float, premium: float = 0.0) -> IndexGarch:
    shocks = rng(1).standard_normal((20_000, 1))
    shocks = (shocks - shocks.mean()) / shocks.std()
    falls = float((shocks**2 * (shocks < 0)).mean())
    one = np.ones(1)
    fit = GarchFit(
        ("index",), one * 0.025, one * YEAR, one * YEAR * (1 - alpha - gamma * falls - beta),
        one * alpha, one * gamma, one * beta, one * np.inf, shocks,
    )  # fmt: skip
    return IndexGarch(fit, premium)


# --- GJR-GARCH -----------------------------------------------------------------------------------


def test_garch_moments_and_memory_are_those_of_the_closed_form() -> None:
    alpha, beta = 0.1, 0.8
    scenario = replace(SCENARIO, dates=trading_days(MONDAY, 1500), num_paths=300)
    history = simulate_index_garch(garch_model(alpha, 0.0, beta), scenario, rng(2))
    interest = 0.04 * scenario.days / 365
    drift = 0.025 * scenario.days / 365
    excess = (log_returns(history) - interest - drift) / np.sqrt(scenario.variance_years * 252)
    assert abs(excess.mean()) < 4 * excess.std() / np.sqrt(excess.size)
    assert excess.var() == pytest.approx(DAY, rel=0.03)
    squares = excess**2 - (excess**2).mean()
    first = alpha * (1 - alpha * beta - beta**2) / (1 - 2 * alpha * beta - beta**2)
    for lag in (1, 3, 8):
        measured = (squares[:, lag:] * squares[:, :-lag]).mean() / squares.var()
        assert measured == pytest.approx(first * (alpha + beta) ** (lag - 1), abs=0.02)


def test_garch_implied_vol_is_the_variance_that_follows_and_the_premium() -> None:
    model = garch_model(0.04, 0.12, 0.85, premium=0.03)
    scenario = replace(SCENARIO, dates=trading_days(MONDAY, 64), num_paths=10_000)
    history = simulate_index_garch(model, scenario, rng(3))
    excess = log_returns(history) - (0.04 + 0.025) * scenario.days / 365
    realised = (excess[:, 20:41] ** 2).mean(axis=1) * 252
    expected = (history.implied_vol[:, 20] - 0.03) ** 2
    assert realised.mean() == pytest.approx(expected.mean(), rel=0.03)
    volatile = expected > np.quantile(expected, 0.9)
    assert realised[volatile].mean() == pytest.approx(expected[volatile].mean(), rel=0.08)
    assert expected[volatile].mean() > 2 * expected[~volatile].mean()


def test_garch_fitted_to_the_index_looks_like_it(real: MarketHistory) -> None:
    model = fit_index_garch(real)
    scenario = replace(SCENARIO, dates=trading_days(MONDAY, 505), num_paths=200)
    history = simulate_index_garch(model, scenario, rng(4))
    assert log_returns(history).std() == pytest.approx(log_returns(real).std(), rel=0.1)
    assert history.implied_vol.mean() == pytest.approx(real.implied_vol.mean(), rel=0.1)
    assert 0.0 < model.vol_premium < 0.06
    correlation = np.corrcoef(log_returns(history).ravel(), np.diff(history.implied_vol).ravel())
    assert correlation[0, 1] < -0.5  # volatility rises when the index falls


# --- stationary bootstrap ------------------------------------------------------------------------


def shocks_drawn(pool: DayPool, history: MarketHistory) -> np.ndarray:
    drift = pool.growth * history.days_to_next[:-1] / 365
    years = history.units_to_next[:-1] / (252 + CLOSED_DAY_WEIGHT * 113)
    shocks: np.ndarray = (log_returns(history) - drift) / np.sqrt(years)
    return shocks


def test_every_drawn_day_is_a_real_one_with_its_own_volatility(
    real: MarketHistory, pool: DayPool
) -> None:
    history = simulate_bootstrap(pool, replace(SCENARIO, num_paths=50), rng(5))
    moved = shocks_drawn(pool, history)
    growth = np.log(real.close[0, -1] / real.close[0, 0]) / real.days_to_next.sum()
    shocks = log_returns(real)[0] - growth * real.days_to_next[:-1]
    shocks /= np.sqrt(1 + CLOSED_DAY_WEIGHT * (real.days_to_next[:-1] - 1))
    ratio = pool.close / shocks  # one number: what keeps the variance of a year
    np.testing.assert_allclose(ratio, np.median(ratio), rtol=1e-9)
    days = dict(zip(np.round(pool.close, 9), real.implied_vol[0, 1:], strict=True))
    twice = len(days) < len(pool.close)  # a few days have the very same return
    vols = [days.get(r) for r in np.round(moved.ravel(), 9)]
    assert None not in vols
    same = np.isclose(np.array(vols, float), history.implied_vol[:, 1:].ravel(), atol=1e-12)
    assert same.mean() > (0.98 if twice else 0.999999)
    ranges = np.log(history.high / history.low)[:, 1:]
    real_ranges = np.sort(np.log(real.high / real.low)[0])
    nearest = real_ranges[np.clip(np.searchsorted(real_ranges, ranges), 0, len(real_ranges) - 1)]
    # Where a day's open was not the close before it, its bar may have been stretched to hold both.
    assert (np.abs(nearest - ranges) < 1e-3).mean() > 0.9


def test_blocks_have_the_requested_mean_length(pool: DayPool) -> None:
    history = simulate_bootstrap(pool, SCENARIO, rng(6))
    place = {round(r, 9): k for k, r in enumerate(pool.close)}
    drawn = np.vectorize(lambda r: place.get(round(r, 9), -1))(shocks_drawn(pool, history)[:200])
    joins = np.diff(drawn, axis=1) != 1
    # A new block follows on by chance once in as many days as there are: nothing.
    assert 1 / joins.mean() == pytest.approx(20.0, rel=0.06)


def test_the_estimated_block_is_that_of_returns_and_squares(real: MarketHistory) -> None:
    assert 5 < pool_days(real).mean_block <= np.sqrt(real.num_sessions)


def test_paths_longer_than_the_pool_are_drawn_too(real: MarketHistory) -> None:
    small = pool_days(real.sessions(0, 300), mean_block=400.0)
    history = simulate_bootstrap(small, replace(SCENARIO, dates=trading_days(MONDAY, 900)), rng(7))
    drawn = shocks_drawn(small, history)[0]
    assert np.isin(np.round(drawn, 9), np.round(small.close, 9)).all()


@pytest.mark.parametrize("weight", [0.0, CLOSED_DAY_WEIGHT, CALENDAR])
def test_resampled_markets_keep_variance_and_growth_on_every_clock(
    real: MarketHistory, weight: float
) -> None:
    past = replace(real, closed_day_weight=weight)
    scenario = replace(SCENARIO, closed_day_weight=weight, rate=float(real.rate.mean()))
    had = log_returns(real).var() * 252
    growth = np.log(real.close[0, -1] / real.close[0, 0]) / (real.days_to_next.sum() / 365)
    for history in (
        simulate_bootstrap(pool_days(past, mean_block=20.0), scenario, rng(21)),
        simulate_index_garch(fit_index_garch(past), scenario, rng(22)),
    ):
        moved = log_returns(history)
        assert moved.var() * 252 == pytest.approx(had, rel=0.06)
        yearly = moved.sum(axis=1) / (scenario.days.sum() / 365)
        assert abs(yearly.mean() - growth) < 4 * yearly.std() / np.sqrt(len(yearly))


def test_what_trades_every_day_is_as_volatile_on_the_exchanges_days() -> None:
    dates = np.datetime64("2010-01-01") + np.arange(1500)
    shocks = 0.03 * rng(23).standard_normal(1500)
    past = history_of(1000.0 * np.exp(np.cumsum(shocks)), 0.6, dates=dates, closed_day_weight=0.13)
    had = log_returns(past).var() * 365
    for model in (pool_days(past, mean_block=5.0), fit_index_garch(past)):
        history = simulate_index(model, SCENARIO, rng(24))
        years = SCENARIO.variance_years.sum()
        assert log_returns(history).var() * 252 == pytest.approx(had, rel=0.07), type(model)
        assert years == pytest.approx(1.0, abs=0.01)


# --- regimes -------------------------------------------------------------------------------------


def test_regimes_hold_as_long_as_the_stationary_distribution_says() -> None:
    model = IndexRegimes(transition=((0.97, 0.03), (0.09, 0.91)))
    np.testing.assert_allclose(model.stationary(), [0.75, 0.25])
    history, states = simulate_index_regimes(model, SCENARIO, rng(8))
    assert (states == 0).mean() == pytest.approx(0.75, abs=0.01)
    calm = history.days_to_next[:-1] == 1
    left = (states[:, 1:] == 1)[:, calm][(states[:, :-1] == 0)[:, calm]]
    assert left.mean() == pytest.approx(0.03, rel=0.05)


@pytest.mark.parametrize("weight", [CLOSED_DAY_WEIGHT, CALENDAR])
def test_each_regime_has_its_moments_on_both_clocks(weight: float) -> None:
    calm, storm = IndexState(drift=0.10, vol_annual=0.1), IndexState(drift=-0.3, vol_annual=0.4)
    model = IndexRegimes(states=(calm, storm), transition=((0.999, 0.001), (0.001, 0.999)))
    scenario = replace(SCENARIO, closed_day_weight=weight)
    history, states = simulate_index_regimes(model, scenario, rng(9))
    moved = log_returns(history)
    for number, state in enumerate(model.states):
        held = (states[:, 1:] == number) & (states[:, :-1] == number)
        for days in (1, 3):
            of_gap = history.days_to_next[:-1] == days
            sample = moved[:, of_gap][held[:, of_gap]]
            years = (1 + weight * (days - 1)) / (252 + weight * 113)
            assert sample.var() == pytest.approx(state.vol_annual**2 * years, rel=0.03)
            mean = (state.drift - 0.015) * days / 365 - state.vol_annual**2 / 2 * years
            assert abs(sample.mean() - mean) < 5 * sample.std() / np.sqrt(sample.size)


def test_regime_implied_vol_is_the_root_of_the_variance_that_follows() -> None:
    model = IndexRegimes(vol_premium=0.02)
    dates = np.datetime64("2001-01-01") + np.arange(31)
    scenario = replace(SCENARIO, dates=dates, num_paths=30_000)
    history, states = simulate_index_regimes(model, scenario, rng(10))
    drifts = np.array([s.drift - s.vol_annual**2 / 2 - 0.015 for s in model.states]) / 365
    realised = ((log_returns(history) - drifts[states[:, 1:]]) ** 2).sum(axis=1) * 365 / 30
    for number in (0, 1):
        inside = states[:, 0] == number
        vol = history.implied_vol[inside, 0]
        assert vol.std() < 1e-12
        assert realised[inside].mean() == pytest.approx((vol[0] - 0.02) ** 2, rel=0.02)


def test_a_chain_by_calendar_days_takes_as_long_as_one_by_sessions() -> None:
    session = np.array([[0.997, 0.003], [0.008, 0.992]])
    day = np.array(by_calendar_day(session))
    year_a = np.linalg.matrix_power(session, 252)
    year_b = np.linalg.matrix_power(day, 365)
    np.testing.assert_allclose(year_a, year_b, atol=1e-12)
    assert year_a[0, 0] - year_a[1, 0] > 0.05  # not forgotten yet
    for_ever = np.linalg.matrix_power(day, 20_000)[0]
    np.testing.assert_allclose(for_ever, [8 / 11, 3 / 11], atol=1e-10)


def test_the_filter_gives_what_summing_over_all_sequences_gives() -> None:
    transition_matrix, first = np.array([[0.9, 0.1], [0.3, 0.7]]), np.array([0.6, 0.4])
    density = rng(11).uniform(0.1, 2.0, (6, 2))
    total, weights, pairs = 0.0, np.zeros((6, 2)), np.zeros((2, 2))
    for path in itertools.product((0, 1), repeat=6):
        chance = first[path[0]] * density[0, path[0]]
        for t in range(1, 6):
            chance *= transition_matrix[path[t - 1], path[t]] * density[t, path[t]]
        total += chance
        for t in range(6):
            weights[t, path[t]] += chance
        for t in range(1, 6):
            pairs[path[t - 1], path[t]] += chance
    smoothed, moves, likelihood = smooth(density, transition_matrix, first)
    assert likelihood == pytest.approx(np.log(total))
    np.testing.assert_allclose(smoothed, weights / total, rtol=1e-12)
    np.testing.assert_allclose(moves, pairs / total, rtol=1e-12)


def test_the_fit_recovers_the_regimes_that_generated_the_returns() -> None:
    chain = [0]
    for u in rng(13).random(5999):
        chain.append(int(u < 0.02) if chain[-1] == 0 else int(u >= 0.05))
    states = np.array(chain)
    scale = np.array([0.006, 0.02])
    returns = np.array([0.0006, -0.001])[states] + scale[states] * rng(14).standard_normal(6000)
    fit = fit_two_regimes(returns)
    np.testing.assert_allclose(np.sqrt(fit.variance), scale, rtol=0.05)
    assert fit.transition[0, 1] == pytest.approx(0.02, abs=0.006)
    assert fit.transition[1, 0] == pytest.approx(0.05, abs=0.015)
    np.testing.assert_allclose(fit.share, [(states == d).mean() for d in (0, 1)], atol=0.03)


# --- fits by moments -----------------------------------------------------------------------------


def test_gbm_is_fitted_to_volatility_drift_and_premium() -> None:
    model = GbmModel(vol_annual=0.25, vol_premium=0.03)
    scenario = replace(SCENARIO, dates=trading_days(MONDAY, 10_000), num_paths=1, drift=0.2)
    past = simulate_index(model, scenario, rng(15))
    fitted = fit_gbm(past)
    assert fitted.vol_annual == pytest.approx(0.25, rel=0.03)
    assert fitted.vol_annual + fitted.vol_premium == pytest.approx(0.28)
    years = moves_of(past).years.sum()
    assert moves_of(past).drift == pytest.approx(0.2, abs=3 * 0.25 / np.sqrt(years))


def test_heston_recovers_the_model_that_generated_the_prices() -> None:
    model = HestonModel(
        initial_variance=0.04, long_run_variance=0.04, mean_reversion=4.0, vol_of_vol=0.5,
        correlation=-0.7, vol_premium=0.02,
    )  # fmt: skip
    scenario = replace(SCENARIO, dates=trading_days(MONDAY, 12_000), num_paths=1)
    fitted = fit_heston(simulate_index(model, scenario, rng(16)))
    assert fitted.long_run_variance == pytest.approx(0.04, rel=0.1)
    assert fitted.mean_reversion == pytest.approx(4.0, rel=0.3)
    assert fitted.vol_of_vol == pytest.approx(0.5, rel=0.1)
    assert fitted.correlation == pytest.approx(-0.7, abs=0.06)
    assert fitted.vol_premium == pytest.approx(0.02, abs=0.01)


@pytest.mark.parametrize("model", [GbmModel(), HestonModel()])
def test_a_premium_moves_implied_volatility_and_nothing_else(
    model: GbmModel | HestonModel,
) -> None:
    scenario = replace(SCENARIO, num_paths=3)
    plain = simulate_index(model, scenario, rng(17))
    dear = simulate_index(replace(model, vol_premium=0.05), scenario, rng(17))
    assert np.array_equal(plain.close, dear.close)
    np.testing.assert_allclose(dear.implied_vol, plain.implied_vol + 0.05)


def test_no_fit_sees_what_comes_after_its_years() -> None:
    loaded = load_market(Sp500Data(), embargo_days=0)
    whole = loaded.history
    noise = rng(18).uniform(0.5, 2.0, whole.close.shape)
    ends = {"train": loaded.splits.train.stop, "validation": loaded.splits.validation.stop}
    for last, stop in ends.items():
        changed: dict[str, Any] = {
            name: np.concatenate(
                [getattr(whole, name)[:, :stop], (getattr(whole, name) * noise)[:, stop:]], axis=1
            )
            for name in ("open", "high", "low", "close", "implied_vol")
        }
        other = replace(loaded, history=replace(whole, **changed))
        assert past_of(other, last).fingerprint == past_of(loaded, last).fingerprint
        assert other.history.fingerprint != whole.fingerprint


@pytest.mark.parametrize("fit", [fit_gbm, fit_heston, fit_regimes, fit_index_garch, pool_days])
def test_too_short_a_past_is_refused(fit, real: MarketHistory) -> None:
    with pytest.raises(InputError, match="sessions to"):
        fit(real.sessions(0, 200))


# --- as data to train on -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["regime", "garch", "bootstrap"])
def test_each_model_is_a_source_of_data(name: Any) -> None:
    data = SyntheticData(model=name, sessions=700, paths=2, seed=3)
    loaded = load_market(data, embargo_days=60)
    history = loaded.history
    assert history.close.shape == (2, 700)
    assert (history.close[:, 0] == 1000.0).all()
    assert (history.low <= np.minimum(history.open, history.close)).all()
    assert (history.high >= np.maximum(history.open, history.close)).all()
    assert load_market(data, embargo_days=60).history.fingerprint == history.fingerprint
    assert loaded.splits.test.num_sessions > 100
    notices = " ".join(loaded.notices)
    assert ("estimated" in notices) == (name != "regime")


def test_the_same_generator_gives_the_same_bootstrap(pool: DayPool) -> None:
    first = simulate_index(pool, SCENARIO, rng(1)).fingerprint
    assert simulate_index(pool, SCENARIO, rng(1)).fingerprint == first


def test_regime_returns_have_fatter_tails_than_a_normal() -> None:
    history = simulate_index(IndexRegimes(), replace(SCENARIO, num_paths=500), rng(19))
    assert stats.kurtosis(log_returns(history).ravel()) > 1.0
