"""The classical hedges against published numbers.

J. Cao, J. Chen, J. Hull and Z. Poulos, Deep hedging of derivatives using reinforcement learning
(2021): a call at the money, costs of 1 %; mean, standard deviation and mean + 1.5 deviations of the
cost, in percent of its price. Weekly means every fifth of 20 or 60 sessions, of 250 a year.
"""

import math

import numpy as np
import pytest

from agents.baselines.hedging import (
    BANDS,
    build_hedging_baselines,
    constant_band,
    delta_hedge,
    fit_hedges,
    hedging_costs,
    leland_hedge,
    whalley_wilmott_width,
    zakamouline_hedge,
)
from envs.core.batch import Window
from envs.options.black_scholes import price_and_greeks
from tests.envs.hedging.worlds import market_of, options_of, paths_of

PATHS = {20: 20_000, 60: 10_000}
NEAR = 1.0  # percent: two standard errors or more
# Sessions, rebalanced every: delta's mean, deviation and objective; band and its objective.
ROWS = {
    (20, 5): (69.1, 49.5, 143.3, 0.03, 140.7),
    (20, 1): (108.0, 37.7, 164.6, 0.10, 129.3),
    (60, 5): (54.6, 31.1, 101.3, 0.04, 95.1),
    (60, 1): (90.7, 29.2, 134.5, 0.08, 88.9),
}


@pytest.fixture(scope="module")
def histories():
    return {days: paths_of(paths, days, seed=5) for days, paths in PATHS.items()}


@pytest.mark.parametrize(("days", "every"), ROWS)
def test_delta_and_a_constant_band_cost_what_was_published(histories, days, every):
    mean, deviation, objective, width, banded = ROWS[days, every]
    options = options_of(days, rebalance_every=every)
    market, window = market_of(histories[days], options), Window(0, days + 1)
    lost = hedging_costs(delta_hedge(market), market, options, window)
    cost = 100.0 * lost.sum(axis=0)
    assert cost.mean() == pytest.approx(mean, abs=NEAR)
    assert cost.std() == pytest.approx(deviation, abs=NEAR)
    assert 100.0 * options.objective(lost) == pytest.approx(objective, abs=NEAR)
    lost = hedging_costs(constant_band(market, width), market, options, window)
    assert 100.0 * options.objective(lost) == pytest.approx(banded, abs=NEAR)


@pytest.mark.parametrize(("days", "error"), [(20, 0.191), (60, 0.112)])
def test_without_costs_the_error_of_daily_hedging_is_the_known_one(histories, days, error):
    options = options_of(days, costs={"rate_bps": 0.0})
    market = market_of(histories[days], options)
    lost = hedging_costs(delta_hedge(market), market, options, Window(0, days + 1))
    cost = lost.sum(axis=0)
    assert cost.std() == pytest.approx(error, abs=0.003)
    assert abs(cost.mean()) < 0.004
    greeks = price_and_greeks(100.0, 100.0, days / 250, 0.2, 0.0, 0.0, True)
    formula = math.sqrt(math.pi / 4) * greeks.vega * 0.2 / math.sqrt(days) / greeks.price
    assert cost.std() == pytest.approx(float(formula), rel=0.05)


@pytest.mark.parametrize(("rate_bps", "width"), [(100.0, 0.195), (10.0, 0.091)])
def test_the_band_of_whalley_and_wilmott_is_as_wide_as_published(rate_bps, width):
    options = options_of(20, costs={"rate_bps": rate_bps})
    market = market_of(paths_of(2), options)
    assert whalley_wilmott_width(market, options, 1.0)[0, 0] == pytest.approx(width, abs=5e-4)


def test_the_band_does_not_depend_on_the_level_of_prices():
    options = options_of(20)
    low, high = (
        market_of(paths_of(2, seed=3, initial_price=price), options) for price in (10.0, 5000.0)
    )
    for hedge in (leland_hedge, lambda m, o: zakamouline_hedge(m, o, 2.0)):
        one, two = (hedge(market, options).low[:, :20] for market in (low, high))
        np.testing.assert_allclose(one, two, rtol=1e-9)
    one, two = (whalley_wilmott_width(market, options, 2.0)[:, :20] for market in (low, high))
    np.testing.assert_allclose(one, two, rtol=1e-9)


def test_lelands_delta_is_that_of_a_higher_volatility_where_options_are_sold():
    sold, bought = (
        options_of(20, liability=[{"moneyness": 1.05, "quantity": q}]) for q in (-1.0, 1.0)
    )
    history = paths_of(2)
    market = market_of(history, sold)
    variance = 0.04 * (1 + math.sqrt(2 / math.pi) * 0.02 / (0.2 * math.sqrt(1 / 250)))
    expected = price_and_greeks(100.0, 105.0, 20 / 250, math.sqrt(variance), 0.0, 0.0, True)
    np.testing.assert_allclose(leland_hedge(market, sold).low[:, 0], expected.delta, rtol=1e-9)
    of_bought = market_of(history, bought)
    assert (np.abs(leland_hedge(of_bought, bought).low[:, 0]) < np.abs(of_bought.delta[:, 0])).all()


def test_every_hedge_is_built_and_what_is_fitted_is_better_than_delta():
    options = options_of(20)
    market, train = market_of(paths_of(2000, seed=1), options), market_of(paths_of(500), options)
    window = Window(0, 21)
    hedges = build_hedging_baselines(market, options, fit_hedges(train, options, window))
    scores = {
        hedge.name: options.objective(hedging_costs(hedge.policy, market, options, window))
        for hedge in hedges
    }
    assert sorted(scores, key=lambda name: scores[name]) == [
        *("zakamouline", "constant_band", "whalley_wilmott", "leland", "static", "delta")
    ]
    lost = hedging_costs(hedges[-1].policy, market, options, window)
    trades = np.abs(np.diff(lost, axis=0))
    assert trades.shape == (19, 2000)


def test_a_fit_is_to_the_objective_that_is_named():
    widths = []
    for objective in ({"kind": "cvar", "tail": 0.02}, {"kind": "mean_deviation", "multiple": 0.0}):
        options = options_of(20, objective=objective)
        fitted = fit_hedges(market_of(paths_of(300), options), options, Window(0, 21))
        widths.append(fitted.width)
    assert widths[0] < widths[1] == max(BANDS)
