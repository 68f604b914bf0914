from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest

from conf.errors import InputError
from envs.market.exchange_calendar import trading_days
from envs.market.models.garch import GarchFit, fit_garch, garch_returns, simulate_garch
from envs.market.models.panel import PanelScenario
from envs.market.panel import PanelHistory

RATE = 0.03
DAY = 0.2**2 / 252  # variance of a session
START = dt.date(1999, 1, 4)


def normal_shocks(rng: np.random.Generator, correlation: float = 0.6) -> np.ndarray:
    shocks = rng.standard_normal((20_000, 2))
    shocks[:, 1] = correlation * shocks[:, 0] + np.sqrt(1 - correlation**2) * shocks[:, 1]
    shocks -= shocks.mean(axis=0)
    scaled: np.ndarray = shocks / shocks.std(axis=0)
    return scaled


def garch_model(alpha: float, gamma: float, beta: float) -> GarchFit:
    """Two assets of 20 % volatility with normal shocks of correlation 0.6."""
    both = np.ones(2)
    return GarchFit(
        assets=("A", "B"),
        mean=both * 0.0003,
        variance=both * DAY,
        omega=both * DAY * (1 - alpha - gamma / 2 - beta),
        alpha=both * alpha,
        gamma=both * gamma,
        beta=both * beta,
        ceiling=both * np.inf,
        shocks=normal_shocks(np.random.default_rng(1)),
    )


def panel(fit: GarchFit, sessions: int, seed: int, paths: int = 1) -> PanelHistory:
    dates = trading_days(START, sessions)
    scenario = PanelScenario(fit.assets, dates, paths, 100.0, RATE)
    return simulate_garch(fit, scenario, np.random.default_rng(seed))


def excess_of(history: PanelHistory) -> np.ndarray:
    days = np.diff(history.dates).astype(float)
    return np.diff(np.log(history.close), axis=1) - (RATE * days / 365)[:, None]


@pytest.fixture(scope="module")
def real() -> PanelHistory:
    """Prices of a market that is GJR-GARCH itself, in the place of history."""
    return panel(garch_model(0.05, 0.10, 0.85), 6000, seed=11)


@pytest.fixture(scope="module")
def fitted(real: PanelHistory) -> GarchFit:
    return fit_garch(real, 5000)


def test_long_run_variance_and_correlation_are_those_of_the_model() -> None:
    excess = excess_of(panel(garch_model(0.05, 0.10, 0.80), 1000, seed=2, paths=200))
    assert excess.mean() == pytest.approx(0.0003, abs=1e-4)
    assert excess.var() == pytest.approx(DAY, rel=0.03)
    assert np.corrcoef(excess.reshape(-1, 2).T)[0, 1] == pytest.approx(0.6, abs=0.03)


def test_squares_have_the_autocorrelation_of_bollerslev() -> None:
    alpha, beta = 0.1, 0.8
    squares = (
        excess_of(panel(garch_model(alpha, 0.0, beta), 2500, seed=3, paths=200)) - 0.0003
    ) ** 2
    first = alpha * (1 - alpha * beta - beta**2) / (1 - 2 * alpha * beta - beta**2)
    centred = squares - squares.mean()
    for lag in (1, 2, 5, 10):
        measured = (centred[:, lag:] * centred[:, :-lag]).mean() / centred.var()
        assert measured == pytest.approx(first * (alpha + beta) ** (lag - 1), abs=0.02)
    returns = excess_of(panel(garch_model(alpha, 0.0, beta), 2500, seed=4, paths=50)) - 0.0003
    assert abs((returns[:, 1:] * returns[:, :-1]).mean() / returns.var()) < 0.01


def test_after_a_fall_volatility_is_higher_than_after_a_rise() -> None:
    alpha, gamma, beta = 0.02, 0.12, 0.85
    returns = excess_of(panel(garch_model(alpha, gamma, beta), 1500, seed=5, paths=200)) - 0.0003
    before, after = returns[:, :-1], returns[:, 1:] ** 2
    fall, rise = before < 0, before > 0
    # E[h'] differs by gamma times the variance, for h and the sign of z are independent.
    difference = after[fall].mean() - after[rise].mean()
    assert difference / returns.var() == pytest.approx(gamma, abs=0.02)


def test_the_recursion_is_that_of_the_plain_formula() -> None:
    fit = replace(garch_model(0.05, 0.1, 0.85), ceiling=np.array([1.5 * DAY, np.inf]))
    drawn = np.random.default_rng(6).integers(0, 20_000, (3, 400))
    measured = garch_returns(fit, drawn)
    bounded = 0
    for path in range(3):
        for asset in range(2):
            variance = DAY
            for step in range(400):
                shock = np.sqrt(variance) * fit.shocks[drawn[path, step], asset]
                assert measured[path, step, asset] == pytest.approx(shock, rel=1e-12)
                reaction = 0.05 + (0.1 if shock < 0 else 0.0)
                variance = fit.omega[asset] + reaction * shock**2 + 0.85 * variance
                bounded += variance > fit.ceiling[asset]
                variance = min(variance, fit.ceiling[asset])
    assert bounded > 0


def test_the_fit_recovers_the_model_that_generated_the_prices(fitted: GarchFit) -> None:
    np.testing.assert_allclose(fitted.alpha, 0.05, atol=0.025)
    np.testing.assert_allclose(fitted.gamma, 0.10, atol=0.04)
    np.testing.assert_allclose(fitted.beta, 0.85, atol=0.04)
    np.testing.assert_allclose(fitted.mean, 0.0003, atol=4.5 * np.sqrt(DAY / 5000))
    level = fitted.omega / (1 - fitted.alpha - fitted.gamma / 2 - fitted.beta)
    np.testing.assert_allclose(level, DAY, rtol=0.2)
    assert np.corrcoef(*fitted.shocks.T)[0, 1] == pytest.approx(0.6, abs=0.05)
    np.testing.assert_allclose(fitted.shocks.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(fitted.shocks.var(axis=0), 1.0, rtol=1e-12)


def test_a_simulated_market_looks_like_the_one_it_was_fitted_to(
    real: PanelHistory, fitted: GarchFit
) -> None:
    past, simulated = excess_of(real)[:, :4999], excess_of(panel(fitted, 2000, seed=7, paths=40))
    assert simulated.std() == pytest.approx(past.std(), rel=0.1)
    correlation = [np.corrcoef(x.reshape(-1, 2).T)[0, 1] for x in (past, simulated)]
    assert correlation[0] == pytest.approx(correlation[1], abs=0.04)

    def memory(returns: np.ndarray) -> float:
        size = np.abs(returns) - np.abs(returns).mean()
        return float((size[:, 1:] * size[:, :-1]).mean() / size.var())

    assert memory(simulated) == pytest.approx(memory(past), abs=0.06)
    assert memory(simulated) > 0.1


def test_the_fit_does_not_see_what_comes_after_the_training_years(
    real: PanelHistory, fitted: GarchFit
) -> None:
    close = real.close.copy()
    close[:, 5000:] *= np.exp(np.random.default_rng(8).normal(0, 0.5, close[:, 5000:].shape))
    again = fit_garch(replace(real, close=close), 5000)
    for name in ("mean", "variance", "omega", "alpha", "gamma", "beta", "ceiling", "shocks"):
        assert np.array_equal(getattr(again, name), getattr(fitted, name)), name
    close[:, 4999] *= 1.5
    assert not np.array_equal(fit_garch(replace(real, close=close), 5000).mean, fitted.mean)


def test_volatility_is_never_higher_than_it_was_fitted_to_be(fitted: GarchFit) -> None:
    assert (fitted.ceiling > fitted.variance).all()
    wild = replace(fitted, alpha=np.full(2, 5.0))
    returns = garch_returns(wild, np.random.default_rng(9).integers(0, 4999, (5, 2000)))
    limit = np.sqrt(fitted.ceiling) * np.abs(fitted.shocks).max(axis=0)
    assert (np.abs(returns) <= limit * (1 + 1e-12)).all()


def test_same_seed_same_panel(fitted: GarchFit) -> None:
    first = panel(fitted, 100, seed=1).fingerprint
    assert panel(fitted, 100, seed=1).fingerprint == first
    assert panel(fitted, 100, seed=2).fingerprint != first


def test_too_little_to_fit_to_is_refused(real: PanelHistory) -> None:
    with pytest.raises(InputError, match="has 300 sessions to fit to; GARCH needs 504"):
        fit_garch(real, 300)
    with pytest.raises(InputError, match="has 2 paths"):
        fit_garch(panel(garch_model(0.05, 0.1, 0.8), 600, seed=1, paths=2), 600)


def test_a_price_that_never_moves_is_refused(real: PanelHistory) -> None:
    close = real.close.copy()
    close[:, :, 1] = 7.0
    with pytest.raises(InputError, match="the price of B in simulated garch never moves"):
        fit_garch(replace(real, close=close), 1000)
