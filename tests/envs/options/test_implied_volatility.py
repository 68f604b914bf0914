"""Inverting prices gives back the volatility they were made with, or says that there is none."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from conf.errors import InputError
from envs.options.black_scholes import price, price_and_greeks
from envs.options.implied_volatility import implied_volatility


@given(
    strike=st.floats(20.0, 500.0),
    tau=st.floats(1 / 365, 5.0),
    vol=st.floats(0.01, 3.0),
    rate=st.floats(-0.05, 0.15),
    dividend=st.floats(-0.05, 0.15),
    is_call=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_round_trip(
    strike: float, tau: float, vol: float, rate: float, dividend: float, is_call: bool
) -> None:
    contract = (100.0, strike, tau, vol, rate, dividend, is_call)
    value = price_and_greeks(*contract)
    # Below this vega the price, a number of order 100, does not hold eight digits of volatility.
    assume(value.vega > 1e-4)
    implied = implied_volatility(value.price, *contract[:3], *contract[4:])
    assert implied == pytest.approx(vol, abs=1e-8)


@given(moneyness=st.floats(0.0, 3.0), deviation=st.floats(0.002, 6.0), put=st.booleans())
@settings(max_examples=200, deadline=None)
def test_out_of_the_money_even_tiny_prices_hold_the_full_volatility(
    moneyness: float, deviation: float, put: bool
) -> None:
    strike = 100.0 * math.exp(-moneyness if put else moneyness)
    value = price(100.0, strike, 1.0, deviation, 0.0, 0.0, not put)
    assume(1e-290 < value < 0.999 * min(strike, 100.0))
    implied = implied_volatility(value, 100.0, strike, 1.0, 0.0, 0.0, not put)
    assert implied == pytest.approx(deviation, rel=1e-10)


def test_a_million_to_one_book_inverts_in_one_call() -> None:
    rng = np.random.default_rng(5)
    strike = 100 * np.exp(rng.normal(0, 0.3, (50, 1, 20)))
    tau = rng.uniform(0.02, 2, (30, 1))
    vol = rng.uniform(0.05, 1.0, (50, 30, 20))
    is_call = strike > 100 * np.exp(0.02 * tau)
    values = price(100.0, strike, tau, vol, 0.03, 0.01, is_call)
    implied = implied_volatility(values, 100.0, strike, tau, 0.03, 0.01, is_call, strict=False)
    assert implied.shape == vol.shape
    assert np.array_equal(np.isnan(implied), values == 0.0)
    np.testing.assert_allclose(implied[values > 0], vol[values > 0], rtol=1e-9)


NO_VOLATILITY = {
    "under its intrinsic value": {"price": 19.0, "strike": 80.0},
    "at its intrinsic value": {"price": 20.0, "strike": 80.0},
    "worth nothing": {"price": 0.0},
    "a call worth the spot": {"price": 100.0},
    "a put worth the strike": {"price": 90.0, "strike": 90.0, "is_call": False},
    "negative": {"price": -1.0},
    "missing": {"price": math.nan},
    "infinite": {"price": math.inf},
    "expired": {"price": 1.0, "tau_years": 0.0},
}


@pytest.mark.parametrize("change", NO_VOLATILITY.values(), ids=NO_VOLATILITY.keys())
def test_a_price_outside_its_bounds_has_no_volatility(change: dict[str, Any]) -> None:
    option: dict[str, Any] = {
        "spot": 100.0,
        "strike": 100.0,
        "tau_years": 0.5,
        "rate": 0.0,
        "dividend_yield": 0.0,
        "is_call": True,
    }
    option.update(change)
    assert math.isnan(implied_volatility(**option, strict=False))
    with pytest.raises(InputError, match="no volatility gives price"):
        implied_volatility(**option)


def test_the_message_names_the_option_and_the_others_are_still_found() -> None:
    prices = [[5.0, 6.0], [7.0, 101.0]]
    implied = implied_volatility(prices, 100.0, 100.0, 0.5, 0.0, 0.0, True, strict=False)
    assert np.isnan(implied).tolist() == [[False, False], [False, True]]
    with pytest.raises(InputError, match=r"price 101 to option \[1, 1\] .* between 0 and 100"):
        implied_volatility(prices, 100.0, 100.0, 0.5, 0.0, 0.0, True)


def test_bad_market_data_is_an_error_even_where_missing_prices_are_not() -> None:
    with pytest.raises(InputError, match="spot is nan"):
        implied_volatility(5.0, math.nan, 100.0, 0.5, 0.0, 0.0, True, strict=False)


def test_an_option_inverts_alone_as_in_a_batch() -> None:
    prices = np.linspace(0.01, 99.0, 9000)
    together = implied_volatility(prices, 100.0, 100.0, 0.5, 0.0, 0.0, True)
    for i in (0, 4096, 8999):
        assert implied_volatility(prices[i], 100.0, 100.0, 0.5, 0.0, 0.0, True) == together[i]
    assert (np.diff(together) > 0).all()
