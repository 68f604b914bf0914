"""A hedger who is not told what volatility is: what is constant then, and what the blocks show."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agents.baselines.hedging import FittedHedges, build_hedging_baselines, hedging_costs
from conf.errors import InputError
from envs.core.batch import Window
from envs.hedging.market import HedgingMarket
from envs.options.black_scholes import price_and_greeks
from tests.envs.hedging.worlds import kernel_of, market_of, options_of, paths_of

HESTON: dict[str, Any] = {"model": "heston", "heston": {"initial_variance": None}}
FITTED = FittedHedges(0.1, 1.0, 1.0)


def two_markets(**changes) -> tuple[HedgingMarket, HedgingMarket]:
    """On the same closes, the second with all that was quoted twice as high."""
    history, options = paths_of(8, sessions=45, **HESTON), options_of(20, **changes)
    dear = replace(history, implied_vol=2.0 * history.implied_vol)
    return market_of(history, options), market_of(dear, options)


def test_with_a_number_nothing_depends_on_what_volatility_is():
    one, two = two_markets(volatility=0.25, extra_blocks=["last_return"])
    for name in vars(one):
        if name not in ("history", "features", "instruments"):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)
    np.testing.assert_array_equal(one.history.implied_vol, two.history.implied_vol)
    quoted, dear = two_markets()
    assert (quoted.premium != dear.premium).all()


def test_nor_do_the_classical_hedges():
    one, two = two_markets(volatility=0.25)
    options, window = options_of(20, volatility=0.25), Window(0, 46)
    for first, second in zip(
        *(build_hedging_baselines(market, options, FITTED) for market in (one, two)), strict=True
    ):
        cost, same = (
            hedging_costs(hedge.policy, market, options, window)
            for hedge, market in ((first, one), (second, two))
        )
        np.testing.assert_array_equal(cost, same, err_msg=first.name)


def test_the_liability_is_priced_at_that_number_and_the_entries_show_it():
    market, _ = two_markets(volatility=0.25)
    years, spot = market.years_left[7], market.history.close[:, 7]
    strike = market.history.close[:, 0]
    calendar = float((market.history.dates[20] - market.history.dates[7]).astype(int)) / 365
    vol = 0.25 * np.sqrt(years / calendar)
    expected = price_and_greeks(spot, strike, calendar, vol, 0.0, 0.0, True)
    np.testing.assert_allclose(market.mark[:, 7, 1], expected.price, rtol=1e-9)
    np.testing.assert_allclose(market.delta[:, 7], expected.delta, rtol=1e-9)
    names = [feature.name for feature in market.features]
    shown = market.observed[..., names.index("volatility")]
    np.testing.assert_allclose(shown, 0.25 / 0.2, rtol=1e-6)


def test_of_the_sale_is_known_what_was_quoted_then_and_no_more():
    history, options = paths_of(8, sessions=45, **HESTON), options_of(20, volatility="sale")
    later = 2.0 * history.implied_vol
    later[:, [0, 20, 40]] = history.implied_vol[:, [0, 20, 40]]
    one = market_of(history, options)
    two = market_of(replace(history, implied_vol=later), options)
    for name in ("mark", "aged", "delta", "gamma", "vega", "premium", "observed"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)
    quoted = market_of(history, options_of(20))
    np.testing.assert_array_equal(one.premium, quoted.premium)
    assert (one.delta[:, 1:20] != quoted.delta[:, 1:20]).any()


def test_the_last_return_is_in_deviations_of_a_session_and_none_at_the_sale():
    market, _ = two_markets(volatility=0.25, extra_blocks=["last_return"])
    names = [feature.name for feature in market.features]
    shown = market.observed[..., names.index("last_return")]
    moved = np.diff(np.log(market.history.close), axis=1) / (0.25 / np.sqrt(252))
    assert not shown[:, [0, 20, 40]].any()
    np.testing.assert_allclose(shown[:, 1:20], moved[:, :19], rtol=1e-5)
    np.testing.assert_allclose(shown[:, 21:40], moved[:, 20:39], rtol=1e-5)


def test_no_block_shows_what_comes_later():
    blocks = ["quoted_volatility", "last_return"]
    history, options = (
        paths_of(3, 60, **HESTON),
        options_of(20, volatility=0.2, extra_blocks=blocks),
    )
    changed: dict[str, Any] = {
        name: np.concatenate(
            [getattr(history, name)[:, :31], 1.3 * getattr(history, name)[:, 31:]], 1
        )
        for name in ("open", "high", "low", "close", "implied_vol")
    }
    one, two = market_of(history, options), market_of(replace(history, **changed), options)
    np.testing.assert_array_equal(one.observed[:, :31], two.observed[:, :31])
    assert (one.observed[:, 31:, -2:] != two.observed[:, 31:, -2:]).any(axis=(0, 1)).all()


def test_the_quoted_volatility_can_be_shown_beside_a_constant_price():
    options = {"volatility": 0.25, "extra_blocks": ["quoted_volatility", "last_return"]}
    one, two = two_markets(**options)
    names = [feature.name for feature in one.features]
    assert names[-4:] == ["quoted_volatility", "last_return", "holding", "cost"]
    at = names.index("quoted_volatility")
    np.testing.assert_allclose(two.observed[..., at], 2.0 * one.observed[..., at], rtol=1e-5)
    np.testing.assert_array_equal(one.premium, two.premium)
    kernel = kernel_of(one, options_of(20, **options), 8)
    np.testing.assert_array_equal(kernel.reset()[:, at], one.observed[:, 0, at])


@pytest.mark.parametrize("given", [0.0, 6.0, "implied"])
def test_other_volatilities_are_refused(given):
    with pytest.raises(
        InputError, match="write quoted, sale, or an annual volatility between 0 and 5"
    ):
        options_of(20, volatility=given)
