import numpy as np
import pytest

from envs.core.batch import Window
from envs.options.surface import VixSurface
from experiments.backtests.backtest import index_equity, run_backtest
from tests.markets import history_of, kernel_of, market_of, options_of, random_walk, wandering_vol


class Constant:
    """Always gives the same action."""

    def __init__(self, action):
        self.action = np.asarray(action, float)
        self.starts = []

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        assert deterministic
        self.starts.append(episode_start.copy())
        return np.tile(self.action, (len(observation), 1)), (state or 0) + 1


def wandering(paths=1, sessions=120):
    vol = np.repeat(wandering_vol(sessions), paths, axis=0)
    return random_walk(sessions, paths=paths, seed=2, implied_vol=vol)


REALISTIC = options_of(costs={"kind": "realistic"})


def test_a_backtest_is_the_kernel_stepped_through_the_window():
    history, action = wandering(), np.linspace(-0.2, 0.3, 20)
    market = market_of(history, REALISTIC, VixSurface())
    backtest = run_backtest(Constant(action), market, REALISTIC, Window(60, 100))
    kernel = kernel_of(history, options=REALISTIC, surface=VixSurface())
    kernel.place(np.array([60]), np.array([0]), np.array([99]))
    equity, costs = [100_000.0], []
    for _ in range(39):
        before = kernel.ledger.costs[0]
        kernel.step(action[None])
        equity.append(kernel.ledger.equity[0])
        costs.append(kernel.ledger.costs[0] - before)
    np.testing.assert_array_equal(backtest.equity[0], equity)
    np.testing.assert_allclose(backtest.cost[0], costs, rtol=1e-12)
    assert backtest.dates[0] == history.dates[60]
    assert backtest.dates[-1] == history.dates[99]
    assert backtest.quantity.shape == (1, 39, 20)
    assert not backtest.ruined.any()


def test_the_policy_gets_the_start_of_the_episode_and_its_own_state():
    policy = Constant(np.zeros(20))
    run_backtest(policy, market_of(wandering()), options_of(), Window(60, 70))
    assert [bool(start[0]) for start in policy.starts] == [True] + [False] * 8


def test_each_path_gets_its_book_and_they_do_not_mix():
    history = wandering(paths=3)
    market = market_of(history, REALISTIC, VixSurface())
    action = np.full(20, 0.1)
    together = run_backtest(Constant(action), market, REALISTIC, Window(60, 100))
    assert together.equity.shape == (3, 40)
    for path in range(3):
        kernel = kernel_of(history, options=REALISTIC, surface=VixSurface())
        kernel.place(np.array([60]), np.array([path]), np.array([99]))
        for _ in range(39):
            kernel.step(action[None])
        assert kernel.ledger.equity[0] == together.equity[path, -1]


def test_the_index_by_hand():
    history = history_of([100.0] * 60 + [110.0, 121.0])
    index = index_equity(market_of(history), Window(59, 62), 1000.0)
    days = history.days_to_next[59:61]
    expected = 1000 * np.array([1, 1.1, 1.21]) * np.exp(0.015 * np.r_[0, np.cumsum(days)] / 365)
    np.testing.assert_allclose(index[0], expected, rtol=1e-12)


def test_buying_the_forward_is_buying_the_index():
    """Long call and short put at one strike: the index on credit, dividends and all."""
    market = market_of(wandering(), options_of(), VixSurface())
    action = np.zeros(20)
    slots = {slot.name: i for i, slot in enumerate(market.tape.slots)}
    call, put = slots["60D_Call_1.00"], slots["60D_Put_1.00"]

    class Forward(Constant):
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            t = 60 + len(self.starts)
            self.starts.append(0)
            price, spot = market.tape.mark[0, t], market.history.close[0, t]
            action = np.zeros((1, 20))
            action[0, [call, put]] = 0.1 * price[[call, put]] / spot * np.array([1, -1]) / 0.2
            return action, None

    backtest = run_backtest(Forward(action), market, options_of(), Window(60, 100))
    excess = np.diff(backtest.equity[0]) / backtest.equity[0, :-1] - backtest.risk_free
    index_excess = backtest.index_return[0] - backtest.risk_free
    np.testing.assert_allclose(excess, 0.1 * index_excess, atol=2e-5)


def test_the_equity_of_a_ruined_book_stays_while_others_go_on():
    calm = np.full(120, 1000.0)
    crash = np.where(np.arange(120) < 70, 1000.0, 300.0)
    history = history_of(np.stack([calm, crash]))
    options = options_of()
    short_puts = np.where(market_of(history).tape.is_call, 0.0, -1.0)
    backtest = run_backtest(Constant(short_puts), market_of(history), options, Window(60, 100))
    assert backtest.ruined.tolist() == [False, True]
    assert backtest.equity[1, -1] == backtest.equity[1, 10] == 0.01
    assert (backtest.quantity[1, 11:] == 0).all()
    assert backtest.equity[0, -1] > 100_000
    assert backtest.performance().total_return[1] == pytest.approx(-1)
