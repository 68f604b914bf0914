import dataclasses

import numpy as np
import pytest

from envs.core.costs import FlatCosts
from experiments.environments.opening import market_settings, open_market
from experiments.evaluation.sensitivity import COST_FACTORS, cost_sensitivity
from tests.experiments.backtests.test_backtest import Constant

BOOK = np.where(np.arange(20) % 10 < 5, 0.02, -0.02)


def setup_of(costs, **env):
    data = {"source": "synthetic", "sessions": 700}
    return open_market(
        market_settings(
            {
                "data": data,
                "surface": {"kind": "vix"},
                "env": {"episode": {"sessions": 40}, **env},
                "costs": costs,
                "reward": {},
                "risk": {"enabled": False},
            }
        )
    )


@pytest.mark.parametrize("roll", ["expiry", "daily"])
@pytest.mark.parametrize("costs", [{"kind": "realistic"}, {"kind": "flat", "rate_bps": 8.0}])
def test_scaled_costs_equal_those_of_a_market_built_with_them(costs, roll):
    setup = setup_of(costs, chain={"roll": roll})
    scaled_setup = setup.with_costs(2.0)
    market, env = scaled_setup.market, scaled_setup.settings.env
    scaled = {"multiplier": 2.0} if costs["kind"] == "realistic" else {"rate_bps": 16.0}
    built = setup_of({**costs, **scaled}, chain={"roll": roll})
    assert env == built.settings.env
    np.testing.assert_allclose(market.unit_cost, built.market.unit_cost, rtol=1e-12)
    if roll == "daily":
        np.testing.assert_allclose(
            market.closing_unit_cost, built.market.closing_unit_cost, rtol=1e-12
        )


def test_higher_costs_earn_less():
    setup = setup_of({"kind": "realistic"})
    rows = cost_sensitivity(setup, {"policy": Constant(BOOK)}, "test", None)
    assert [row.factor for row in rows] == list(COST_FACTORS)
    returns = [row.performance.mean("total_return") for row in rows]
    assert returns == sorted(returns, reverse=True)
    assert rows[0].performance.mean("cost_drag") == 0.0
    backtest = setup.judge(Constant(BOOK), "test").performance()
    assert rows[1].performance.mean("total_return") == backtest.total_return[0]


def test_an_allocation_pays_the_scaled_share():
    setup = open_market(
        market_settings(
            {
                "data": {"source": "panel_simulated", "assets": 2, "sessions": 400},
                "env": {"kind": "allocation", "episode": {"sessions": 40}},
                "costs": {"kind": "flat", "rate_bps": 10.0},
                "reward": {},
                "risk": {"enabled": False},
            }
        )
    )
    scaled_setup = setup.with_costs(5.0)
    market, env = scaled_setup.market, scaled_setup.settings.env
    assert market is setup.market
    assert isinstance(env.costs, FlatCosts)
    assert env == dataclasses.replace(
        setup.settings.env, costs=dataclasses.replace(env.costs, rate_bps=50.0)
    )
