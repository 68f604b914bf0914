import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.errors import InputError
from risk.sizing import PositionSizer, kelly_fraction, volatility_leverage


def test_half_kelly_by_hand():
    # Full Kelly 0.6 - 0.4 / 2 = 0.4.
    assert kelly_fraction(0.6, 2.0, 1.0) == pytest.approx(0.2)
    assert kelly_fraction(0.6, 2.0, 1.0, kelly_share=1.0) == 0.25
    assert kelly_fraction(0.51, 1.0, 1.0) == pytest.approx(0.01)
    assert kelly_fraction(1.0, 1.0, 1.0) == 0.25


def test_without_an_edge_nothing_is_risked():
    assert kelly_fraction(0.5, 1.0, 1.0) == 0
    assert kelly_fraction(0.2, 1.0, 1.0) == 0


@given(st.floats(0.501, 0.99), st.floats(0.5, 3))
def test_full_kelly_maximises_expected_log_growth(p, odds):
    full = p - (1 - p) / odds
    fraction = kelly_fraction(p, odds, 1.0, kelly_share=1.0)
    if not 0.01 < full < 0.25:
        return
    assert fraction == pytest.approx(full)

    def growth(f):
        return p * math.log1p(f * odds) + (1 - p) * math.log1p(-f)

    assert growth(fraction) >= max(growth(fraction * 0.9), growth(fraction * 1.1)) - 1e-12


def test_extreme_odds_do_not_overflow():
    assert kelly_fraction(1.0, 1e-308, 1e308) == 0.25
    assert kelly_fraction(0.999, 1e-308, 1e308) == 0.0


@pytest.mark.parametrize(
    "bad",
    [(1.1, 1, 1), (-0.1, 1, 1), (0.5, 0, 1), (0.5, 1, math.nan), (None, 1, 1), (0.5, "2", 1)],
)
def test_kelly_refuses_impossible_odds(bad):
    with pytest.raises(InputError):
        kelly_fraction(*bad)


def test_leverage_brings_volatility_to_its_target_inside_the_range():
    assert volatility_leverage(0.10) == pytest.approx(3.0)
    assert volatility_leverage(0.30) == 1.0
    assert volatility_leverage(0.90) == 1.0
    assert volatility_leverage(0.001) == 10.0
    assert volatility_leverage(0.0) == volatility_leverage(math.nan) == 1.0
    with pytest.raises(InputError, match="leverage_range"):
        volatility_leverage(0.2, (5.0, 1.0))
    with pytest.raises(InputError, match="volatility is 'x'"):
        volatility_leverage("x")  # type: ignore[arg-type]


def test_a_stopped_trade_costs_its_share_of_the_account():
    sizer = PositionSizer()
    # The documented call: risk $200, the stop 5 away (wider than 2 x 2): 40 units, $4,000.
    assert sizer.calculate_size(10_000, atr=2.0, entry_price=100, stop_loss_points=5) == 40
    assert sizer.calculate_size(10_000, atr=4.0, entry_price=100, stop_loss_points=5) == 25
    assert sizer.calculate_size(10_000, atr=0.1, entry_price=100) == 100  # all of the account
    for bad in ({"atr": 0}, {"account_balance": -1}, {"entry_price": math.inf}):
        with pytest.raises(InputError, match=next(iter(bad))):
            sizer.calculate_size(
                **{"account_balance": 1e4, "atr": 2.0, "entry_price": 100.0, **bad}
            )


def test_stop_price_and_position_size_assume_the_same_stop():
    sizer = PositionSizer()
    assert sizer.stop_price(100.0, atr=2.0) == 96.0
    assert sizer.stop_price(100.0, atr=2.0, stop_loss_points=5) == 95.0
    assert sizer.stop_price(100.0, atr=2.0, short=True) == 104.0
    size = sizer.calculate_size(10_000, atr=4.0, entry_price=100)
    assert size * (100 - sizer.stop_price(100.0, atr=4.0)) == pytest.approx(200.0)


def test_more_than_the_whole_account_is_not_risked():
    with pytest.raises(InputError, match="risk_per_trade is 5"):
        PositionSizer(risk_per_trade=5)
