"""A held book opens at listings and trades nothing in between, whatever happens to it."""

import numpy as np
import pytest

from agents.baselines.hold_to_expiry import HoldToExpiry
from agents.policy import RiskManagedPolicy
from conf.errors import InputError
from conf.settings import build_settings
from envs.core.batch import Window
from envs.options.surface import FlatSurface, VixSurface
from experiments.backtests.backtest import run_backtest
from risk.overlay import RiskSettings
from tests.markets import history_of, market_of, options_of, random_walk, wandering_vol

# No bound of the sizing is in the way.
ROOMY = {"max_premium": 2.0, "max_notional": 8.0}
SLOTS = [f"{days}D_{kind}_{k:.2f}" for days in (30, 60) for kind in ("Call", "Put")
         for k in (0.90, 0.95, 1.00, 1.05, 1.10)]  # fmt: skip


APART = np.arange(20)


def slot(name):
    return SLOTS.index(name)


def weights(**by_slot):
    values = np.zeros(20)
    for name, weight in by_slot.items():
        values[slot(name.lstrip("_").replace("_0", "_0.", 1).replace("_1", "_1.", 1))] = weight
    return values


def book_of(market, weight, group=None, **changes):
    group = np.zeros(20, np.int64) if group is None else group
    return HoldToExpiry(market, weight, group, **changes)


def held_through(history, weight, *, sizing=ROOMY, group=None, surface=None, risk=None, **changes):
    """A backtest of a held book, and at which of its sessions the month's slots were empty."""
    options = options_of(sizing=sizing, **changes)
    market = market_of(history, options, surface)
    window = Window(market.first_usable, history.num_sessions)
    policy = book_of(market, weight, group)
    managed = policy if risk is None else RiskManagedPolicy(policy, risk)
    backtest = run_backtest(managed, market, options, window)
    listed = market.tape.rolled[window.start : window.stop - 1].copy()
    listed[0] = True
    return backtest, listed, market, window


def wandering(sessions=260, seed=3):
    return random_walk(sessions, seed=seed, implied_vol=wandering_vol(sessions, seed))


def from_listing(days, after, level=1000.0):
    """Closes that stay at `level` up to the first listing after the warm-up, then `after`."""
    market = market_of(history_of(np.full(120, level)))
    listed = np.nonzero(market.tape.rolled[:, 0])[0]
    first = int(listed[listed >= market.first_usable][0])
    close = np.full(first + 1 + days, level)
    close[first + 1 :] = np.asarray(after)[:days] if np.ndim(after) else after
    return history_of(close), first


def test_nothing_is_traded_between_listings():
    weight = np.linspace(-0.6, 0.9, 20)
    backtest, listed, _, _ = held_through(wandering(), weight, group=APART, surface=VixSurface())
    quiet = ~listed.any(axis=1)
    assert quiet.sum() > 100
    assert backtest.traded[0, ~quiet].min() > 1.0
    assert backtest.traded[0, quiet].max() == 0.0
    assert (np.diff(backtest.quantity[0], axis=0)[~listed[1:]] == 0.0).all()


def test_what_is_opened_is_the_weight():
    weight = np.linspace(-0.6, 0.9, 20)
    backtest, listed, market, window = held_through(
        wandering(), weight, group=APART, surface=VixSurface()
    )
    spot = market.history.close[0, window.start : window.stop - 1]
    opened = backtest.quantity[0] * spot[:, None] / backtest.equity[0, :-1, None]
    cheap = market.tape.mark[0, window.start : window.stop - 1] < 0.05
    expected = np.where(cheap, 0.0, weight)
    assert (listed & ~cheap).sum() > 60
    np.testing.assert_allclose(opened[listed], expected[listed], rtol=1e-12)


@pytest.mark.parametrize("after", [450.0, 1600.0])
def test_contracts_far_in_the_money_are_held_beyond_the_range_of_observations(after):
    """At 450 the put at 1000 costs 1.2 x spot; the observation stops at 0.5."""
    history, first = from_listing(15, after)
    weight = weights(_30D_Put_100=0.05, _30D_Call_100=0.05)
    backtest, _, market, window = held_through(history, weight)
    held = backtest.quantity[0, first - window.start :][
        :, [slot("30D_Put_1.00"), slot("30D_Call_1.00")]
    ]
    assert (market.tape.mark[0, -5:] / market.history.close[0, -5:, None]).max() > 0.3
    np.testing.assert_allclose(held, np.broadcast_to(held[0], held.shape), rtol=1e-12)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_contract_below_the_tick_is_neither_sold_off_nor_added_to(sign):
    moves = np.r_[np.full(8, 1150.0), np.full(6, 1000.0)]
    history, first = from_listing(14, moves)
    weight = weights(_30D_Put_095=sign)
    backtest, _, market, window = held_through(
        history, weight, surface=FlatSurface(vol_annual=0.15)
    )
    marks = market.tape.mark[0, first : first + 12, slot("30D_Put_0.95")]
    assert marks[0] > 0.05
    assert marks[2:7].max() < 0.05
    assert marks[9] > 0.05
    held = backtest.quantity[0, first - window.start :, slot("30D_Put_0.95")][:12]
    np.testing.assert_allclose(held, held[0], rtol=1e-12)
    assert held[0] == pytest.approx(sign * 100.0, rel=1e-2)


def test_legs_of_a_group_are_opened_together_or_not_at_all():
    quiet = history_of(np.full(150, 1000.0))
    weight = weights(_30D_Call_105=-0.5, _30D_Call_110=0.5, _30D_Put_095=-0.5)
    names = ["30D_Call_1.05", "30D_Call_1.10", "30D_Put_0.95"]
    group = np.array(["Call" in name for name in SLOTS]).astype(np.int64)
    surface = FlatSurface(vol_annual=0.10)
    backtest, listed, market, window = held_through(quiet, weight, group=group, surface=surface)
    at = np.nonzero(listed[:, 0])[0][-1]
    now = window.start + at
    marks = market.tape.mark[0, now, [slot(name) for name in names]]
    assert marks[1] < 0.05 < min(marks[0], marks[2])
    call, cover, put = (backtest.quantity[0, at, slot(name)] for name in names)
    assert call == cover == 0.0
    assert put < -40.0


def test_where_a_cap_binds_the_whole_book_shrinks_alike():
    """After a crash the short put is worth more than one position may be."""
    history, first = from_listing(15, 700.0)
    weight = weights(_30D_Call_100=0.8, _30D_Put_100=-0.8)
    backtest, _, _, window = held_through(history, weight, sizing={})
    legs = backtest.quantity[0, first - window.start :][
        :, [slot("30D_Call_1.00"), slot("30D_Put_1.00")]
    ]
    assert -legs[3, 1] < 0.7 * -legs[0, 1]
    np.testing.assert_allclose(legs[:, 0], -legs[:, 1], rtol=1e-12)


def test_what_the_risk_module_took_is_not_bought_back_before_the_next_listing():
    history = history_of(np.full(200, 1000.0))
    risk = build_settings(RiskSettings, {"limits": {"max_gross": 0.01}}, "risk")
    weight = weights(_30D_Put_100=-1.0)
    backtest, listed, market, window = held_through(history, weight, risk=risk)
    put = slot("30D_Put_1.00")
    quantity, months = backtest.quantity[0, :, put], np.cumsum(listed[:, put])
    for month in range(2, months.max()):  # the first and the last are cut off
        held = quantity[months == month]
        mark = market.tape.mark[0, window.start : window.stop - 1, put][months == month]
        value = -held * mark / backtest.equity[0, :-1][months == month]
        assert value[0] == pytest.approx(0.01, rel=1e-9)
        assert value[-1] < 0.005  # there would be room to buy back
        np.testing.assert_allclose(held, held[0], rtol=1e-12)


def test_whole_lots_are_held_unchanged_between_listings():
    sizing = {**ROOMY, "fractional": False, "contract_multiplier": 10.0}
    weight = weights(_30D_Call_100=0.5, _30D_Put_100=-0.5, _60D_Put_095=0.33)
    backtest, listed, _, _ = held_through(wandering(), weight, sizing=sizing, surface=VixSurface())
    assert (np.mod(backtest.quantity[0], 10.0) == 0.0).all()
    assert (np.abs(backtest.quantity[0]) > 0).any(axis=0).sum() == 3
    changes = np.diff(backtest.quantity[0], axis=0)[~listed[1:]]
    assert (changes == 0.0).all()


def test_contracts_that_are_re_struck_daily_are_reopened_daily():
    history, weight = wandering(120), weights(_30D_Call_100=0.3, _60D_Put_095=-0.2)
    backtest, _, market, window = held_through(history, weight, chain={"roll": "daily"})
    spot = market.history.close[0, window.start : window.stop - 1]
    opened = backtest.quantity[0] * spot[:, None] / backtest.equity[0, :-1, None]
    np.testing.assert_allclose(opened, np.tile(weight, (len(opened), 1)), rtol=1e-12, atol=1e-12)


def test_a_weight_of_nan_is_refused():
    options, history = options_of(), wandering(120)
    market = market_of(history, options)
    with pytest.raises(InputError, match="held book"):
        book_of(market, np.full(20, np.nan))
