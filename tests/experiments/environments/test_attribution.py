import dataclasses

import numpy as np
import pytest

from conf.errors import InputError
from envs.core.batch import Window
from envs.market.sources.index import Sp500Data, load_market
from envs.options.implied_volatility import implied_volatility
from envs.options.surface import FlatSurface, VixSurface
from experiments.backtests.backtest import run_backtest
from experiments.environments.attribution import TERMS, attribute, closing_cost
from tests.markets import history_of, market_of, options_of, random_walk, wandering_vol

ROLLS = ("expiry", "daily")


class Constant:
    def __init__(self, action):
        self.action = np.asarray(action, float)

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.tile(self.action, (len(observation), 1)), state


class Noise:
    """Another random book every day."""

    def __init__(self, size=0.3, seed=0):
        self.size, self.rng = size, np.random.default_rng(seed)

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        shape = (len(observation), 20)
        return self.rng.uniform(-self.size, self.size, shape), state


def realistic(roll="expiry", **changes):
    return options_of(costs={"kind": "realistic"}, chain={"roll": roll}, **changes)


def moving_market(paths, roll, sessions=150, options=None):
    """Price, volatility, rate and dividends all move."""
    rng = np.random.default_rng(5)
    history = random_walk(
        sessions,
        paths=paths,
        seed=2,
        implied_vol=np.repeat(wandering_vol(sessions), paths, axis=0),
    )
    history = dataclasses.replace(
        history, rate=0.03 + 0.02 * rng.random(sessions), dividend_yield=0.02 * rng.random(sessions)
    )
    return market_of(history, options or realistic(roll), VixSurface())


def book_of(market, **profile):
    """An action in the contracts of these names."""
    names = [slot.name for slot in market.tape.slots]
    action = np.zeros(20)
    for name, size in profile.items():
        action[names.index(name)] = size
    return action


def check_sums(backtest, split):
    total = sum(split.terms.values())
    scale = np.maximum(
        np.abs(backtest.equity[:, :-1]), sum(np.abs(x) for x in split.terms.values())
    )
    np.testing.assert_array_equal(split.pnl, np.diff(backtest.equity, axis=1))
    assert (np.abs(total - split.pnl) <= 1e-9 * scale).all()
    assert tuple(split.terms) == TERMS


@pytest.mark.parametrize("roll", ROLLS)
@pytest.mark.parametrize("books", [3, 7])
def test_the_terms_of_every_day_add_up_to_its_pnl(roll, books):
    market = moving_market(3, roll)
    backtest = run_backtest(Noise(0.1), market, realistic(roll), Window(60, 150), books)
    assert not backtest.ruined.any()
    split = attribute(backtest, market)
    check_sums(backtest, split)
    assert (split.terms["write_off"] == 0).all()
    for name in set(TERMS) - {"write_off"} - ({"roll"} if roll == "daily" else set()):
        assert np.abs(split.terms[name]).max() > 0.1, name
    closing = closing_cost(backtest, market)
    if roll == "daily":
        assert (split.terms["roll"] == 0).all()
        assert (closing > 0).mean() > 0.9
        assert (closing < backtest.cost).all()
    else:
        assert (closing == 0).all()
        expired = market.tape.expired[61:150].any(axis=-1)
        assert (np.abs(split.terms["roll"][:, expired]) > 0).all()
        assert (split.terms["roll"][:, ~expired] == 0).all()


@pytest.mark.parametrize("roll", ROLLS)
def test_every_book_is_attributed_on_its_own_path(roll):
    market = moving_market(3, roll)
    backtest = run_backtest(Constant(np.full(20, 0.02)), market, realistic(roll), Window(60, 90), 5)
    split = attribute(backtest, market)
    for values in split.terms.values():
        np.testing.assert_array_equal(values[:2], values[3:])
    assert (split.terms["delta"][0] != split.terms["delta"][1]).all()


def test_wrong_costs_interest_or_prices_break_the_sum():
    market = moving_market(2, "daily")
    backtest = run_backtest(Noise(0.1), market, realistic("daily"), Window(60, 100))
    for name, change in (
        ("closing_unit_cost", market.closing_unit_cost * 1.01),
        ("cash_return", market.cash_return * 1.001),
        ("tape", dataclasses.replace(market.tape, aged=market.tape.aged * (1 + 1e-6))),
    ):
        wrong = attribute(backtest, dataclasses.replace(market, **{name: change}))
        with pytest.raises(AssertionError):
            check_sums(backtest, wrong)


@pytest.mark.parametrize("roll", ROLLS)
def test_the_debt_of_a_ruined_book_is_written_off_and_it_trades_no_more(roll):
    calm, crash = np.full(120, 1000.0), np.where(np.arange(120) < 70, 1000.0, 300.0)
    options = realistic(roll)
    market = market_of(history_of(np.stack([calm, crash])), options)
    short_puts = np.where(market.tape.is_call, 0.0, -1.0)
    backtest = run_backtest(Constant(short_puts), market, options, Window(60, 100))
    assert backtest.ruined.tolist() == [False, True]
    assert backtest.alive.sum(axis=1).tolist() == [39, 10]
    split = attribute(backtest, market)
    check_sums(backtest, split)
    owed = split.terms["write_off"]
    assert owed[1, 9] > 100_000
    assert np.count_nonzero(owed) == 1
    for values in split.terms.values():
        assert (values[1, 10:] == 0).all()


def every_day(sessions):
    return np.datetime64("2001-01-01") + np.arange(sessions)


def gbm(vol=0.2, sessions=400, paths=20):
    """Paths without jumps under a flat surface, one calendar day apart."""
    rng = np.random.default_rng(0)
    steps = (0.01 - vol**2 / 2) / 365 + vol / np.sqrt(365) * rng.standard_normal((paths, sessions))
    return history_of(1000 * np.exp(np.cumsum(steps, axis=1)), vol, dates=every_day(sessions))


@pytest.mark.parametrize(("roll", "most"), [("expiry", 0.05), ("daily", 0.02)])
def test_the_residual_is_small_without_jumps(roll, most):
    options = options_of(chain={"roll": roll})
    market = market_of(gbm(), options, FlatSurface())
    for action in (np.full(20, 0.02), np.where(market.tape.is_call, 0.02, -0.02)):
        backtest = run_backtest(Constant(action), market, options, Window(60, 400))
        assert (attribute(backtest, market).residual_share < most).all()


def left_after_a_move(move):
    """Residual, in dollars, of one long-lived call over one day on which the index moves."""
    options = options_of(chain={"roll": "daily", "maturities_days": [365], "moneyness": [1.0]})
    close = np.where(np.arange(70) < 61, 1000.0, 1000.0 * (1 + move))
    history = history_of(close, rate=0.0, dividend_yield=0.0, dates=every_day(70))
    market = market_of(history, options, FlatSurface())
    backtest = run_backtest(Constant([0.5, 0.0]), market, options, Window(60, 62))
    return attribute(backtest, market).terms["residual"].item() / backtest.quantity[0, 0, 0]


def test_the_residual_is_of_third_order():
    r"""Halving the move leaves an eighth.

    r(2h) - 2 r(h) is free of what is linear in the move, the charm of the day that passes.
    """
    large, middle, small = (left_after_a_move(move) for move in (0.04, 0.02, 0.01))
    assert (large - 2 * middle) / (middle - 2 * small) == pytest.approx(8, rel=0.25)
    # The third derivative of the price, -gamma / S * (d1 / (vol sqrt T) + 1) at d1 = 0.1.
    gamma = np.exp(-0.005) / np.sqrt(2 * np.pi) / (1000 * 0.2)
    third = -gamma / 1000 * (0.1 / 0.2 + 1) * 40**3 / 6
    assert large == pytest.approx(third, rel=0.25)


class Forward:
    """Long call and short put at one strike, in equal quantities."""

    def __init__(self, market):
        self.market, self.t = market, 60

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        price, spot = self.market.tape.mark[0, self.t], self.market.history.close[0, self.t]
        self.t += 1
        names = [slot.name for slot in self.market.tape.slots]
        pair = [names.index("60D_Call_1.00"), names.index("60D_Put_1.00")]
        action = np.zeros((1, 20))
        action[0, pair] = 0.1 * price[pair] / spot * np.array([1, -1]) / 0.2
        return action, state


def test_a_forward_has_delta_alone():
    options = options_of()
    market = market_of(gbm(paths=1), options, FlatSurface())
    backtest = run_backtest(Forward(market), market, options, Window(60, 110))
    split = attribute(backtest, market)
    delta = np.abs(split.terms["delta"]).sum()
    assert delta > 1000
    for name in ("gamma", "vega", "rates"):
        assert np.abs(split.terms[name]).sum() < 1e-9 * delta
    assert np.abs(split.terms["theta"]).sum() < 0.03 * delta  # the forward's carry
    assert np.abs(split.terms["residual"]).sum() < 1e-4 * delta


STRADDLE = {"60D_Call_1.00": 0.05, "60D_Put_1.00": 0.05}


def test_a_straddle_in_a_frozen_market_pays_theta():
    options = options_of()
    history = history_of(np.full(100, 1000.0), dates=every_day(100))
    market = market_of(history, options, FlatSurface())
    backtest = run_backtest(Constant(book_of(market, **STRADDLE)), market, options, Window(62, 90))
    split = attribute(backtest, market)
    assert (split.terms["theta"] < 0).all()
    for name in ("delta", "gamma", "vega", "rates", "roll", "cost"):
        assert (split.terms[name] == 0).all()
    np.testing.assert_allclose(split.terms["theta"], split.held_pnl, rtol=0.02)


def only_moving(surface, **changes):
    """Long calls, over one day on which nothing else moves."""
    options = options_of(chain={"roll": "daily"})
    history = history_of(np.full(70, 1000.0), dates=every_day(70), **changes)
    market = market_of(history, options, surface)
    calls = np.where(market.tape.is_call, 0.02, 0.0)
    return attribute(run_backtest(Constant(calls), market, options, Window(63, 65)), market)


def test_vega_where_only_volatility_moves():
    rises = np.where(np.arange(70) < 64, 0.2, 0.201)[None]
    split, still = only_moving(VixSurface(), vol=rises), only_moving(VixSurface(), vol=0.2)
    gained = split.held_pnl - still.held_pnl
    assert split.terms["vega"] > 1
    np.testing.assert_allclose(split.terms["vega"] - still.terms["vega"], gained, rtol=0.04)
    assert split.terms["delta"] == split.terms["rates"] == 0


def test_vega_follows_the_contract_and_not_its_slot():
    options = options_of(chain={"roll": "daily"})
    market = market_of(gbm(paths=1), options, VixSurface())
    tape, history, now = market.tape, market.history, slice(60, 99)
    names = [slot.name for slot in tape.slots]
    slot, action = names.index("60D_Put_0.95"), book_of(market, **{"60D_Put_0.95": 0.05})
    backtest = run_backtest(Constant(action), market, options, Window(60, 100))
    implied = implied_volatility(
        tape.aged[0, 61:100, slot],
        history.close[0, 61:100],
        tape.strike[0, now, slot],
        59 / 365,
        0.025,
        0.015,
        False,
    )
    gain = tape.vega[0, now, slot] * (implied - tape.vol[0, now, slot])
    expected = backtest.quantity[0, :, slot] * gain
    split = attribute(backtest, market)
    np.testing.assert_allclose(split.terms["vega"][0], expected, rtol=1e-6, atol=1e-6)
    assert np.abs(expected).max() > 10


def test_rates_where_only_the_rate_moves():
    rises = np.where(np.arange(70) < 64, 0.025, 0.026)
    split, still = only_moving(FlatSurface(), rate=rises), only_moving(FlatSurface())
    gained = split.held_pnl - still.held_pnl
    assert split.terms["rates"] > 0.1
    np.testing.assert_allclose(split.terms["rates"], gained, rtol=0.04)
    assert split.terms["delta"] == split.terms["vega"] == 0


def test_the_residual_is_small_on_the_embedded_data():
    history = load_market(Sp500Data(), embargo_days=60).history
    options = options_of()
    market = market_of(history, options, VixSurface())
    for action in (np.full(20, 0.005), book_of(market, **STRADDLE)):
        window = Window(history.num_sessions - 1000, history.num_sessions)
        backtest = run_backtest(Constant(action), market, options, window)
        split = attribute(backtest, market)
        check_sums(backtest, split)
        assert split.residual_share[0] < 0.2


def test_a_book_without_options_has_no_residual_share():
    market = moving_market(1, "expiry")
    backtest = run_backtest(Constant(np.zeros(20)), market, realistic(), Window(60, 70))
    split = attribute(backtest, market)
    check_sums(backtest, split)
    assert np.isnan(split.residual_share).all()
    np.testing.assert_allclose(split.terms["carry"], split.pnl, rtol=1e-9)


def test_a_backtest_of_another_market_is_refused():
    market = moving_market(1, "expiry")
    backtest = run_backtest(Constant(np.zeros(20)), market, realistic(), Window(60, 70))
    later = market_of(random_walk(100, dates=market.history.dates[:100] + 1), realistic())
    with pytest.raises(InputError, match="not run on this market"):
        attribute(backtest, later)
