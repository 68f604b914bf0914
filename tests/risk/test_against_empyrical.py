"""Every measure that empyrical-reloaded has too is equal (its drawdowns and VaR are negative)."""

from typing import Literal

import empyrical
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from risk import metrics


@pytest.fixture(autouse=True)
def numpy_1_name_that_empyrical_uses(monkeypatch):
    monkeypatch.setattr(np, "NINF", -np.inf, raising=False)  # removed in NumPy 2


seeds = st.integers(0, 2**32 - 1)


def a_curve(seed, sessions=None):
    rng = np.random.default_rng(seed)
    sessions = sessions or int(rng.integers(30, 800))
    returns = rng.standard_t(4, sessions) * 0.01 * rng.uniform(0.1, 2) + rng.normal(0, 0.001)
    returns = np.clip(returns, -0.6, 0.6)
    equity = 100 * np.concatenate([[1.0], np.cumprod(1 + returns)])
    market = rng.normal(0, 0.01, sessions)
    return returns, equity, market, rng.uniform(0, 0.0003)


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=seeds)
def test_every_measure_in_both_libraries_is_equal(seed):
    returns, equity, market, rate = a_curve(seed)
    ours_theirs = {
        "sharpe": (
            metrics.sharpe_ratio(returns, rate),
            empyrical.sharpe_ratio(returns, risk_free=rate),
        ),
        "sortino": (
            metrics.sortino_ratio(returns, rate),
            empyrical.sortino_ratio(returns, required_return=rate),
        ),
        "annual return": (metrics.annual_return(equity), empyrical.annual_return(returns)),
        "volatility": (metrics.annual_volatility(returns), empyrical.annual_volatility(returns)),
        "max drawdown": (metrics.max_drawdown(equity), -empyrical.max_drawdown(returns)),
        "calmar": (metrics.calmar_ratio(equity), empyrical.calmar_ratio(returns)),
        "value at risk": (metrics.value_at_risk(returns), -empyrical.value_at_risk(returns, 0.05)),
        "beta": (metrics.beta(returns, market), empyrical.beta(returns, market)),
    }
    for name, (ours, theirs) in ours_theirs.items():
        assert float(ours) == pytest.approx(float(theirs), rel=1e-9, abs=1e-12), name


def test_cvar_is_theirs_where_the_tail_is_a_whole_number_of_days():
    returns, *_ = a_curve(3, sessions=401)
    days = returns[:400]
    worst = np.sort(days)[:20].mean()
    assert float(metrics.expected_shortfall(days)) == pytest.approx(-worst)
    theirs = empyrical.conditional_value_at_risk(returns, 0.05)  # 401 days: the 21 worst
    assert -float(metrics.expected_shortfall(returns)) == pytest.approx(theirs, rel=0.02)


def test_months_and_years_are_grouped_like_theirs():
    dates = pd.bdate_range("2010-03-15", periods=700)
    returns = pd.Series(a_curve(5, sessions=700)[0], index=dates)
    names: dict[Literal["month", "year"], str] = {"month": "monthly", "year": "yearly"}
    for period, name in names.items():
        _, ours = metrics.period_returns(returns.to_numpy(), dates.to_numpy(), period)
        theirs = empyrical.aggregate_returns(returns, name)
        np.testing.assert_allclose(ours, theirs.to_numpy(), rtol=1e-9)
