import numpy as np
import pytest

from envs.core.batch import Window
from envs.options.surface import VixSurface
from experiments.backtests.backtest import run_backtest
from experiments.backtests.episodes import index_episodes, measured, run_episodes
from tests.markets import market_of, options_of, random_walk, wandering_vol

OPTIONS = options_of(costs={"kind": "realistic"}, episode={"sessions": 30})


class Steady:
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        count = np.zeros(len(observation)) if state is None else state
        return np.full((len(observation), 20), 0.05) * (1 + count[:, None] % 3), count + 1


def market(paths=1):
    vol = np.repeat(wandering_vol(200), paths, axis=0)
    return market_of(random_walk(200, paths=paths, seed=4, implied_vol=vol), OPTIONS, VixSurface())


def test_each_episode_is_a_backtest_of_its_own():
    window = Window(60, 60 + 30 + 21 * 2 + 1)
    episodes = run_episodes(Steady(), market(), OPTIONS, window)
    assert episodes is not None
    assert len(episodes.total_return) == 3
    for i in range(3):
        start = 60 + 21 * i
        alone = run_backtest(Steady(), market(), OPTIONS, Window(start, start + 31)).performance()
        assert episodes.total_return[i] == pytest.approx(alone.total_return[0], rel=1e-12)
        assert episodes.sharpe[i] == pytest.approx(alone.sharpe[0], rel=1e-9)
        assert episodes.max_drawdown[i] == pytest.approx(alone.max_drawdown[0], rel=1e-12)


def test_the_index_over_the_same_episodes_by_hand():
    window, priced = Window(60, 160), market(paths=2)
    episodes = index_episodes(priced, OPTIONS, window)
    assert episodes is not None
    close = priced.history.close
    days = priced.history.days_to_next
    expected = [
        close[path, s + 30] / close[path, s] * np.exp(0.015 * days[s : s + 30].sum() / 365) - 1
        for s in (60, 90, 120)
        for path in range(2)
    ]
    np.testing.assert_allclose(episodes.total_return, expected, rtol=1e-12)


def test_wins_and_losses_are_counted_by_episode():
    curves = np.array([[100.0, 90.0, 120.0], [100.0, 110.0, 90.0], [100.0, 100.0, 110.0]])
    episodes = measured(curves, np.zeros((3, 2)))
    assert episodes.win_rate == pytest.approx(2 / 3)
    assert episodes.profit_factor == pytest.approx(0.3 / 0.1)
    np.testing.assert_allclose(episodes.max_drawdown, [0.1, 20 / 110, 0.0])


def test_a_stretch_shorter_than_an_episode_has_none():
    assert run_episodes(Steady(), market(), OPTIONS, Window(60, 80)) is None
    assert index_episodes(market(), OPTIONS, Window(60, 80)) is None
