"""European prices and Greeks against the literature, QuantLib and their own limits."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
import QuantLib as ql
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.errors import InputError
from envs.options.black_scholes import PriceAndGreeks, in_blocks, price, price_and_greeks

CONTRACT = {
    "spot": 100.0,
    "strike": 105.0,
    "tau_years": 0.5,
    "vol_annual": 0.2,
    "rate": 0.03,
    "dividend_yield": 0.01,
    "is_call": True,
}

contracts = st.fixed_dictionaries(
    {
        "spot": st.floats(1.0, 5000.0),
        "strike": st.floats(1.0, 5000.0),
        "tau_years": st.floats(0.0, 5.0),
        "vol_annual": st.floats(0.0, 3.0),
        "rate": st.floats(-0.05, 0.2),
        "dividend_yield": st.floats(-0.05, 0.2),
    }
)


def random_contracts(count: int, seed: int = 7) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "spot": rng.uniform(50, 150, count),
        "strike": rng.uniform(50, 150, count),
        "tau_years": rng.uniform(0.01, 3.0, count),
        "vol_annual": rng.uniform(0.05, 0.9, count),
        "rate": rng.uniform(-0.02, 0.1, count),
        "dividend_yield": rng.uniform(-0.02, 0.1, count),
        "is_call": rng.random(count) < 0.5,
    }


@pytest.mark.parametrize(
    ("arguments", "call", "put"),
    [
        ((42, 40, 0.5, 0.20, 0.10, 0), 4.75942, 0.80860),
        ((930, 900, 2 / 12, 0.20, 0.08, 0.03), 51.83296, None),
        ((100, 100, 1, 0.20, 0.05, 0), 10.45058, 5.57353),
    ],
)
def test_prices_are_those_of_the_literature(
    arguments: tuple[float, float, float, float, float, float], call: float, put: float | None
) -> None:
    assert price(*arguments, True) == pytest.approx(call, abs=5.1e-6)
    if put is not None:
        assert price(*arguments, False) == pytest.approx(put, abs=5.1e-6)


def test_greeks_of_the_textbook_option() -> None:
    greeks = price_and_greeks(100, 100, 1, 0.2, 0.05, 0, True)
    assert greeks.delta == pytest.approx(0.63683, abs=5e-6)
    assert greeks.vega == pytest.approx(37.524, abs=5e-4)


def test_ten_thousand_random_contracts_agree_with_quantlib() -> None:
    book = random_contracts(10_000)
    ours = price_and_greeks(**book)
    theirs = np.array([_quantlib(*row) for row in zip(*book.values(), strict=True)]).T
    for name, mine, expected in zip(PriceAndGreeks._fields, ours, theirs, strict=True):
        scale = np.maximum(np.abs(expected), 1e-3 * np.abs(expected).max())
        assert np.max(np.abs(mine - expected) / scale) < 1e-10, name


def _quantlib(
    spot: float, strike: float, tau: float, vol: float, rate: float, dividend: float, call: bool
) -> tuple[float, ...]:
    payoff = ql.PlainVanillaPayoff(ql.Option.Call if call else ql.Option.Put, float(strike))
    forward = spot * math.exp((rate - dividend) * tau)
    option = ql.BlackCalculator(payoff, forward, vol * math.sqrt(tau), math.exp(-rate * tau))
    return (
        option.value(),
        option.delta(spot),
        option.gamma(spot),
        option.theta(spot, tau),
        option.vega(tau),
        option.rho(tau),
    )


def test_greeks_are_the_derivatives_of_the_price() -> None:
    book = random_contracts(500, seed=3)

    def slope(argument: str, step: float) -> Any:
        up, down = dict(book), dict(book)
        up[argument], down[argument] = book[argument] + step, book[argument] - step
        return (price(**up) - price(**down)) / (2 * step)

    greeks = price_and_greeks(**book)
    np.testing.assert_allclose(greeks.delta, slope("spot", 1e-4), atol=1e-7)
    np.testing.assert_allclose(greeks.theta, -slope("tau_years", 1e-6), atol=2e-5)
    np.testing.assert_allclose(greeks.vega, slope("vol_annual", 1e-6), atol=2e-5)
    np.testing.assert_allclose(greeks.rho, slope("rate", 1e-6), atol=2e-5)
    up, down = ({**book, "spot": book["spot"] + step} for step in (1e-4, -1e-4))
    bend = (price_and_greeks(**up).delta - price_and_greeks(**down).delta) / 2e-4
    np.testing.assert_allclose(greeks.gamma, bend, atol=1e-7)


@given(contracts)
@settings(max_examples=300, deadline=None)
def test_put_call_parity(contract: dict[str, float]) -> None:
    call = price_and_greeks(**contract, is_call=True)
    put = price_and_greeks(**contract, is_call=False)
    tau = contract["tau_years"]
    spot = contract["spot"] * math.exp(-contract["dividend_yield"] * tau)
    strike = contract["strike"] * math.exp(-contract["rate"] * tau)
    assert abs(call.price - put.price - (spot - strike)) <= 1e-12 * max(spot, strike)
    assert call.delta - put.delta == pytest.approx(spot / contract["spot"], rel=1e-12)
    assert call.gamma == put.gamma
    assert call.vega == put.vega


@given(contracts, st.booleans(), st.floats(0.001, 2.0))
@settings(max_examples=300, deadline=None)
def test_price_rises_with_volatility_between_its_bounds(
    contract: dict[str, float], call: bool, extra: float
) -> None:
    tau = contract["tau_years"]
    spot = contract["spot"] * math.exp(-contract["dividend_yield"] * tau)
    strike = contract["strike"] * math.exp(-contract["rate"] * tau)
    rounding = 1e-13 * max(spot, strike)
    now = price(**contract, is_call=call)
    later = price(**{**contract, "vol_annual": contract["vol_annual"] + extra}, is_call=call)
    assert now - rounding <= later <= (spot if call else strike) + rounding
    assert max((spot - strike) if call else (strike - spot), 0.0) - rounding <= now


@given(contracts, st.booleans(), st.sampled_from(["tau_years", "vol_annual"]))
@settings(max_examples=200, deadline=None)
def test_without_time_or_volatility_an_option_is_its_intrinsic_value(
    contract: dict[str, float], call: bool, gone: str
) -> None:
    contract = {**contract, gone: 0.0}
    tau = contract["tau_years"]
    spot = contract["spot"] * float(np.exp(-contract["dividend_yield"] * tau))
    strike = contract["strike"] * float(np.exp(-contract["rate"] * tau))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = price_and_greeks(**contract, is_call=call)
    intrinsic = max(spot - strike, 0.0) if call else max(strike - spot, 0.0)
    if abs(spot - strike) > 1e-12 * spot:
        assert value.price == intrinsic
        assert value.gamma == 0.0
        assert value.vega == 0.0
        assert abs(value.delta) in (0.0, spot / contract["spot"])
    assert value.price == pytest.approx(intrinsic, abs=1e-12 * spot)
    assert all(np.isfinite(greek) for greek in value)


@pytest.mark.parametrize("is_call", [True, False])
@pytest.mark.parametrize("gone", [{"tau_years": 0.0}, {"vol_annual": 0.0}])
def test_greeks_are_finite_at_the_kink(gone: dict[str, float], is_call: bool) -> None:
    at_strike = {**CONTRACT, "strike": 100.0, "dividend_yield": 0.03, **gone, "is_call": is_call}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = price_and_greeks(**at_strike)
    assert value.price == 0.0
    tau = at_strike["tau_years"]
    assert value.delta == pytest.approx((0.5 if is_call else -0.5) * math.exp(-0.03 * tau))
    assert value.gamma == 0.0
    assert all(np.isfinite(greek) for greek in value)


def test_deep_in_the_money_is_a_forward_and_deep_out_of_the_money_worth_nothing() -> None:
    for spot, call in ((1e6, True), (1e-2, False)):
        deep = price_and_greeks(spot, 100, 0.1, 0.2, 0.03, 0.01, call)
        forward = spot * math.exp(-0.001) - 100 * math.exp(-0.003)
        assert deep.price == pytest.approx(abs(forward), rel=1e-14)
        assert deep.delta == pytest.approx(math.exp(-0.001) * (1 if call else -1), rel=1e-14)
        other = price_and_greeks(spot, 100, 0.1, 0.2, 0.03, 0.01, not call)
        assert other == PriceAndGreeks(*[np.zeros(())] * 6)


def test_no_price_is_negative_where_only_rounding_is_left() -> None:
    rng = np.random.default_rng(0)
    rate, dividend = rng.uniform(-0.05, 0.15, (2, 5000))
    vol = np.exp(rng.uniform(-39, -28, 5000))
    strike = 100 * np.exp(rate - dividend + vol * rng.uniform(-6, 6, 5000))
    for is_call in (True, False):
        assert price(100, strike, 1.0, vol, rate, dividend, is_call).min() >= 0.0


def test_far_out_of_the_money_prices_keep_their_relative_precision() -> None:
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(50):
        total = mpmath.mpf("0.2") * mpmath.sqrt(mpmath.mpf("0.25"))
        d1 = mpmath.log(mpmath.mpf(100) / 250) / total + total / 2
        exact = float(100 * mpmath.ncdf(d1) - 250 * mpmath.ncdf(d1 - total))
    assert exact == pytest.approx(1e-76, rel=10)
    assert price(100, 250, 0.25, 0.2, 0.0, 0.0, True) == pytest.approx(exact, rel=1e-10)


def test_arguments_broadcast_and_results_have_the_broadcast_shape() -> None:
    spot = np.linspace(80, 120, 6).reshape(2, 3, 1)
    result = price_and_greeks(spot, [90.0, 110.0], 0.1, 0.2, 0.03, 0.01, [True, False])
    assert {greek.shape for greek in result} == {(2, 3, 2)}
    alone = price_and_greeks(spot[1, 2, 0], 110.0, 0.1, 0.2, 0.03, 0.01, False)
    assert [greek[1, 2, 1] for greek in result] == list(alone)
    assert price(np.empty((0, 20)), 1.0, 0.1, 0.2, 0, 0, True).shape == (0, 20)


def test_a_price_does_not_depend_on_what_it_is_priced_with() -> None:
    book = random_contracts(20_000)  # several blocks, the last one incomplete
    together = np.stack(price_and_greeks(**book))
    for start in (0, 1, 8191, 8192, 19_999):
        alone = price_and_greeks(**{name: values[start] for name, values in book.items()})
        assert np.array_equal(together[:, start], np.stack(alone))
    backwards = {name: values[::-1] for name, values in book.items()}
    assert np.array_equal(together[:, ::-1], np.stack(price_and_greeks(**backwards)))
    assert np.array_equal(together[0], price(**book))


def test_inputs_are_left_alone() -> None:
    book = random_contracts(100)
    before = {name: values.copy() for name, values in book.items()}
    price_and_greeks(**book)
    assert all(np.array_equal(before[name], book[name]) for name in book)


@pytest.mark.parametrize("function", [price, price_and_greeks])
@pytest.mark.parametrize(
    ("name", "bad", "words"),
    [
        ("spot", 0.0, "spot is 0.0"),
        ("strike", [100.0, -5.0], r"strike\[1\] is -5.0"),
        ("strike", 0.0, "strike is 0.0"),
        ("tau_years", -0.1, "tau_years is -0.1"),
        ("vol_annual", [[0.2, math.nan]], r"vol_annual\[0, 1\] is nan"),
        ("rate", math.inf, "rate is inf"),
        ("rate", -math.inf, "rate is -inf"),
        ("dividend_yield", math.nan, "dividend_yield is nan"),
        ("spot", "much", "spot is not an array of numbers"),
        ("is_call", 1, "is_call has type int"),
        ("strike", [1.0, 2.0, 3.0], r"do not broadcast: .*strike \(3,\)"),
    ],
)
def test_a_bad_argument_is_named(function: Any, name: str, bad: Any, words: str) -> None:
    arguments = {**CONTRACT, "spot": [100.0, 101.0], name: bad}
    with pytest.raises(InputError, match=words):
        function(**arguments)


def test_pricing_imports_neither_torch_nor_stable_baselines3() -> None:
    code = (
        "import envs.options.black_scholes, sys; "
        "assert not {'torch', 'stable_baselines3'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_formula_sees_contiguous_pieces_in_their_own_types() -> None:
    sizes = []

    def formula(numbers: Any, flags: Any) -> tuple[Any, Any]:
        sizes.append(numbers.size)
        assert numbers.strides == (8,)
        assert flags.strides == (1,)
        assert numbers.dtype == np.float64
        assert flags.dtype == np.bool_
        return numbers * 2.0, np.where(flags, numbers, -1.0)

    numbers = np.arange(60_000.0).reshape(3, 20_000)[:, ::-2]
    flags = np.array([[True], [False], [True]])
    doubled, chosen = in_blocks(formula, [numbers, flags], outputs=2)
    assert np.array_equal(doubled, numbers * 2.0)
    assert np.array_equal(chosen, np.where(flags, numbers, -1.0))
    assert doubled.flags.c_contiguous
    assert len(sizes) > 1
    assert max(sizes) <= 8192


def test_nothing_in_gives_nothing_out() -> None:
    result = in_blocks(lambda values: (values,), [np.empty((0, 3))])[0]
    assert result.shape == (0, 3)
