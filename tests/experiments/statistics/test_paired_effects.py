"""Verdicts on techniques: by hand, against scipy and statsmodels, and how often they err."""

import numpy as np
import pytest
from scipy.stats import ttest_rel
from statsmodels.stats.multitest import multipletests

from conf.errors import InputError
from experiments.statistics.paired_effects import Effect, holm, paired_effects


def against(without, techniques, level=0.95):
    return paired_effects({name: (without, scores) for name, scores in techniques.items()}, level)


def test_numbers_are_those_of_scipy():
    rng = np.random.default_rng(0)
    without, with_it = rng.normal(size=(2, 6))
    (effect,) = against(without.tolist(), {"a": with_it.tolist()}, 0.9)
    expected = ttest_rel(with_it, without)
    interval = expected.confidence_interval(0.9)
    assert effect.mean == pytest.approx((with_it - without).mean())
    assert (effect.low, effect.high) == pytest.approx((interval.low, interval.high))
    assert effect.p_value == effect.p_adjusted == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("seed", range(3))
def test_holms_correction_is_that_of_statsmodels(seed):
    p_values = np.random.default_rng(seed).uniform(size=7) ** 3
    assert holm(p_values.tolist()) == pytest.approx(multipletests(p_values, method="holm")[1])


def test_verdicts_by_hand():
    without = [0.0, 1.0, 2.0, 3.0, 4.0]
    effects = against(
        without,
        {
            "better": [1.0, 2.1, 3.0, 3.9, 5.0],
            "worse": [-1.0, -0.1, 1.0, 2.1, 3.0],
            "noise": [0.5, 0.4, 2.6, 2.4, 4.1],
            "same": without,
            "always": [x + 0.5 for x in without],
        },
    )
    assert [effect.effect.value for effect in effects] == [
        *("helps", "hurts", "not shown", "not shown", "not shown")
    ]
    assert (effects[3].mean, effects[3].p_value) == (0.0, 1.0)


def test_pairing_takes_away_what_seeds_have_in_common():
    without = [0.0, 10.0, -20.0, 5.0, 3.0]
    gain = [0.1, 0.12, 0.09, 0.11, 0.1]
    (effect,) = against(without, {"a": np.add(without, gain).tolist()})
    assert effect.effect is Effect.HELPS


def test_what_is_good_enough_alone_may_not_be_among_ten():
    rng = np.random.default_rng(3)
    without = [0.0] * 5
    good = [0.9, 0.2, 0.6, 1.2, 0.4]
    assert against(without, {"a": good})[0].effect is Effect.HELPS
    others = {str(k): rng.normal(size=5).tolist() for k in range(9)}
    first = against(without, {"a": good, **others})[0]
    assert first.p_value < 0.05 < first.p_adjusted
    assert first.effect is Effect.NOT_SHOWN


def test_a_ruined_seed_is_not_left_out_of_a_verdict():
    without, with_it = [0.0, 0.1, 0.2, 0.1, 0.0], [5.0, 5.2, None, 5.1, 5.0]
    (effect,) = against(without, {"a": with_it})
    assert (effect.missing, effect.effect) == (1, Effect.NOT_SHOWN)
    assert effect.p_value < 1e-4
    (nothing,) = against([None] * 3, {"a": [1.0, 2.0, 3.0]})
    assert np.isnan(nothing.mean)
    assert (nothing.p_value, nothing.effect) == (1.0, Effect.NOT_SHOWN)


def test_useless_techniques_are_rarely_called_anything():
    """Among six without an effect, some verdict in about 5 % of ablations."""
    rng, wrong = np.random.default_rng(1), 0
    for _ in range(500):
        scores = rng.normal(size=(7, 5))
        effects = against(scores[0], dict(zip("abcdef", scores[1:], strict=True)))
        wrong += any(effect.effect is not Effect.NOT_SHOWN for effect in effects)
    assert 5 <= wrong <= 40


@pytest.mark.parametrize("scores", [[1.0], [1.0, 2.0]])
def test_seeds_have_to_be_the_same_and_two(scores):
    with pytest.raises(InputError, match="Give the same two or more"):
        against([1.0], {"a": scores})
