"""Liabilities on a volatility surface, and options that are traded beside the underlying."""

import numpy as np
import pytest

from agents.baselines.hedging import (
    DeltaGammaHedge,
    delta_hedge,
    fit_hedges,
    hedging_costs,
    minimum_variance_hedge,
    run_hedge,
)
from conf.errors import InputError
from envs.core.batch import Window
from envs.hedging.market import HedgingMarketSettings
from envs.hedging.worlds import build_hedging_worlds
from envs.market.models.worlds import WorldSettings
from envs.market.sources.index import Sp500Data, load_market, past_of
from envs.options.chain import ChainSettings
from envs.options.surface import VixSurface
from envs.options.tape import build_tape
from tests.envs.hedging.worlds import kernel_of, market_of, options_of, paths_of

LIFE = 21


@pytest.fixture(scope="module")
def index():
    return load_market(Sp500Data(), embargo_days=0, warmup_sessions=1)


@pytest.fixture(scope="module")
def years(index):
    return index.history.sessions(3400, 3700)


def test_a_call_and_a_put_of_one_strike_differ_by_the_forward(years):
    call, put = (
        market_of(years, options_of(LIFE, liability=kind), VixSurface()) for kind in ("call", "put")
    )
    spot, t = years.close[0], np.arange(LIFE)
    days = (years.dates[LIFE] - years.dates[t]).astype(float) / 365.0
    forward = spot[t] * np.exp(-years.dividend_yield[t] * days)
    bond = spot[0] * np.exp(-years.rate[t] * days)
    np.testing.assert_allclose(call.mark[0, t, 1] - put.mark[0, t, 1], forward - bond, atol=1e-9)


def test_the_liability_is_worth_what_the_same_contract_is_in_the_option_book(years):
    tape = build_tape(years, VixSurface(), ChainSettings())
    slot = next(i for i, item in enumerate(tape.slots) if item.name == "30D_Call_1.00")
    life = int(np.searchsorted(years.dates, years.dates[0] + int(tape.days_to_expiry[0, slot])))
    market = market_of(years, options_of(life), VixSurface())
    for name in ("mark", "delta", "gamma", "vega"):
        ours = market.mark[..., 1] if name == "mark" else getattr(market, name)
        np.testing.assert_allclose(ours[0, :life], getattr(tape, name)[0, :life, slot], rtol=1e-9)
    assert market.aged[0, life, 1] == tape.aged[0, life, slot]
    flat = market_of(years, options_of(life))
    assert np.abs(flat.premium / market.premium - 1.0).max() > 0.05


def test_money_on_the_surface_is_that_of_a_ledger_kept_by_hand(years):
    """Dollars in, dollars out, for every liability of a year: nothing else was earned or lost."""
    options = options_of(LIFE, costs={"kind": "spread"})
    market = market_of(years, options, VixSurface())
    kernel = kernel_of(market, options)
    kernel.reset()
    spot, rng = years.close[0], np.random.default_rng(0)
    cash, shares, total_return = options.initial_equity_usd, 0.0, 1.0
    for t in range(LIFE * 12):
        record = kernel.step(rng.normal(0.0, 2.0, (1, 2))).record
        now, sold = record.quantity[0], t - t % LIFE
        units = 0.1 * options.initial_equity_usd / spot[sold]
        if t == sold:
            cash += units * market.mark[0, t, 1]
        price = spot[t] * total_return
        fee = total_return * (0.125 + 0.2e-4 * spot[t])
        cash -= (now[0] - shares) * price + abs(now[0] - shares) * fee
        shares, days = now[0], float((years.dates[t + 1] - years.dates[t]).astype(int))
        cash *= np.exp(years.rate[t] * days / 365.0)
        total_return *= np.exp(years.dividend_yield[t] * days / 365.0)
        owed = units * market.aged[0, t + 1, 1]
        if t + 1 == sold + LIFE:
            owed = units * max(spot[t + 1] - spot[sold], 0.0)
            fee = total_return * (0.125 + 0.2e-4 * spot[t + 1])
            cash += shares * spot[t + 1] * total_return - abs(shares) * fee - owed
            shares = owed = 0.0
        worth = cash + shares * spot[t + 1] * total_return - owed
        assert kernel.ledger.equity[0] == pytest.approx(worth, rel=1e-9)


def test_a_second_option_takes_most_of_the_error_that_delta_leaves():
    """Where trading is free; gamma is what daily hedging misses."""
    free = {"costs": {"rate_bps": 0.0}, "hedge_costs": {"kind": "flat", "rate_bps": 0.0}}
    options = options_of(20, hedges=[{"sessions": 60}], **free)
    market, window = market_of(paths_of(4000, seed=2), options), Window(0, 21)
    error = [
        hedging_costs(hedge, market, options, window).sum(axis=0)
        for hedge in (delta_hedge(market), DeltaGammaHedge(market))
    ]
    assert error[0].std() == pytest.approx(0.19, abs=0.01)
    assert error[1].std() < 0.065
    assert abs(error[1].mean()) < 0.004


def test_on_the_index_volatility_moves_against_it_and_less_than_delta_is_safer(index):
    """Fitted to the years before 2007, and so in those up to 2012."""
    options = options_of(LIFE, costs={"kind": "spread"})
    market = market_of(index.history.sessions(0, 3500), options, VixSurface())
    fitted = fit_hedges(market, options, Window(0, 2000))
    assert -0.2 <= fitted.slope < 0.0
    error = [
        hedging_costs(hedge, market, options, Window(2000, 3500)).sum(axis=0).std()
        for hedge in (delta_hedge(market), minimum_variance_hedge(market, fitted.slope))
    ]
    assert error[1] < 0.97 * error[0]


def test_listed_options_are_traded_at_the_costs_of_options():
    options = options_of(20, costs={"rate_bps": 0.0}, hedges=[{"sessions": 60}])
    market = market_of(paths_of(2), options)
    bought = market.units[:, 0] * market.neutral[:, 0, 0]
    run = run_hedge(DeltaGammaHedge(market), market, options, Window(0, 21))
    # At the money .85 bp of spot and 2 bp of premium, half as much again at a volatility of 20 %.
    price = market.mark[:, 0, 1]
    first = 0.85e-4 * 100.0 * (price / 1.45) ** 0.4 * (0.2008 / 0.15) + 2e-4 * price
    np.testing.assert_allclose(market.unit_cost[:, 0, 1], first, rtol=1e-3)
    assert (run.paid * market.premium[:, 0] > bought * first).all()
    with pytest.raises(InputError, match="does not outlive"):
        options_of(20, hedges=[{"sessions": 20}])


def test_worlds_lie_side_by_side_and_fair_ones_have_no_smile(index):
    worlds = WorldSettings(markets=10, paths=2, sessions=130)
    settings = HedgingMarketSettings(surface=VixSurface(), env=options_of(LIFE))
    past = past_of(index, "train")
    market = build_hedging_worlds(settings, worlds, past)
    assert market.history.num_paths == 20
    for name in ("mark", "unit_cost", "premium", "observed", "option_delta", "index_return"):
        assert len(getattr(market, name)) == 20
    assert market.listed.shape == (130,)
    # A fair world's at-the-money call is priced at the volatility of its data.
    fair = market_of(market.history, options_of(LIFE))
    same = np.isclose(fair.premium[:, 0], market.premium[:, 0], rtol=1e-12)
    assert same.tolist() == [False] * 18 + [True] * 2
    other = build_hedging_worlds(settings, worlds, past, unseen=True)
    assert not np.isin(other.history.close[:, 1], market.history.close[:, 1]).any()
