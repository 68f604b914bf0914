"""Where the best weight is known: cash and one asset, constant relative risk aversion.

R. C. Merton, Lifetime portfolio selection under uncertainty: the continuous-time case, Review of
Economics and Statistics 51 (1969): the weight is (drift - rate) / (risk aversion x variance). With
proportional costs there is a region around it in which nothing is traded: M. H. A. Davis and A. R.
Norman, Portfolio selection with transaction costs, Mathematics of Operations Research 15 (1990).
"""

from dataclasses import replace

import numpy as np
import pytest

from agents.factory import PPOSettings, build_agent
from conf.settings import build_settings
from envs.allocation.env import AllocationKernel
from envs.allocation.market import build_panel_market
from envs.core.batch import Window
from envs.market.sources.panel import PanelSimulatedData, load_panel
from envs.sb3_vec_env import KernelVecEnv
from experiments.backtests.backtest import run_backtest
from experiments.environments.holdings import weights_held
from tests.panels import allocation_of

pytestmark = pytest.mark.usefixtures("one_thread")

DRIFT, RATE, VOL, RISK_AVERSION = 0.105, 0.025, 0.16, 5.0
MERTON = (DRIFT - RATE) / (RISK_AVERSION * VOL**2)  # .625

AGENT = PPOSettings(
    learning_rate=5e-3,
    learning_rate_end=1e-4,
    rollout_steps=65_536,
    batch_size=8_192,
    n_epochs=3,
    gamma=0.0,  # without costs a day's choice changes nothing but that day
    ent_coef=0.0,
    net_arch=(16,),
    log_std_init=-0.5,
)


def options_with(rate_bps: float):
    weights = dict.fromkeys(("portfolio_return", "sharpe", "drawdown", "cost"), 0.0)
    weights |= {"diversity": 0.0, "concentration": 0.0, "crra": 100.0}
    return allocation_of(
        costs={"kind": "flat", "rate_bps": rate_bps},
        reward={"weights": weights, "risk_aversion": RISK_AVERSION, "benchmark_share": 0.6},
        episode={"sessions": 60, "ruin_share": 0.0},
    )


def market_of_one_asset(options, seed: int, paths: int, sessions: int = 300):
    wanted = build_settings(
        PanelSimulatedData,
        {
            "assets": 1,
            "paths": paths,
            "sessions": sessions,
            "seed": seed,
            "rate": RATE,
            "gbm": {"drift": DRIFT, "vol_annual": VOL},
        },
        "data",
    )
    return build_panel_market(load_panel(wanted).history, options)


def trained(options, agent: PPOSettings, steps: int, seed: int = 0):
    market = market_of_one_asset(options, seed=seed, paths=4096)
    window = Window(market.first_usable, market.history.num_sessions)
    kernel = AllocationKernel(market, options, window, num_envs=1024, seed=seed)
    model = build_agent(agent, KernelVecEnv(kernel), seed=seed, device="cpu")
    model.learn(steps)
    return model.policy


def held(policy, options):
    """Weights after each trade and dollars traded over equity, on paths that nobody has seen."""
    market = market_of_one_asset(options, seed=99, paths=64)
    window = Window(market.first_usable, market.history.num_sessions)
    backtest = run_backtest(policy, market, options, window)
    return weights_held(backtest)[:, :, 0], backtest.traded / backtest.equity[:, :-1]


@pytest.mark.slow
def test_the_learned_weight_is_mertons():
    free = options_with(0.0)
    weight, _ = held(trained(free, AGENT, 2_500_000), free)
    assert pytest.approx(0.625) == MERTON
    assert np.mean(weight) == pytest.approx(MERTON, abs=0.05)
    assert np.mean(np.abs(weight - MERTON) < 0.1) > 0.9


@pytest.mark.slow
def test_with_costs_it_trades_less():
    # What is paid today earns for a while.
    patient = replace(
        AGENT, gamma=0.97, gae_lambda=0.9, learning_rate=3e-3, batch_size=16_384, n_epochs=4
    )
    traded = {}
    for rate_bps in (0.0, 10.0):
        options = options_with(rate_bps)
        weight, share = held(trained(options, patient, 2_000_000), options)
        assert np.mean(weight) == pytest.approx(MERTON, abs=0.1)
        traded[rate_bps] = np.mean(share[:, 60:])  # by then the portfolio has been built up
    assert traded[10.0] < 0.6 * traded[0.0]
