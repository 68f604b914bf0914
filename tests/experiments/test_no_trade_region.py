"""With proportional costs the best policy leaves a region untraded; pathwise training finds it.

Cash and one asset, constant relative risk aversion. M. H. A. Davis and A. R. Norman, Portfolio
selection with transaction costs, Mathematics of Operations Research 15 (1990): .581 to .669 where
buying and selling cost .5 % each, around R. C. Merton's .625 (1969).
"""

from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from agents.factory import PPOSettings, build_agent
from agents.pathwise.trainer import PathwiseSettings, PathwiseTrainer, make_twin
from envs.allocation.env import AllocationKernel
from envs.allocation.market import build_panel_market
from envs.core.batch import Window
from envs.sb3_vec_env import KernelVecEnv
from experiments.backtests.backtest import run_backtest
from experiments.environments.holdings import weights_held
from tests.experiments.test_merton import DRIFT, MERTON, RATE, RISK_AVERSION, VOL
from tests.markets import weekdays
from tests.panels import allocation_of, panel_of

pytestmark = pytest.mark.usefixtures("one_thread")

COST, YEAR = 0.005, 252
PREMIUM, STEP = (DRIFT - RATE - VOL**2 / 2) / YEAR, VOL / np.sqrt(YEAR)
DAVIS_NORMAN = (0.581, 0.669)


def growth(low: float, high: float, over: str, states: int = 120, draws: int = 401) -> float:
    """Annual certainty equivalent of trading daily, and only to the edges of a region, for ever.

    Over days: the mean of their utilities. Over a stretch that never ends: ln E[V^(1 - g)] a year
    over 1 - g, from the largest eigenvalue of the operator that takes a day's V^(1 - g).
    """
    weight = np.linspace(low, high, states)[:, None]
    move = np.exp(PREMIUM + STEP * norm.ppf((np.arange(draws) + 0.5) / draws))
    gross = 1.0 - weight + weight * move
    new = weight * move / gross
    sold, bought = (1 - COST * new) / (1 - COST * high), (1 + COST * new) / (1 + COST * low)
    power = (gross * np.where(new > high, sold, np.where(new < low, bought, 1.0))) ** (
        1.0 - RISK_AVERSION
    )
    place = (np.clip(new, low, high) - low) / (high - low) * (states - 1)
    left = np.minimum(place.astype(int), states - 2)
    share, row = place - left, np.repeat(np.arange(states), draws)

    def operator(values):
        matrix = np.zeros((states, states))
        np.add.at(matrix, (row, left.ravel()), (values * (1.0 - share)).ravel() / draws)
        np.add.at(matrix, (row, left.ravel() + 1), (values * share).ravel() / draws)
        return matrix

    if over == "stretch":
        largest = np.abs(np.linalg.eigvals(operator(power))).max()
        return float(YEAR * np.log(largest) / (1.0 - RISK_AVERSION))
    values, vectors = np.linalg.eig(operator(np.ones_like(power)).T)
    lasting = np.real(vectors[:, np.argmax(values.real)])
    utility = (power.mean(axis=1) - 1.0) / (1.0 - RISK_AVERSION)
    return float(YEAR * lasting @ utility / lasting.sum())


def best_edges(over: str) -> tuple[float, float]:
    """Those of the largest growth, by coordinate search to .001."""
    low, high, step = *DAVIS_NORMAN, 0.008
    while step >= 0.001:
        near = [(low + i * step, high + j * step) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        best = max(near, key=lambda edges: growth(edges[0], edges[1], over))
        step = step / 2 if best == (low, high) else step
        low, high = best
    return low, high


def paths_of(number: int, sessions: int, scored: int, seed: int):
    """Prices (P, T, 1) whose returns over the last sessions are quantiles of their law.

    What the drift's luck would teach is the largest part of the noise; this takes it out.
    """
    rng = np.random.default_rng(seed)
    shocks = rng.standard_normal((number, sessions))
    total = norm.ppf((rng.permutation(number) + 0.5) / number)
    last = shocks[:, -scored:]
    last += (total / total.std() / np.sqrt(scored))[:, None] - last.mean(axis=1, keepdims=True)
    dates = weekdays(sessions)
    days = np.diff(dates, prepend=dates[:1]).astype(np.float64)
    return np.exp((RATE * days / 365.0 + PREMIUM + STEP * shocks).cumsum(axis=1))[..., None]


class EveryPath(PathwiseTrainer):
    """Each update sees each path once."""

    def draw_places(self):
        market, path, session = super().draw_places()
        return market, np.arange(len(path)), session


def trained(options, seed: int, updates: int, unscored: int, sessions: int, paths: int, over: str):
    prices = paths_of(paths, 20 + sessions + 1, sessions - unscored, seed)
    market = build_panel_market(panel_of(prices, RATE), options)
    window = Window(market.first_usable, market.history.num_sessions)
    network = PPOSettings(
        net_arch=(8,), rollout_steps=16, batch_size=16, features=("volatility.*",)
    )
    env = KernelVecEnv(AllocationKernel(market, options, window, num_envs=8))
    policy = build_agent(network, env, seed=seed, device="cpu").policy
    objective: Any = {"kind": "crra", "risk_aversion": RISK_AVERSION, "over": over}
    plan = PathwiseSettings(
        objective=objective,
        cost_multiple=1.0,
        updates=updates,
        stretches=paths,
        sessions=sessions,
        unscored=unscored,
        learning_rate=0.02,
        learning_rate_end=0.02,
        weight_decay=0.0,
    )
    trainer = EveryPath(policy, [make_twin(market, options)], [window], plan, seed)
    while not trainer.finished:
        trainer.update()
    return policy


def held(policy, options):
    """Weights after each trade, and units traded (P, n), in the environment on unseen paths."""
    prices = paths_of(16, 2000, 2000, seed=99)
    market = build_panel_market(panel_of(prices, RATE), options)
    backtest = run_backtest(
        policy, market, options, Window(market.first_usable, market.history.num_sessions)
    )
    weights = weights_held(backtest)[:, 1:, 0]
    return weights, np.diff(backtest.quantity[:, :, 0], axis=1)


def options_with(rate_bps: float, action: str):
    return allocation_of(
        costs={"kind": "flat", "rate_bps": rate_bps},
        action=action,
        episode={"sessions": 20, "ruin_share": 0.0},
    )


def test_trading_daily_moves_the_edges_little_and_adding_up_days_moves_them_down():
    # The theory is in continuous time, and its investor looks at the end.
    assert best_edges("stretch") == pytest.approx(DAVIS_NORMAN, abs=0.004)
    assert best_edges("day") == pytest.approx((0.569, 0.656), abs=0.004)


def test_without_costs_the_weight_is_mertons():
    free = options_with(0.0, "weights")
    weights, _ = held(trained(free, 0, 40, 0, 20, 512, "day"), free)
    assert weights.mean() == pytest.approx(MERTON, abs=0.02)
    assert np.mean(np.abs(weights - MERTON) < 0.03) > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_with_costs_it_trades_at_the_edges_of_the_region(seed):
    dear = options_with(1e4 * COST, "band")
    weights, traded = held(trained(dear, seed, 36, 252, 1512, 256, "stretch"), dear)
    edges = weights[traded > 0.0], weights[traded < 0.0]
    assert min(len(edge) for edge in edges) > 100
    for edge, theory in zip(edges, DAVIS_NORMAN, strict=True):
        assert edge.mean() == pytest.approx(theory, abs=0.02)
        assert edge.std() < 0.01
    assert (traded == 0.0).mean() > 0.9
