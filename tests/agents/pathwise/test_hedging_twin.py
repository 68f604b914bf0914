"""The hedger's twin against the environment, and what it learns."""

import numpy as np
import pytest
import torch

from agents.pathwise.hedging import HedgingTwin
from agents.pathwise.trainer import PathwiseSettings, PathwiseTrainer, make_twin
from conf.errors import InputError
from envs.core.batch import Window
from envs.hedging.env import ACTION_SIZES
from tests.envs.hedging.worlds import CASES, kernel_of, market_of, options_of, paths_of


def case(name):
    options = options_of(20, **CASES[name])
    market = market_of(paths_of(6, 65, rate=0.05, dividend_yield=0.02), options)
    return market, options, HedgingTwin(market, options)


def actions(twin, seed=0):
    rng = np.random.default_rng(seed)
    size = twin.market.num_traded * ACTION_SIZES[twin.options.action]
    return rng.normal(0.0, 1.5, (20, 6, size))


@pytest.mark.parametrize("name", CASES)
def test_a_liability_costs_and_shows_what_the_environment_says(name):
    market, options, twin = case(name)
    start, path = np.array([0, 20, 40, 0, 20, 40]), np.arange(6)
    kernel = kernel_of(market, options, 6)
    observation = kernel.place(start, path, start + 20)
    days = twin.days(path, start, 20)
    given = actions(twin)
    wanted = twin.wanted(torch.from_numpy(given), days)
    books = twin.open(days)
    for t in range(20):
        day = days.day(t)
        seen = twin.observe(books, day).numpy()
        np.testing.assert_allclose(seen, observation, atol=2e-6)
        books, excess, _ = twin.advance(wanted[t], books, day)
        result = kernel.step(given[t])
        np.testing.assert_allclose(excess.numpy(), result.reward, atol=1e-9)
        np.testing.assert_allclose(books.equity.numpy(), kernel.ledger.equity, rtol=1e-9)
        np.testing.assert_allclose(books.quantity.numpy(), kernel.ledger.quantity, atol=1e-9)
        observation = result.observation
    assert not books.quantity.any()


@pytest.mark.parametrize("name", CASES)
def test_gradients_agree_with_finite_differences(name):
    _, _, twin = case(name)
    days = twin.days(np.arange(6), np.array([0, 20, 40, 0, 20, 40]), 20)
    given = torch.from_numpy(actions(twin, seed=4))

    def value(action):
        return (twin.earn(twin.wanted(action, days), days).excess.sum(dim=0) ** 2).mean()

    gradient = torch.autograd.grad(value(given.requires_grad_()), given)[0]
    rng, checked = np.random.default_rng(1), 0
    for _ in range(30):
        at = tuple(int(rng.integers(size)) for size in given.shape)
        at = (at[0] - at[0] % twin.options.rebalance_every, *at[1:])
        step = torch.zeros_like(given)
        step[at] = 1e-6
        with torch.no_grad():
            slope = float(value(given + step) - value(given - step)) / 2e-6
        assert float(gradient[at]) == pytest.approx(slope, rel=1e-3, abs=1e-7)
        checked += slope != 0.0
    assert checked >= 2


def test_costs_are_multiplied():
    market, options, twin = case("call")
    start, path = np.array([0, 20, 40]), np.arange(3)
    dear = make_twin(market, options, 3.0)
    action = torch.zeros(20, 3, 2, dtype=torch.float64)
    earned = {}
    for name, each in {"once": twin, "thrice": dear}.items():
        days = each.days(path, start, 20)
        earned[name] = each.earn(each.wanted(action, days), days)
    ratio = earned["thrice"].cost.sum(dim=0) / earned["once"].cost.sum(dim=0)
    np.testing.assert_allclose(ratio.numpy(), 3.0, rtol=0.01)


def test_stretches_begin_where_liabilities_are_sold():
    _, _, twin = case("call")
    assert twin.starts(Window(0, 66), 20).tolist() == [0, 20, 40]
    settings = PathwiseSettings(sessions=20, unscored=0)
    policy = torch.nn.Linear(1, 1)
    trainer = PathwiseTrainer(policy, [twin], [Window(5, 66)], settings, 0)  # type: ignore[arg-type]
    market_of_each, path, session = trainer.draw_places()
    assert set(session) == {20, 40}
    assert set(path) == set(range(6))
    assert not market_of_each.any()
    with pytest.raises(InputError, match="a stretch of the pathwise training has 21 sessions"):
        twin.starts(Window(0, 66), 21)
    with pytest.raises(InputError, match="no liability of 20 sessions"):
        twin.starts(Window(1, 40), 20)
