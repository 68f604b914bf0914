"""The hedging environment: what it does to the ledger, what it pays, and that it repeats."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs  # noqa: F401  registers the environments
from conf.errors import InputError
from envs.core.batch import Window
from envs.gymnasium_adapters import KernelVectorEnv
from envs.hedging.env import HedgingKernel, band_edges
from envs.kernels import open_kernel
from envs.sb3_vec_env import KernelVecEnv
from risk.overlay import RiskSettings
from tests.envs.hedging.worlds import CASES, kernel_of, market_of, options_of, paths_of

RATES: dict[str, Any] = {"rate": 0.05, "dividend_yield": 0.02}


def case(name, paths=6, sessions=45, **changes):
    options = options_of(20, **{**CASES[name], **changes})
    return market_of(paths_of(paths, sessions, **RATES), options), options


def actions(kernel, steps, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(0.0, 1.5, (steps, kernel.num_envs, *kernel.action_space.shape))


def dollars(options, market, t, sold, size, price):
    """What trading so many units at session t costs, by the settings of the costs alone."""
    spot, costs = market.history.close[:, t], options.costs
    fixed = getattr(costs, "half_spread_usd", 0.0) * price[:, 0] / spot
    total = size[:, 0] * (fixed + costs.rate_bps * 1e-4 * price[:, 0])
    for number, option in enumerate(options.hedges, start=1):
        gain = spot - option.moneyness * market.history.close[:, sold]
        gain = gain if option.kind == "call" else -gain
        unit = options.hedge_costs.per_unit(
            price[:, number], spot, np.maximum(gain, 0.0), market.history.implied_vol[:, t]
        )
        total = total + size[:, number] * unit
    return total


@pytest.mark.parametrize("name", CASES)
def test_equity_changes_by_what_is_held_by_interest_and_by_costs_alone(name):
    market, options = case(name)
    kernel = kernel_of(market, options, 6)
    kernel.reset()
    traded = 1 + len(options.hedges)
    for t, action in enumerate(actions(kernel, 45)):
        before, cash, held = (
            getattr(kernel.ledger, part).copy() for part in ("equity", "cash", "quantity")
        )
        result = kernel.step(action)
        now = result.record.quantity
        np.testing.assert_array_equal(now[:, traded:], market.liability[:, t])
        mark, aged = market.mark[:, t], market.aged[:, t + 1]
        paid = dollars(options, market, t, t // 20 * 20, np.abs(now - held)[:, :traded], mark)
        cash = cash - ((now - held) * mark).sum(axis=-1) - paid
        closing = dollars(options, market, t + 1, t // 20 * 20, np.abs(now)[:, :traded], aged)
        closing = closing * market.leaves[t + 1, 0]
        gained = (now * (aged - mark)).sum(axis=-1)
        expected = before + gained + cash * market.cash_return[t] - paid - closing
        np.testing.assert_allclose(kernel.ledger.equity, expected, rtol=1e-9)
        assert not kernel.ledger.quantity[:, market.leaves[t + 1]].any()
        worth = kernel.ledger.cash + (kernel.ledger.quantity * aged).sum(axis=-1)
        np.testing.assert_allclose(kernel.ledger.equity, worth, rtol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_a_liability_costs_minus_the_sum_of_rewards(name):
    market, options = case(name)
    kernel = kernel_of(market, options, 6)
    kernel.reset()
    total, equity = np.zeros(6), kernel.ledger.equity.copy()
    grown = np.prod(1.0 + market.cash_return[:20])
    for t, action in enumerate(actions(kernel, 20)):
        result = kernel.step(action)
        total -= result.reward
        if t < 19:
            np.testing.assert_allclose(result.observation[:, -1], total, atol=1e-5)
    np.testing.assert_allclose(kernel.last_cost, total, rtol=1e-9)
    lost = (equity * grown - kernel.ledger.equity) / market.premium[:, 0]
    np.testing.assert_allclose(
        total, lost, rtol=0.005, atol=0.005
    )  # but for interest on what was lost
    assert not kernel.lost.any()  # the next one begins with nothing lost


def test_what_is_held_is_moved_to_the_edge_of_the_band_and_no_further():
    market, options = case("call")
    kernel = kernel_of(market, options, 6)
    kernel.reset()
    held = np.zeros(6)
    for t, action in enumerate(actions(kernel, 20)):
        low, high = band_edges(action, market.delta[:, t])
        np.testing.assert_allclose(low, market.delta[:, t] - np.log1p(np.exp(action[:, 0] - 2)))
        result = kernel.step(action)
        held = np.clip(
            held * (market.shares[:, t - 1] / market.shares[:, t] if t else 1), low, high
        )
        np.testing.assert_allclose(
            result.record.quantity[:, 0], held * market.shares[:, t], rtol=1e-12
        )


def test_between_the_sessions_of_trading_the_shares_stay_and_the_liability_expires():
    market, options = case("weekly")
    kernel = kernel_of(market, options, 6)
    kernel.reset()
    held = []
    for action in actions(kernel, 20):
        held.append(kernel.step(action).record.quantity[:, 0])
    changes = np.abs(np.diff(held, axis=0)).max(axis=1) > 0.0
    assert np.flatnonzero(changes).tolist() == [4, 9, 14]


def test_an_episode_is_the_life_of_one_liability_and_ends_for_good():
    market, options = case("call", sessions=65)
    kernel = kernel_of(market, options, 50, random_start=True)
    kernel.reset()
    assert set(kernel.start) == {0, 20, 40}
    for step in range(20):
        result = kernel.step(np.zeros((50, 2)))
        assert result.terminated.all() == (step == 19)
        assert not result.truncated.any()
    summary = kernel.episode_summary(3)
    assert summary["l"] == 20
    assert summary["hedging_cost"] == pytest.approx(-summary["r"], rel=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_hedgers_together_equal_hedgers_alone(name):
    market, options = case(name)
    together = kernel_of(market, options, 6)
    seen, acts = [together.reset()], actions(together, 45)
    rewards = []
    for action in acts:
        result = together.step(action)
        seen.append(result.observation)
        rewards.append(result.reward)
    for path in range(6):
        alone = HedgingKernel(market, options, Window(0, 46), 1, random_start=False)
        alone.place(np.array([0]), np.array([path]), np.array([45]))
        for t in range(45):
            result = alone.step(acts[t, path : path + 1])
            np.testing.assert_array_equal(result.observation[0], seen[t + 1][path])
            np.testing.assert_array_equal(result.reward[0], rewards[t][path])


def test_the_same_seed_gives_the_same_and_a_saved_state_goes_on():
    market, options = case("call", sessions=65)
    one, two = (kernel_of(market, options, 5, random_start=True, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.reset(), two.reset())
    acts = actions(one, 30)
    for action in acts[:12]:
        one.step(action)
        two.step(action)
    state = one.get_state()
    other = kernel_of(market, options, 5, random_start=True, seed=9)
    other.reset()
    other.set_state(state)
    for action in acts[12:20]:
        for kernel in (two, other):
            kernel.step(action)
        np.testing.assert_array_equal(two.ledger.equity, other.ledger.equity)
        np.testing.assert_array_equal(two.lost, other.lost)
    np.testing.assert_array_equal(two.reset(), other.reset())


def test_gymnasium_and_stable_baselines_see_the_same_environment():
    env = gym.make("PolyHedge/OptionHedging-v0", data={"sessions": 400})
    check_env(env.unwrapped, skip_render_check=True)
    vector = gym.make_vec("PolyHedge/OptionHedging-v0", num_envs=4, data={"sessions": 400})
    first, _ = vector.reset(seed=3)
    assert isinstance(vector.unwrapped, KernelVectorEnv)
    kernel = vector.unwrapped.kernel
    assert isinstance(kernel, HedgingKernel)
    sb3 = KernelVecEnv(
        open_kernel(kernel.market, kernel.options, kernel.window, 4), reward_scale=1.0
    )
    sb3.seed(3)
    np.testing.assert_array_equal(sb3.reset(), first)
    for _ in range(45):
        seen, reward, ended, _, _ = vector.step(np.zeros((4, 2), np.float32))
        own_seen, own_reward, done, infos = sb3.step(np.zeros((4, 2), np.float32))
        np.testing.assert_array_equal(seen, own_seen)
        np.testing.assert_allclose(reward, own_reward, rtol=1e-6)
        np.testing.assert_array_equal(ended, done)
        assert not any(info.get("TimeLimit.truncated") for info in infos)


def test_the_risk_module_and_a_window_without_a_liability_are_refused():
    market, options = case("call")
    with pytest.raises(InputError, match="risk=none"):
        open_kernel(market, options, Window(0, 46), risk=RiskSettings())
    with pytest.raises(InputError, match="no liability of 20 sessions"):
        open_kernel(market, options, Window(1, 40))
