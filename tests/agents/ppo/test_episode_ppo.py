"""PPO of whole episodes: what it is paid, what a checkpoint holds, and that it learns to hedge."""

import numpy as np
import pytest
import torch

from agents.baselines.hedging import constant_band, hedging_costs
from agents.factory import AgentSettings, build_agent
from agents.persistence.resume_state import capture, restore
from conf.errors import InputError
from conf.settings import build_settings
from envs.core.batch import Window
from envs.hedging.env import HedgingKernel
from envs.sb3_vec_env import KernelVecEnv
from tests.envs.hedging.worlds import market_of, options_of, paths_of
from tests.markets import kernel_of as option_kernel_of
from tests.markets import random_walk

LIFE, WINDOW = 6, Window(0, 7)
BOTH = pytest.mark.parametrize("policy", ["MlpPolicy", "MlpLstmPolicy"])


def agent_of(episodes=32, seed=0, paths=500, env=None, **changes):
    options = options_of(LIFE, **(env or {}))
    market = market_of(paths_of(paths, LIFE), options)
    kernel = HedgingKernel(market, options, WINDOW, episodes, seed)
    settings = build_settings(
        AgentSettings, {"kind": "episode_ppo", "batch_size": 64, **changes}, "agent"
    )
    return build_agent(settings, KernelVecEnv(kernel), seed, "cpu")


def rollout(model):
    """Rewards that the rollout was paid (L, N), and those of the environment."""
    seen = []
    step = model.env.kernel.step

    def spy(action):
        result = step(action)
        seen.append(result.reward)
        return result

    model.env.kernel.step = spy
    model.learn(model.n_steps * model.n_envs)
    return model.rollout_buffer.rewards, np.array(seen)


@BOTH
def test_an_episode_is_paid_its_part_of_mean_plus_deviation_less_that_of_the_mean_policy(policy):
    model = agent_of(256, policy=policy, n_epochs=1, learning_rate=1e-9, learning_rate_end=1e-9)
    model._setup_learn(1)
    start, path = (getattr(model.env.kernel, name).copy() for name in ("start", "path"))
    paid, rewards = rollout(model)
    cost = -rewards.sum(axis=0)
    mean, deviation = cost.mean(), cost.std()
    assert model.cost_mean == pytest.approx(mean, rel=1e-5)
    assert model.cost_deviation == pytest.approx(deviation, rel=1e-5)

    def utility(c):
        return -(c + 1.5 * ((c - mean) ** 2 / (2 * deviation) + deviation / 2))

    # Summed over episodes U is minus the objective itself.
    assert -utility(cost).mean() == pytest.approx(mean + 1.5 * deviation, rel=1e-9)
    assert paid.shape == rewards.shape == (LIFE, 256)
    assert start.shape == path.shape == (256,)
    explored = paid.sum(axis=0)
    assert np.corrcoef(explored, utility(cost))[0, 1] > 0.2
    assert explored.std() < 0.8 * utility(cost).std()  # the path's noise is gone


@BOTH
def test_without_exploration_nothing_is_paid(policy):
    model = agent_of(policy=policy, std_start=1e-6, std_end=1e-6, n_epochs=1)
    paid, _ = rollout(model)
    np.testing.assert_allclose(paid, 0.0, atol=1e-4)


def test_the_spread_of_actions_falls_as_scheduled_and_is_not_learned():
    model = agent_of(std_start=0.5, std_end=0.1)
    model.learn(4 * LIFE * 32)
    # The last of four rollouts began when three quarters were done.
    expected = 0.5 * (0.1 / 0.5) ** 0.75
    assert torch.exp(model.policy.log_std)[0] == pytest.approx(expected, rel=1e-5)


@BOTH
def test_a_checkpoint_holds_the_moving_averages(policy):
    model = agent_of(policy=policy)
    model.learn(2 * LIFE * 32)
    state = capture(model, {})
    averages = model.own_state()
    model.learn(LIFE * 32, reset_num_timesteps=False)
    other = agent_of(policy=policy, seed=5)
    restore(state, other, {})
    assert other.own_state() == averages
    other.learn(LIFE * 32, reset_num_timesteps=False)
    for name, weights in model.policy.state_dict().items():
        assert torch.equal(weights, other.policy.state_dict()[name]), name


def test_with_memory_minibatches_are_whole_episodes_and_gradients_reach_all_of_one():
    model = agent_of(policy="MlpLstmPolicy", lstm_hidden_size=8)
    assert (model.sequence_length, model.batch_size) == (LIFE, 60)  # of 64, the most of whole ones
    assert model.policy.lstm_actor.hidden_size == 8


def test_it_learns_to_hedge_better_than_with_the_best_constant_band():
    model = agent_of(128, paths=2000, batch_size=256, learning_rate=3e-3)
    options = model.env.kernel.options
    unseen = market_of(paths_of(2000, LIFE, seed=9), options)

    def cost(hedge):
        return options.objective(hedging_costs(hedge, unseen, options, WINDOW))

    band = min(cost(constant_band(unseen, width)) for width in (0.05, 0.1, 0.15, 0.2))
    assert 0.97 * band < cost(model.policy)  # what it begins with is such a band
    model.learn(24 * LIFE * 128)
    assert cost(model.policy) < 0.92 * band


def test_other_objectives_and_other_environments_are_refused():
    with pytest.raises(InputError, match=r"env.objective=mean_deviation, not entropic"):
        agent_of(env={"objective": {"kind": "entropic"}})
    settings = build_settings(AgentSettings, {"kind": "episode_ppo"}, "agent")
    with pytest.raises(InputError, match="not a reward"):
        build_agent(settings, KernelVecEnv(option_kernel_of(random_walk(120))), 0, "cpu")
