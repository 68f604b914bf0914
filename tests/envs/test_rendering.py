"""The book as people see it: its numbers are the ledger's, its picture changes with the book."""

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.passive_env_checker import env_render_passive_checker

import envs  # noqa: F401  registers the environments
from conf.errors import InputError
from envs.gymnasium_adapters import KernelEnv
from envs.option_portfolio.env import OptionPortfolioKernel
from envs.rendering import book_table
from tests.markets import kernel_of, options_of, random_walk


def kernel():
    options = options_of(episode={"sessions": 30})
    return kernel_of(random_walk(150), 1, options, random_start=True, seed=0)


def shown(env) -> Any:
    return env.render()


def table(env):
    headline, *rows = shown(env).splitlines()
    return headline, {row.split()[0]: [x.replace(",", "") for x in row.split()[1:]] for row in rows}


def test_the_table_holds_the_ledgers_numbers_and_what_positions_gain():
    env = KernelEnv(kernel(), render_mode="ansi")
    env.reset(seed=1)
    assert "session 0 of 30: equity $100,000.00, cash $100,000.00\nnothing is held" in shown(env)
    action = np.zeros(20, np.float32)
    action[[2, 7]] = 0.5, -0.5
    env.step(action)
    own = env.kernel
    assert isinstance(own, OptionPortfolioKernel)
    tape = own.market.tape
    headline, rows = table(env)
    day = own.market.history.dates[own.session[0]]
    assert headline.startswith(f"{day}, session 1 of 30: equity ${own.ledger.equity[0]:,.2f}")
    held = np.flatnonzero(own.ledger.quantity[0])
    assert list(rows) == ["position", *(own.market.instruments[k] for k in held), "all"]
    assert held.tolist() == [2, 7]
    session, spot = own.session[0], own.market.history.close[0, own.session[0]]
    for k in held:
        units, price, value, delta, gamma, vega, theta = map(float, rows[own.market.instruments[k]])
        exact = own.ledger.quantity[0, k]
        at = (0, session, k)
        assert units == pytest.approx(exact, abs=0.005)
        assert price == pytest.approx(tape.mark[at], abs=0.005)
        assert value == pytest.approx(exact * tape.mark[at], abs=0.005)
        assert delta == pytest.approx(exact * tape.delta[at] * spot / 100, abs=0.005)
        assert gamma == pytest.approx(exact * tape.gamma[at] * (spot / 100) ** 2, abs=0.005)
        assert vega == pytest.approx(exact * tape.vega[at] / 100, abs=0.005)
        assert theta == pytest.approx(exact * tape.theta[at], abs=0.005)
    invested = own.ledger.equity[0] - own.ledger.cash[0]
    assert float(rows["all"][0]) == pytest.approx(invested, abs=0.01)
    assert max(map(len, shown(env).splitlines())) <= 80


def test_the_picture_is_rgb_and_shows_the_episode_so_far():
    env = KernelEnv(kernel(), render_mode="rgb_array")
    pictures = []
    for _ in range(2):
        env.reset(seed=1)
        pictures.append(shown(env))
        env.step(np.full(20, 0.1, np.float32))
        pictures.append(shown(env))
    assert pictures[0].shape == (400, 640, 3)
    assert pictures[0].dtype == np.uint8
    assert not np.array_equal(pictures[0], pictures[1])
    np.testing.assert_array_equal(pictures[0], pictures[2])
    np.testing.assert_array_equal(pictures[1], pictures[3])


@pytest.mark.parametrize("name", ["OptionPortfolio", "PortfolioAllocation", "OptionHedging"])
def test_every_environment_is_rendered_as_gymnasium_expects(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for mode in ("ansi", "rgb_array"):
            env = gym.make(f"PolyHedge/{name}-v0", render_mode=mode)
            env.reset(seed=0)
            env.step(env.action_space.sample())
            env_render_passive_checker(env.unwrapped)
        assert isinstance(env.unwrapped, KernelEnv)
        assert book_table(env.unwrapped.kernel).count("\n") > 2


def test_a_mode_that_is_not_there_is_refused():
    with pytest.raises(InputError, match=r"'human'\. Choose from ansi, rgb_array"):
        KernelEnv(kernel(), render_mode="human")
    with pytest.raises(InputError, match="3 environments at once"):
        gym.make_vec("PolyHedge/OptionHedging-v0", num_envs=3, render_mode="ansi")
    assert KernelEnv(kernel()).render() is None
