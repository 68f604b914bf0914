import copy
import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as sb3_check

import envs  # noqa: F401  registers the environments
from conf.errors import InputError
from envs.gymnasium_adapters import KernelEnv, KernelVectorEnv
from envs.option_portfolio.env import OptionPortfolioKernel
from envs.sb3_vec_env import KernelVecEnv
from tests.markets import history_of, kernel_of, options_of, random_walk

ID = "PolyHedge/OptionPortfolio-v0"


def kernel(num_envs=1, sessions=10, seed=0):
    options = options_of(episode={"sessions": sessions})
    return kernel_of(random_walk(150), num_envs, options, random_start=True, seed=seed)


@pytest.mark.filterwarnings("ignore:.*render modes.*")
def test_both_checkers_pass():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*alternative render modes.*")
        gymnasium_check(KernelEnv(kernel()))
        sb3_check(KernelEnv(kernel()))


def test_registered_environments_are_made_by_name():
    env = gym.make(ID)
    obs, _ = env.reset(seed=3)
    assert obs.shape == (213,)
    assert env.action_space.shape == (20,)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gymnasium_check(env.unwrapped)  # renders in each mode too
    many = gym.make_vec(ID, num_envs=3, split="validation", env={"episode": {"sessions": 20}})
    obs, _ = many.reset(seed=1)
    assert obs.shape == (3, 213)
    assert isinstance(many.unwrapped, KernelVectorEnv)
    own = many.unwrapped.kernel
    assert isinstance(own, OptionPortfolioKernel)
    dates = own.market.history.dates
    assert str(dates[own.window.start]) == "2014-01-02"


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_made_environment_can_be_copied_and_goes_on_as_the_original_does(copied):
    env = gym.make(ID)
    env.reset(seed=3)
    env.step(env.action_space.sample())
    twin, action = copied(env), env.action_space.sample()
    for _ in range(3):
        result, other = env.step(action), twin.step(action)
        np.testing.assert_array_equal(result[0], other[0])
        assert result[1:4] == other[1:4]
    assert isinstance(env.unwrapped, KernelEnv)
    history = env.unwrapped.kernel.market.history
    again = copied(history)
    assert again.fingerprint == history.fingerprint
    assert not again.close.flags.writeable
    with pytest.raises(TypeError):
        again.extras["x"] = again.close


def test_who_forgets_truncation_never_leaves_the_training_years():
    env = gym.make(ID, env={"episode": {"sessions": 20}})
    assert isinstance(env.unwrapped, KernelEnv)
    own = env.unwrapped.kernel
    env.reset(seed=0)
    hold = np.zeros(20)
    for step in range(20):
        truncated = env.step(hold)[3]
        assert truncated == (step == 19)
    session = own.session[0]
    assert session < own.window.stop
    with pytest.raises(InputError, match="has ended"):
        env.step(hold)
    assert own.session[0] == session


def test_make_refuses_unknown_settings():
    with pytest.raises(InputError, match="sesions"):
        gym.make(ID, env={"episode": {"sesions": 20}})
    with pytest.raises(InputError, match="no split"):
        gym.make(ID, split="exam")


def test_seeded_resets_repeat():
    env = KernelEnv(kernel(sessions=5))
    runs = []
    for _ in range(2):
        first, _ = env.reset(seed=7)
        second, _ = env.reset()
        runs.append((first, second))
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0][0], runs[0][1])


def test_vec_env_behaves_as_sb3_documents():
    twin, env = kernel(3, seed=4), KernelVecEnv(kernel(3, seed=4))
    env.seed(11)
    twin.seed(11)
    np.testing.assert_array_equal(env.reset(), twin.reset())
    rng = np.random.default_rng(0)
    for step in range(1, 11):
        action = rng.uniform(-1, 1, (3, 20))
        obs, rewards, dones, infos = env.step(action)
        result = twin.step(action)
        np.testing.assert_allclose(rewards, result.reward, rtol=1e-6)
        if step < 10:
            assert not dones.any()
            assert infos == [{}, {}, {}]
    assert dones.all()
    for i, info in enumerate(infos):
        np.testing.assert_array_equal(info["terminal_observation"], result.observation[i])
        assert info["TimeLimit.truncated"] is True
        assert info["episode"]["l"] == 10
    np.testing.assert_array_equal(obs, twin.reset(dones))


def test_a_restart_gives_the_observations_of_the_new_episodes_alone():
    some, mask = kernel(4, seed=6), np.array([False, True, False, True])
    twin = kernel(4, seed=6)
    for each in (some, twin):
        each.reset()
        each.step(np.full((4, 20), 0.2))
    seen = twin.reset(mask)
    np.testing.assert_array_equal(some.restart(mask), seen[mask])
    assert_same_state(some, twin)
    assert some.restart(np.zeros(4, np.bool_)).shape == (0, *some.observation_space.shape)


def assert_same_state(one, other):
    mine, its = one.get_state(), other.get_state()
    assert mine.pop("rng") == its.pop("rng")
    for name in mine:
        np.testing.assert_array_equal(mine[name], its[name])


def test_a_terminal_observation_is_not_overwritten():
    env = KernelVecEnv(kernel(2, seed=1))
    first = env.reset().copy()
    for _ in range(10):
        obs, _, dones, infos = env.step(np.full((2, 20), 0.1))
    assert dones.all()
    kept = [info["terminal_observation"].copy() for info in infos]
    env.step(np.zeros((2, 20)))
    for info, last, start in zip(infos, kept, obs, strict=True):
        np.testing.assert_array_equal(info["terminal_observation"], last)
        assert not np.array_equal(last, start)
    assert isinstance(obs, np.ndarray)
    assert first.shape == obs.shape


def test_vec_env_state_is_restored():
    a, b = KernelVecEnv(kernel(3, seed=4)), KernelVecEnv(kernel(3, seed=5))
    a.reset(), b.reset()
    b.set_state(a.get_state())
    action = np.full((3, 20), 0.3)
    for _ in range(25):
        left, right = a.step(action), b.step(action)
        np.testing.assert_array_equal(left[0], right[0])
        np.testing.assert_array_equal(left[1], right[1])


def test_vector_env_resets_in_the_same_step():
    env = KernelVectorEnv(kernel(2, sessions=4))
    env.reset(seed=0)
    for _ in range(4):
        obs, _, terminated, truncated, infos = env.step(np.zeros((2, 20), np.float32))
    assert truncated.all()
    assert not terminated.any()
    assert infos["_final_obs"].all()
    assert not np.array_equal(infos["final_obs"][0], obs[0])
    assert infos["final_info"]["episode"]["l"].tolist() == [4, 4]


def test_a_single_environment_needs_a_kernel_of_one():
    with pytest.raises(InputError, match="make_vec"):
        KernelEnv(kernel(2))


def test_ruin_terminates_and_the_next_episode_starts_afresh():
    crash = np.where(np.arange(150) < 70, 1000.0, 600.0)
    options = options_of(episode={"sessions": 60, "ruin_share": 0.5})
    kernel = kernel_of(history_of(crash), 2, options, random_start=False)
    env = KernelVecEnv(kernel)
    first = env.reset()
    short_puts = np.tile(np.where(kernel.market.tape.is_call, 0.0, -1.0), (2, 1))
    for _ in range(90):
        obs, rewards, dones, infos = env.step(short_puts)
        if dones.any():
            break
    assert dones.all()
    assert infos[0]["TimeLimit.truncated"] is False
    assert (rewards < -options.reward.ruin_penalty).all()
    assert infos[0]["terminal_observation"][168] < -0.5  # equity over its start, less one
    np.testing.assert_array_equal(obs, first)
