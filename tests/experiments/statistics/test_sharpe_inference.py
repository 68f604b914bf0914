"""Statistics of Sharpe ratios against the papers' numbers, slow twins and null simulations."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy import stats

from conf.errors import InputError
from experiments.statistics import sharpe_inference as inference
from risk.metrics import sharpe_ratio

# Bailey and López de Prado count 250 days a year.
DAILY = 1 / math.sqrt(250)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, 0.01, shape)


def tolerance(rate: float, draws: int) -> float:
    """Three Monte Carlo standard errors of a share."""
    return 3 * math.sqrt(rate * (1 - rate) / draws)


def test_expected_maximum_of_the_papers() -> None:
    assert inference.expected_maximum_sharpe(100, 1.0) == pytest.approx(2.5306029, abs=5e-8)
    assert inference.expected_maximum_sharpe(100, 0.5) == pytest.approx(1.78941, abs=5e-6)
    assert inference.expected_maximum_sharpe(1, 1.0) == 0.0


@pytest.mark.parametrize("trials", [2, 5, 20, 100])
def test_expected_maximum_is_near_that_of_normals(trials: int) -> None:
    best = np.random.default_rng(1).normal(size=(20_000, trials)).max(axis=1)
    # The approximation is 8 % off for two trials and within 4 % from five on.
    rel = 0.1 if trials == 2 else 0.04
    assert inference.expected_maximum_sharpe(trials, 1.0) == pytest.approx(best.mean(), rel=rel)


@pytest.mark.parametrize(
    ("trials", "expected", "within"), [(100, 0.9003968, 5e-8), (46, 0.95050, 5e-6)]
)
def test_deflated_sharpe_ratio_of_the_paper(trials: int, expected: float, within: float) -> None:
    result = inference.deflated_sharpe_ratio(2.5 * DAILY, trials, 0.5 / 250, 1250, -3, 10)
    assert result == pytest.approx(expected, abs=within)


def test_probabilistic_sharpe_ratio_of_the_paper() -> None:
    monthly = 1.585 / math.sqrt(12)
    result = inference.probabilistic_sharpe_ratio(monthly, 0.0, 24, -2.448, 10.164)
    assert result == pytest.approx(0.9132, abs=5e-5)


def test_minimum_track_record_of_the_paper() -> None:
    result = inference.minimum_track_record_years(2 * DAILY, DAILY, 0, 3, periods_per_year=250)
    assert result == pytest.approx(2.73119, abs=5e-6)


def test_the_minimum_track_record_is_where_the_probability_reaches_the_level() -> None:
    shape = (-1.5, 8.0)
    years = inference.minimum_track_record_years(0.08, 0.03, *shape, level=0.9)
    reached = inference.probabilistic_sharpe_ratio(0.08, 0.03, 252 * years, *shape)
    assert reached == pytest.approx(0.9, abs=1e-12)


def test_evidence_is_put_together_from_moments_and_formulas() -> None:
    rng = np.random.default_rng(3)
    rate = rng.uniform(0, 0.0003, 500)
    returns = 0.001 + 0.01 * rng.standard_t(5, 500) + rate
    result = inference.sharpe_evidence(returns, rate, 12, 0.4)
    excess = returns - rate
    daily = excess.mean() / excess.std(ddof=1)
    skewness, kurtosis = stats.skew(excess), stats.kurtosis(excess, fisher=False)
    error = math.sqrt((1 - skewness * daily + (kurtosis - 1) / 4 * daily**2) / 499)
    sr0 = inference.expected_maximum_sharpe(12, 0.4)
    years = (1 + 499 * (1.6448536269514722 * error / daily) ** 2) / 252
    expected = (
        *(daily * math.sqrt(252), skewness, kurtosis),
        *(stats.norm.cdf(daily / error), stats.norm.cdf((daily - sr0 / 252**0.5) / error)),
        *(sr0, 12, 0.4, years),
    )
    assert tuple(result) == pytest.approx(expected, rel=1e-10)


def test_an_unknown_variance_is_that_of_an_estimate_without_skill() -> None:
    returns = noise(400)
    unknown = inference.sharpe_evidence(returns, 0.0, 20)
    assert unknown == inference.sharpe_evidence(returns, 0.0, 20, 252 / 400)
    assert unknown.trial_variance_annual == 252 / 400
    estimates = sharpe_ratio(noise(4000, 400, seed=1), 0.0)
    assert estimates.var() == pytest.approx(252 / 400, rel=0.1)


def test_one_trial_is_not_deflated() -> None:
    single = inference.sharpe_evidence(noise(300) + 0.001, 0.0)
    assert single.dsr == single.psr > 0.5
    assert single.benchmark_sharpe == 0.0
    assert math.isnan(single.trial_variance_annual)


def test_without_variation_or_edge_nothing_is_defined() -> None:
    cash = inference.sharpe_evidence(np.full(100, 0.0002), 0.0002, 3)
    assert cash.sharpe == 0.0
    undefined = (cash.skewness, cash.kurtosis, cash.psr, cash.dsr, cash.min_track_record_years)
    assert all(math.isnan(value) for value in undefined)
    assert math.isnan(inference.sharpe_evidence(np.full(100, 0.0002), 0.0).sharpe)
    assert math.isnan(inference.sharpe_evidence(-0.001 + noise(100), 0.0).min_track_record_years)
    assert math.isnan(inference.minimum_track_record_years(0.1, 0.1, 0, 3))
    # No sample has such moments: kurtosis is at least 1 + skewness².
    assert math.isnan(inference.probabilistic_sharpe_ratio(1.0, 0.0, 100, 3.0, 3.0))


def test_of_one_trial_without_skill_the_nominal_share_passes() -> None:
    seeds, days = 4000, 250
    draws = 0.01 * np.random.default_rng(4).standard_t(6, (seeds, days))
    psr = np.array([inference.sharpe_evidence(row, 0.0).psr for row in draws])
    for level in (0.5, 0.9, 0.95):
        share = float((psr >= level).mean())
        assert share == pytest.approx(1 - level, abs=tolerance(1 - level, seeds)), level


def test_of_the_best_of_many_without_skill_the_share_of_theory_passes() -> None:
    seeds, trials, days = 1000, 20, 200
    passed = []
    rng = np.random.default_rng(5)
    for _ in range(seeds):
        records = rng.normal(0.0, 0.01, (trials, days))
        best = records[sharpe_ratio(records, 0.0).argmax()]
        passed.append(inference.sharpe_evidence(best, 0.0, trials, 252 / days))
    dsr = np.array([evidence.dsr for evidence in passed])
    hurdle = inference.expected_maximum_sharpe(trials, 1.0)
    for level in (0.5, 0.8, 0.95):
        # The best must exceed its own expectation by one estimate's error: rarer than 1 − level.
        theory = float(1 - stats.norm.cdf(hurdle + stats.norm.ppf(level)) ** trials)
        share = float((dsr >= level).mean())
        assert theory <= 1 - level
        assert share == pytest.approx(theory, abs=tolerance(theory, seeds) + 0.005), level
    # Without deflation the same records look like skill.
    assert np.mean([evidence.psr >= 0.95 for evidence in passed]) > 0.5


def test_skill_is_found_through_the_deflation() -> None:
    days, trials = 1250, 20
    draws = noise(300, days, seed=6) + 0.01 * 2.5 / math.sqrt(252)
    dsr = [inference.sharpe_evidence(row, 0.0, trials, 252 / days).dsr for row in draws]
    error = math.sqrt(252 / days)
    margin = (2.5 - inference.expected_maximum_sharpe(trials, error**2)) / error - 1.645
    power = float(stats.norm.cdf(margin))
    assert 0.9 < power < 0.99
    assert np.mean(np.array(dsr) >= 0.95) == pytest.approx(power, abs=tolerance(power, 300) + 0.01)


@pytest.mark.parametrize("strategies", [2, 5, 6])
def test_overfitting_is_that_of_a_plain_loop(strategies: int) -> None:
    returns = 0.0003 + noise(97, strategies, seed=strategies)
    blocks = [returns[97 * i // 6 : 97 * (i + 1) // 6] for i in range(6)]
    overfitted = 0
    splits = list(combinations(range(6), 3))
    for chosen in splits:
        inside = np.concatenate([blocks[i] for i in chosen])
        outside = np.concatenate([blocks[i] for i in range(6) if i not in chosen])
        best = int((inside.mean(axis=0) / inside.std(axis=0)).argmax())
        rank = stats.rankdata(outside.mean(axis=0) / outside.std(axis=0))[best]
        overfitted += math.log(rank / (strategies + 1 - rank)) <= 0
    result = inference.probability_of_backtest_overfitting(returns, num_blocks=6)
    assert result == pytest.approx(overfitted / len(splits), abs=1e-12)


def test_noise_is_overfitted_half_the_time() -> None:
    results = [
        inference.probability_of_backtest_overfitting(noise(400, 20, seed=seed), num_blocks=8)
        for seed in range(150)
    ]
    error = float(np.std(results)) / math.sqrt(len(results))
    assert error < 0.02
    assert np.mean(results) == pytest.approx(0.5, abs=3 * error + 0.02)


def test_one_good_strategy_is_not_overfitted() -> None:
    returns = noise(1000, 20)
    returns[:, 7] += 0.0025
    assert inference.probability_of_backtest_overfitting(returns) < 0.001


def test_overfitting_knows_strategies_that_never_trade() -> None:
    returns = np.zeros((200, 3))
    returns[:, 1] = noise(200) + 0.003
    assert inference.probability_of_backtest_overfitting(returns, num_blocks=8) < 0.05


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda: inference.expected_maximum_sharpe(0, 1.0), "0 trials"),
        (lambda: inference.expected_maximum_sharpe(5, -1.0), "variance -1"),
        (lambda: inference.expected_maximum_sharpe(5, math.nan), "variance nan"),
        (lambda: inference.probabilistic_sharpe_ratio(0.1, 0, 1, 0, 3), "no Sharpe ratio"),
        (lambda: inference.minimum_track_record_years(0.1, 0, 0, 3, level=95), "level is 95"),
        (lambda: inference.sharpe_evidence([0.1], 0.0), r"shape \(1,\)"),
        (lambda: inference.sharpe_evidence(noise(2, 50), 0.0), r"shape \(2, 50\)"),
        (lambda: inference.sharpe_evidence([0.1, math.nan], 0.0), "is nan"),
        (lambda: inference.sharpe_evidence([0.1, 0.2], 0.0, 0), "0 trials"),
        (lambda: inference.probability_of_backtest_overfitting(noise(50)), r"shape \(50,\)"),
        (lambda: inference.probability_of_backtest_overfitting(noise(50, 3), 7), "into 7 blocks"),
        (lambda: inference.probability_of_backtest_overfitting(noise(20, 3)), "20 days"),
    ],
)
def test_bad_input_is_refused(action: Callable[[], Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        action()
