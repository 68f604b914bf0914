"""SABR: a martingale with lognormal volatility, whose options are worth what Hagan says."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest

from envs.market.exchange_calendar import trading_days
from envs.market.models.gbm import Scenario
from envs.market.models.index_models import simulate_index
from envs.market.models.sabr import MAX_VOL_ANNUAL, SabrModel, sabr_paths
from envs.options.black_scholes import price_and_greeks

QUARTER = np.full(63, 1 / 252)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def near(sample: np.ndarray, expected: float, errors: float = 4.0) -> bool:
    return bool(abs(sample.mean() - expected) < errors * sample.std() / np.sqrt(sample.size))


def test_volatility_is_a_lognormal_martingale_that_moves_with_the_index() -> None:
    model = SabrModel(vol_annual=0.3, vol_of_vol=1.2, correlation=-0.7)
    log_forward, vol = sabr_paths(model, QUARTER, 20_000, rng(1))
    assert near(vol[:, -1], 0.3)
    log_vol = np.log(vol[:, -1] / 0.3)
    assert near(log_vol, -(1.2**2) / 2 / 4)
    assert log_vol.var() == pytest.approx(1.2**2 / 4, rel=0.04)
    shocks, moved = np.diff(log_forward) / vol[:, :-1], np.diff(np.log(vol))
    assert np.corrcoef(shocks.ravel(), moved.ravel())[0, 1] == pytest.approx(-0.7, abs=0.005)
    assert shocks.var() == pytest.approx(1 / 252, rel=0.01)


@pytest.mark.parametrize("beta", [1.0, 0.5, 0.0])
def test_the_forward_is_a_martingale_for_every_beta(beta: float) -> None:
    model = SabrModel(beta=beta, vol_of_vol=1.0)
    log_forward, _ = sabr_paths(model, QUARTER, 40_000, rng(2))
    assert near(np.exp(log_forward[:, -1]), 1.0)


def hagan(model: SabrModel, strike: float, years: float) -> float:
    """The implied volatility of their equation 2.17a for F0 = 1, of any strike but the forward."""
    beta, nu, rho, vol = model.beta, model.vol_of_vol, model.correlation, model.vol_annual
    log, flat = -np.log(strike), 1.0 - beta
    middle = strike ** (flat / 2)
    z = nu / vol * middle * log
    x = np.log((np.sqrt(1 - 2 * rho * z + z * z) + z - rho) / (1 - rho))
    below = middle * (1 + flat**2 / 24 * log**2 + flat**4 / 1920 * log**4)
    later = flat**2 / 24 * (vol / middle) ** 2 + rho * beta * nu * vol / (4 * middle)
    later += (2 - 3 * rho**2) / 24 * nu**2
    return float(vol / below * z / x * (1 + later * years))


@pytest.mark.parametrize(
    "model",
    [
        SabrModel(),
        SabrModel(beta=0.5, correlation=0.3, vol_of_vol=0.8),
        SabrModel(beta=0.0, correlation=-0.5, vol_annual=0.4, vol_of_vol=0.4),
    ],
)
def test_options_are_worth_what_hagan_says(model: SabrModel) -> None:
    years = np.full(126, 1 / 252)  # a step a session: half a year, the longest that is hedged
    log_forward, _ = sabr_paths(model, years, 40_000, rng(3))
    forward = np.exp(log_forward[:, -1])
    at_the_money = float(model.at_the_money_vol(np.array(model.vol_annual), 0.5))
    assert at_the_money == pytest.approx(hagan(model, 1.0 + 1e-6, 0.5), rel=1e-6)
    for strike, vol in ((1.0, at_the_money), *((k, hagan(model, k, 0.5)) for k in (0.9, 1.1))):
        payoff = np.maximum(forward - strike, 0.0)
        payoff -= np.cov(payoff, forward)[0, 1] / forward.var() * (forward - 1.0)
        value = price_and_greeks(1.0, strike, 0.5, np.array([vol]), 0.0, 0.0, True)
        # Two tenths of a point of volatility, for noise, their expansion and the step.
        within = 0.002 * float(value.vega[0])
        assert payoff.mean() == pytest.approx(float(value.price[0]), abs=within)


def test_with_the_least_vol_of_vol_and_beta_one_it_is_geometric_brownian_motion() -> None:
    model = SabrModel(vol_annual=0.25, vol_of_vol=0.01, correlation=0.0)
    log_forward, vol = sabr_paths(model, QUARTER, 20_000, rng(4))
    assert log_forward[:, -1].std() == pytest.approx(0.25 / 2, rel=0.02)
    assert vol.std() < 0.002


def test_a_history_quotes_the_at_the_money_volatility_and_drifts_as_asked() -> None:
    scenario = Scenario(trading_days(dt.date(2001, 1, 1), 64), 20_000, 50.0, 0.06, 0.02, 0.01)
    history = simulate_index(SabrModel(), scenario, rng(5))
    tau = float((history.dates[-1] - history.dates[0]).astype(int)) / 365.0
    assert near(history.close[:, -1], 50.0 * np.exp(0.05 * tau))
    expected = float(SabrModel().at_the_money_vol(np.array(0.2), 30 / 365))
    np.testing.assert_allclose(history.implied_vol[:, 0], expected)
    dear = simulate_index(SabrModel(vol_premium=0.05), replace(scenario, num_paths=2), rng(5))
    np.testing.assert_allclose(dear.implied_vol[:, 0], expected + 0.05)


def test_an_index_that_nears_nothing_stays_a_price() -> None:
    model = SabrModel(vol_annual=4.0, beta=0.0, vol_of_vol=3.0)
    log_forward, vol = sabr_paths(model, QUARTER, 2_000, rng(6))
    assert np.isfinite(log_forward).all()
    assert vol.max() == pytest.approx(MAX_VOL_ANNUAL)
