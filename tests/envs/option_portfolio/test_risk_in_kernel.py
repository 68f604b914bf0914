"""The risk module inside the kernel: in backtests and, with `in_training`, in training."""

import numpy as np
import pytest

from agents.policy import RiskManagedPolicy
from conf.errors import InputError
from envs.core.batch import Window
from envs.option_portfolio.env import OptionPortfolioKernel
from envs.option_portfolio.risk_view import scan_market
from envs.options.black_scholes import price
from envs.options.surface import VixSurface
from experiments.backtests.backtest import run_backtest
from experiments.evaluation.split import risk_report
from risk.bounds import LimitSettings, usage_of
from risk.guard import GuardState
from risk.margin import ScanSettings
from risk.overlay import RiskSettings
from tests.markets import history_of, market_of, options_of, random_walk, wandering_vol

OPTIONS = options_of(costs={"kind": "realistic"})
RISK = RiskSettings(limits=LimitSettings(max_margin=0.3))
CAPS = {
    "position": 0.2,
    "gross": 1.5,
    "cash": 0.9,
    "delta": 0.5,
    "gamma": 1.0,
    "vega": 0.1,
    "margin": 0.3,
}


def wild_market(paths=1, sessions=150):
    vol = np.repeat(wandering_vol(sessions), paths, axis=0)
    history = random_walk(sessions, paths=paths, vol=0.35, seed=4, implied_vol=vol)
    return market_of(history, OPTIONS, VixSurface())


def managed_kernel(market, num_envs=1, risk=RISK):
    window = Window(60, market.history.num_sessions)
    return OptionPortfolioKernel(market, OPTIONS, window, num_envs, random_start=False, risk=risk)


class Wanting:
    """Asks for random books."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return self.rng.uniform(-1, 1, (len(observation), 20)), None


def test_every_limit_holds_on_every_day():
    kernel = managed_kernel(wild_market(paths=4), 4)
    kernel.reset()
    rng = np.random.default_rng(0)
    for _ in range(80):
        row, before = kernel._row(), kernel.ledger.equity
        kernel.step(rng.uniform(-1, 1, (4, 20)))
        book = kernel._risk_view.book(row, kernel.held_quantity, before)
        for rule, usage in usage_of(kernel.held_quantity, book, RISK.limits).items():
            assert (usage <= CAPS[rule] * (1 + 1e-9)).all(), rule


def test_exposures_are_the_greeks_of_the_book():
    kernel = managed_kernel(wild_market())
    kernel.reset()
    kernel.step(np.full((1, 20), 0.01))
    row = kernel._row() - 1
    book = kernel._risk_view.book(row, kernel.held_quantity, kernel.statistics.equity_before)
    usage = usage_of(kernel.held_quantity, book, RISK.limits)
    greeks = kernel.exposures()
    assert usage["delta"][0] == pytest.approx(abs(greeks["delta"][0]))
    assert usage["gamma"][0] == pytest.approx(abs(greeks["gamma"][0]))
    assert usage["vega"][0] == pytest.approx(abs(greeks["vega"][0]) / 100_000)


def test_the_scan_of_the_market_prices_each_contract_in_its_moves():
    market = wild_market()
    gains = scan_market(market, ScanSettings())
    assert gains.shape == (*market.tape.mark.shape, 16)
    tape, spot, t = market.tape, market.history.close[0, 100], 100
    for scenario, move, vol_move, cover in ((0, 0.0, 0.05, 1.0), (15, -0.24, 0.0, 0.35)):
        moved = price(
            spot * (1 + move),
            tape.strike[0, t],
            tape.days_to_expiry[t] / 365,
            tape.vol[0, t] + vol_move,
            0.025,
            0.015,
            tape.is_call,
        )
        expected = cover * (moved - tape.mark[0, t])
        np.testing.assert_allclose(gains[0, t, :, scenario], expected, rtol=1e-9, atol=1e-9)


def test_a_managed_policy_requests_the_same_and_trades_less():
    market, window = wild_market(), Window(60, 150)
    raw = run_backtest(Wanting(3), market, OPTIONS, window)
    managed = run_backtest(RiskManagedPolicy(Wanting(3), RISK), market, OPTIONS, window)
    assert not raw.rules
    assert np.abs(managed.position).sum() < 0.5 * np.abs(raw.position).sum()
    assert sum(values.sum() for values in managed.rules.values()) > 0
    assert (raw.guard == GuardState.ACTIVE).all()


def test_a_risk_module_that_is_off_changes_nothing():
    market, window = wild_market(), Window(60, 150)
    off = RiskSettings(enabled=False)
    raw = run_backtest(Wanting(3), market, OPTIONS, window)
    same = run_backtest(RiskManagedPolicy(Wanting(3), off), market, OPTIONS, window)
    np.testing.assert_array_equal(raw.equity, same.equity)


def test_a_crash_halts_the_book_for_good_and_it_earns_interest():
    crash = np.where(np.arange(150) < 80, 1000.0, 800.0)
    history = history_of(crash)
    options = options_of()
    market = market_of(history, options)
    # Only the guard, and a book of short puts.
    off = LimitSettings(**dict.fromkeys(CAPS_FIELDS))
    policy = RiskManagedPolicy(ShortPuts(market.tape.is_call), RiskSettings(limits=off))
    backtest = run_backtest(policy, market, options, Window(60, 150))
    assert not backtest.ruined.any()
    assert backtest.guard[0, :20].tolist() == [GuardState.ACTIVE] * 20
    assert backtest.guard[0, 21:].tolist() == [GuardState.HALTED] * 68
    assert (backtest.quantity[0, 21:] == 0).all()
    growth = backtest.equity[0, 23:] / backtest.equity[0, 22:-1] - 1
    np.testing.assert_allclose(growth, backtest.risk_free[22:], rtol=1e-9)


def test_the_kill_switch_acts_on_the_next_step():
    kernel = managed_kernel(wild_market(paths=2), 2)
    kernel.reset()
    action = np.full((2, 20), 0.05)
    kernel.step(action)
    kernel.overlay.kill(np.array([True, False]))
    kernel.step(action)
    assert np.abs(kernel.held_quantity).sum(axis=-1).astype(bool).tolist() == [False, True]


def test_rolling_every_day_uses_up_the_turnover_of_the_month():
    options = options_of(costs={"kind": "realistic"}, chain={"roll": "daily"})
    market = market_of(random_walk(150, vol=0.2, seed=4), options)
    window = Window(60, 150)
    policy = RiskManagedPolicy(Steady(0.02), RiskSettings())
    backtest = run_backtest(policy, market, options, window)
    month = np.convolve(backtest.traded[0], np.ones(21), "valid") / backtest.equity[0, 20:-1]
    opened = np.abs(backtest.position[0]).sum(axis=-1).max() / backtest.equity[0].min()
    assert month.max() > 1.9
    assert month.max() <= 2.0 + opened  # what is open is closed by the roll, come what may
    raw = run_backtest(Steady(0.02), market, options, window)
    assert raw.traded.sum() > 1.3 * backtest.traded.sum()


class Steady:
    def __init__(self, action):
        self.action = action

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.full((len(observation), 20), self.action), None


def test_whole_contracts_stay_whole_and_within_the_limits():
    options = options_of(
        costs={"kind": "realistic"}, sizing={"fractional": False, "contract_multiplier": 2.0}
    )
    market = wild_market(paths=3)
    window = Window(60, market.history.num_sessions)
    kernel = OptionPortfolioKernel(market, options, window, 3, random_start=False, risk=RISK)
    kernel.reset()
    rng, held = np.random.default_rng(1), 0.0
    for _ in range(80):
        row, before = kernel._row(), kernel.ledger.equity
        kernel.step(rng.uniform(-1, 1, (3, 20)))
        lots = kernel.held_quantity / 2.0
        np.testing.assert_allclose(lots, np.round(lots), atol=1e-9)
        held += np.abs(lots).sum()
        book = kernel._risk_view.book(row, kernel.held_quantity, before)
        for rule, usage in usage_of(kernel.held_quantity, book, RISK.limits).items():
            assert (usage <= CAPS[rule] * (1 + 1e-9)).all(), rule
    assert held > 0


def test_a_managed_policy_cannot_lose_its_risk_module_inside_another_policy():
    class Wrapper:
        def __init__(self, policy):
            self.predict = policy.predict

    managed = RiskManagedPolicy(Wanting(3), RISK)
    with pytest.raises(InputError, match="run_backtest"):
        run_backtest(Wrapper(managed), wild_market(), OPTIONS, Window(60, 150))


def test_a_report_says_what_the_module_cost_and_counts_no_day_after_ruin():
    falls = np.where(np.arange(150) < 70, 1000.0, 500.0)
    market = market_of(history_of(np.stack([falls, np.full(150, 1000.0)])), OPTIONS)
    off = LimitSettings(**dict.fromkeys(CAPS_FIELDS))
    short, window = ShortPuts(market.tape.is_call, 1.0), Window(60, 150)
    backtest = run_backtest(
        RiskManagedPolicy(short, RiskSettings(limits=off)), market, OPTIONS, window
    )
    assert backtest.ruined.tolist() == [True, False]
    assert backtest.alive.sum(axis=1).tolist() == [10, 89]

    closed = RiskSettings(limits=LimitSettings(max_position=0.0))
    safe = run_backtest(RiskManagedPolicy(short, closed), market, OPTIONS, window)
    report = risk_report(safe)
    assert report["rules"]["position"]["days_bound"] == 1.0
    assert report["guard_days"]["ACTIVE"] == 1.0
    # All of the wish was taken: what it would have earned is what the raw book gained before costs.
    raw = run_backtest(short, market, OPTIONS, Window(60, 62))
    gain = raw.equity[:, 1] - raw.equity[:, 0] * (1 + raw.risk_free[0]) + raw.cost[:, 0]
    interest = -raw.position[:, 0].sum(axis=-1) * raw.risk_free[0]
    np.testing.assert_allclose(safe.blocked_pnl[:, 0], gain - interest, rtol=0.02)


CAPS_FIELDS = (
    "max_position",
    "max_gross",
    "min_cash",
    "max_delta",
    "max_gamma",
    "max_vega",
    "max_margin",
    "max_monthly_turnover",
)


class ShortPuts:
    def __init__(self, is_call, size=0.02):
        self.action = np.where(is_call, 0.0, -size)

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.tile(self.action, (len(observation), 1)), None


def test_managed_books_together_equal_each_alone_and_their_state_goes_round():
    market = wild_market(paths=3)
    together, again = managed_kernel(market, 3), managed_kernel(market, 3)
    alone = [managed_kernel(market) for _ in range(3)]
    together.reset()
    for path, kernel in enumerate(alone):
        end = np.array([149])
        kernel.place(np.array([60]), np.array([path]), end)
    actions = np.random.default_rng(5).uniform(-1, 1, (80, 3, 20))
    for day, action in enumerate(actions):
        if day == 40:
            again.set_state(together.get_state())
        result = together.step(action)
        if day >= 40:
            np.testing.assert_array_equal(again.step(action).reward, result.reward)
        for path, kernel in enumerate(alone):
            single = kernel.step(action[path : path + 1])
            np.testing.assert_array_equal(single.observation[0], result.observation[path])
            assert single.reward[0] == result.reward[path]
