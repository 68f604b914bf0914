"""The verdict on hedges: it sees a difference that is there, and none that is not."""

import numpy as np
import pytest

from conf.errors import InputError
from envs.hedging.objective import MeanDeviationCost, QuadraticCost, TailCost
from experiments.statistics.hedging_verdict import NEGLIGIBLE, compare_hedges
from experiments.statistics.verdict import Outcome

PAPER = MeanDeviationCost(multiple=1.5)


def costs(seed=0, paths=5000, mean=0.5, deviation=0.3, shared=None):
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(paths) if shared is None else shared
    steps = np.zeros((4, paths))
    steps[-1] = mean + deviation * noise
    return steps


def test_a_hedge_that_costs_less_than_all_outperforms():
    verdict = compare_hedges(
        costs(1, mean=0.45), {"delta": costs(2), "band": costs(3, mean=0.55)}, PAPER
    )
    assert verdict.outcome is Outcome.OUTPERFORMS
    assert "the closest being delta's" in verdict.reason
    difference = verdict.differences[0]
    assert difference.low < difference.difference < difference.high < 0.0
    assert difference.difference == pytest.approx(-0.05, abs=0.03)


def test_one_better_benchmark_is_enough_to_underperform():
    verdict = compare_hedges(
        costs(1), {"delta": costs(2, mean=0.9), "band": costs(3, mean=0.4)}, PAPER
    )
    assert verdict.outcome is Outcome.UNDERPERFORMS
    assert [d.outcome for d in verdict.differences] == [
        Outcome.OUTPERFORMS,
        Outcome.UNDERPERFORMS,
    ]


def test_liabilities_that_overlap_tell_less_than_as_many_others():
    """Each shares twenty of its sessions with the next."""

    def overlapping(seed):
        steps = np.random.default_rng(seed).normal(0.0, 0.1, 1220)
        return np.stack([steps[k : 1200 + k] for k in range(21)])

    agent, delta = overlapping(1), {"delta": overlapping(2)}
    alone, together = (
        compare_hedges(agent, delta, PAPER, mean_block=block).differences[0]
        for block in (1.0, 63.0)
    )
    assert together.difference == alone.difference
    assert together.high - together.low > 2.5 * (alone.high - alone.low)


@pytest.mark.parametrize("objective", [PAPER, TailCost(), QuadraticCost()])
def test_the_same_costs_are_no_gain(objective):
    lost = costs(1)
    verdict = compare_hedges(lost, {"delta": lost.copy()}, objective)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.differences[0].difference == 0.0


def test_a_gain_too_small_to_matter_is_none():
    lost = costs(1)
    verdict = compare_hedges(lost - 0.9 * NEGLIGIBLE / 4, {"delta": lost}, PAPER)
    assert verdict.differences[0].high < 0.0
    assert verdict.outcome is Outcome.INCONCLUSIVE
    surely = compare_hedges(lost - 1.1 * NEGLIGIBLE / 4, {"delta": lost}, PAPER)
    assert surely.outcome is Outcome.OUTPERFORMS


def test_paths_are_resampled_together():
    noise = np.random.default_rng(7).standard_normal(5000)
    paired = compare_hedges(
        costs(mean=0.49, shared=noise), {"delta": costs(mean=0.5, shared=noise)}, PAPER
    )
    apart = compare_hedges(costs(1, 2000, mean=0.49), {"delta": costs(2, 2000)}, PAPER)
    assert paired.outcome is Outcome.OUTPERFORMS
    assert apart.outcome is Outcome.INCONCLUSIVE


def test_equal_hedges_are_rarely_called_different():
    wrong = 0
    for seed in range(40):
        one, two = costs(2 * seed, 400), costs(2 * seed + 1, 400)
        verdict = compare_hedges(one, {"other": two}, PAPER, reps=100, seed=seed)
        wrong += verdict.outcome is Outcome.OUTPERFORMS
    assert wrong <= 4


def test_the_same_seed_gives_the_same_and_bad_input_is_refused():
    lost, other = costs(1), costs(2)
    assert compare_hedges(lost, {"a": other}, PAPER) == compare_hedges(lost, {"a": other}, PAPER)
    for agent, benchmarks, complaint in (
        (lost, {}, "0 benchmarks"),
        (lost, {"a": other[:, :-1]}, "a has shape"),
        (lost * np.nan, {"a": other}, "not finite|not\nfinite|are not"),
        (lost[:, :50], {"a": other[:, :50]}, "50 paths"),
    ):
        with pytest.raises(InputError, match=complaint):
            compare_hedges(agent, benchmarks, PAPER)


def test_few_blocks_of_overlapping_liabilities_judge_nothing():
    few, enough = (
        compare_hedges(
            costs(1, paths=n), {"delta": costs(2, paths=n, mean=0.9)}, PAPER, mean_block=42.0
        )
        for n in (600, 630)
    )
    assert few.outcome is few.differences[0].outcome is Outcome.INCONCLUSIVE
    assert "14.3 blocks of 42" in few.reason
    assert enough.outcome is Outcome.OUTPERFORMS
