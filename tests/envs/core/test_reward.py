import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import conf
from envs.core.reward import TERMS, Reward, RewardSettings, RewardWeights, Step, diversification


def a_step(**changes) -> Step:
    values: dict[str, Any] = {
        "portfolio_return": np.array([0.02]),
        "excess_return": np.array([0.019]),
        "cost_share": np.array([0.001]),
        "traded_share": np.array([0.25]),
        "drawdown": np.array([0.1]),
        "held_value": np.array([[300.0, -100.0, 0.0]]),
        "equity": np.array([1000.0]),
        "market_return": np.array([0.011]),
        "episode_sharpe": np.array([0.4]),
        "trades": lambda: np.array([7.0]),
        "market_correlation": lambda: np.array([-0.5]),
        "recent_volatility": lambda: np.array([0.013]),
        "goal_gaps": lambda: np.array([[0.004, 0.03]]),
        "exposure": {"delta": np.array([0.4]), "vega": np.array([-3.0])}.__getitem__,
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
    "excess_trades": -(7 - 5),
    "utility": 0.019 - 2.5 * 0.019**2,
    "volatility": -0.013,
    "deep_drawdown": -0.1,
    "crra": (1 - 1.02**-4) / 4,
    "goal_return": -0.004,
    "goal_drawdown": -0.03,
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


@pytest.mark.parametrize("name", ["standard", "allocation", "hedging"])
def test_a_file_of_rewards_names_every_setting(name):
    values = yaml.safe_load((Path(conf.__file__).parent / "reward" / f"{name}.yaml").read_text())
    assert set(values) == {field.name for field in dataclasses.fields(RewardSettings)}
    assert set(values["weights"]) == set(TERMS)


def test_diversity_without_a_position_is_zero():
    assert diversification(np.zeros((2, 20))).tolist() == [0.0, 0.0]
    assert diversification(np.ones((1, 20)))[0] == pytest.approx(0.95)
    assert diversification(np.eye(20)[:1])[0] == 0.0


def test_within_the_cap_there_is_no_concentration_penalty():
    step = a_step(held_value=[[200.0, -200.0, 0.0]])
    assert TERMS["concentration"](step, OPTIONS)[0] == 0


def test_the_sharpe_term_is_clipped():
    assert TERMS["sharpe"](a_step(episode_sharpe=[37.0]), OPTIONS)[0] == 1.0


@pytest.mark.parametrize("size", [1e-170, 1e-300, 1e-12, 1e12])
def test_diversification_does_not_depend_on_the_size_of_the_book(size):
    value = size * np.array([[1.0, -1.0, 2.0], [3.0, 0.0, 0.0]])
    np.testing.assert_allclose(diversification(value), [1 - 6 / 16, 0.0], atol=1e-12)


def test_only_a_drawdown_beyond_the_threshold_is_deep():
    step = a_step(drawdown=[0.0, 0.049, 0.05, 0.0501, 0.3])
    value = TERMS["deep_drawdown"](step, OPTIONS)
    assert value.tolist() == [0.0, 0.0, 0.0, -0.0501, -0.3]


@pytest.mark.parametrize("aversion", [0.0, 0.5, 1.0, 2.0, 5.0, 10.0])
def test_utility_at_constant_relative_risk_aversion(aversion):
    returned = np.array([-0.3, -0.01, 0.0, 1e-9, 0.02, 0.5])
    options = RewardSettings(risk_aversion=aversion)
    value = TERMS["crra"](a_step(portfolio_return=returned), options)
    gross = 1 + returned.astype(np.longdouble)
    power = np.longdouble(1 - aversion)
    expected = np.log(gross) if power == 0 else (gross**power - 1) / power
    np.testing.assert_allclose(value, expected.astype(float), rtol=1e-9, atol=1e-15)


def test_utility_over_a_benchmark_of_index_and_cash():
    options = RewardSettings(risk_aversion=5.0, benchmark_share=0.6)
    benchmark = 0.001 + 0.6 * (0.011 - 0.001)  # cash earned .001
    expected = (1 - 1.02**-4) / 4 - (1 - (1 + benchmark) ** -4) / 4
    assert TERMS["crra"](a_step(), options)[0] == pytest.approx(expected)
    expected = BY_HAND["utility"] - (0.006 - 2.5 * 0.006**2)
    assert TERMS["utility"](a_step(), options)[0] == pytest.approx(expected)


def test_utility_of_a_total_loss_is_cut():
    value = TERMS["crra"](a_step(portfolio_return=[-0.99, -1.0, -1.7]), OPTIONS)
    np.testing.assert_allclose(value, (1 - 0.01**-4.0) / 4)


def test_utility_agrees_with_log_as_aversion_goes_to_one():
    near = RewardSettings(risk_aversion=1.0 + 1e-9)
    value = TERMS["crra"](a_step(portfolio_return=[0.04]), near)
    assert value[0] == pytest.approx(np.log(1.04), rel=1e-7)
