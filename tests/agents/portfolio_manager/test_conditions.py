"""Positions and conditions become the observation that the environment would have shown."""

import math

import numpy as np
import pytest

from agents.portfolio_manager.conditions import observe, read_positions
from conf.errors import InputError
from envs.allocation.market import AllocationSettings, allocation_features, build_panel_market
from envs.core.batch import Window
from envs.kernels import open_kernel
from envs.market.sources.panel import PanelSimulatedData, load_panel

CONDITIONS = {"volatility": 0.3, "trend": 0.05, "cash_ratio": 0.1, "portfolio_value_ratio": 1.05}
POSITIONS = {"btc": 300.0, "eth": 500.0, "sol": 100.0}


def shown(portfolio, conditions):
    features = allocation_features(("1", "2", "3"))
    return observe(read_positions(portfolio, 3, None), conditions, features)


def test_an_observation_is_that_of_the_environment():
    market = build_panel_market(
        load_panel(PanelSimulatedData(assets=3, sessions=60)).history, AllocationSettings()
    )
    kernel = open_kernel(market, AllocationSettings(), Window(30, 60), random_start=False)
    kernel.reset()
    for weights in ([0.2, 0.3, 0.1, 0.4], [0.5, 0.1, 0.3, 0.1]):
        seen = kernel.step(np.array([weights])).observation[0]
    session, names = 32, market.history.assets
    close = market.history.close[0]
    returns = close[session] / close[session - 1] - 1.0
    recent = close[session - 19 : session + 1] / close[session - 20 : session] - 1.0
    volatilities = recent.std(axis=0, ddof=1) * 252**0.5
    held = kernel.ledger.quantity[0] * close[session]
    portfolio = dict(zip(names, held, strict=True)) | {"cash": kernel.ledger.cash[0]}
    conditions = {
        "returns": dict(zip(names, returns, strict=True)),
        "volatilities": dict(zip(names, volatilities, strict=True)),
        "portfolio_value_ratio": kernel.ledger.equity[0] / 10_000.0,
    }
    built = observe(read_positions(portfolio, 3, None), conditions, market.features)
    np.testing.assert_allclose(built, seen, rtol=2e-6, atol=1e-7)
    assert built.dtype == np.float32


def test_one_number_applies_to_every_asset():
    features = allocation_features(("a", "b"))
    positions = read_positions({"b": 30.0, "a": 10.0}, 2, None)
    observation = observe(
        positions, {"volatility": 0.3, "trend": 0.504, "cash_ratio": 0.2}, features
    )
    expected = [0.2, 0.6, 0.002 / 0.02, 0.002 / 0.02, 0.3 / 0.2, 0.3 / 0.2, 0.2, 0.0]
    np.testing.assert_allclose(observation, expected, rtol=1e-6)
    one = {"volatilities": {"a": 0.3, "b": 0.3}, "returns": {"a": 0.002, "b": 0.002}}
    np.testing.assert_array_equal(
        observe(positions, {**one, "cash_ratio": 0.2}, features), observation
    )


@pytest.mark.parametrize(
    ("portfolio", "given", "expected"),
    [
        ({"a": 30.0, "b": 10.0}, {}, 0.0),
        ({"a": 30.0, "b": 10.0}, {"cash_ratio": 0.4}, 0.4),
        ({"a": 30.0, "b": 10.0, "cash": 60.0}, {}, 0.6),
        ({"a": 30.0, "b": 10.0, "cash": 60.0}, {"cash_ratio": 0.6}, 0.6),
        ({"a": 0.0, "b": 0.0}, {}, 1.0),
        ({"a": 0.0, "b": 0.0, "cash": 5.0}, {"cash_ratio": 1.0}, 1.0),
    ],
)
def test_cash_is_given_or_held(portfolio, given, expected):
    positions = read_positions(portfolio, 2, None)
    conditions = {"volatility": 0.2, "trend": 0.0, **given}
    observation = observe(positions, conditions, allocation_features(("a", "b")))
    assert observation[-2] == pytest.approx(expected)
    assert observation[0] + observation[1] + observation[-2] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("portfolio", "changes", "message"),
    [
        ({"btc": 1.0, "eth": 1.0}, {}, "portfolio has 2 assets, the agent allocates to 3"),
        ({**POSITIONS, "ada": 1.0}, {}, "portfolio has 4 assets"),
        ({**POSITIONS, "eth": math.nan}, {}, "portfolio: eth is nan"),
        ({**POSITIONS, "eth": "many"}, {}, "portfolio: eth is 'many'"),
        ({**POSITIONS, "eth": -5.0}, {}, "portfolio: eth is -5"),
        (POSITIONS, {"volatility": math.inf}, "market_conditions.volatility = inf"),
        (POSITIONS, {"volatility": -0.1}, "market_conditions.volatility = -0.1"),
        (POSITIONS, {"trend": None}, "market_conditions has neither 'trend' nor 'returns'"),
        (POSITIONS, {"cash_ratio": 1.2}, "market_conditions.cash_ratio = 1.2"),
        ({**POSITIONS, "cash": 900.0}, {}, "cash_ratio is 0.1, but 0.5 of the portfolio is cash"),
        (dict.fromkeys(POSITIONS, 0.0), {}, "cash_ratio is 0.1, but 1 of the portfolio"),
        (
            POSITIONS,
            {"portfolio_value_ratio": 0.0},
            "market_conditions.portfolio_value_ratio = 0.0",
        ),
        (POSITIONS, {"volatilty": 0.3}, "market_conditions.volatilty = 0.3.* 'volatility'"),
        (
            POSITIONS,
            {"returns": [0.1, 0.2, 0.3]},
            "market_conditions.returns = .* valid dictionary",
        ),
        (POSITIONS, {"returns": {"btc": 0.1, "eth": 0.1}}, "returns has 2 of 3 assets.*Add sol"),
        (POSITIONS, {"returns": {**POSITIONS, "ada": 0.1}}, "returns has 'ada'"),
        (
            POSITIONS,
            {"returns": {"btc": 0.1, "eth": -1.0, "sol": 0.0}},
            "market_conditions.returns.eth = -1.0",
        ),
        (
            POSITIONS,
            {"volatilities": {"btc": 0.1, "eth": math.nan, "sol": 0.1}},
            "volatilities.eth = nan",
        ),
    ],
)
def test_impossible_arguments_are_refused(portfolio, changes, message):
    with pytest.raises(InputError, match=message):
        shown(portfolio, {**CONDITIONS, **changes})


@pytest.mark.parametrize("name", ["volatility", "trend"])
def test_a_missing_condition_is_named(name):
    conditions = {key: value for key, value in CONDITIONS.items() if key != name}
    with pytest.raises(InputError, match=f"neither '{name}' nor"):
        shown(POSITIONS, conditions)
