"""What is logged of the books, whatever they hold."""

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv

from callbacks.performance import PerformanceCallback
from conf.errors import InputError
from envs.core.batch import BatchKernel
from envs.gymnasium_adapters import KernelEnv
from envs.sb3_vec_env import KernelVecEnv
from tests.envs.allocation.portfolios import kernel_of as allocation_kernel
from tests.envs.allocation.portfolios import wandering_panel
from tests.markets import kernel_of, options_of, random_walk

EPISODE = {"sessions": 12}


def logged(kernel: BatchKernel) -> dict[str, float]:
    """The scalars of one rollout of 16 sessions, in which every episode ends once."""
    agent = PPO("MlpPolicy", KernelVecEnv(kernel), n_steps=16, batch_size=16, device="cpu", seed=0)
    agent.set_logger(Logger(None, []))
    agent.learn(32, callback=PerformanceCallback(), log_interval=100)
    return dict(agent.logger.name_to_value)


def test_an_allocation_is_logged_with_its_exposures():
    kernel = allocation_kernel(wandering_panel(), 2, random_start=True, episode=EPISODE)
    scalars = logged(kernel)
    assert {f"book/{name}" for name in kernel.book_scalars()} <= set(scalars)
    assert 0.0 < scalars["book/invested"] <= 1.0
    assert 1.0 <= scalars["book/effective_assets"] <= 4.0
    assert scalars["book/cash"] + scalars["book/invested"] == pytest.approx(1.0, abs=0.05)
    assert scalars["reward/total"] == pytest.approx(scalars["reward/portfolio_return"], rel=1e-4)
    assert scalars["episode/sessions"] == 12


def test_an_option_book_is_logged_with_its_greeks():
    kernel = kernel_of(random_walk(150), 2, options_of(episode=EPISODE), random_start=True)
    scalars = logged(kernel)
    books = {name for name in scalars if name.startswith("book/")}
    names = ("delta", "gamma", "vega", "theta", "gross_notional", "drawdown", "cash")
    assert books == {f"book/{name}" for name in names}
    assert all(np.isfinite(list(scalars.values())))


def test_another_environment_is_refused():
    kernel = allocation_kernel(wandering_panel(), random_start=True, episode=EPISODE)
    agent = PPO("MlpPolicy", DummyVecEnv([lambda: KernelEnv(kernel)]), n_steps=16, batch_size=16)
    with pytest.raises(InputError, match="needs an environment of books"):
        agent.learn(16, callback=PerformanceCallback())
