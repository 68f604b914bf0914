import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.errors import InputError
from envs.market.clock import CALENDAR, CLOSED_DAY_WEIGHT
from envs.market.sources.index import Sp500Data, load_market
from envs.options.black_scholes import price
from envs.options.chain import ChainSettings, slots
from envs.options.implied_volatility import implied_volatility
from envs.options.surface import FlatSurface, VixSurface
from envs.options.tape import OptionTape, build_tape
from tests.markets import history_of, perturbed_after, random_walk, wandering_vol

ROLLS = ("expiry", "daily")
HOLIDAYS = [  # of the exchange, in the months of the toy histories
    *("2001-01-01", "2001-01-15", "2001-02-19", "2001-04-13", "2001-05-28", "2001-07-04"),
    *("2001-09-03", "2001-11-22", "2001-12-25"),
]


def tape_of(history, surface=None, roll="expiry") -> OptionTape:
    return build_tape(history, surface or VixSurface(), ChainSettings(roll=roll))


def wandering(sessions=300, seed=3):
    return random_walk(sessions, seed=seed, implied_vol=wandering_vol(sessions, seed))


def pairs():
    """Indices of each call and of the put with the same strike and expiry."""
    chain = slots(ChainSettings())
    key = {(s.is_call, s.maturity_days, s.moneyness): i for i, s in enumerate(chain)}
    return [(key[True, d, m], key[False, d, m]) for call, d, m in key if call]


@pytest.mark.parametrize("roll", ROLLS)
@pytest.mark.parametrize("surface", [FlatSurface(), VixSurface()])
def test_put_call_parity_on_every_session(roll, surface):
    history = wandering()
    tape = tape_of(history, surface, roll)
    tau = tape.days_to_expiry / 365
    for call, put in pairs():
        forward = history.close * np.exp(-0.015 * tau[:, call])
        strike = tape.strike[:, :, call] * np.exp(-0.025 * tau[:, call])
        difference = tape.mark[:, :, call] - tape.mark[:, :, put]
        np.testing.assert_allclose(difference, forward - strike, atol=1e-9)


def test_a_contract_keeps_its_strike_and_its_value_is_its_own():
    history = wandering()
    tape = tape_of(history)
    held = ~tape.rolled
    held[0] = True
    assert (tape.aged[:, held] == tape.mark[:, held]).all()
    same = np.diff(tape.strike[0], axis=0) == 0
    assert (same == ~tape.rolled[1:]).all()


def test_expiry_pays_the_intrinsic_value_of_the_old_strike():
    history = wandering()
    tape = tape_of(history)
    t, slot = np.nonzero(tape.expired)
    assert len(t) > 100
    gap = history.close[0, t] - tape.strike[0, t - 1, slot]
    intrinsic = np.maximum(np.where(tape.is_call[slot], gap, -gap), 0)
    np.testing.assert_array_equal(tape.aged[0, t, slot], intrinsic)


def test_daily_roll_revalues_yesterdays_contract_a_day_older():
    history = wandering(80)
    tape = tape_of(history, FlatSurface(), "daily")
    days = np.diff(history.dates).astype(int)
    for slot in (0, 7, 19):
        expected = price(
            history.close[0, 1:],
            history.close[0, :-1] * tape.slots[slot].moneyness,
            (tape.slots[slot].maturity_days - days) / 365,
            0.2,
            0.025,
            0.015,
            np.array(tape.is_call[slot]),
        )
        np.testing.assert_allclose(tape.aged[0, 1:, slot], expected, rtol=1e-12)


def test_the_aged_volatility_is_the_one_in_the_aged_price():
    history = wandering(80)
    tape = tape_of(history, VixSurface(), "daily")
    days = np.diff(history.dates).astype(int)[:, None]
    inverted = implied_volatility(
        tape.aged[0, 1:],
        history.close[0, 1:, None],
        tape.strike[0, :-1],
        (tape.days_to_expiry[:-1] - days) / 365,
        0.025,
        0.015,
        tape.is_call,
    )
    vega = tape.vega[0, :-1]
    telling = vega > 0.05 * vega.max()  # elsewhere the price says too little of it
    assert telling.mean() > 0.7
    np.testing.assert_allclose(tape.aged_vol[0, 1:][telling], inverted[telling], rtol=1e-6)
    assert (np.abs(tape.aged_vol[0, 1:] - tape.vol[0, 1:]) > 1e-4).mean() > 0.5


def test_the_aged_volatility_of_what_stays_or_expires():
    tape = tape_of(wandering())
    stays, t, slot = ~tape.rolled, *np.nonzero(tape.expired)
    np.testing.assert_array_equal(tape.aged_vol[:, stays], tape.vol[:, stays])
    np.testing.assert_array_equal(tape.aged_vol[0, t, slot], tape.vol[0, t - 1, slot])


@settings(max_examples=25, deadline=None)
@given(session=st.integers(0, 198), seed=st.integers(0, 1000), roll=st.sampled_from(ROLLS))
def test_a_row_knows_nothing_of_later_sessions(session, seed, roll):
    history = wandering(200, seed)
    before = tape_of(history, roll=roll)
    after = tape_of(perturbed_after(history, session, seed), roll=roll)
    cut = tape_of(history.sessions(0, session + 1), roll=roll)
    for field in dataclasses.fields(OptionTape):
        value = getattr(before, field.name)
        if not isinstance(value, np.ndarray) or value.ndim == 1:
            continue
        rows = (slice(None), slice(session + 1)) if value.ndim == 3 else slice(session + 1)
        np.testing.assert_array_equal(value[rows], getattr(after, field.name)[rows])
        np.testing.assert_array_equal(value[rows], getattr(cut, field.name))


@pytest.mark.parametrize("roll", ROLLS)
@pytest.mark.parametrize("surface", [FlatSurface(), VixSurface()])
def test_box_spread_earns_exactly_the_risk_free_rate(roll, surface):
    """Long call and short put at one strike, the reverse at a higher one: a riskless bond."""
    history = wandering()
    tape = tape_of(history, surface, roll)
    chain = {slot.name: i for i, slot in enumerate(tape.slots)}
    box = np.zeros(20)
    box[[chain["60D_Call_0.95"], chain["60D_Put_1.05"]]] = 1
    box[[chain["60D_Put_0.95"], chain["60D_Call_1.05"]]] = -1
    before = tape.mark[0, :-1] @ box
    after = tape.aged[0, 1:] @ box
    days = np.diff(history.dates).astype(float)
    np.testing.assert_allclose(after, before * np.exp(0.025 * days / 365), rtol=1e-9)


def test_total_variance_rises_with_maturity_at_every_forward_moneyness():
    history = wandering()
    surface = VixSurface()
    drivers = surface.drivers(history.implied_vol)[:, :, None, :]
    k = np.linspace(-0.4, 0.3, 29)
    total = [surface.vol(drivers, k, np.full(1, d / 365)) ** 2 * d for d in (7, 30, 60, 120)]
    for nearer, farther in itertools.pairwise(total):
        assert (farther > nearer).all()


def test_greeks_are_those_of_the_contract_in_the_slot():
    history = history_of(np.full(60, 1000.0))
    tape = tape_of(history, FlatSurface())
    bump = 0.01
    up = tape_of(history_of(np.r_[np.full(59, 1000.0), 1000 + bump]), FlatSurface())
    change = (up.mark[0, -1] - tape.mark[0, -1]) / bump
    held = ~tape.rolled[-1]
    np.testing.assert_allclose(change[held], tape.delta[0, -1, held], atol=1e-3)
    still = ~tape.rolled[-1] & (np.diff(tape.days_to_expiry[-2:], axis=0)[0] == -1)
    decay = tape.mark[0, -1] - tape.mark[0, -2]
    np.testing.assert_allclose(decay[still], tape.theta[0, -2, still], rtol=0.2, atol=0.02)


def test_the_tape_cannot_be_written():
    tape = tape_of(history_of(np.full(60, 1000.0)))
    with pytest.raises(ValueError, match="read-only"):
        tape.mark[0, 0, 0] = 1.0


def test_a_tape_with_a_hole_is_refused():
    tape = tape_of(history_of(np.full(60, 1000.0)))
    mark = tape.mark.copy()
    mark[0, 3, 2] = np.nan
    with pytest.raises(InputError, match=r"mark\[0, 3, 2\] is nan"):
        dataclasses.replace(tape, mark=mark)


@pytest.fixture(scope="module")
def embedded():
    """The embedded S&P 500 with its estimated and observed VIX, and Treasury-bill rates."""
    return load_market(Sp500Data(), embargo_days=60).history


@pytest.mark.parametrize("roll", ROLLS)
def test_parity_and_calendar_hold_on_every_session_of_the_embedded_data(embedded, roll):
    surface = VixSurface()
    tape = tape_of(embedded, surface, roll)
    assert tape.mark.shape == (1, 5031, 20)
    tau = tape.days_to_expiry / 365
    for call, put in pairs():
        forward = embedded.close * np.exp(-0.015 * tau[:, call])
        strike = tape.strike[:, :, call] * np.exp(-embedded.rate * tau[:, call])
        difference = tape.mark[:, :, call] - tape.mark[:, :, put]
        np.testing.assert_allclose(difference, forward - strike, atol=1e-8)


@pytest.mark.parametrize("weight", [CLOSED_DAY_WEIGHT, CALENDAR])
def test_no_calendar_spread_pays_on_any_session_of_the_embedded_data(embedded, weight):
    """Total variance of maturities from a week on that end on a session rises at every strike.

    Over a closed day it may fall where VIX is high: nothing can be traded then. Further than a
    tenth out of the money it may fall over a long weekend, too, on prices of next to nothing.
    """
    history, surface = dataclasses.replace(embedded, closed_day_weight=weight), VixSurface()
    drivers = surface.drivers(history.implied_vol)[0, :, None, :]
    k, previous = np.log(np.linspace(0.91, 1.1, 20)), np.zeros((5031, 20))
    for days in range(7, 65):
        end = history.dates + np.timedelta64(days, "D")
        years = history.clock.years(history.dates, end)
        opened = history.clock.units(end - np.timedelta64(1, "D"), end) == 1.0
        total = surface.vol(drivers, k, np.full((1, 1), days / 365)) ** 2 * years[:, None]
        assert (total > previous)[opened].all()
        previous = np.where(opened[:, None], total, previous)


def test_no_butterfly_pays_on_any_session_of_the_embedded_data(embedded):
    surface = VixSurface()
    drivers = surface.drivers(embedded.implied_vol)[0, :, None, :]
    for days in (7, 14, 60):
        k = np.linspace(-0.25, 0.15, 81)
        total = surface.vol(drivers, k, np.full((1, 1), days / 365)) ** 2 * days / 365
        first = np.gradient(total, k, axis=1)
        second = np.gradient(first, k, axis=1)
        density = (1 - k * first / (2 * total)) ** 2 + second / 2
        density -= first**2 / 4 * (1 / total + 1 / 4)
        assert density[:, 2:-2].min() > 0.0


@pytest.mark.parametrize("weight", [CLOSED_DAY_WEIGHT, 0.5, CALENDAR])
def test_a_price_has_the_variance_that_the_clock_leaves(weight):
    history = random_walk(120, vol=0.3, seed=4, closed_day_weight=weight)
    tape = tape_of(history, FlatSurface(vol_annual=0.3))
    days = history.dates[:, None] + tape.days_to_expiry.astype("timedelta64[D]")
    sessions = np.busday_count(history.dates[:, None] + 1, days + 1, holidays=HOLIDAYS)
    closed = tape.days_to_expiry - sessions
    years = (sessions + weight * closed) / (252 + weight * 113)
    np.testing.assert_allclose(tape.variance_years, years, rtol=1e-14)
    at_the_money = [i for i, slot in enumerate(tape.slots) if slot.moneyness == 1.0]
    for slot in at_the_money:
        tau = tape.days_to_expiry[:, slot] / 365
        vol = 0.3 * np.sqrt(years[:, slot] / tau)
        spot, strike = history.close[0], tape.strike[0, :, slot]
        expected = price(spot, strike, tau, vol, 0.025, 0.015, tape.is_call[slot])
        np.testing.assert_allclose(tape.mark[0, :, slot], expected, rtol=1e-12)


@pytest.mark.parametrize("weight", [CLOSED_DAY_WEIGHT, CALENDAR])
def test_theta_is_what_a_unit_of_the_clock_costs(weight):
    """Where nothing moves, an option loses theta times the units that pass, weekends included."""
    # Without interest and dividends, which run by the day.
    still = history_of(np.full(60, 1000.0), rate=0.0, dividend_yield=0.0)
    history = dataclasses.replace(still, closed_day_weight=weight)
    tape = tape_of(history, FlatSurface())
    held = ~tape.rolled[1:]
    units = history.units_to_next[:-1, None]
    decay = np.diff(tape.mark[0], axis=0)
    expected = 0.5 * (tape.theta[0, 1:] + tape.theta[0, :-1]) * units
    long_lived = held & (tape.days_to_expiry[1:] > 20)
    np.testing.assert_allclose(decay[long_lived], expected[long_lived], rtol=0.05, atol=0.004)


def test_vega_is_the_change_for_a_point_of_quoted_volatility():
    history = random_walk(80, vol=0.2, closed_day_weight=CLOSED_DAY_WEIGHT)
    tape = tape_of(history, FlatSurface(vol_annual=0.2))
    up, down = (tape_of(history, FlatSurface(vol_annual=0.2 + h)).mark for h in (1e-4, -1e-4))
    np.testing.assert_allclose(tape.vega, (up - down) / 2e-4, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("roll", ROLLS)
def test_a_box_on_the_embedded_data_earns_the_rate_every_day(embedded, roll):
    tape = tape_of(embedded, roll=roll)
    chain = {slot.name: i for i, slot in enumerate(tape.slots)}
    box = np.zeros(20)
    box[[chain["30D_Call_0.90"], chain["30D_Put_1.10"]]] = 1
    box[[chain["30D_Put_0.90"], chain["30D_Call_1.10"]]] = -1
    days = np.diff(embedded.dates).astype(float)
    growth = (tape.aged[0, 1:] @ box) / (tape.mark[0, :-1] @ box)
    late = tape.days_to_expiry[:-1, 0] < days
    # Where the rate changes, what is left of the box is discounted anew.
    left = np.maximum(tape.days_to_expiry[:-1, 0] - days, 0.0)
    revalued = (embedded.rate[:-1] - embedded.rate[1:]) * left / 365
    expected = np.exp(embedded.rate[:-1] * days / 365 + revalued)
    np.testing.assert_allclose(growth[~late], expected[~late], rtol=1e-9)
    # Only a closing that nobody could know of beforehand lets a contract settle late.
    assert late.sum() <= 2
