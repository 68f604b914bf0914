"""What all environments of books share, and that the option market is a `BookMarket`."""

import numpy as np
import pytest

from conf.errors import InputError
from envs.core.batch import Window
from envs.core.episode_statistics import ROLLING_SESSIONS
from envs.core.market import BookMarket
from envs.core.reward import TERMS
from tests.markets import history_of, kernel_of, market_of, options_of, random_walk

ONLY_VOLATILITY = {"weights": {**dict.fromkeys(TERMS, 0.0), "volatility": 1.0}}

# Checkpoints hold these names: one that is missing or new makes the older ones unreadable.
SAVED = {
    *("rng", "path", "session", "start", "end", "held_quantity", "reward_terms"),
    *(f"ledger.{name}" for name in ("cash", "quantity", "equity", "peak", "traded", "costs")),
    *(f"statistics.{name}" for name in ("count", "mean", "squares", "recent", "recent_market")),
    *(f"statistics.{name}" for name in ("max_drawdown", "reward_sum", "equity_before")),
}


def test_a_checkpoint_holds_the_documented_arrays():
    assert set(kernel_of(random_walk(120)).get_state()) == SAVED


def test_an_option_market_is_a_book_market():
    market: BookMarket = market_of(random_walk(120, paths=2))
    assert market.instruments[0] == "30D_Call_0.90"
    assert len(market.instruments) == 20
    assert len(market.features) == 213
    assert market.mark.shape == market.aged.shape == (2, 120, 20)
    assert market.history.num_paths == 2


def test_the_index_earns_its_dividends():
    # 2001-01-04 is a Thursday: one day to Friday, then three over the weekend.
    market = market_of(history_of([100.0] * 60, dividend_yield=0.0365))
    returns = market.index_returns(Window(3, 6))
    assert returns.shape == (1, 2)
    np.testing.assert_allclose(returns[0], np.expm1([0.0365 / 365, 3 * 0.0365 / 365]), rtol=1e-9)
    moved = market_of(history_of([100.0] * 30 + [110.0] * 30, dividend_yield=0.0))
    assert moved.index_returns(Window(28, 32))[0].tolist() == pytest.approx([0.0, 0.1, 0.0])


def test_recent_volatility_is_that_of_the_last_twenty_returns():
    options = options_of(episode={"sessions": 90}, reward=ONLY_VOLATILITY)
    kernel = kernel_of(random_walk(400, rate=0.05), 3, options, random_start=True)
    rng = np.random.default_rng(2)
    kernel.reset()
    curves = [kernel.ledger.equity.copy()]
    for day in range(1, 90):
        result = kernel.step(rng.uniform(-0.2, 0.2, (3, 20)))
        curves.append(kernel.ledger.equity.copy())
        returns = np.diff(curves, axis=0) / np.array(curves[:-1])
        expected = -returns[-20:].std(axis=0, ddof=1) if day >= 5 else np.zeros(3)
        np.testing.assert_allclose(result.reward, expected, rtol=1e-9, atol=1e-15)
    assert len(curves) > ROLLING_SESSIONS  # the ring has gone round


def rewards_of(weights, actions, **options):
    """Rewards (sessions,) of one book that acts so, and its equity before and after each step."""
    reward = {"weights": {**dict.fromkeys(TERMS, 0.0), **weights}, **options}
    chosen = options_of(episode={"sessions": len(actions)}, reward=reward)
    kernel = kernel_of(random_walk(400, rate=0.05), 1, chosen)
    kernel.reset()
    rewards, equity, traded = [], [kernel.ledger.equity[0]], [0.0]
    start = int(kernel.session[0])
    for action in actions:
        rewards.append(float(kernel.step(np.asarray(action)[None]).reward[0]))
        equity.append(kernel.ledger.equity[0])
        traded.append(kernel.ledger.traded[0])
    close = kernel.market.history.close[0, start : start + len(actions) + 1]
    market = np.diff(close) / close[:-1]
    cash = kernel.market.cash_return[start : start + len(actions)]
    excess = np.diff(equity) / equity[:-1] - cash
    return np.array(rewards), excess, market, np.diff(traded) / equity[:-1]


def test_trades_beyond_the_free_ones_are_counted_by_contract():
    def quantity(number, units):
        return np.where(np.arange(20) < number, units, 0.0)[None]

    def rewards(weight, **options):
        reward = {"weights": {**dict.fromkeys(TERMS, 0.0), "excess_trades": weight}, **options}
        kernel = kernel_of(random_walk(120), 1, options_of(reward=reward))
        kernel.reset()
        # 7 opened, kept, all made larger but one kept, all closed, nothing.
        books = [quantity(7, 1.0), quantity(7, 1.0), quantity(7, 2.0), quantity(0, 0.0)]
        books[2][0, 3] = 1.0
        return [float(kernel.trade_to(book).reward[0]) for book in [*books, books[-1]]]

    assert rewards(0.05) == pytest.approx([-0.05 * 2, 0.0, -0.05 * 1, -0.05 * 2, 0.0])
    assert rewards(1.0, free_trades=0.0) == [-7.0, 0.0, -6.0, -7.0, 0.0]


def test_a_contract_that_is_closed_at_the_next_close_is_two_trades():
    reward = {"weights": {**dict.fromkeys(TERMS, 0.0), "excess_trades": 1.0}, "free_trades": 0.0}
    kernel = kernel_of(random_walk(120), 1, options_of(chain={"roll": "daily"}, reward=reward))
    kernel.reset()
    action = np.zeros((1, 20))
    action[0, :4] = 0.1
    assert [float(kernel.step(action).reward[0]) for _ in range(2)] == [-8.0, -8.0]


def test_turnover_beyond_the_free_share_of_equity_and_the_correlation_with_the_index():
    actions = np.random.default_rng(4).uniform(-0.3, 0.3, (30, 20))
    rewards, _, _, traded = rewards_of({"turnover": 2.0}, actions, free_turnover=0.4)
    assert (traded > 0.4).any()
    np.testing.assert_allclose(rewards, -2.0 * np.maximum(traded - 0.4, 0.0), rtol=1e-9)
    rewards, excess, market, _ = rewards_of({"market_correlation": 0.1}, actions)
    expected = [
        -0.1 * abs(np.corrcoef(excess[:day], market[:day])[0, 1]) if day > 5 else 0.0
        for day in range(1, 31)
    ]
    np.testing.assert_allclose(rewards, expected, rtol=1e-6, atol=1e-12)


def test_the_scalars_logged_of_an_option_book():
    kernel = kernel_of(random_walk(120), 2)
    kernel.reset()
    action = np.zeros((2, 20))
    action[1, 3] = -0.1
    t = int(kernel.session[1])
    kernel.step(action)
    logged = kernel.book_scalars()
    assert set(logged) == {"delta", "gamma", "vega", "theta", "gross_notional", "drawdown", "cash"}
    assert all(values.shape == (2,) for values in logged.values())
    units = -kernel.held_quantity[1, 3]
    assert logged["gross_notional"][0] == 0.0
    spot = kernel.market.history.close[0, t]
    assert logged["gross_notional"][1] == pytest.approx(units * spot / 100_000)
    assert logged["cash"][0] == pytest.approx(1 + kernel.market.cash_return[t])


def test_a_step_after_the_end_is_refused():
    options = options_of(episode={"sessions": 5})
    kernel = kernel_of(random_walk(120), 2, options, random_start=True)
    kernel.reset()
    for _ in range(5):
        result = kernel.step(np.zeros((2, 20)))
    assert result.truncated.all()
    session = kernel.session.copy()
    for step in (kernel.step, kernel.quantity_of, kernel.trade_to):
        with pytest.raises(InputError, match=r"of book 0 has ended\. Call reset before the next"):
            step(np.zeros((2, 20)))
    assert (kernel.session == session).all()
    kernel.reset(np.array([True, False]))
    with pytest.raises(InputError, match="of book 1 has ended"):
        kernel.step(np.zeros((2, 20)))
    kernel.reset()
    kernel.step(np.zeros((2, 20)))


def test_a_ruined_book_may_go_on_up_to_the_end_of_its_window():
    options = options_of(episode={"sessions": 5, "ruin_share": 0.99})
    kernel = kernel_of(random_walk(120), 1, options, random_start=True)
    kernel.reset()
    kernel.ledger.cash[:] = kernel.ledger.equity[:] = 1000.0
    results = [kernel.trade_to(np.zeros((1, 20))) for _ in range(5)]
    assert all(result.terminated[0] and not result.truncated[0] for result in results)
    with pytest.raises(InputError, match="has ended"):
        kernel.trade_to(np.zeros((1, 20)))
