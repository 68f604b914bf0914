"""Verdicts: planted edges, exact twins, and how often the tests err where the truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from arch.bootstrap import SPA, StationaryBootstrap
from statsmodels.stats.multitest import multipletests

from conf.errors import InputError
from experiments.statistics import verdict as comparison
from experiments.statistics.sharpe_inference import sharpe_evidence
from experiments.statistics.verdict import (
    Difference,
    Outcome,
    Verdict,
    compare,
    superior_ability_p_value,
)
from risk.bootstrap import mean_block_length, stationary_indices
from risk.metrics import sharpe_ratio

YEAR = math.sqrt(252)


def books(
    count: int, days: int, sharpes: Any = 0.0, common: float = 0.5, seed: int = 0
) -> np.ndarray:
    """Returns (count, days) with these annual Sharpe ratios, correlated, with fat tails."""
    rng = np.random.default_rng(seed)
    own, market = rng.normal(size=(count, days)), rng.normal(size=days)
    tails = np.sqrt(rng.chisquare(5, size=days) / 3)
    unit = (math.sqrt(1 - common) * own + math.sqrt(common) * market) / tails
    return 0.01 * (unit + np.reshape(np.broadcast_to(sharpes, count), (-1, 1)) / YEAR)


def against(returns: np.ndarray, **options: Any) -> Verdict:
    benchmarks = {f"book {k}": row for k, row in enumerate(returns[1:])}
    return compare(returns[0], benchmarks, 0.0, **options)


def tolerance(rate: float, draws: int) -> float:
    """Three Monte Carlo standard errors of a share."""
    return 3 * math.sqrt(rate * (1 - rate) / draws)


def bits(verdict: Verdict) -> str:
    """All its numbers; a NaN equals a NaN."""
    return repr(verdict)


def test_a_planted_edge_outperforms() -> None:
    verdict = against(books(4, 1000, [4.0, 1.0, 0.5, 0.0]), num_trials=5)
    assert verdict.outcome is Outcome.OUTPERFORMS
    assert [d.outcome for d in verdict.differences] == [Outcome.OUTPERFORMS] * 3
    assert [d.benchmark for d in verdict.differences] == ["book 0", "book 1", "book 2"]
    assert verdict.spa_p_value == 1.0
    assert verdict.evidence.dsr > 0.95
    closest = min(verdict.differences, key=lambda d: d.difference)
    for number in (closest.sharpe_agent, closest.low, closest.high, verdict.evidence.dsr):
        assert f"{number:.2f}" in verdict.reason
    assert verdict.reason.count(". ") == 0


def test_a_worse_agent_underperforms() -> None:
    verdict = against(books(4, 1000, [0.0, 0.0, 0.0, 4.0]))
    assert verdict.outcome is Outcome.UNDERPERFORMS
    assert verdict.differences[2].outcome is Outcome.UNDERPERFORMS
    assert verdict.spa_p_value < 0.05
    assert "below book 2's" in verdict.reason


def test_a_ruined_agent_underperforms_however_well_it_did_before() -> None:
    agent = np.full(500, 0.002) + np.random.default_rng(0).normal(0, 0.001, 500)
    agent[480] = -0.9999
    benchmarks = {"book": books(1, 500)[0]}
    assert compare(agent, benchmarks, 0.0).outcome is Outcome.INCONCLUSIVE
    verdict = compare(agent, benchmarks, 0.0, ruined=True)
    assert verdict.outcome is Outcome.UNDERPERFORMS
    assert "ruined" in verdict.reason


def test_luck_is_inconclusive() -> None:
    verdict = against(books(3, 750))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "not shown to exceed that of 2 of 2 benchmarks" in verdict.reason


def test_the_best_of_too_many_trials_is_inconclusive() -> None:
    returns = books(3, 1000, [3.0, 0.0, 0.0])
    assert against(returns, num_trials=1).outcome is Outcome.OUTPERFORMS
    picked = against(returns, num_trials=200, trial_variance_annual=1.5)
    assert all(d.outcome is Outcome.OUTPERFORMS for d in picked.differences)
    assert picked.evidence.dsr < 0.95
    assert picked.outcome is Outcome.INCONCLUSIVE
    assert "deflated Sharpe ratio over 200 trials" in picked.reason


def test_the_numbers_equal_those_of_a_plain_loop() -> None:
    agent, benchmark = books(2, 300, [0.0, 1.0])
    rate = np.random.default_rng(1).uniform(0, 0.0003, 300)
    verdict = compare(agent, {"it": benchmark}, rate, reps=200, seed=9, mean_block=5.0, level=0.9)
    (result,) = verdict.differences
    estimate = float(sharpe_ratio(agent, rate) - sharpe_ratio(benchmark, rate))
    earned = 252 * (agent - benchmark).mean()
    distance, spread, losses = [], [], []
    for day in stationary_indices(300, 5.0, 200, np.random.default_rng(9)):
        mine, its = sharpe_ratio(agent[day], rate[day]), sharpe_ratio(benchmark[day], rate[day])
        distance.append(abs(float(mine - its) - estimate))
        spread.append(abs(252 * (agent[day] - benchmark[day]).mean() - earned))
        scaled = [(r[day] - rate[day]).mean() / (r - rate).std(ddof=1) for r in (agent, benchmark)]
        losses.append(scaled[1] - scaled[0])
    half, width = np.quantile(distance, 0.9), np.quantile(spread, 0.9)
    expected = Difference(
        benchmark="it",
        sharpe_agent=float(sharpe_ratio(agent, rate)),
        sharpe_opponent=float(sharpe_ratio(benchmark, rate)),
        difference=estimate,
        low=estimate - half,
        high=estimate + half,
        p_value=(1 + sum(d >= abs(estimate) for d in distance)) / 201,
        mean_return_difference=earned,
        mean_return_low=earned - width,
        mean_return_high=earned + width,
        outcome=result.outcome,
    )
    assert result.benchmark == "it"
    numbers = [name for name, kind in Difference.__annotations__.items() if kind == "float"]
    assert len(numbers) == 9
    for name in numbers:
        assert getattr(result, name) == pytest.approx(getattr(expected, name), rel=1e-9), name
    spa = superior_ability_p_value([-estimate / YEAR], np.array(losses)[:, None], 300)
    assert verdict.spa_p_value == spa
    assert 0.01 < spa < 0.5
    assert verdict.evidence == pytest.approx(sharpe_evidence(agent, rate), rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("gap", [-3.0, 0.0, 1.0, 2.0])
def test_superior_ability_equals_archs_once_losses_are_studentised(gap: float) -> None:
    gain = (books(5, 400, [0.0, gap, gap, 0.0, -8.0], seed=2) * 100).T
    gain = gain[:, 1:] - gain[:, :1]
    bootstrap = StationaryBootstrap(4, np.arange(400), seed=11)
    index = np.stack([data[0][0] for data in bootstrap.bootstrap(300)])
    draws = gain[index].mean(axis=1)
    unit = draws.std(axis=0) * 20  # arch does not divide by the deviations itself
    models = np.asarray(-gain / unit)
    theirs = SPA(np.zeros(400), models, 4, 300, nested=True, seed=11)
    theirs.compute()
    p_value = superior_ability_p_value(gain.mean(axis=0), draws, 400)
    if gain.mean(axis=0).max() > 0:
        assert p_value == theirs.pvalues["consistent"]
        assert p_value < 1
    else:
        assert p_value == 1.0
    if gap == 1.0:  # the far worse model must not cost the test its power
        assert p_value < theirs.pvalues["upper"] or p_value <= 0.05


def test_superior_ability_ignores_copies_of_the_benchmark() -> None:
    draws = np.zeros((200, 2))
    assert superior_ability_p_value([0.0, 0.0], draws, 100) == 1.0
    draws[:, 1] = np.random.default_rng(0).normal(0.3, 0.1, 200)
    assert superior_ability_p_value([0.0, 0.3], draws, 100) < 0.02


def test_blocks_are_as_long_as_the_difference_of_sharpe_ratios_needs() -> None:
    returns = books(2, 400, [4.0, 0.0])
    returns[0, 100:250] *= 3  # volatility that lasts matters to a high Sharpe ratio
    sample = comparison.PairedSample(returns[:, None, :], ["one", "two"])
    without = [sharpe_ratio(np.delete(returns, day, axis=1), 0.0) for day in range(400)]
    jackknife = -np.array(without).T
    expected = mean_block_length(jackknife[0] - jackknife[1])
    assert 1.2 < expected < 1.5
    assert sample._block_length() == pytest.approx(expected, rel=0.02)
    chosen = against(returns, mean_block=sample._block_length())
    assert bits(against(returns)) == bits(chosen)
    assert bits(against(returns, mean_block=1.0)) != bits(chosen)


def test_against_equal_benchmarks_every_test_errs_at_its_nominal_rate() -> None:
    seeds, benchmarks = 500, 4
    covered, means, beats, worse, spa, verdicts = [], [], [], [], [], []
    for seed in range(seeds):
        returns = books(1 + benchmarks, 300, 0.5, seed=seed)
        verdict = against(returns, reps=199, seed=seed, mean_block=1.5)
        differences = verdict.differences
        covered.append(np.mean([d.low <= 0 <= d.high for d in differences]))
        means.append(np.mean([d.mean_return_low <= 0 <= d.mean_return_high for d in differences]))
        beats.append(differences[0].outcome is Outcome.OUTPERFORMS)
        worse.append(bool(comparison._better_by_holm(differences, 0.05)))
        spa.append(verdict.spa_p_value < 0.05)
        verdicts.append(verdict.outcome)
    error = tolerance(0.05, seeds)
    # 199 resamples of 300 days cost about one per cent of coverage.
    assert np.mean(covered) == pytest.approx(0.945, abs=error)
    assert np.mean(means) == pytest.approx(0.945, abs=error)
    assert np.mean(beats) == pytest.approx(0.0275, abs=tolerance(0.0275, seeds))
    assert np.mean(worse) <= 0.03 + error
    # Equal means are the least favourable null: here the size is the nominal one.
    assert np.mean(spa) == pytest.approx(0.05, abs=error)
    assert verdicts.count(Outcome.OUTPERFORMS) / seeds < 0.01
    assert verdicts.count(Outcome.UNDERPERFORMS) / seeds < 0.05 + error


def test_the_superior_ability_test_is_conservative_against_bad_benchmarks() -> None:
    rejected = [
        against(
            books(5, 300, [0.5, 0.5, -3, -3, -3], seed=seed), reps=199, mean_block=1.5
        ).spa_p_value
        < 0.05
        for seed in range(200)
    ]
    assert np.mean(rejected) <= 0.05 + tolerance(0.05, 200)


def test_planted_edges_are_found_as_often_as_theory_says() -> None:
    seeds, edge, days = 200, 1.8, 750
    verdicts = [
        against(books(2, days, [edge, 0.0], seed=seed), reps=199, seed=seed, mean_block=1.5)
        for seed in range(seeds)
    ]
    error = YEAR * math.sqrt(2 * 0.5 / days)  # half of the variance is in common
    power = 0.5 * math.erfc((1.96 - edge / error) / math.sqrt(2))
    assert 0.8 < power < 0.95
    words = [verdict.differences[0].outcome for verdict in verdicts]
    assert words.count(Outcome.OUTPERFORMS) / seeds == pytest.approx(
        power, abs=tolerance(power, seeds)
    )
    assert Outcome.UNDERPERFORMS not in words


@pytest.mark.parametrize("paths", [5, 40])
def test_intervals_over_paths_cover_too(paths: int) -> None:
    seeds, days = 300, 40
    covered, widths, estimates = [], [], []
    for seed in range(seeds):
        returns = books(2, paths * days, seed=seed).reshape(2, paths, days)
        (result,) = against(returns, reps=199, seed=seed, mean_block=1.0).differences
        covered.append(result.low <= 0 <= result.high)
        widths.append(result.high - result.low)
        estimates.append(result.difference)
    assert np.mean(covered) == pytest.approx(0.94, abs=tolerance(0.06, seeds))
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(estimates), rel=0.1)


def test_paths_that_differ_for_good_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    returns = books(2, 60 * 100).reshape(2, 60, 100)
    (alike,) = against(returns).differences
    returns[0] += rng.normal(0.0, 0.002, (60, 1))  # each path has its own drift
    (own,) = against(returns).differences
    assert own.high - own.low > 1.7 * (alike.high - alike.low)


def test_one_path_is_one_series_and_numbers_are_pooled() -> None:
    returns = books(3, 400, [1.0, 0.0, 0.0])
    assert bits(against(returns[:, None, :])) == bits(against(returns))
    pooled = against(books(2, 50 * 30).reshape(2, 50, 30))
    expected = sharpe_ratio(books(2, 50 * 30), 0.0)
    (result,) = pooled.differences
    assert [result.sharpe_agent, result.sharpe_opponent] == pytest.approx(expected, rel=1e-12)
    assert pooled.evidence.sharpe == pytest.approx(expected[0], rel=1e-12)


def test_the_same_seed_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    returns = books(4, 300)
    first = against(returns, seed=3)
    assert bits(against(returns, seed=3)) == bits(first)
    assert bits(against(returns, seed=4)) != bits(first)
    monkeypatch.setattr(comparison, "_CELLS_AT_ONCE", 30_000)
    batched = against(returns, seed=3)
    # Other batches draw other days, from the same distribution.
    for mine, other in zip(batched.differences, first.differences, strict=True):
        assert mine.high - mine.low == pytest.approx(other.high - other.low, rel=0.08)


def test_cash_is_a_benchmark_with_sharpe_ratio_zero() -> None:
    rate = np.random.default_rng(1).uniform(0, 0.0003, 750)
    rounded = ((1e5 * (1 + rate)) / 1e5 - 1).astype(np.float32).astype(np.float64)
    agent = books(1, 750, 3.0)[0] + rate
    for cash in (rate, rounded):
        verdict = compare(agent, {"cash": cash}, rate)
        (result,) = verdict.differences
        assert result.sharpe_opponent == 0.0
        assert result.difference == result.sharpe_agent
        assert result.low > 0
        assert result.mean_return_difference == pytest.approx(252 * (agent - rate).mean(), rel=1e-6)
        assert verdict.outcome is Outcome.OUTPERFORMS
    lost = compare(2 * rate - agent, {"cash": rounded}, rate)
    assert lost.outcome is Outcome.UNDERPERFORMS
    assert lost.spa_p_value < 0.01


def test_an_agent_that_holds_cash_is_judged_too() -> None:
    rate = np.full(750, 0.0001)
    good = books(1, 750, 4.0)[0]
    against_good = compare(rate, {"good": good, "cash": rate}, rate)
    assert against_good.outcome is Outcome.UNDERPERFORMS
    assert against_good.differences[1].difference == 0.0
    assert against_good.differences[1].outcome is Outcome.INCONCLUSIVE
    against_bad = compare(rate, {"bad": -good}, rate)
    assert against_bad.differences[0].outcome is Outcome.OUTPERFORMS
    assert math.isnan(against_bad.evidence.dsr)
    assert against_bad.outcome is Outcome.INCONCLUSIVE  # nothing that was learned can be shown


def test_a_book_that_traded_once_has_numbers() -> None:
    once = np.zeros(300)
    once[100] = 0.05
    (result,) = compare(once, {"book": books(1, 300)[0]}, 0.0).differences
    assert all(math.isfinite(x) for x in (result.low, result.high, result.p_value))


def test_against_a_copy_of_itself_the_agent_is_inconclusive() -> None:
    agent = books(1, 300, 2.0)[0]
    verdict = compare(agent, {"twin": agent.copy()}, 0.0)
    (result,) = verdict.differences
    assert (result.difference, result.p_value, result.outcome) == (0.0, 1.0, Outcome.INCONCLUSIVE)
    assert verdict.spa_p_value == 1.0


def difference(p_value: float, gap: float = -1.0, half: float = 0.5) -> Difference:
    outcome = (
        Outcome.OUTPERFORMS
        if gap > half
        else Outcome.UNDERPERFORMS
        if gap < -half
        else Outcome.INCONCLUSIVE
    )
    return Difference(
        f"p {p_value}", 0.5, 0.5 - gap, gap, gap - half, gap + half, p_value, 0, 0, 0, outcome
    )


@pytest.mark.parametrize("seed", range(2))
def test_holms_correction_equals_that_of_statsmodels(seed: int) -> None:
    p_values = np.random.default_rng(seed).uniform(0, 0.05, 8) ** 1.3
    rows = tuple(difference(float(p)) for p in p_values)
    expected = multipletests(p_values, alpha=0.05, method="holm")[0]
    better = comparison._better_by_holm(rows, 0.05)
    assert {d.p_value for d in better} == set(p_values[expected])


def test_the_verdict_follows_the_rule_of_the_module() -> None:
    skilled = sharpe_evidence(books(1, 1000, 4.0)[0], 0.0)
    picked = skilled._replace(dsr=0.9499)
    good, open_one = difference(0.001, gap=1.0), difference(0.3, gap=0.2)
    # Below 0 by itself, but not after the correction for four benchmarks.
    single = difference(0.04)
    cases = [
        ((good, good), skilled, False, Outcome.OUTPERFORMS),
        ((good, good), picked, False, Outcome.INCONCLUSIVE),
        ((good, good), skilled._replace(dsr=math.nan), False, Outcome.INCONCLUSIVE),
        ((good, open_one), skilled, False, Outcome.INCONCLUSIVE),
        ((single,), skilled, False, Outcome.UNDERPERFORMS),
        ((single, good, good, good), skilled, False, Outcome.UNDERPERFORMS),
        ((single, open_one, open_one, open_one), skilled, False, Outcome.INCONCLUSIVE),
        ((good, good), skilled, True, Outcome.UNDERPERFORMS),
    ]
    for rows, evidence, ruined, expected in cases:
        outcome, reason = comparison._judge(rows, evidence, 0.95, ruined)
        assert outcome is expected, (rows, ruined, evidence.dsr)
        assert reason.endswith(".")


def test_a_verdict_is_frozen() -> None:
    verdict = against(books(2, 100))
    assert replace(verdict, level=0.9).level == 0.9
    with pytest.raises(AttributeError):
        verdict.outcome = Outcome.OUTPERFORMS  # type: ignore[misc]


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda: compare(books(1, 100)[0], {}, 0.0), "no benchmarks"),
        (lambda: compare([0.1] * 20, {"a": [0.1] * 20}, 0.0), r"agent has shape \(1, 20\)"),
        (lambda: against(books(2, 60), level=95), "level is 95"),
        (lambda: against(books(2, 60), reps=10), "10 resamples"),
        (lambda: against(books(2, 60), mean_block=0.0), "blocks of 0"),
        (lambda: against(books(2, 60), num_trials=0), "0 trials"),
        (lambda: against(np.where(np.arange(60) == 7, math.nan, books(2, 60))), r"agent\[7\]"),
        (lambda: compare(books(1, 60)[0], {"b": [math.inf] * 60}, 0.0), r"b\[0\] is inf"),
        (lambda: compare(books(1, 60)[0], {"b": [-1.0] * 60}, 0.0), "b was ruined: it lost 100 %"),
        (lambda: compare(books(1, 60)[0], {"b": [0.0] * 59}, 0.0), r"b has shape \(1, 59\)"),
        (lambda: compare(books(1, 60)[0], {"b": [0.01] * 60}, 0.0), "b earns the same 0.01"),
        (lambda: compare([0.01] * 60, {"b": books(1, 60)[0]}, 0.0), "the agent earns the same"),
        (lambda: compare(books(1, 60)[0], {"b": [0.0] * 60}, [0.0] * 59), "risk_free has shape"),
        (lambda: compare(books(1, 60)[0], {"b": [0.0] * 60}, math.nan), "risk_free"),
        (lambda: superior_ability_p_value([0.1], np.zeros((5, 2)), 100), "resamples of shape"),
    ],
)
def test_bad_input_is_refused(action: Callable[[], Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        action()
