"""The allocation kernel: accounts, costs, weights, threshold, overlay and reward."""

import numpy as np
import pytest

from conf.errors import InputError
from conf.settings import build_settings
from envs.allocation.env import AllocationKernel
from envs.allocation.market import ALLOCATION_REWARD, build_panel_market
from envs.allocation.rebalance import ROUNDING_SHARE
from envs.core.batch import Window
from envs.core.reward import TERMS
from risk.overlay import RiskSettings
from tests.envs.allocation.portfolios import (
    FIRST,
    kernel_of,
    paid_by_return,
    simplex_points,
    wandering_panel,
)
from tests.panels import panel_of

RISK = {
    "limits": {
        "max_position": 0.35,
        "max_gross": 1.0,
        "min_cash": 0.0,
        "max_delta": None,
        "max_gamma": None,
        "max_vega": None,
        "max_monthly_turnover": 4.0,
    },
    "guard": {"max_beta": None, "halt_at_drawdown": 0.6},
}


def risk_of(**changes) -> RiskSettings:
    built: RiskSettings = build_settings(RiskSettings, {**RISK, **changes}, "risk")
    return built


class PlainLedger:
    """The same accounts in plain Python numbers, one portfolio."""

    def __init__(self, kernel: AllocationKernel, book: int) -> None:
        self.kernel, self.book = kernel, book
        self.cash, self.quantity = 10_000.0, [0.0] * len(kernel.market.instruments)
        self.rate = kernel.options.costs.rate_bps / 10_000

    def prices(self, session: int) -> list[float]:
        return [
            float(x) for x in self.kernel.market.history.close[self.kernel.path[self.book], session]
        ]

    def requested(self, weights: list[float], session: int) -> list[float]:
        price = self.prices(session)
        held = [q * p for q, p in zip(self.quantity, price, strict=True)]
        value = self.cash + sum(held)
        total = sum(weights)
        shares = [w / total for w in weights]
        apart = abs(shares[-1] - self.cash / value)
        apart += sum(abs(w - x / value) for w, x in zip(shares[:-1], held, strict=True))
        if apart / 2 < self.kernel.options.rebalance_threshold:
            return list(self.quantity)
        low, high = 0.0, value
        for _ in range(200):
            middle = (low + high) / 2
            trades = sum(abs(w * middle - x) for w, x in zip(shares[:-1], held, strict=True))
            low, high = (middle, high) if middle + self.rate * trades < value else (low, middle)
        return [w * high / p for w, p in zip(shares[:-1], price, strict=True)]

    def step(self, target: list[float], session: int) -> float:
        """Trade to the target, earn interest until the next close; the value there."""
        for i, price in enumerate(self.prices(session)):
            trade = target[i] - self.quantity[i]
            self.cash -= trade * price + self.rate * abs(trade) * price
            self.quantity[i] = target[i]
        days = float(self.kernel.market.history.dates[session + 1].astype(int))
        days -= float(self.kernel.market.history.dates[session].astype(int))
        self.cash *= float(np.exp(self.kernel.market.history.rate[session] * days / 365))
        after = self.prices(session + 1)
        return self.cash + sum(q * p for q, p in zip(self.quantity, after, strict=True))


@pytest.mark.parametrize("overlay", [False, True])
@pytest.mark.parametrize("threshold", [0.0, 0.15])
@pytest.mark.parametrize("rate_bps", [0.0, 10.0, 300.0])
def test_equity_equals_that_of_a_plain_ledger(rate_bps, threshold, overlay):
    kernel = kernel_of(
        wandering_panel(90, paths=2),
        3,
        costs={"rate_bps": rate_bps},
        rebalance_threshold=threshold,
        risk=risk_of() if overlay else None,
    )
    kernel.reset()
    rng = np.random.default_rng(4)
    plain = [PlainLedger(kernel, book) for book in range(3)]
    action, still = simplex_points(rng, 3, 5), 0
    for _ in range(65):
        session = int(kernel.session[0])
        if rng.random() < 0.7:
            action = simplex_points(rng, 3, 5)
        before = kernel.ledger.quantity.copy()
        kernel.step(action)
        still += int((kernel.held_quantity == before).all(axis=-1).sum())
        for book, ledger in enumerate(plain):
            target = ledger.requested(action[book].tolist(), session)
            if overlay:  # this test is about the money, not about the limits
                assert (kernel.held_quantity[book] <= np.array(target) * (1 + 1e-12)).all()
                target = kernel.held_quantity[book].tolist()
            np.testing.assert_allclose(kernel.held_quantity[book], target, rtol=1e-11, atol=1e-12)
            value = ledger.step(target, session)
            assert kernel.ledger.equity[book] == pytest.approx(value, rel=1e-11, abs=1e-9)
            assert kernel.ledger.cash[book] == pytest.approx(ledger.cash, rel=1e-11, abs=1e-8)
    if threshold > 0.0 and not overlay:
        assert 10 < still < 180


@pytest.mark.parametrize("overlay", [False, True])
@pytest.mark.parametrize("rate_bps", [0.0, 10.0, 2000.0])
def test_weights_sum_to_one_and_nothing_is_ever_borrowed(rate_bps, overlay):
    kernel = kernel_of(
        wandering_panel(150, assets=9, vol=0.03),
        32,
        costs={"rate_bps": rate_bps},
        risk=risk_of() if overlay else None,
    )
    kernel.reset()
    rng = np.random.default_rng(8)
    for _ in range(129):
        action = simplex_points(rng, 32, 10)
        action[:16, -1] = 0.0  # fully invested
        kernel.step(action)
        ledger = kernel.ledger
        value = ledger.quantity * kernel._mark[kernel._row()]
        weights = np.concatenate([value, ledger.cash[:, None]], axis=1) / ledger.equity[:, None]
        np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=0, atol=1e-12)
        assert weights.min() >= 0.0


def test_after_the_trade_the_weights_are_the_requested():
    history = panel_of(
        np.full((40, 3), 50.0), rate=0.0
    )  # still: so they are seen at the next close
    kernel = kernel_of(history, 1, costs={"rate_bps": 100.0})
    kernel.reset()
    rng = np.random.default_rng(3)
    for _ in range(15):
        requested = simplex_points(rng, 1, 4)
        kernel.step(requested)
        ledger = kernel.ledger
        weights = np.append(ledger.quantity[0] * 50.0, ledger.cash[0]) / ledger.equity[0]
        np.testing.assert_allclose(weights, requested[0], rtol=0, atol=1e-13)


def test_costs_are_charged_once_on_what_is_traded_after_drift():
    close = np.full((30, 1), 100.0)
    close[FIRST + 1] = 125.0
    kernel = kernel_of(panel_of(close, rate=0.0), costs={"rate_bps": 100.0})
    kernel.reset()
    kernel.step(np.array([[0.5, 0.5]]))
    invested = 10_000 / (1 + 0.01 * 0.5)
    assert kernel.ledger.costs[0] == pytest.approx(10_000 - invested, rel=1e-11)
    cash, held = 0.5 * invested, 0.5 * invested * 1.25
    kernel.step(np.array([[0.5, 0.5]]))
    # Sold down from 125 : 100: V' = V - c (x - V' / 2).
    after = (cash + held - 0.01 * held) / (1 - 0.01 * 0.5)
    second = cash + held - after
    assert second == pytest.approx(0.01 * (held - 0.5 * after), rel=1e-9)
    assert kernel.ledger.costs[0] == pytest.approx(10_000 - invested + second, rel=1e-11)
    assert kernel.ledger.traded[0] == pytest.approx(kernel.ledger.costs[0] / 0.01, rel=1e-11)


def test_one_asset_held_earns_its_return():
    history = wandering_panel(80)
    kernel = kernel_of(history)
    kernel.reset()
    for _ in range(50):
        session = int(kernel.session[0])
        result = kernel.step(np.array([[0.0, 0.0, 1.0, 0.0, 0.0]]))
        expected = history.close[0, session + 1, 2] / history.close[0, session, 2] - 1
        assert result.reward[0] == pytest.approx(expected, rel=1e-12, abs=1e-15)
    growth = history.close[0, FIRST + 50, 2] / history.close[0, FIRST, 2]
    assert kernel.ledger.equity[0] == pytest.approx(10_000 * growth, rel=1e-11)


def test_holding_the_drifted_weights_is_not_trading():
    history = wandering_panel(80)
    kernel = kernel_of(history, costs={"rate_bps": 50.0})
    observed = kernel.reset()
    result = kernel.step(np.array([[0.3, 0.3, 0.2, 0.1, 0.1]]))
    paid, bought = kernel.ledger.costs[0], kernel.ledger.quantity.copy()
    for _ in range(40):
        observed = result.observation.astype(np.float64)
        ledger, mark = kernel.ledger, kernel._mark[kernel._row()]
        drifted = np.append(ledger.quantity * mark, ledger.cash) / ledger.equity[0]
        np.testing.assert_allclose(np.append(observed[0, :4], observed[0, 12]), drifted, atol=1e-7)
        result = kernel.step(drifted[None])
    assert kernel.ledger.costs[0] == pytest.approx(paid, rel=1e-9)
    np.testing.assert_allclose(kernel.ledger.quantity, bought, rtol=1e-10)


def test_cash_earns_interest_by_calendar_days():
    kernel = kernel_of(panel_of(np.full((40, 2), 10.0), rate=0.0365))
    kernel.reset()
    dates = kernel.market.history.dates
    for _ in range(10):
        before, session = kernel.ledger.equity[0], int(kernel.session[0])
        kernel.step(np.zeros((1, 3)))  # asks for cash
        days = int((dates[session + 1] - dates[session]).astype(int))
        assert kernel.ledger.equity[0] / before == pytest.approx(np.exp(1e-4 * days), rel=1e-13)
    assert not kernel.ledger.quantity.any()
    assert kernel.ledger.costs[0] == 0.0


def test_the_threshold_counts_half_the_change_of_all_weights():
    history = panel_of(np.full((60, 2), 10.0), rate=0.0)
    kernel = kernel_of(history, 2, rebalance_threshold=0.1)
    kernel.reset()
    kernel.step(np.array([[0.5, 0.3, 0.2], [0.09, 0.0, 0.91]]))
    held = kernel.ledger.quantity.copy()
    assert held[1].tolist() == [0.0, 0.0]  # 9 % is less than 10 %
    np.testing.assert_allclose(held[0], [500, 300], rtol=1e-12)
    kernel.step(np.array([[0.41, 0.39, 0.2], [0.0, 0.0, 1.0]]))
    np.testing.assert_array_equal(kernel.ledger.quantity, held)
    kernel.step(np.array([[0.39, 0.41, 0.2], [0.06, 0.06, 0.88]]))
    np.testing.assert_allclose(kernel.ledger.quantity, [[390, 410], [60, 60]], rtol=1e-12)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros((1, 4)), r"shape \(1, 4\)"),
        (np.zeros(5), r"shape \(5,\)"),
        (np.array([[0.5, np.nan, 0, 0, 0.5]]), "action 1 of episode 0 is nan"),
        (np.array([[0.5, np.inf, 0, 0, 0.5]]), "action 1 of episode 0 is inf"),
        (np.array([[0.5, 0.6, 0, -0.1, 0]]), "weight 3 of episode 0 is -0.1"),
    ],
)
def test_invalid_weights_are_refused(action, message):
    kernel = kernel_of(wandering_panel())
    kernel.reset()
    with pytest.raises(InputError, match=message):
        kernel.step(action)


@pytest.mark.parametrize("size", [1e-310, 1e-12, 3.0, 1e308])
def test_weights_of_any_size_are_brought_to_one(size):
    kernel = kernel_of(wandering_panel())
    weights = kernel.checked_action(size * np.array([[1.0, 0.5, 0.0, 0.0, 0.25]]))
    np.testing.assert_allclose(weights, [[4 / 7, 2 / 7, 0, 0, 1 / 7]], rtol=1e-9)
    assert weights.sum() == pytest.approx(1.0, abs=1e-15)


def test_under_the_risk_module_costs_are_those_of_what_is_really_traded():
    kernel = kernel_of(wandering_panel(), costs={"rate_bps": 100.0}, risk=risk_of())
    kernel.reset()
    record = kernel.step(np.array([[0.9, 0.1, 0.0, 0.0, 0.0]])).record
    mark = kernel.market.history.close[0, FIRST]
    value = kernel.held_quantity[0] * mark
    assert value[0] == pytest.approx(0.35 * 10_000, rel=1e-9)
    assert value[1] == pytest.approx(0.1 * 10_000 / 1.01, rel=1e-9)
    assert kernel.ledger.costs[0] == pytest.approx(0.01 * value.sum(), rel=1e-12)
    assert record.overlay is not None
    assert record.overlay.bound[0].sum() == 1


def test_the_guard_closes_the_portfolio_after_a_crash():
    close = np.full((40, 2), 100.0)
    close[FIRST + 3 :] = 92.0
    kernel = kernel_of(panel_of(close, rate=0.0), costs={"rate_bps": 10.0}, risk=risk_of())
    kernel.reset()
    for _ in range(4):
        kernel.step(np.array([[0.35, 0.35, 0.3]]))
    assert not kernel.held_quantity.any()
    assert kernel.ledger.cash[0] == pytest.approx(kernel.ledger.equity[0], rel=1e-15)


def test_limits_on_margin_are_refused_before_anything_is_traded():
    risk = risk_of(limits={**RISK["limits"], "max_margin": 0.3})
    with pytest.raises(InputError, match="no margin"):
        kernel_of(wandering_panel(), risk=risk)


def test_exposures_are_those_right_after_the_trade():
    kernel = kernel_of(wandering_panel(), 3, costs={"rate_bps": 100.0})
    kernel.reset()
    before = kernel.exposures()
    assert [values.tolist() for values in before.values()] == [[0.0] * 3] * 3
    kernel.step(np.array([[0.2, 0.2, 0.2, 0.2, 0.2], [0.6, 0.1, 0.0, 0.0, 0.3], [0, 0, 0, 0, 1.0]]))
    exposures = kernel.exposures()
    np.testing.assert_allclose(exposures["invested"], [0.8, 0.7, 0.0], rtol=1e-12)
    np.testing.assert_allclose(exposures["largest_weight"], [0.2, 0.6, 0.0], rtol=1e-12)
    apart = 0.7**2 / (0.6**2 + 0.1**2)
    np.testing.assert_allclose(exposures["effective_assets"], [4.0, apart, 0.0], rtol=1e-12)
    assert set(kernel.book_scalars()) == {*exposures, "drawdown", "cash"}


def test_a_term_of_the_reward_that_asks_for_greeks_is_refused_here(monkeypatch):
    monkeypatch.setitem(TERMS, "portfolio_return", lambda step, _: step.exposure("vega"))
    kernel = kernel_of(wandering_panel())
    kernel.reset()
    with pytest.raises(InputError, match=r"exposure vega.*It has invested, largest_weight"):
        kernel.step(np.array([[0.2] * 5]))


def test_the_reward_of_an_allocation_by_hand():
    kernel = kernel_of(
        wandering_panel(100, vol=0.04, seed=3),
        costs={"rate_bps": 10.0},
        reward=ALLOCATION_REWARD,
    )
    kernel.reset()
    assert kernel.reward.term_names == ("portfolio_return", "cost", "volatility", "deep_drawdown")
    rng, curve, deep = np.random.default_rng(5), [10_000.0], 0
    for day in range(1, 75):
        paid = kernel.ledger.costs[0]
        result = kernel.step(simplex_points(rng, 1, 5))
        cost = (kernel.ledger.costs[0] - paid) / curve[-1]
        curve.append(float(kernel.ledger.equity[0]))
        returns = np.diff(curve) / curve[:-1]
        vol = np.std(returns[-20:], ddof=1) if day >= 5 else 0.0
        loss = 1 - curve[-1] / max(curve)
        deep += loss > 0.05
        expected = returns[-1] - 10 * cost - 0.1 * vol - 2 * loss * (loss > 0.05)
        assert result.reward[0] == pytest.approx(expected, rel=1e-9)
    assert 0 < deep < 74


def test_ruin_ends_an_episode():
    close = np.full((40, 1), 100.0)
    close[FIRST + 2 :] = 19.0
    kernel = kernel_of(panel_of(close, rate=0.0))
    kernel.reset()
    assert not kernel.step(np.array([[1.0, 0.0]])).terminated[0]
    result = kernel.step(np.array([[1.0, 0.0]]))
    assert result.terminated[0]
    assert result.reward[0] == pytest.approx(-0.81 - 10.0)
    assert np.isfinite(result.observation).all()


def test_episodes_are_a_year_from_anywhere_on_any_path():
    history = wandering_panel(700, paths=3)
    kernel = kernel_of(history, 40, random_start=True)
    kernel.reset()
    assert set(kernel.path.tolist()) == {0, 1, 2}
    assert len(set(kernel.start.tolist())) > 30
    assert (kernel.end - kernel.start == 252).all()
    assert kernel.start.min() >= FIRST
    assert kernel.end.max() < 700
    for _ in range(252):
        result = kernel.step(np.tile(np.full(5, 0.2), (40, 1)))
    assert result.truncated.all()


def test_the_rounding_share_is_negligible():
    assert 1e-15 < ROUNDING_SHARE < 2e-14


def test_an_episode_needs_its_warm_up():
    history, options = wandering_panel(60), paid_by_return()
    market = build_panel_market(history, options)
    with pytest.raises(InputError, match="only 20 to 59 can be used"):
        AllocationKernel(market, options, Window(19, 60))
    with pytest.raises(InputError, match="252 sessions does not fit"):
        AllocationKernel(market, options, Window(20, 60))
