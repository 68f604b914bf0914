"""Measures of returns and equity against pandas, plain Python and hand calculations."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from conf.errors import InputError
from risk import metrics

DAILY_RATE = 0.0001
batches = arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(2, 60)),
    elements=st.integers(-2000, 2000).map(lambda basis_points: basis_points / 1e4),
)


def sample(sessions: int = 600, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0005, 0.01, sessions)


def equity_of(returns: Any) -> np.ndarray:
    growth = np.cumprod(1 + np.asarray(returns), axis=-1)
    return 1e5 * np.concatenate([np.ones((*growth.shape[:-1], 1)), growth], axis=-1)


ON_RETURNS: dict[str, Callable[[Any], Any]] = {
    "sharpe": lambda r: metrics.sharpe_ratio(r, DAILY_RATE),
    "sortino": lambda r: metrics.sortino_ratio(r, DAILY_RATE),
    "calmar": lambda r: metrics.calmar_ratio(equity_of(r)),
    "annual_return": lambda r: metrics.annual_return(equity_of(r)),
    "annual_volatility": metrics.annual_volatility,
    "max_drawdown": lambda r: metrics.max_drawdown(equity_of(r)),
    "max_drawdown_sessions": lambda r: metrics.max_drawdown_sessions(equity_of(r)),
    "win_rate": metrics.win_rate,
    "profit_factor": metrics.profit_factor,
    "value_at_risk": metrics.value_at_risk,
    "expected_shortfall": metrics.expected_shortfall,
    "kelly_fraction": metrics.kelly_fraction,
    "beta": lambda r: metrics.beta(r, np.linspace(-0.01, 0.02, np.shape(r)[-1])),
    "positive_months": lambda r: metrics.positive_share(r, days(np.shape(r)[-1]), "month"),
}


def days(count: int) -> np.ndarray:
    return pd.bdate_range("2015-03-16", periods=count).to_numpy().astype("datetime64[D]")


@pytest.mark.parametrize("measure", ON_RETURNS.values(), ids=ON_RETURNS.keys())
@given(batches)
@settings(max_examples=20, deadline=None)
def test_a_batch_is_measured_as_one_by_one(measure: Callable[[Any], Any], batch: Any) -> None:
    together = measure(batch)
    assert together.shape == batch.shape[:1]
    assert np.array_equal(together, [measure(row) for row in batch], equal_nan=True)
    turned = np.asfortranarray(batch)
    assert np.array_equal(together, measure(turned), equal_nan=True)


def test_sharpe_is_excess_over_sample_deviation_annualised() -> None:
    returns, earned = sample(), np.random.default_rng(1).uniform(0, 0.0003, 600)
    excess = [float(r - f) for r, f in zip(returns, earned, strict=True)]
    expected = statistics.mean(excess) / statistics.stdev(excess) * math.sqrt(252)
    assert metrics.sharpe_ratio(returns, earned) == pytest.approx(expected, rel=1e-12)
    by_pandas = pd.Series(returns) - DAILY_RATE
    assert metrics.sharpe_ratio(returns, DAILY_RATE) == pytest.approx(
        by_pandas.mean() / by_pandas.std() * 252**0.5, rel=1e-12
    )


def test_sortino_counts_every_day_and_only_falls_below_the_rate() -> None:
    returns = [0.02, -0.01, 0.0001, 0.03, -0.02]
    excess = [r - DAILY_RATE for r in returns]
    downside = math.sqrt(sum(min(e, 0.0) ** 2 for e in excess) / 5)
    expected = sum(excess) / 5 / downside * math.sqrt(252)
    assert metrics.sortino_ratio(returns, DAILY_RATE) == pytest.approx(expected, rel=1e-12)


def test_a_book_of_cash_has_a_sharpe_ratio_of_zero() -> None:
    equity = 1e5 * (1 + DAILY_RATE) ** np.arange(253)
    returns = metrics.simple_returns(equity)
    assert metrics.sharpe_ratio(returns, DAILY_RATE) == 0.0
    assert metrics.sortino_ratio(returns, DAILY_RATE) == 0.0
    assert metrics.calmar_ratio(np.full(253, 1e5)) == 0.0


def test_reward_without_risk_has_no_ratio() -> None:
    steady = np.full(20, 0.01)
    assert math.isnan(metrics.sharpe_ratio(steady, DAILY_RATE))
    assert math.isnan(metrics.sharpe_ratio(-steady, DAILY_RATE))
    assert math.isnan(metrics.sortino_ratio(steady, DAILY_RATE))
    assert math.isnan(metrics.calmar_ratio(equity_of(steady)))
    assert math.isnan(metrics.profit_factor(steady))
    assert math.isnan(metrics.beta(sample(20), steady))


def test_a_single_day_has_no_deviation() -> None:
    assert math.isnan(metrics.sharpe_ratio([0.01], DAILY_RATE))
    assert math.isnan(metrics.annual_volatility([0.01]))
    assert metrics.win_rate([0.01]) == 1.0


def test_annual_return_compounds() -> None:
    assert metrics.annual_return([100.0] + [0.5] * 503 + [121.0]) == pytest.approx(0.1, rel=1e-12)
    assert metrics.annual_return([100.0, 110.0]) == pytest.approx(1.1**252 - 1, rel=1e-12)
    assert metrics.annual_return([100.0, 50.0, -100.0]) == -1.0
    returns = sample()
    by_pandas = (1 + pd.Series(returns)).cumprod().iloc[-1] ** (252 / 600) - 1
    assert metrics.annual_return(equity_of(returns)) == pytest.approx(by_pandas, rel=1e-10)


def test_annual_volatility_is_that_of_pandas() -> None:
    expected = pd.Series(sample()).std() * 252**0.5
    assert metrics.annual_volatility(sample()) == pytest.approx(expected, rel=1e-12)


def test_drawdown_by_hand() -> None:
    equity = [100.0, 150.0, 120.0, 130.0, 150.0, 149.0, 160.0]
    assert metrics.drawdown(equity).tolist() == [0, 0, 0.2, 20 / 150, 0, 1 / 150, 0]
    assert metrics.max_drawdown(equity) == 0.2
    assert metrics.max_drawdown_sessions(equity) == 3
    assert metrics.calmar_ratio(equity) == pytest.approx((1.6**42 - 1) / 0.2, rel=1e-12)


@pytest.mark.parametrize(
    ("equity", "length"),
    [
        ([100, 101, 102], 0),
        ([100, 90, 80], 2),  # never regained: until the end
        ([100, 90, 100, 95, 96, 97, 98, 101], 2),  # the deepest, not the longest
        ([100, 90, 110, 99, 98, 97], 3),
        ([100, 50, 100, 50, 60, 100], 2),  # the first of equals
    ],
)
def test_length_of_the_deepest_drawdown(equity: list[float], length: int) -> None:
    assert metrics.max_drawdown_sessions(equity) == length


@given(batches)
@settings(max_examples=60, deadline=None)
def test_drawdown_is_that_of_a_plain_loop(batch: np.ndarray) -> None:
    curve = equity_of(batch)[0]
    deepest, length, peak, since = 0.0, 0, -math.inf, 0
    for i, value in enumerate(curve):
        if value >= peak:
            peak, since = value, i
        if (peak - value) / peak > deepest:
            deepest = (peak - value) / peak
            back = [j for j in range(i, len(curve)) if curve[j] >= peak]
            length = (back[0] if back else len(curve) - 1) - since
    assert metrics.max_drawdown(curve) == deepest
    assert metrics.max_drawdown_sessions(curve) == length


def test_win_rate_profit_factor_and_kelly_by_hand() -> None:
    returns = [0.02, -0.01, 0.0, 0.04, -0.03]
    assert metrics.win_rate(returns) == 2 / 5
    assert metrics.profit_factor(returns) == pytest.approx(0.06 / 0.04)
    # Half of the days that moved won 3 % and lost 2 % on average.
    assert metrics.kelly_fraction(returns) == pytest.approx(0.5 - 0.5 * 0.02 / 0.03)


def test_kelly_of_one_sided_days() -> None:
    assert metrics.kelly_fraction([0.01, 0.0, 0.02]) == 1.0
    assert math.isnan(metrics.kelly_fraction([-0.01, 0.0]))
    assert metrics.kelly_fraction([0.01, -0.05]) == pytest.approx(-2.0)


def test_value_at_risk_is_the_quantile_of_the_losses() -> None:
    returns = sample()
    expected = np.percentile(-returns, 95)
    assert metrics.value_at_risk(returns) == pytest.approx(expected, rel=1e-12)
    assert metrics.value_at_risk(np.linspace(0.01, 0.02, 50)) < 0


def test_expected_shortfall_is_the_mean_of_the_tail() -> None:
    returns = np.concatenate([[-0.05, -0.04, -0.03], np.full(37, 0.01)])  # 5 % are two days
    assert metrics.expected_shortfall(returns) == pytest.approx(0.045, rel=1e-12)
    longer = np.concatenate([returns, np.full(10, 0.01)])  # 5 % are two days and a half
    tail = (0.05 + 0.04 + 0.5 * 0.03) / 2.5
    assert metrics.expected_shortfall(longer[::-1]) == pytest.approx(tail, rel=1e-12)


@given(batches, st.floats(0.5, 0.99))
@settings(max_examples=100, deadline=None)
def test_expected_shortfall_minimises_its_definition(batch: np.ndarray, level: float) -> None:
    losses = -batch[0]
    # Rockafellar and Uryasev: the least of c + E(loss - c)+ / (1 - level), at one of the losses.
    least = min(c + np.maximum(losses - c, 0).mean() / (1 - level) for c in losses)
    shortfall = metrics.expected_shortfall(batch[0], level)
    assert shortfall == pytest.approx(least, abs=1e-12)
    assert shortfall >= metrics.value_at_risk(batch[0], level) - 1e-12


def test_beta_is_the_slope_of_the_regression() -> None:
    market = sample(seed=3)
    returns = 0.4 * market + sample(seed=4)
    assert metrics.beta(returns, market) == pytest.approx(np.polyfit(market, returns, 1)[0])
    assert metrics.beta(2 * market, market) == pytest.approx(2.0, rel=1e-12)
    assert metrics.beta(np.stack([market, -market]), market) == pytest.approx([1, -1], rel=1e-12)


def test_months_and_years_are_those_of_pandas() -> None:
    returns, dates = sample(), days(600)
    frame = 1 + pd.Series(returns, index=pd.DatetimeIndex(dates))
    for period, rule in (("month", "MS"), ("year", "YS")):
        expected = frame.resample(rule).prod() - 1
        starts, compounded = metrics.period_returns(returns, dates, period)  # type: ignore[arg-type]
        assert (pd.DatetimeIndex(starts) == expected.index).all()
        np.testing.assert_allclose(compounded, expected, rtol=1e-10)
        share = metrics.positive_share(returns, dates, period)  # type: ignore[arg-type]
        assert share == pytest.approx((expected > 0).mean())


def test_returns_end_with_ruin() -> None:
    assert metrics.simple_returns([100.0, 50.0, -10.0]).tolist() == [-0.5, -1.2]
    with pytest.raises(InputError, match=r"equity is -10 at \[0, 1\], and the curve goes on"):
        metrics.simple_returns([[100.0, -10.0, 5.0]])


@pytest.mark.parametrize("measure", ON_RETURNS.values(), ids=ON_RETURNS.keys())
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_missing_return_is_refused(measure: Callable[[Any], Any], bad: float) -> None:
    with pytest.raises(InputError, match=r"\[1, \d\] is (nan|inf)"):
        measure(np.array([[0.01, 0.02, -0.01], [0.01, 0.02, bad]]))


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda: metrics.sharpe_ratio([], 0.0), "is empty"),
        (lambda: metrics.win_rate(0.01), "is empty"),
        (lambda: metrics.sharpe_ratio([0.1, 0.2], math.nan), "risk_free"),
        (lambda: metrics.sharpe_ratio([0.1, 0.2], [0.0] * 3), r"risk_free has shape \(3,\)"),
        (lambda: metrics.beta([0.1, 0.2], [0.0] * 3), r"market_returns has shape \(3,\)"),
        (lambda: metrics.max_drawdown([100.0]), "single value"),
        (lambda: metrics.max_drawdown([0.0, 1.0]), "starts at 0"),
        (lambda: metrics.value_at_risk([0.1], 95), "confidence level is 95"),
        (lambda: metrics.expected_shortfall([0.1], 1.0), "confidence level is 1.0"),
        (lambda: metrics.positive_share([0.1], days(2), "month"), "2 dates for 1 returns"),
        (lambda: metrics.positive_share([0.1, 0.1], days(2)[::-1], "year"), "increasing order"),
    ],
)
def test_bad_input_is_refused(action: Callable[[], Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        action()


@pytest.mark.parametrize(
    "values", ["text", ["a", "b"], [None, "x"], [1.0, 10**400], [[1.0], [2.0, 3.0]]]
)
def test_what_is_no_series_of_numbers_is_refused(values):
    for measure in (
        metrics.simple_returns,
        metrics.win_rate,
        metrics.max_drawdown,
        lambda v: metrics.sharpe_ratio([0.1, 0.2], v),
    ):
        with pytest.raises(InputError, match="cannot be read as numbers"):
            measure(values)


def test_numbers_whose_squares_overflow_are_refused():
    with pytest.raises(InputError, match=r"returns\[1\] is 1e\+308"):
        metrics.sharpe_ratio([0.1, 1e308], 0.0)


def test_levels_dates_and_periods_that_are_none_are_refused():
    with pytest.raises(InputError, match="confidence level"):
        metrics.value_at_risk([0.1, 0.2], "high")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="dates cannot be read"):
        metrics.period_returns([0.1, 0.2], ["yesterday", "today"], "year")
    with pytest.raises(InputError, match="period is 'week'"):
        metrics.period_returns([0.1], ["2020-01-01"], "week")  # type: ignore[arg-type]
