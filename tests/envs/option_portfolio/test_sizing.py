from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.baselines.options import build_baselines
from envs.core.batch import Window
from envs.option_portfolio.sizing import SizingSettings, largest_quantity, target_quantity
from envs.options.surface import VixSurface
from experiments.backtests.backtest import run_backtest
from tests.markets import kernel_of, market_of, options_of, random_walk, wandering_vol


def sized(action, current=0.0, premium=5.2, spot=1000.0, equity=100_000.0, **options):
    asked, held, price = (np.array([[float(x)]]) for x in (action, current, premium))
    quantity = target_quantity(
        asked, held, price, np.array([spot]), np.array([equity]), SizingSettings(**options)
    )
    return float(quantity[0, 0])


def test_the_documented_example():
    assert sized(0.82, premium=5.20, max_notional=100) == 0.82 * 20_000 / 5.20


def test_notional_bounds_what_premium_does_not():
    assert sized(0.82, premium=5.20) == 100.0
    assert sized(-1, premium=5.20) == -100.0
    assert sized(-0.001, premium=5.20) == -0.001 * 20_000 / 5.20


def test_a_contract_below_the_tick_is_closed_and_never_opened():
    assert sized(1, current=0, premium=0.04) == 0
    assert sized(-1, current=0, premium=0.04) == 0
    assert sized(-1, current=30, premium=0.04) == 0
    assert sized(0.5, current=30, premium=0.04) == 30
    assert sized(0, current=-30, premium=0.04) == 0
    assert sized(1, current=-30, premium=0.0) == 0


def test_a_change_inside_the_band_is_left_alone():
    band = {"no_trade_band": 0.01, "max_notional": 100}
    assert sized(0.5, current=1990, premium=5.0, **band) == 1990
    assert sized(0.5, current=1700, premium=5.0, **band) == 2000
    assert sized(0, current=100, premium=5.0, **band) == 0
    assert sized(0.5, current=101, premium=5.0, no_trade_band=0.01, max_notional=1.0) == 100


def test_whole_contracts_round_towards_zero():
    whole = {"fractional": False, "contract_multiplier": 100, "max_notional": 10}
    assert sized(0.5, premium=7.0, **whole) == 1000  # 1,428 requested, 14 contracts, cap 1,000
    assert sized(0.2, premium=7.0, **whole) == 500
    assert sized(-0.2, premium=7.0, **whole) == -500


def test_without_equity_everything_is_closed():
    assert sized(1, current=20, equity=0) == 0
    assert sized(1, current=20, equity=-5) == 0


NOTIONAL = {"unit": "notional"}


@pytest.mark.parametrize("premium", [0.06, 5.2, 300.0])
def test_of_unit_notional_an_action_is_a_share_of_the_largest_notional(premium):
    assert sized(0.82, premium=premium, **NOTIONAL) == pytest.approx(82.0)
    assert sized(-0.3, premium=premium, max_notional=0.5, **NOTIONAL) == pytest.approx(-15.0)
    assert sized(1, current=-30, premium=0.04, **NOTIONAL) == 0
    whole = {"fractional": False, "contract_multiplier": 40}
    assert sized(0.95, premium=premium, **NOTIONAL, **whole) == 80
    assert sized(0.82, premium=premium, equity=-5.0, **NOTIONAL) == 0


def test_of_unit_notional_so_is_the_no_trade_band():
    band = {"no_trade_band": 0.01, **NOTIONAL}
    for premium in (0.06, 300.0):
        assert sized(0.5, current=50.99, premium=premium, **band) == 50.99
        assert sized(0.5, current=51.01, premium=premium, **band) == 50
        assert sized(0, current=0.5, premium=premium, **band) == 0
        assert sized(1, current=100.5, premium=premium, **band) == 100


@pytest.mark.parametrize("unit", ["premium", "notional"])
def test_the_largest_quantity_is_what_an_action_of_one_asks_for(unit):
    premium, equity = np.array([[0.1, 5.0, 20.0, 300.0]]), np.array([1e5])
    spot, options = np.array([1000.0]), SizingSettings(unit=unit)
    most = largest_quantity(premium, spot, equity, options)
    ones, none = np.ones_like(premium), np.zeros_like(premium)
    np.testing.assert_allclose(
        most, target_quantity(ones, none, premium, spot, equity, options), rtol=1e-15
    )


def test_a_box_spread_of_equal_notional_earns_exactly_the_risk_free_rate():
    """Long call and short put at one strike, the reverse at another: a bond, whatever happens."""
    options = options_of(sizing=NOTIONAL, chain={"maturities_days": [30]})
    kernel = kernel_of(random_walk(120, seed=2), options=options)
    names = [slot.name for slot in kernel.market.tape.slots]
    box = {"30D_Call_0.95": 1, "30D_Put_0.95": -1, "30D_Call_1.05": -1, "30D_Put_1.05": 1}
    action = np.array([[0.8 * box.get(name, 0) for name in names]])
    kernel.reset()
    while not kernel.market.tape.rolled[kernel.session[0]].all():
        kernel.step(np.zeros_like(action))
    first, quantity = int(kernel.session[0]), kernel.quantity_of(action)
    assert set(np.abs(quantity[quantity != 0])) == {np.abs(quantity).max()}
    kernel.trade_to(quantity)
    while not kernel.market.tape.rolled[kernel.session[0]].all():
        kernel.trade_to(quantity)
    days = kernel.market.history.dates[[first, kernel.session[0]]].astype("datetime64[D]")
    grown = np.exp(0.025 * float(np.diff(days)[0].astype(int)) / 365) - 1
    cash = kernel.options.initial_equity_usd
    before = cash * np.exp(
        0.025 * float((days[0] - kernel.market.history.dates[kernel.start[0]]).astype(int)) / 365
    )
    assert kernel.ledger.equity[0] - before == pytest.approx(before * grown, rel=1e-9)


@settings(max_examples=300, deadline=None)
@given(
    action=st.floats(-1, 1),
    current=st.floats(-1e4, 1e4),
    premium=st.floats(0, 2000),
    spot=st.floats(1, 5000),
    equity=st.just(0.0) | st.floats(1e-3, 1e6),
)
def test_caps_hold_and_nothing_is_opened_below_the_tick(action, current, premium, spot, equity):
    quantity = sized(action, current, premium, spot, equity)
    cap = equity / spot * (1 + 1e-12)
    assert abs(quantity) <= max(cap, abs(current) if premium < 0.05 else 0)
    if premium >= 0.05:
        assert abs(quantity) * premium <= 0.2 * equity * (1 + 1e-12)
    else:
        assert min(current, 0) <= quantity <= max(current, 0)


@pytest.mark.parametrize("scale", [0.01, 0.1, 10.0, 100.0])
def test_the_same_returns_at_another_price_level_give_the_same_books(scale):
    def equity_of(scale):
        history = random_walk(160, seed=4, implied_vol=wandering_vol(160))
        bars = {name: getattr(history, name) * scale for name in ("open", "high", "low", "close")}
        options = options_of()
        market = market_of(replace(history, **bars), options, VixSurface())
        books = {b.name: b.policy for b in build_baselines(market, options, None)}
        return {
            name: run_backtest(books[name], market, options, Window(60, 160)).equity[0]
            for name in ("put_write", "iron_condor", "equal_weight_short", "random")
        }

    ours, theirs = equity_of(1.0), equity_of(scale)
    for name, equity in ours.items():
        assert equity.std() > 1.0
        np.testing.assert_allclose(theirs[name], equity, rtol=1e-9, err_msg=name)
