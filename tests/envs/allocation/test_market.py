"""What the allocation sees and knows of its market, its space of actions, and its configuration."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from omegaconf import OmegaConf

import conf
from conf.errors import InputError
from conf.settings import build_settings
from envs.allocation.env import AllocationKernel
from envs.allocation.market import AllocationSettings, build_panel_market
from envs.allocation.simplex import Simplex
from envs.core.batch import Window
from envs.core.costs import FlatCosts
from envs.core.market import BookMarket
from envs.core.reward import RewardSettings
from envs.kernels import open_kernel
from envs.market.panel import PanelHistory
from envs.option_portfolio.env import OptionPortfolioKernel
from envs.option_portfolio.market import OptionPortfolioSettings
from risk.overlay import RiskSettings
from tests.envs.allocation.portfolios import (
    FIRST,
    kernel_of,
    paid_by_return,
    simplex_points,
    wandering_panel,
)
from tests.markets import market_of, options_of, random_walk
from tests.panels import panel_of

CONF = Path(conf.__file__).parent


# --- market and observation -----------------------------------------------------------------------


def test_a_panel_market_is_a_book_market():
    history = wandering_panel(60, assets=3, paths=2)
    market: BookMarket = build_panel_market(history, paid_by_return())
    assert market.instruments == ("asset_0", "asset_1", "asset_2")
    assert [f.name for f in market.features] == [
        *("weight.asset_0", "weight.asset_1", "weight.asset_2"),
        *("return.asset_0", "return.asset_1", "return.asset_2"),
        *("volatility.asset_0", "volatility.asset_1", "volatility.asset_2"),
        *("cash", "equity"),
    ]
    assert market.first_usable == FIRST == 20
    np.testing.assert_array_equal(market.mark, history.close)
    np.testing.assert_array_equal(market.aged, history.close)
    days = history.days_to_next
    np.testing.assert_allclose(market.cash_return, np.exp(0.025 * days / 365) - 1, rtol=1e-12)


def test_the_index_is_the_mean_of_the_assets_returns():
    history = wandering_panel(60, assets=3, paths=2)
    market = build_panel_market(history, paid_by_return())
    index_returns = market.index_returns(Window(30, 33))
    close = history.close
    for i, t in enumerate((30, 31)):
        expected = (close[:, t + 1] / close[:, t] - 1).mean(axis=-1)
        np.testing.assert_allclose(index_returns[:, i], expected, rtol=1e-12)
    assert index_returns.shape == (2, 2)


def test_the_statistics_and_the_guard_see_the_index():
    history = wandering_panel(60, paths=2)
    risk = build_settings(RiskSettings, {"limits": {"max_delta": None}}, "risk")
    kernel = kernel_of(history, 2, risk=risk)
    kernel.reset()
    kernel.step(np.full((2, 5), 0.2))
    index = kernel.market.index_returns(Window(FIRST, FIRST + 2))[:, 0]
    np.testing.assert_allclose(kernel.statistics.recent_market[:, 0], index, rtol=1e-12)
    assert kernel.overlay is not None
    np.testing.assert_allclose(kernel.overlay.guard.index_returns[:, -1], index, rtol=1e-12)


def test_observations_by_hand():
    history = wandering_panel(60, assets=3)
    kernel = kernel_of(history)
    kernel.reset()
    result = kernel.step(np.array([[0.5, 0.2, 0.1, 0.2]]))
    t, close, ledger = FIRST + 1, history.close[0], kernel.ledger
    returns = close[1:] / close[:-1] - 1
    vol = returns[t - 20 : t].std(axis=0, ddof=1) * np.sqrt(252)
    by_hand = np.concatenate(
        [
            ledger.quantity[0] * close[t] / ledger.equity[0],
            returns[t - 1] / 0.02,
            vol / 0.2,
            [ledger.cash[0] / ledger.equity[0], ledger.equity[0] / 10_000 - 1],
        ]
    )
    np.testing.assert_allclose(result.observation[0], by_hand, rtol=1e-5, atol=1e-7)
    assert result.observation.dtype == np.float32


def test_ten_assets_make_thirty_two_features():
    kernel = kernel_of(wandering_panel(assets=10))
    assert kernel.observation_space.shape == (32,)
    assert kernel.action_space == Simplex(11)


def test_observations_stay_in_their_space():
    rng = np.random.default_rng(0)
    close = np.exp(np.cumsum(rng.choice([-1.0, 0.0, 1.3], (400, 3)), axis=0))
    kernel = kernel_of(panel_of(close), 8, episode={"sessions": 100, "ruin_share": 0.0})
    observation = kernel.reset()
    for _ in range(379):
        assert kernel.observation_space.contains(observation[0])
        assert np.isfinite(observation).all()
        observation = kernel.step(simplex_points(rng, 8, 4)).observation
    still = kernel_of(panel_of(np.full((60, 2), 7.0)))
    still.reset()
    assert np.isfinite(still.step(np.full((1, 3), 1 / 3)).observation).all()


def later_changed(history: PanelHistory, session: int) -> PanelHistory:
    rng = np.random.default_rng(9)
    close, rate = np.array(history.close), np.array(history.rate)
    close[:, session + 1 :] *= rng.uniform(0.6, 1.6, close[:, session + 1 :].shape)
    rate[session + 1 :] = 0.07
    return PanelHistory(history.name, history.assets, history.dates, close, rate)


@pytest.mark.parametrize("risk", [None, RiskSettings()])
def test_no_observation_depends_on_a_later_close(risk):
    """Up to session t, observations, rewards, costs and ends are the same bit for bit."""
    history, t, rng = wandering_panel(120, paths=2), 70, np.random.default_rng(6)
    changes = {"costs": {"rate_bps": 10.0}, "rebalance_threshold": 0.05, "risk": risk}
    one = kernel_of(history, 4, **changes)
    other = kernel_of(later_changed(history, t), 4, **changes)
    np.testing.assert_array_equal(one.reset(), other.reset())
    for session in range(FIRST, 100):
        action = simplex_points(rng, 4, 5)
        left, right = one.step(action), other.step(action)
        same = session + 1 <= t
        pairs: Any = zip(left[:-1], right[:-1], strict=True)
        for a, b in pairs:
            assert np.array_equal(a, b) or not same
        for a, b in zip(left.record[:-1], right.record[:-1], strict=True):
            assert np.array_equal(a, b) or session > t
        assert np.array_equal(left.observation, right.observation) == same
        if session == t:  # traded at t on what was known at t
            np.testing.assert_array_equal(one.held_quantity, other.held_quantity)
            np.testing.assert_array_equal(one.ledger.costs, other.ledger.costs)


def test_a_panel_within_its_warm_up_is_refused():
    with pytest.raises(InputError, match="20 sessions"):
        build_panel_market(wandering_panel(20), paid_by_return())


# --- the space of actions -------------------------------------------------------------------------


def test_samples_of_a_simplex_are_uniform():
    space = Simplex(4, seed=0)
    points = np.array([space.sample() for _ in range(20_000)], np.float64)
    assert points.dtype == np.float64
    assert all(space.contains(point.astype(np.float32)) for point in points[:200])
    # Each weight is Beta(1, 3): mean 1/4, variance 3/80, P(w > 1/2) = 1/8.
    np.testing.assert_allclose(points.mean(axis=0), 0.25, atol=0.006)
    np.testing.assert_allclose(points.var(axis=0), 3 / 80, rtol=0.05)
    np.testing.assert_allclose((points > 0.5).mean(axis=0), 1 / 8, atol=0.01)
    assert np.cov(points.T)[0, 1] == pytest.approx(-1 / 80, rel=0.1)


@pytest.mark.parametrize(
    ("point", "inside"),
    [
        ([0.2, 0.3, 0.5], True),
        ([1.0, 0.0, 0.0], True),
        ([0.2, 0.3, 0.500009], True),
        ([0.2, 0.3, 0.50002], False),
        ([0.6, 0.6, -0.2], False),
        ([np.nan, 0.5, 0.5], False),
        ([0.5, 0.5], False),
        ([0.0, 0.0, 0.0], False),
        (["a", "b", "c"], False),
        (None, False),
    ],
)
def test_what_a_simplex_contains(point, inside):
    assert Simplex(3).contains(point) == inside
    if inside:
        assert np.array(point, np.float32) in Simplex(3)


def test_a_simplex_is_a_box_of_its_own():
    space = Simplex(3, seed=5)
    assert isinstance(space, spaces.Box)
    assert (space.low.tolist(), space.high.tolist()) == ([0.0] * 3, [1.0] * 3)
    assert space.dtype == np.float32
    assert space == Simplex(3)
    assert space != Simplex(4)
    assert space != spaces.Box(0, 1, (3,), np.float32)
    assert spaces.Box(0, 1, (3,), np.float32) != space
    for same in (pickle.loads(pickle.dumps(space)), copy.deepcopy(space)):
        assert same == space
        np.testing.assert_array_equal(same.sample(), copy.deepcopy(space).sample())
    assert repr(space) == "Simplex(3)"
    with pytest.raises(InputError, match="0 weights"):
        Simplex(0)
    with pytest.raises(InputError, match="no mask"):
        space.sample(mask=np.ones(3))  # type: ignore[arg-type]


# --- settings and kernels -------------------------------------------------------------------------


def test_each_market_opens_its_own_kernel():
    panel = build_panel_market(wandering_panel(), paid_by_return())
    index = market_of(random_walk(120))
    window = Window(60, 100)
    opened = open_kernel(panel, paid_by_return(), window, 2, 1, random_start=False)
    assert isinstance(opened, AllocationKernel)
    assert opened.num_envs == 2
    opened = open_kernel(index, options_of(), window, random_start=False, risk=RiskSettings())
    assert isinstance(opened, OptionPortfolioKernel)
    assert opened.overlay is not None
    with pytest.raises(InputError, match="PanelMarket cannot be traded with OptionPortfolio"):
        open_kernel(panel, options_of(), window)
    with pytest.raises(InputError, match="OptionMarket cannot be traded with AllocationSettings"):
        open_kernel(index, paid_by_return(), window)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rebalance_threshold": 1.0}, "rebalance_threshold"),
        ({"initial_equity_usd": 0.0}, "initial_equity_usd"),
        ({"costs": {"rate_bps": 10_000.0}}, "leaves nothing"),
        ({"costs": {"kind": "realistic"}}, "flat"),
        ({"kind": "options"}, "allocation"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        paid_by_return(**changes)


def section(name: str) -> Any:
    return OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))


def test_the_files_hold_the_defaults():
    defaults = AllocationSettings()
    costs = build_settings(FlatCosts, section("costs/proportional"), "costs")
    reward = build_settings(RewardSettings, section("reward/allocation"), "reward")
    env = {**section("env/portfolio_allocation"), "costs": costs, "reward": reward}
    assert build_settings(AllocationSettings, env, "env") == defaults
    assert defaults.costs.rate_bps == 10.0
    assert build_settings(OptionPortfolioSettings, section("env/option_portfolio"), "env") == (
        OptionPortfolioSettings()
    )


def test_the_limits_for_an_allocation_let_it_be_fully_invested():
    risk = build_settings(RiskSettings, section("risk/allocation"), "risk")
    kernel = kernel_of(wandering_panel(vol=0.005), risk=risk)
    kernel.reset()
    for _ in range(60):
        result = kernel.step(np.array([[0.3, 0.3, 0.3, 0.1, 0.0]]))
        assert result.record.overlay is not None
        assert not result.record.overlay.bound.any()
    assert kernel.exposures()["invested"][0] == pytest.approx(1.0, abs=1e-12)
    result = kernel.step(np.array([[0.8, 0.1, 0.0, 0.0, 0.1]]))
    assert result.record.overlay is not None
    assert result.record.overlay.bound.any()
    assert kernel.exposures()["largest_weight"][0] == pytest.approx(0.6, rel=1e-9)
