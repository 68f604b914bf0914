import dataclasses

import numpy as np
import pytest

from envs.reward import TERMS, Reward, RewardSettings, RewardWeights, Step, diversification


def a_step(**changes) -> Step:
    values = {
        "portfolio_return": np.array([0.02]),
        "excess_return": np.array([0.019]),
        "cost_share": np.array([0.001]),
        "traded_share": np.array([0.25]),
        "drawdown": np.array([0.1]),
        "held_value": np.array([[300.0, -100.0, 0.0]]),
        "equity": np.array([1000.0]),
        "episode_sharpe": np.array([0.4]),
        "market_correlation": lambda: np.array([-0.5]),
    }
    return Step(**{**values, **{k: np.asarray(v, float) for k, v in changes.items()}})


OPTIONS = RewardSettings()

BY_HAND = {
    "portfolio_return": 0.02,
    "sharpe": 0.4,
    "drawdown": -0.1,
    "cost": -0.001,
    "diversity": 1 - (0.75**2 + 0.25**2),
    "concentration": -10 * (0.3 - 0.2),
    "market_correlation": -0.5,
    "turnover": -0.2,
    "utility": 0.019 - 2.5 * 0.019**2,
}


@pytest.mark.parametrize("name", TERMS)
def test_each_term_by_hand(name):
    assert TERMS[name](a_step(), OPTIONS)[0] == pytest.approx(BY_HAND[name], rel=1e-12)


def test_the_documented_weights_are_applied_once():
    reward, terms = Reward(OPTIONS).evaluate(a_step())
    weights = {
        "portfolio_return": 100,
        "sharpe": 0.3,
        "drawdown": 0.2,
        "cost": 1,
        "diversity": 0.1,
        "concentration": 1,
    }
    by_hand = {name: weight * BY_HAND[name] for name, weight in weights.items()}
    assert Reward(OPTIONS).term_names == tuple(by_hand)
    np.testing.assert_allclose(terms[0], list(by_hand.values()), rtol=1e-12)
    assert reward[0] == pytest.approx(sum(by_hand.values()))


def test_a_term_without_weight_is_off():
    weights = RewardWeights(**{name: 0.0 for name in TERMS if name != "utility"}, utility=2.0)
    reward = Reward(RewardSettings(weights=weights))
    assert reward.term_names == ("utility",)
    assert reward.evaluate(a_step())[0][0] == pytest.approx(2 * BY_HAND["utility"])


def test_every_weight_has_its_term():
    assert set(RewardWeights.__dataclass_fields__) == set(TERMS)
    assert {field.name for field in dataclasses.fields(RewardWeights)} == set(TERMS)


def test_no_position_is_not_diverse():
    assert diversification(np.zeros((2, 20))).tolist() == [0.0, 0.0]
    assert diversification(np.ones((1, 20)))[0] == pytest.approx(0.95)
    assert diversification(np.eye(20)[:1])[0] == 0.0


def test_within_the_cap_there_is_no_concentration_penalty():
    step = a_step(held_value=[[200.0, -200.0, 0.0]])
    assert TERMS["concentration"](step, OPTIONS)[0] == 0


def test_sharpe_is_cut_so_that_quiet_days_cannot_dominate():
    assert TERMS["sharpe"](a_step(episode_sharpe=[37.0]), OPTIONS)[0] == 1.0


@pytest.mark.parametrize("size", [1e-170, 1e-300, 1e-12, 1e12])
def test_diversification_does_not_depend_on_the_size_of_the_book(size):
    value = size * np.array([[1.0, -1.0, 2.0], [3.0, 0.0, 0.0]])
    np.testing.assert_allclose(diversification(value), [1 - 6 / 16, 0.0], atol=1e-12)
