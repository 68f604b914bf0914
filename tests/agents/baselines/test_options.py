"""Every baseline is what its name says: legs, sizes, Greeks and pay-offs on small markets."""

import numpy as np
import pytest

from agents.baselines.hold_to_expiry import HoldToExpiry
from agents.baselines.options import build_baselines
from agents.baselines.reference import RandomPolicy
from agents.policy import PolicyBatch, RiskManagedPolicy
from envs.core.batch import Window
from envs.option_portfolio.env import OptionPortfolioKernel
from envs.options.surface import FlatSurface, VixSurface
from experiments.backtests.backtest import run_backtest
from risk.overlay import RiskSettings
from tests.markets import (
    history_of,
    market_of,
    options_of,
    perturbed_after,
    random_walk,
    wandering_vol,
)

NAMES = (
    "cash",
    "index_forward",
    "put_write",
    "covered_call",
    "protective_put",
    "collar",
    "short_straddle",
    "short_strangle",
    "iron_condor",
    "long_straddle",
    "equal_weight_long",
    "equal_weight_short",
    "random",
    "static_mean_variance",
    "weekend_seller",
)
CALL, PUT, SHORT_CALL = ("C", 1.0), ("P", 1.0), ("C", 1.05)
LEGS = {
    "index_forward": {CALL: 1, PUT: -1},
    "put_write": {PUT: -1},
    "covered_call": {CALL: 1, PUT: -1, SHORT_CALL: -1},
    "protective_put": {CALL: 1, PUT: -1, ("P", 0.95): 1},
    "collar": {CALL: 1, PUT: -1, ("P", 0.95): 1, SHORT_CALL: -1},
    "short_straddle": {CALL: -0.5, PUT: -0.5},
    "short_strangle": {SHORT_CALL: -0.5, ("P", 0.95): -0.5},
    "iron_condor": {SHORT_CALL: -0.5, ("C", 1.1): 0.5, ("P", 0.95): -0.5, ("P", 0.9): 0.5},
    "long_straddle": {CALL: 0.25, PUT: 0.25},
}
# No bound of the sizing is in the way of holding.
ROOMY = {"sizing": {"max_premium": 2.0, "max_notional": 8.0}}
HELD = [name for name in NAMES if name not in ("random", "weekend_seller")]


def wandering(paths=1, sessions=200, seed=2):
    vol = np.repeat(wandering_vol(sessions, seed), paths, axis=0)
    return random_walk(sessions, paths=paths, seed=seed, implied_vol=vol)


class Bench:
    """All baselines of one market, and their backtests from its first listing on."""

    def __init__(self, history, surface=None, start=None, train=None, **changes):
        self.options = options_of(**changes)
        self.market = market_of(history, self.options, surface)
        rolled = np.nonzero(self.market.tape.rolled[:, 0])[0]
        first = self.market.first_usable
        self.start = int(rolled[rolled >= first][0]) if start is None else start
        self.window = Window(self.start, history.num_sessions)
        self.train = train or Window(first, min(first + 60, history.num_sessions))
        built = build_baselines(self.market, self.options, self.train)
        self.baselines = {baseline.name: baseline for baseline in built}

    def run(self, name, risk=None, books=None):
        policy = self.baselines[name].policy
        managed = policy if risk is None else RiskManagedPolicy(policy, risk)
        return run_backtest(managed, self.market, self.options, self.window, books)

    def weight(self, name):
        policy = self.baselines[name].policy
        assert isinstance(policy, HoldToExpiry)
        return policy.weight


@pytest.fixture(scope="module")
def bench():
    return Bench(wandering(), VixSurface(), **ROOMY)


@pytest.fixture(scope="module")
def high_vol():
    return Bench(wandering(), FlatSurface(vol_annual=0.4), **ROOMY)


def crash_to(level, days=30):
    """Steady at 1000 up to a listing, then at `level`."""
    steady = market_of(history_of(np.full(150, 1000.0)))
    listed = np.nonzero(steady.tape.rolled[:, 0])[0]
    start = int(listed[listed >= steady.first_usable][0])
    close = np.full(start + 1 + days, float(level))
    close[: start + 1] = 1000.0
    # Flat all the time, so that the crash changes the price of the index alone.
    return Bench(history_of(close), FlatSurface(), **ROOMY)


def test_the_baselines_come_in_order_with_title_and_description():
    built = Bench(wandering()).baselines
    assert tuple(built) == NAMES
    for baseline in built.values():
        assert baseline.title[0].isupper()
        assert baseline.description.endswith(".")
    assert len({baseline.title for baseline in built.values()}) == len(NAMES)


@pytest.mark.parametrize("name", LEGS)
def test_the_first_book_has_the_legs_of_its_name(bench, name):
    backtest, spot = bench.run(name), bench.market.history.close[0, bench.start]
    opened = backtest.quantity[0, 0] * spot / backtest.equity[0, 0]
    legs = {
        ("C" if slot.is_call else "P", slot.moneyness): round(float(weight), 5)
        for slot, weight in zip(bench.market.tape.slots, opened, strict=True)
        if weight != 0.0
    }
    assert legs == LEGS[name]
    assert not backtest.quantity[0][:, 10:].any()  # the shortest maturity only


@pytest.mark.parametrize("name", HELD)
def test_contracts_are_held_to_expiry(bench, high_vol, name):
    # The equal weight of a cheap contract exceeds what the sizing allows.
    bench = high_vol if name.startswith("equal") else bench
    backtest = bench.run(name)
    rolled = bench.market.tape.rolled[bench.start : bench.window.stop - 1]
    listed = (rolled & backtest.quantity[0].any(axis=0)).any(axis=1)
    assert (~listed).sum() > 80
    assert backtest.traded[0][~listed][1:].max() == 0.0  # but for the first purchase
    if name != "cash":
        assert (backtest.traded[0][listed] > 0.0).all()


def test_cash_earns_the_rate_and_nothing_else(bench):
    backtest = bench.run("cash")
    np.testing.assert_allclose(
        backtest.equity[0, 1:] / backtest.equity[0, :-1] - 1, backtest.risk_free, rtol=1e-9
    )


def test_the_forward_earns_what_the_index_earns_above_the_rate(bench):
    backtest = bench.run("index_forward")
    assert backtest.exposures["delta"][0] == pytest.approx(1.0, abs=0.02)
    excess = np.diff(backtest.equity[0]) / backtest.equity[0, :-1] - backtest.risk_free
    index_excess = backtest.index_return[0] - backtest.risk_free
    np.testing.assert_allclose(excess, index_excess, atol=3e-4)
    assert np.abs(index_excess).max() > 0.02


def test_put_write_obeys_put_call_parity(bench):
    """Put-call parity, day by day: -P = S exp(-q tau) - C - K exp(-r tau), the last risk-free."""
    backtest, market, first = bench.run("put_write"), bench.market, bench.start
    tape, history = market.tape, market.history
    slots = [(slot.maturity_days, slot.is_call, slot.moneyness) for slot in tape.slots]
    call, put = slots.index((30, True, 1.0)), slots.index((30, False, 1.0))
    days = history.days_to_next
    for row in range(backtest.quantity.shape[1]):
        now, then = first + row, first + row + 1
        growth = np.expm1(0.025 * days[now] / 365)
        left = tape.days_to_expiry[now, put]
        shares, later = np.exp(-0.015 * left / 365), np.exp(-0.015 * (left - days[now]) / 365)
        index = history.close[0, then] * later - history.close[0, now] * shares * (1 + growth)
        option = tape.aged[0, then, call] - tape.mark[0, now, call] * (1 + growth)
        sold = -backtest.quantity[0, row, put]
        expected = backtest.equity[0, row] * (1 + growth) + sold * (index - option)
        assert backtest.equity[0, row + 1] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("name", "sign"), [("short_straddle", -1), ("long_straddle", 1)])
def test_straddles_have_vega_and_gamma_but_little_delta(bench, name, sign):
    greeks, equity = bench.run(name).exposures, 100_000.0
    assert abs(greeks["delta"][0, 0]) < 0.06
    assert sign * greeks["gamma"][0, 0] > 0.02
    assert sign * greeks["vega"][0, 0] > 0.0003 * equity
    assert sign * greeks["theta"][0, 0] < 0.0


@pytest.mark.parametrize(("level", "sides"), [(500.0, (0.0, 0.05)), (1600.0, (0.05, 0.0))])
def test_a_condor_loses_no_more_than_the_distance_of_its_strikes(level, sides):
    bench = crash_to(level)
    condor, strangle = (bench.run(name).equity[0] for name in ("iron_condor", "short_strangle"))
    width = 0.5 * sum(sides)
    last = int(np.nonzero(bench.market.tape.rolled[bench.start + 1 :, 0])[0][0]) + 1
    assert -width < condor[last] / condor[0] - 1 < -0.5 * width
    assert condor.min() / condor[0] - 1 > -width
    assert strangle[last] / strangle[0] - 1 < -0.2


@pytest.mark.parametrize(
    ("name", "floor", "cap"),
    [
        ("index_forward", None, None),
        ("covered_call", None, 0.05),
        ("protective_put", -0.05, None),
        ("collar", -0.05, 0.05),
        ("put_write", None, 0.0),
    ],
)
def test_floors_and_caps_are_at_the_strikes(name, floor, cap):
    """Before premiums, which are below 3 % of the equity."""
    results = []
    for level in (600.0, 1200.0):
        bench = crash_to(level)
        equity = bench.run(name).equity[0]
        last = int(np.nonzero(bench.market.tape.rolled[bench.start + 1 :, 0])[0][0]) + 1
        results.append(equity[last] / equity[0] - 1)
    assert results[0] == pytest.approx(-0.4 if floor is None else floor, abs=0.03)
    assert results[1] == pytest.approx(0.2 if cap is None else cap, abs=0.03)


@pytest.mark.parametrize(("name", "sign"), [("equal_weight_long", 1), ("equal_weight_short", -1)])
def test_equal_weight_spends_the_same_on_every_contract(high_vol, name, sign):
    first = high_vol.run(name).position[0, 0] / 100_000.0
    # The long maturity is in the midst of its life, not at a listing: it is bought all the same.
    np.testing.assert_allclose(first, sign * 0.01, rtol=1e-6)


def test_equal_weight_sells_cheap_contracts_up_to_the_notional_only():
    bench = Bench(wandering(), FlatSurface(vol_annual=0.15))
    backtest = bench.run("equal_weight_short")
    spot = bench.market.history.close[0, bench.start]
    notional = -backtest.quantity[0, 0] * spot / 100_000.0
    assert notional.max() == pytest.approx(1.0)
    premium = -backtest.position[0, 0] / 100_000.0
    below_tick = bench.market.tape.mark[0, bench.start] < 0.05
    assert (notional[below_tick] == 0.0).all()
    np.testing.assert_allclose(premium[(notional < 0.999) & ~below_tick], 0.01, rtol=1e-6)


def test_random_repeats_with_its_seed_and_is_the_same_for_every_book(bench):
    policy = bench.baselines["random"].policy
    assert isinstance(policy, RandomPolicy)
    observation = np.zeros((3, 5), np.float32)
    first, state = policy.predict(observation)
    second, state = policy.predict(observation, state, np.array([False, True, False]))
    assert (first[0] == first[1]).all()
    assert (second[1] == first[0]).all()  # it has begun again
    assert not (second[0] == first[0]).any()
    alone, _ = policy.predict(observation[:1], (np.array([1]),))
    assert (alone[0] == second[0]).all()
    assert 0.02 < first[0].std() < 0.08
    other = build_baselines(bench.market, bench.options, bench.train, seed=1)
    again = {baseline.name: baseline for baseline in other}["random"].policy
    assert isinstance(again, RandomPolicy)
    assert not (again.predict(observation)[0] == first).any()


def test_the_static_portfolio_is_fitted_to_the_training_window_alone():
    history = wandering()
    train = Window(60, 120)
    own = Bench(history, VixSurface(), start=130, train=train)
    other = Bench(perturbed_after(history, 119), VixSurface(), start=130, train=train)
    longer = Bench(history, VixSurface(), start=130, train=Window(60, 121))
    weight, same, differs = (bench.weight("static_mean_variance") for bench in (own, other, longer))
    assert (weight != 0.0).all()
    np.testing.assert_array_equal(weight, same)
    assert not np.array_equal(weight, differs)


def test_without_a_training_window_nothing_is_fitted(bench):
    built = build_baselines(bench.market, bench.options, None)
    assert set(NAMES) - {baseline.name for baseline in built} == {"static_mean_variance"}


@pytest.mark.parametrize(
    ("moneyness", "missing"),
    [
        ((0.90, 0.95, 1.00, 1.05, 1.10), set()),
        ((0.95, 1.00, 1.05), {"iron_condor"}),
        ((1.00, 1.05), {"iron_condor", "short_strangle", "protective_put", "collar"}),
        (
            (1.00,),
            {"iron_condor", "short_strangle", "protective_put", "collar", "covered_call"},
        ),
    ],
)
def test_what_the_chain_has_no_strikes_for_is_left_out(moneyness, missing):
    bench = Bench(wandering(), chain={"moneyness": moneyness})
    assert set(NAMES) - set(bench.baselines) == missing


def test_other_chains_give_the_nearest_strikes_of_the_shortest_maturity():
    chain = {"maturities_days": (91, 21), "moneyness": (1.07, 0.98, 1.03, 0.9)}
    bench = Bench(wandering(), chain=chain)
    slots = bench.market.tape.slots
    weight = bench.weight("collar")
    held = {
        (s.maturity_days, s.is_call, s.moneyness): w for s, w in zip(slots, weight, strict=True)
    }
    assert {key: w for key, w in held.items() if w} == {
        (21, True, 0.98): 1,
        (21, False, 0.98): -1,
        (21, False, 0.9): 1,
        (21, True, 1.03): -1,
    }


@pytest.mark.parametrize("roll", ["expiry", "daily"])
@pytest.mark.parametrize("surface", [FlatSurface(), VixSurface()], ids=["flat", "vix"])
def test_all_run_on_every_market_with_and_without_the_risk_module(roll, surface):
    history = wandering(sessions=95)  # a month, and the options' expiry
    bench = Bench(history, surface, start=70, chain={"roll": roll}, costs={"kind": "realistic"})
    for name in NAMES:
        for risk in (None, RiskSettings()):
            backtest = bench.run(name, risk)
            assert np.isfinite(backtest.equity).all()
            assert backtest.equity.shape == (1, 25)
            traded = name not in ("cash",)
            assert bool(backtest.traded.sum() > 0) == traded


def test_books_in_a_batch_equal_books_alone():
    bench = Bench(wandering(paths=3, sessions=130), VixSurface(), start=70)
    for name, baseline in bench.baselines.items():
        together, batch = bench.run(name, books=4), PolicyBatch([baseline.policy])
        for book in (1, 2):
            kernel = OptionPortfolioKernel(
                bench.market, bench.options, bench.window, random_start=False
            )
            start, last = np.array([70]), np.array([bench.window.stop - 1])
            observation, state = kernel.place(start, np.array([book]), last), None
            for day in range(together.equity.shape[1] - 1):
                begins = np.array([day == 0])
                quantity, state = batch.quantities(kernel, observation, state, begins)
                observation = kernel.trade_to(quantity).observation
                assert kernel.ledger.equity[0] == together.equity[book, day + 1]
        np.testing.assert_array_equal(together.equity[0], together.equity[3])
