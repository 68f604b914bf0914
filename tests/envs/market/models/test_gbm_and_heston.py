from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from conf.errors import InputError
from envs.market.clock import CALENDAR, CLOSED_DAY_WEIGHT
from envs.market.exchange_calendar import trading_days
from envs.market.history import MarketHistory
from envs.market.models.gbm import GbmModel, Scenario, bridge_extremes
from envs.market.models.heston import HestonModel, heston_paths
from envs.market.models.index_models import IndexModel, simulate_index
from envs.market.models.regimes import IndexRegimes

MONDAY = dt.date(2001, 1, 1)
CLOCKS = (CLOSED_DAY_WEIGHT, CALENDAR)
FAIR = Scenario(
    dates=trading_days(MONDAY, 64),
    num_paths=20_000,
    initial_price=1000.0,
    drift=0.04,
    rate=0.04,
    dividend_yield=0.015,
)


@pytest.fixture(scope="module")
def gbm() -> MarketHistory:
    return simulate_index(GbmModel(vol_annual=0.25), FAIR, np.random.default_rng(7))


def years(history: MarketHistory) -> float:
    return float((history.dates[-1] - history.dates[0]).astype(int)) / 365.0


def variance_years(history: MarketHistory) -> float:
    """By hand: sessions and the share of the days between them, a year of 252 and 113."""
    weight, days = history.closed_day_weight, history.days_to_next[:-1]
    return float((1 + weight * (days - 1)).sum() / (252 + weight * 113))


def within(sample: np.ndarray, expected: float, errors: float = 4.0) -> bool:
    return bool(abs(sample.mean() - expected) < errors * sample.std() / np.sqrt(sample.size))


def test_moments_of_the_log_return_are_those_of_the_model(gbm: MarketHistory) -> None:
    log_return = np.log(gbm.close[:, -1] / gbm.close[:, 0])
    variance = 0.25**2 * variance_years(gbm)
    assert within(log_return, (0.04 - 0.015) * years(gbm) - variance / 2)
    assert within((log_return - log_return.mean()) ** 2, variance)
    assert stats.kstest(stats.zscore(log_return), "norm").pvalue > 1e-4


@pytest.mark.parametrize("weight", CLOCKS)
@pytest.mark.parametrize("model", [GbmModel(vol_annual=0.25), HestonModel(), IndexRegimes()])
def test_a_weekend_has_the_variance_that_the_clock_gives_it(
    model: IndexModel, weight: float
) -> None:
    scenario = replace(FAIR, closed_day_weight=weight, num_paths=10_000)
    history = simulate_index(model, scenario, np.random.default_rng(7))
    returns, gap = np.diff(np.log(history.close), axis=1), history.days_to_next[:-1]
    # Side by side, for the variance of the models drifts.
    friday = np.flatnonzero((gap[1:-1] == 3) & (gap[:-2] == 1) & (gap[2:] == 1)) + 1
    beside = (returns[:, friday - 1].var() + returns[:, friday + 1].var()) / 2
    assert returns[:, friday].var() / beside == pytest.approx(1 + 2 * weight, rel=0.025)


@pytest.mark.parametrize("model", [GbmModel(vol_annual=0.25), HestonModel()])
def test_discounted_index_with_dividends_is_a_martingale(model: GbmModel | HestonModel) -> None:
    history = simulate_index(model, FAIR, np.random.default_rng(11))
    tau = years(history)
    discounted = history.close[:, -1] * np.exp((0.015 - 0.04) * tau)
    assert within(discounted, 1000.0)


def test_drift_counts_dividends_in(gbm: MarketHistory) -> None:
    history = simulate_index(GbmModel(), replace(FAIR, drift=0.5), np.random.default_rng(3))
    assert within(history.close[:, -1], 1000.0 * np.exp((0.5 - 0.015) * years(history)))


@pytest.mark.parametrize("model", [GbmModel(), HestonModel()])
def test_bars_are_consistent(model: GbmModel | HestonModel) -> None:
    scenario = replace(FAIR, num_paths=50, dates=trading_days(MONDAY, 300))
    history = simulate_index(model, scenario, np.random.default_rng(5))
    assert history.close.shape == (50, 300)
    assert (history.low <= np.minimum(history.open, history.close)).all()
    assert (history.high >= np.maximum(history.open, history.close)).all()
    assert np.array_equal(history.open[:, 1:], history.close[:, :-1])
    assert (history.close[:, 0] == 1000.0).all()
    assert not history.volume.any()
    assert set(history.implied_vol_source) == {1}


def test_range_reveals_the_volatility_by_parkinsons_estimator(gbm: MarketHistory) -> None:
    day = np.flatnonzero(gbm.days_to_next[:-1] == 1) + 1
    squares = np.log(gbm.high[:, day] / gbm.low[:, day]) ** 2 / (4 * np.log(2))
    squares *= 252 + CLOSED_DAY_WEIGHT * 113
    # The two extremes are drawn apart from each other, which widens the range by about 1 %.
    assert np.sqrt(squares.mean()) == pytest.approx(0.25, rel=0.025)


def test_bridge_maximum_has_its_exact_distribution() -> None:
    start, end, variance = 0.3, -0.1, 0.25
    shape = np.zeros(50_000)
    high, low = bridge_extremes(shape + start, shape + end, variance, np.random.default_rng(1))

    def below(m: Any) -> Any:
        return 1 - np.exp(-2 * (m - start) * (m - end) / variance)

    assert stats.kstest(high, below).pvalue > 1e-3
    assert stats.kstest(-low + start + end, below).pvalue > 1e-3
    assert high.min() >= start
    assert low.max() <= end


def test_same_seed_same_history_and_another_seed_another() -> None:
    scenario = replace(FAIR, num_paths=2)
    for model in (GbmModel(), HestonModel()):
        first = simulate_index(model, scenario, np.random.default_rng(1))
        again = simulate_index(model, scenario, np.random.default_rng(1))
        other = simulate_index(model, scenario, np.random.default_rng(2))
        assert first.fingerprint == again.fingerprint
        assert first.fingerprint != other.fingerprint


def test_gbm_options_are_priced_at_its_one_volatility(gbm: MarketHistory) -> None:
    assert (gbm.implied_vol == 0.25).all()


def test_heston_call_is_worth_its_known_price() -> None:
    days = np.full(73, 5)  # one year; the scheme steps by single days whatever the sessions
    log_close, *_ = heston_paths(
        HestonModel(), days, np.full(days.sum(), 1 / 365), 20_000, 0.0, np.random.default_rng(4)
    )
    index = 100.0 * np.exp(log_close[:, -1])
    payoff = np.maximum(index - 100.0, 0.0)
    # The index has a known mean, so it takes most of the noise out of the price.
    hedge = np.cov(payoff, index)[0, 1] / index.var()
    assert within(payoff - hedge * (index - 100.0), 5.7851554, errors=3.0)


def test_heston_variance_has_the_moments_of_the_square_root_process() -> None:
    model = HestonModel()
    tau, days = 0.5, np.full(73, 1)
    years = np.full(73, tau / 73)
    _, _, _, vol = heston_paths(model, days, years, 20_000, 0.0, np.random.default_rng(6))
    month = 30 / 365
    pull = -np.expm1(-model.mean_reversion * month) / (model.mean_reversion * month)
    theta = model.long_run_variance
    variance = theta + (vol[:, -1] ** 2 - theta) / pull
    decay = np.exp(-model.mean_reversion * tau)
    start, xi, kappa = model.initial_variance, model.vol_of_vol, model.mean_reversion
    assert start is not None
    mean = theta + (start - theta) * decay
    spread = start * xi**2 * decay / kappa * (1 - decay)
    spread += theta * xi**2 / (2 * kappa) * (1 - decay) ** 2
    assert within(variance, mean)
    assert variance.var() == pytest.approx(spread, rel=0.06)
    assert variance.min() >= -1e-15


def test_heston_vol_is_the_root_of_the_variance_that_follows() -> None:
    model = HestonModel()
    days = np.full(30, 1)
    log_close, _, _, vol = heston_paths(
        model, days, np.full(days.sum(), 1 / 365), 40_000, 0.0, np.random.default_rng(8)
    )
    realised = (np.diff(log_close, axis=1) ** 2).sum(axis=1) * 365 / 30
    assert realised.mean() == pytest.approx(vol[0, 0] ** 2, rel=0.02)


def test_heston_without_vol_of_vol_is_geometric_brownian_motion() -> None:
    calm = HestonModel(
        initial_variance=0.04, long_run_variance=0.04, vol_of_vol=0.01, correlation=0.0
    )
    history = simulate_index(calm, replace(FAIR, num_paths=4000), np.random.default_rng(9))
    log_return = np.log(history.close[:, -1] / history.close[:, 0])
    assert log_return.std() == pytest.approx(0.2 * np.sqrt(variance_years(history)), rel=0.04)
    assert history.implied_vol.std() < 0.005


@pytest.mark.parametrize("change", [{"num_paths": 0}, {"initial_price": 0.0}])
def test_a_scenario_of_nothing_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="cannot simulate"):
        replace(FAIR, **change)


def test_heston_variance_can_start_from_the_long_run_and_stays_there() -> None:
    model = HestonModel(initial_variance=None, mean_reversion=4.0)
    days, years = np.full(126, 1), np.full(126, 1 / 252)
    _, _, _, vol = heston_paths(model, days, years, 20_000, 0.0, np.random.default_rng(10))
    month = model.mean_reversion * 30 / 365
    pull = -np.expm1(-month) / month
    theta, spread = model.long_run_variance, model.vol_of_vol**2 / (2 * model.mean_reversion)
    for at in (0, 60, -1):
        variance = theta + (vol[:, at] ** 2 - theta) / pull
        assert within(variance, theta)
        assert variance.var() == pytest.approx(theta * spread, rel=0.06)
