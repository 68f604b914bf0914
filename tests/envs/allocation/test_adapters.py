"""The allocation in the manners of gymnasium and Stable-Baselines3, in a batch and saved."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as sb3_check

import envs  # noqa: F401  registers the environments
from conf.errors import InputError
from envs.allocation.env import AllocationKernel
from envs.allocation.simplex import Simplex
from envs.gymnasium_adapters import KernelEnv, KernelVectorEnv
from envs.sb3_vec_env import KernelVecEnv
from risk.overlay import RiskSettings
from tests.envs.allocation.portfolios import kernel_of, simplex_points, wandering_panel

ID = "PolyHedge/PortfolioAllocation-v0"
SHORT = {"episode": {"sessions": 10}, "costs": {"rate_bps": 10.0}}


def kernel(num_envs=1, seed=0, **changes):
    history = wandering_panel(150, paths=2)
    return kernel_of(history, num_envs, random_start=True, seed=seed, **{**SHORT, **changes})


def test_both_checkers_pass():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*alternative render modes.*")
        # Advice for Gaussian policies; weights have no other range.
        warnings.filterwarnings("ignore", message=".*symmetric and normalized Box.*")
        gymnasium_check(KernelEnv(kernel()))
        sb3_check(KernelEnv(kernel()))


def test_gymnasium_makes_it_by_name():
    env = gym.make(ID)
    observation, _ = env.reset(seed=3)
    assert observation.shape == (32,)
    assert env.action_space == Simplex(11)
    assert isinstance(env.unwrapped, KernelEnv)
    assert env.unwrapped.kernel.ledger.cash[0] == 10_000
    small = {"assets": 3, "sessions": 700, "paths": 2}
    options = {"episode": {"sessions": 20}, "rebalance_threshold": 0.02}
    many = gym.make_vec(ID, num_envs=3, split="validation", data=small, env=options)
    observation, _ = many.reset(seed=1)
    assert observation.shape == (3, 11)
    assert isinstance(many.unwrapped, KernelVectorEnv)
    own = many.unwrapped.kernel
    assert isinstance(own, AllocationKernel)
    assert own.options.rebalance_threshold == 0.02
    window = own.window
    assert (window.start, window.stop) == (20 + 408, 20 + 408 + 136)
    for _ in range(20):
        observation, *_, ended, infos = many.step(many.action_space.sample())
    assert ended.all()
    assert infos["final_info"]["episode"]["l"].tolist() == [20.0] * 3


def test_make_refuses_settings_of_another_environment():
    with pytest.raises(InputError, match="sizing"):
        gym.make(ID, env={"sizing": {"max_premium": 0.1}})
    with pytest.raises(InputError, match="sp500"):
        gym.make(ID, data={"source": "sp500"})


def test_portfolios_in_a_batch_equal_portfolios_alone_to_the_bit():
    risk, rng = RiskSettings(), np.random.default_rng(1)
    many = kernel(6, rebalance_threshold=0.1, risk=risk, episode={"sessions": 60})
    many.reset()
    start, path, end = many.start.copy(), many.path.copy(), many.end.copy()
    first = many.place(start, path, end)
    single = [kernel(rebalance_threshold=0.1, risk=risk, episode={"sessions": 60}) for _ in path]
    for i, one in enumerate(single):
        seen = one.place(start[i : i + 1], path[i : i + 1], end[i : i + 1])
        np.testing.assert_array_equal(seen[0], first[i])
    for _ in range(60):
        action = simplex_points(rng, 6, 5)
        together = many.step(action)
        for i, one in enumerate(single):
            alone = one.step(action[i : i + 1])
            pairs = zip(together[:-1], alone[:-1], strict=True)
            for a, b in [*pairs, *zip(together.record[1:-1], alone.record[1:-1], strict=True)]:
                np.testing.assert_array_equal(a[i], b[0])
    assert together.truncated.all()


def play(env: KernelVecEnv, rng: np.random.Generator, steps: int) -> list[np.ndarray]:
    seen = []
    assert isinstance(env.kernel, AllocationKernel)
    for _ in range(steps):
        env.step_async(simplex_points(rng, 5, 5).astype(np.float32))
        observation, reward, done, _ = env.step_wait()
        seen += [observation, reward, done, *env.kernel.exposures().values()]
    return seen


def test_a_saved_environment_continues_bit_for_bit():
    one = KernelVecEnv(kernel(5, risk=RiskSettings()))
    one.reset()
    play(one, np.random.default_rng(0), 17)
    saved = one.get_state()
    expected = play(one, np.random.default_rng(1), 30)
    other = KernelVecEnv(kernel(5, seed=99, risk=RiskSettings()))
    other.reset()
    other.set_state(saved)
    for a, b in zip(play(other, np.random.default_rng(1), 30), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_state_of_other_portfolios_is_refused():
    saved = kernel(3).get_state()
    with pytest.raises(InputError, match="shape"):
        kernel(4).set_state(saved)


def test_seeded_resets_repeat():
    env, runs = KernelEnv(kernel()), []
    for _ in range(2):
        first, _ = env.reset(seed=7)
        steps = [env.step(np.full(5, 0.2, np.float32)) for _ in range(10)]
        runs.append((first, *(step[0] for step in steps)))
        assert steps[-1][3]
        assert steps[-1][4]["episode"]["l"] == 10
    for a, b in zip(*runs, strict=True):
        np.testing.assert_array_equal(a, b)
