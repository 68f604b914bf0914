import json

import numpy as np
import pytest

from agents.policy import RiskManagedPolicy
from envs.core.batch import Window
from envs.options.surface import VixSurface
from experiments.backtests.backtest import Backtest, run_backtest
from experiments.evaluation.results import plain
from experiments.evaluation.scorecard import (
    PERFORMANCE_TARGETS,
    RISK_TABLE,
    scorecard,
)
from experiments.reporting.tables import scorecard_tables
from risk.metrics import max_drawdown, sharpe_ratio
from risk.overlay import RiskSettings
from tests.markets import market_of, options_of, random_walk, wandering_vol, weekdays

# As the document of targets prints them, by table: measure -> target.
DOCUMENT = {
    "MVP, critical": {
        "Sharpe ratio": "> 0.8",
        "max drawdown": "< 25 %",
        "annual return": "> 12 %",
        "win rate, days": "> 52 %",
        "positive years": "100 %",
    },
    "MVP, desirable": {
        "Sharpe ratio": "> 1.2",
        "max drawdown": "< 15 %",
        "annual return": "> 18 %",
        "Sortino ratio": "> 1.5",
        "Calmar ratio": "> 1.0",
    },
    "excellent": {
        "Sharpe ratio": "> 1.5",
        "max drawdown": "< 12 %",
        "annual return": "> 20 %",
        "win rate, days": "> 60 %",
        "Sortino ratio": "> 2.0",
        "Calmar ratio": "> 1.5",
        "positive months": "> 75 %",
    },
    "world-class": {
        "Sharpe ratio": "> 2.0",
        "max drawdown": "< 10 %",
        "annual return": "> 25 %",
        "win rate, days": "> 65 %",
        "Sortino ratio": "> 2.5",
        "annual volatility": "< 12 %",
    },
    "against the benchmark": {
        "annual return": "> 15 %",
        "Sharpe ratio": "> 1.2",
        "max drawdown": "< 20 %",
        "annual volatility": "< 12 %",
    },
}


def backtest_of(returns, **changes) -> Backtest:
    """A book with these daily returns (N, T) that holds next to nothing."""
    returns = np.atleast_2d(returns)
    books, days = returns.shape
    start = np.full((books, 1), 100_000.0)
    flat, held = np.zeros((books, days)), np.zeros((books, days, 2))
    values = {
        "dates": weekdays(days + 1, "2001-12-31"),
        "equity": np.concatenate([start, 100_000.0 * np.cumprod(1 + returns, axis=1)], axis=1),
        "risk_free": np.full(days, 1e-4),
        "index_return": np.resize([0.01, -0.009], (books, days)),
        "cost": flat,
        "traded": flat,
        "reward": flat,
        "quantity": held,
        "position": held,
        "exposures": dict.fromkeys(("delta", "gamma", "vega", "theta"), flat),
        "rules": {},
        "blocked_pnl": flat,
        "guard": np.zeros((books, days), np.int8),
        "alive": np.ones((books, days), np.bool_),
        "ruined": np.zeros(books, np.bool_),
    }
    return Backtest(**{**values, **changes})


def noise(books=1, days=504, mean=5e-4, seed=0):
    return mean + 0.01 * np.random.default_rng(seed).standard_normal((books, days))


def by_table(lines, table):
    return {line.measure: line for line in lines if line.table == table}


def test_the_targets_are_those_of_the_document():
    lines = scorecard(backtest_of(noise()), reps=10)
    for table, targets in DOCUMENT.items():
        assert {m: line.target for m, line in by_table(lines, table).items()} == targets
    assert set(PERFORMANCE_TARGETS) == set(DOCUMENT)
    assert {m: line.target for m, line in by_table(lines, RISK_TABLE).items()} == {
        "largest position": "20 %",
        "total exposure": "150 %",
        "worst day": "-3 %",
        "cash reserve": "10 %",
        "turnover, 21 sessions": "200 %",
        "delta": "-0.5 to +0.5",
        "gamma, for 1 %": "-1.0 to +1.0",
        "vega per $100,000": "< $10,000",
    }


def test_measures_are_those_of_the_backtest_and_verdicts_follow_them():
    backtest = backtest_of(noise(mean=1e-3))
    performance, lines = backtest.performance(), scorecard(backtest, reps=10)
    measured = {line.measure: line.measured for line in lines if line.table in DOCUMENT}
    assert measured["Sharpe ratio"] == performance.sharpe[0]
    assert measured["max drawdown"] == performance.max_drawdown[0]
    assert measured["positive months"] == performance.positive_months[0]
    for line in lines:
        if line.target[0] in "<>" and line.table in DOCUMENT:
            bound = float(line.target[1:].rstrip("% ")) / (100 if "%" in line.target else 1)
            above = line.measured > bound
            assert line.passed == (above if line.target[0] == ">" else line.measured < bound)
    assert {line.passed for line in lines if line.table in DOCUMENT} == {True, False}


def test_a_year_without_gain_misses_positive_years():
    good = scorecard(backtest_of(noise(mean=3e-3)), reps=10)
    assert by_table(good, "MVP, critical")["positive years"].passed is True
    bad = noise(mean=3e-3)
    bad[0, :255] -= 6e-3
    line = by_table(scorecard(backtest_of(bad), reps=10), "MVP, critical")["positive years"]
    assert line.passed is False
    assert line.measured < 1


def test_the_interval_of_independent_days_is_that_of_lo():
    """Lo (2002): the standard error of a daily Sharpe ratio is near 1 / sqrt(T)."""
    backtest = backtest_of(noise(days=1000))
    line = by_table(scorecard(backtest, reps=1000), "world-class")["Sharpe ratio"]
    assert line.low < line.measured < line.high
    expected = 2 * 1.96 * np.sqrt(252 / 1000)
    assert line.high - line.low == pytest.approx(expected, rel=0.15)
    again = repr(scorecard(backtest, reps=1000))  # a NaN equals a NaN
    assert again == repr(scorecard(backtest, reps=1000))
    assert again != repr(scorecard(backtest, reps=1000, seed=1))


def test_many_books_give_their_median_and_their_range():
    returns = noise(books=200)
    line = by_table(scorecard(backtest_of(returns)), "excellent")["Sharpe ratio"]
    sharpe = sharpe_ratio(returns, 1e-4)
    assert line.measured == pytest.approx(np.median(sharpe))
    assert (line.low, line.high) == pytest.approx(tuple(np.quantile(sharpe, [0.025, 0.975])))


def test_an_undefined_measure_has_no_verdict():
    steady = scorecard(backtest_of(np.full((1, 300), 1e-3)), reps=10)
    line = by_table(steady, "MVP, desirable")["Sortino ratio"]
    assert np.isnan(line.measured)
    assert line.passed is None
    assert plain(line)["measured"] is None
    json.dumps(plain(steady), allow_nan=False)


def test_lines_of_the_index_have_no_verdict():
    backtest = backtest_of(noise())
    lines = by_table(scorecard(backtest, reps=50), "S&P 500, same days")
    curve = np.concatenate([[1.0], np.cumprod(1 + backtest.index_return[0])])
    assert lines["max drawdown"].measured == pytest.approx(max_drawdown(curve))
    assert all(line.passed is None for line in lines.values())


def test_each_requirement_on_risk_by_hand():
    returns, days = np.zeros((1, 40)), 40
    returns[0, 5] = -0.05
    position = np.zeros((1, days, 2))
    position[0, 3] = 25_000.0, -15_000.0  # 25 %, exposure 40 %
    position[0, 4] = 91_000.0, 0.0  # 9 % of cash
    traded = np.zeros((1, days))
    traded[0, [8, 28]] = 120_000.0  # 21 sessions apart, both count
    small = {"theta": np.zeros((1, days))}
    greeks = {"delta": -0.6, "gamma": 0.9, "vega": -9_000.0}
    series = {name: np.where(np.arange(days) == 20, x, 0.0)[None] for name, x in greeks.items()}
    backtest = backtest_of(returns, position=position, traded=traded, exposures={**series, **small})
    lines = by_table(scorecard(backtest, reps=10), RISK_TABLE)
    measured = {name: (line.measured, line.passed) for name, line in lines.items()}
    # Delta, gamma, vega and the second trade came after the loss of 5 %.
    expected = {
        "largest position": (0.91, False),
        "total exposure": (0.91, True),
        "worst day": (-0.05, False),
        "cash reserve": (0.09, False),
        "turnover, 21 sessions": (2.4 / 0.95, False),
        "delta": (-0.6, False),
        "gamma, for 1 %": (0.9, True),
        "vega per $100,000": (9_000 / 0.95, True),
    }
    for name, (value, passed) in expected.items():
        assert measured[name] == (pytest.approx(value), passed), name
    assert lines["largest position"].days_in_breach == 2 / 40
    assert lines["worst day"].days_in_breach == 1 / 40
    assert np.isnan(lines["delta"].low)
    apart = np.zeros((1, days))
    apart[0, [8, 29]] = 120_000.0
    far = by_table(scorecard(backtest_of(returns, traded=apart), reps=10), RISK_TABLE)
    assert far["turnover, 21 sessions"].passed is True


class Noise:
    def __init__(self):
        self.rng = np.random.default_rng(0)

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return self.rng.uniform(-1, 1, (len(observation), 20)), state


def test_a_managed_book_keeps_its_limits():
    history = random_walk(160, paths=2, seed=2, implied_vol=np.repeat(wandering_vol(160), 2, 0))
    options = options_of(costs={"kind": "realistic"})
    market = market_of(history, options, VixSurface())
    policy = RiskManagedPolicy(Noise(), RiskSettings())
    backtest = run_backtest(policy, market, options, Window(60, 160))
    lines = by_table(scorecard(backtest), RISK_TABLE)
    for name in ("largest position", "total exposure", "cash reserve", "delta", "gamma, for 1 %"):
        assert lines[name].passed, name
    wild = run_backtest(Noise(), market, options, Window(60, 160))
    unmanaged = by_table(scorecard(wild), RISK_TABLE)
    assert not unmanaged["delta"].passed


def test_days_after_ruin_do_not_count():
    returns = np.zeros((1, 40))
    returns[0, 9] = -1 + 1e-7
    traded = np.zeros((1, 40))
    traded[0, 9] = 50_000.0
    alive = np.arange(40)[None] <= 9
    backtest = backtest_of(returns, traded=traded, ruined=np.array([True]), alive=alive)
    lines = by_table(scorecard(backtest, reps=10), RISK_TABLE)
    assert lines["worst day"].days_in_breach == 1 / 10
    assert lines["turnover, 21 sessions"].measured == pytest.approx(0.5)


def test_the_tables_mark_targets_met_and_missed():
    lines = scorecard(backtest_of(noise()), reps=10)
    tables = scorecard_tables(lines)
    results = [row[-1] for table in tables for row in table.rows]
    missed = sum(line.passed is False for line in lines)
    assert missed > 5
    assert results.count("missed") == missed
    assert results.count("met") == sum(line.passed is True for line in lines)
    titles = {table.title.lower() for table in tables}
    assert {line.table.lower() for line in lines} == titles
    measures = [str(row[0]) for table in tables for row in table.rows]
    assert sorted(measures) == sorted(line.measure for line in lines)
