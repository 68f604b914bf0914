"""The classical allocations: dates, drift, paths, no look-ahead, and markets nothing can be fitted
to."""

import numpy as np
import pytest

from agents.baselines import allocation as allocation_baselines
from agents.baselines import optimisers as allocation_fits
from agents.baselines.allocation import build_allocation_baselines
from envs.core.batch import Window
from tests.agents.panel_runs import panel, run, walk, weights_of

SIMPLE = ["equal_weight", "held_equal_weight", "cash", "random"]
FITTED = ["minimum_variance", "risk_parity", "hrp", "mean_variance"]


def built(market, window, **changes):
    baselines, notices = build_allocation_baselines(market, window, **changes)
    return {baseline.name: baseline for baseline in baselines}, notices


@pytest.fixture(scope="module")
def market():
    return walk()


@pytest.fixture(scope="module")
def fitted_baselines(market):
    return built(market, Window(150, 260))


def test_the_baselines_come_in_order_with_title_and_description(fitted_baselines):
    baselines, notices = fitted_baselines
    assert list(baselines) == SIMPLE + FITTED
    assert notices == ()
    for baseline in baselines.values():
        assert baseline.title[0].isupper()
        assert baseline.description.endswith(".")


@pytest.mark.parametrize("name", SIMPLE + FITTED)
def test_weights_are_of_the_simplex_and_trade_at_the_dates_only(market, fitted_baselines, name):
    weights = weights_of(fitted_baselines[0][name].policy, market, Window(150, 260))[:, 0]
    assert (weights >= 0.0).all()
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, atol=1e-15)
    now = slice(150, 258)
    grown = np.concatenate(
        [
            market.history.close[0, 151:259] / market.history.close[0, now],
            1.0 + market.cash_return[now, None],
        ],
        axis=-1,
    )
    held = weights[:-1] * grown
    held /= held.sum(axis=-1, keepdims=True)
    traded = np.abs(weights[1:] - held).sum(axis=-1)
    dates = np.arange(1, 109) % 21 == 0
    assert traded[~dates].max() < 1e-14  # far below what float32 could say
    if name in ("cash", "held_equal_weight"):
        assert traded.max() < 1e-14
    else:
        assert traded[dates].min() > 1e-4


def test_the_drifted_weights_of_buy_and_hold_are_those_of_the_prices(market, fitted_baselines):
    held = fitted_baselines[0]["held_equal_weight"].policy
    weights = weights_of(held, market, Window(150, 260))[:, 0]
    worth = market.history.close[0, 150:259] / market.history.close[0, 150]
    expected = worth / worth.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(weights[:, :-1], expected, rtol=1e-12)
    assert np.abs(weights[:, -1]).max() < 1e-13


def test_the_random_portfolio_has_its_seed_and_the_mean_of_the_simplex(market, monkeypatch):
    monkeypatch.setattr(allocation_baselines, "optimisers", lambda: None)  # they take their time
    window = Window(20, 260)

    def draws(seed):
        return built(market, window, seed=seed)[0]["random"].policy.targets

    np.testing.assert_array_equal(draws(1), draws(1))
    assert not np.array_equal(draws(1), draws(2))
    many = walk(sessions=21 * 400, assets=1)
    targets = built(many, Window(0, 21 * 400))[0]["random"].policy.targets[0]
    assert targets.shape == (400, 2)
    assert targets[:, 0].mean() == pytest.approx(0.5, abs=0.06)  # four standard errors
    assert targets[:, 0].std() == pytest.approx(12**-0.5, abs=0.03)


@pytest.mark.parametrize("session", [150, 171])
def test_later_prices_change_no_weight(market, fitted_baselines, session):
    rng = np.random.default_rng(5)
    close = np.array(market.history.close)
    close[:, session + 1 :] *= rng.uniform(0.5, 2.0, close[:, session + 1 :].shape)
    other = built(panel(close), Window(150, 260))[0]
    for name, baseline in fitted_baselines[0].items():
        before = weights_of(baseline.policy, market, Window(150, 260))
        after = weights_of(other[name].policy, panel(close), Window(150, 260))
        known = session - 150 + 1
        np.testing.assert_array_equal(before[:known], after[:known], err_msg=name)
        if name != "cash" and known < 100:
            assert not np.array_equal(before, after)


def test_prices_before_the_window_are_fitted_to(market, fitted_baselines):
    close = np.array(market.history.close)
    close[:, :100] = close[:, :100] ** 1.3  # another past, the same window
    other = built(panel(close), Window(150, 260))[0]
    for name in FITTED:
        first = fitted_baselines[0][name].policy.targets[0, 0]
        assert np.abs(first - other[name].policy.targets[0, 0]).max() > 1e-4


def test_each_book_runs_on_its_path():
    both = walk(paths=2, seed=3)
    policy = built(both, Window(150, 175))[0]
    alone = [built(panel(close), Window(150, 175))[0] for close in both.history.close]
    for name in (*FITTED, "equal_weight", "held_equal_weight"):
        together = weights_of(policy[name].policy, both, Window(150, 175), books=4)
        np.testing.assert_array_equal(together[:, :2], together[:, 2:])
        for path in range(2):
            single = alone[path][name]
            own = weights_of(single.policy, panel(both.history.close[path]), Window(150, 175))
            np.testing.assert_array_equal(together[:, path], own[:, 0])


def test_fits_are_farther_apart_where_dates_are_many():
    fitted, calls, interest = allocation_fits.walk_forward, [], []

    def estimate(returns, cash_return):
        calls.append(len(returns))
        interest.append(cash_return)
        return np.array([0.25, 0.75])

    market = walk(sessions=2000, assets=2)
    plan = allocation_baselines._plan(1, Window(300, 2000))
    result = fitted(estimate, market.history, market.cash_return, Window(300, 2000), plan)
    assert plan.refit_sessions == 84
    assert result.fits == len(calls) == 21 <= allocation_baselines.MAX_FITS
    assert calls[:4] == [300, 384, 468, 504]
    assert interest[0] == pytest.approx(market.cash_return[:300].mean())
    assert interest[3] == pytest.approx(market.cash_return[552 - 504 : 552].mean())
    plan = allocation_baselines._plan(40, Window(300, 2000))
    assert plan.refit_every == 81  # once a path


def test_without_history_weights_are_equal_and_a_notice_says_so(market):
    baselines, notices = built(market, Window(21, 128))
    targets = baselines["minimum_variance"].policy.targets[0]
    np.testing.assert_array_equal(targets[:2], np.tile([0.25] * 4 + [0.0], (2, 1)))
    assert np.abs(targets[2] - targets[1]).max() > 0.01  # session 63
    assert notices[0] == (
        "Minimum variance: 2 of 6 rebalancings have fewer than 63 sessions behind them and use "
        "equal weights"
    )
    assert len(notices) == 4


def steady(assets=3, sessions=160):
    return np.full((sessions, assets), 100.0)


def copies():
    return np.repeat(walk(sessions=160, assets=1).history.close[0], 3, axis=1)


def one_still():
    close = np.array(walk(sessions=160, assets=3).history.close[0])
    close[:, 1] = 50.0
    return close


def falling():
    return 100.0 * np.exp(-0.01 * np.arange(160)[:, None] * np.array([1.0, 1.1, 1.2]))


def huge():
    return 1e3 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.5, (160, 3)), axis=0))


@pytest.mark.parametrize("close", [steady, copies, one_still, falling, huge])
def test_markets_that_cannot_be_fitted_still_give_weights(close):
    market, window = panel(close()), Window(100, 160)
    for baseline in built(market, window)[0].values():
        weights = weights_of(baseline.policy, market, window)
        assert np.isfinite(weights).all()
        assert (weights > -1e-12).all()  # the cash of a full portfolio, to rounding
        np.testing.assert_allclose(weights.sum(axis=-1), 1.0, atol=1e-12)


def test_a_fit_that_fails_keeps_the_weights_before_and_is_counted():
    answers = iter([np.array([0.2, 0.8]), None, np.array([np.nan, 1.0]), np.array([2.0, -1.0])])

    def estimate(returns, cash_return):
        answer = next(answers)
        if answer is None:
            raise ArithmeticError("no solution")
        return answer

    market = walk(assets=2)
    plan = allocation_fits.FitPlan(step=21)
    result = allocation_fits.walk_forward(
        estimate, market.history, market.cash_return, Window(100, 180), plan
    )
    np.testing.assert_array_equal(result.targets[0], np.tile([0.2, 0.8, 0.0], (4, 1)))
    assert (result.fits, result.failed, result.short) == (4, 3, 0)


def test_constant_prices_are_reported():
    baselines, notices = built(panel(steady()), Window(100, 160))
    assert "Hierarchical risk parity: 3 of 3 fits failed and kept the weights before" in "".join(
        notices
    )
    np.testing.assert_allclose(baselines["hrp"].policy.targets[0, :, :3], 1 / 3)
    assert (baselines["mean_variance"].policy.targets[0, :, 3] == 1.0).all()  # cash earns more


def test_what_cannot_be_fitted_is_left_out(market, monkeypatch):
    baselines, notices = built(walk(assets=1), Window(100, 160))
    assert list(baselines) == SIMPLE
    assert notices == ()
    monkeypatch.setattr(allocation_baselines, "MAX_FITTED_PATHS", 1)
    baselines, notices = built(walk(paths=2), Window(100, 160))
    assert list(baselines) == SIMPLE
    assert notices == (
        "minimum variance, risk parity, hierarchical risk parity, mean-variance are left out: "
        "they are not fitted to more than 1 paths, and there are 2",
    )
    monkeypatch.setitem(__import__("sys").modules, "skfolio.optimization", None)
    baselines, notices = built(market, Window(100, 160))
    assert list(baselines) == SIMPLE
    assert len(notices) == 1
    assert "pip install -e '.[stocks]'" in notices[0]


@pytest.mark.parametrize("name", SIMPLE + FITTED)
def test_trades_happen_at_the_dates_only_even_with_costs(market, fitted_baselines, name):
    equity, traded = run(fitted_baselines[0][name].policy, market, Window(150, 260), cost_bps=50.0)
    dates = np.arange(109) % 21 == 0
    share = traded[:, 0] / equity[:-1, 0]
    assert share[~dates].max() < 1e-12
    if name != "cash":
        assert share[0] > 0.5
    if name not in ("cash", "held_equal_weight"):
        assert share[dates].min() > 1e-4


def test_buy_and_hold_earns_the_mean_of_the_prices(market, fitted_baselines):
    equity, _ = run(
        fitted_baselines[0]["held_equal_weight"].policy, market, Window(150, 260), cost_bps=50.0
    )
    close = market.history.close[0]
    expected = 10_000.0 / 1.005 * (close[150:260] / close[150]).mean(axis=-1)
    np.testing.assert_allclose(equity[1:, 0], expected[1:], rtol=1e-11)


def test_cash_earns_the_rate(market, fitted_baselines):
    equity, _ = run(fitted_baselines[0]["cash"].policy, market, Window(150, 260))
    np.testing.assert_allclose(
        equity[:, 0], 10_000.0 * np.cumprod([1.0, *(1.0 + market.cash_return[150:259])]), rtol=1e-12
    )
