"""A mixture of markets has the laws that were asked for, and no world gives away what is unseen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conf.errors import InputError
from conf.settings import build_settings
from envs.market.history import MarketHistory
from envs.market.models.bootstrap import DayPool
from envs.market.models.garch import fit_index_garch
from envs.market.models.gbm import GbmModel
from envs.market.models.worlds import (
    World,
    WorldSettings,
    draw_worlds,
    garch_at,
    simulate_world,
    simulate_worlds,
)
from envs.market.sources.index import Sp500Data, load_market, past_of
from envs.option_portfolio.market import OptionMarketSettings, build_option_market
from envs.option_portfolio.worlds import build_worlds, join_markets
from envs.options.surface import FlatSurface
from tests.markets import market_of, random_walk

SMALL = WorldSettings(markets=10, paths=2, sessions=200)
PLAIN = World("fair", GbmModel(vol_annual=0.2), 0.0)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def past() -> MarketHistory:
    return past_of(load_market(Sp500Data(), embargo_days=60), "train")


def test_the_markets_are_of_the_kinds_and_in_the_ranges_asked_for(past: MarketHistory) -> None:
    options = replace(SMALL, markets=20)
    worlds = list(draw_worlds(options, past, rng(0)))
    kinds = [world.kind for world in worlds]
    assert [kinds.count(k) for k in ("heston", "garch", "regime", "fair")] == [7, 8, 3, 2]
    assert kinds == sorted(kinds, key=("heston", "garch", "regime", "fair").index)
    for world in worlds:
        assert not isinstance(world.model, DayPool)
        if world.kind == "fair":
            assert (world.excess_drift, world.noise_sd, world.crashes_per_year) == (0.0, 0.0, 0.0)
            assert world.model.vol_premium == 0.0
            continue
        assert -0.01 <= world.excess_drift <= 0.07
        assert -0.015 <= world.model.vol_premium <= 0.045
        assert 0.02 <= world.noise_sd <= 0.12
    assert len({world.excess_drift for world in worlds}) == 19


def test_equal_seeds_give_equal_worlds_and_unseen_ones_are_others(past: MarketHistory) -> None:
    first, again = simulate_worlds(SMALL, past), simulate_worlds(SMALL, past)
    unseen = simulate_worlds(SMALL, past, unseen=True)
    other = simulate_worlds(replace(SMALL, seed=1), past)
    drawn = simulate_worlds(SMALL, past, draw=1)
    assert first.smiling is not None
    assert first.flat is not None
    assert first.smiling.close.shape == (18, 200)
    assert first.flat.close.shape == (2, 200)
    prints = [each.smiling.fingerprint for each in (first, unseen, other, drawn) if each.smiling]
    assert again.smiling is not None
    assert again.smiling.fingerprint == prints[0]
    assert len(set(prints)) == 4


def test_nothing_after_the_training_years_is_used(past: MarketHistory) -> None:
    """The worlds of a history that goes on otherwise are the same."""
    whole = load_market(Sp500Data(), embargo_days=60)
    stop = whole.splits.train.stop
    changed = np.array(whole.history.close)
    changed[:, stop:] *= 1.3
    other = replace(
        whole,
        history=replace(whole.history, close=changed, high=np.maximum(changed, whole.history.high)),
    )
    first, second = (simulate_worlds(SMALL, past_of(w, "train")) for w in (whole, other))
    assert first.smiling is not None
    assert second.smiling is not None
    assert first.smiling.fingerprint == second.smiling.fingerprint


@pytest.mark.parametrize("drift", [0.0, 0.06])
def test_the_index_earns_its_drift_whatever_the_kind(past: MarketHistory, drift: float) -> None:
    options = WorldSettings(markets=1, paths=3000, sessions=253)
    garch = garch_at(fit_index_garch(past), drift, past, 0.0)
    crashing = {"crashes_per_year": 2.0, "crash_size": 0.08, "crash_sd": 0.04}
    rate, dividends = past.rate.mean(), past.dividend_yield.mean()
    for world in (
        World("garch", garch, drift),
        World("fair", GbmModel(vol_annual=0.2), drift, **crashing),
    ):
        history = simulate_world(world, options, past, rng(3))
        years = float((history.dates[-1] - history.dates[0]).astype(int)) / 365
        gross = history.close[:, -1] / 1000.0
        expected = np.exp((rate + drift - dividends) * years)
        assert abs(gross.mean() - expected) < 4 * gross.std() / np.sqrt(gross.size) + 0.003


def test_implied_volatility_expects_the_crashes(past: MarketHistory) -> None:
    options = WorldSettings(markets=1, paths=3000, sessions=253)
    world = replace(PLAIN, crashes_per_year=1.5, crash_size=0.05, crash_sd=0.03)
    history = simulate_world(world, options, past, rng(4))
    realised = np.diff(np.log(history.close), axis=1).var() * 252
    assert history.implied_vol.std() < 1e-12
    assert realised == pytest.approx(history.implied_vol[0, 0] ** 2, rel=0.02)
    assert history.implied_vol[0, 0] ** 2 == pytest.approx(0.2**2 + 1.5 * (0.05**2 + 0.03**2))
    assert (history.low <= np.minimum(history.open, history.close)).all()
    assert (history.high >= np.maximum(history.open, history.close)).all()


def test_noise_has_its_deviation_memory_and_answer_to_returns(past: MarketHistory) -> None:
    options = WorldSettings(markets=1, paths=400, sessions=400)
    noisy = replace(PLAIN, noise_sd=0.1, noise_half_life=10.0)
    noise = np.log(simulate_world(noisy, options, past, rng(5)).implied_vol / 0.2)
    assert noise.std() == pytest.approx(0.1, rel=0.03)
    assert noise[:, 0].std() == pytest.approx(0.1, rel=0.1)
    lagged = (noise[:, 10:] * noise[:, :-10]).mean() / (noise * noise).mean()
    assert lagged == pytest.approx(0.5, abs=0.03)
    answering = replace(PLAIN, noise_return_beta=1.5)
    history = simulate_world(answering, options, past, rng(6))
    change = np.diff(np.log(history.implied_vol[:, :20]), axis=1)
    moves = np.diff(np.log(history.close[:, :20]), axis=1)
    slope = (change * moves).sum() / (moves * moves).sum()
    assert slope == pytest.approx(-1.5, abs=0.1)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"vol_premium": [0.05, 0.01]}, "0.05 is above 0.01: give the lower end first"),
        ({"heston_correlation": [-0.5, 0.2]}, "heston_correlation"),
        ({"shares": dict.fromkeys(("heston", "garch", "regime", "fair"), 0)}, "every share is 0"),
        ({"calm_vol": [0.0, 0.1]}, "calm_vol"),
        ({"premium": [0, 1]}, "unknown setting"),
    ],
)
def test_impossible_ranges_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        build_settings(WorldSettings, values, "data.worlds")


# --- side by side --------------------------------------------------------------------------------


def test_markets_side_by_side_are_the_markets(past: MarketHistory) -> None:
    first = market_of(random_walk(120, paths=2, seed=1))
    second = market_of(random_walk(120, paths=3, seed=2), surface=FlatSurface(vol_annual=0.4))
    joined = join_markets([first, second])
    assert joined.history.num_paths == 5
    for part, paths in ((first, slice(0, 2)), (second, slice(2, 5))):
        assert np.array_equal(joined.tape.mark[paths], part.tape.mark)
        assert np.array_equal(joined.tape.aged[paths], part.tape.aged)
        assert np.array_equal(joined.unit_cost[paths], part.unit_cost)
        assert np.array_equal(joined.observed.before[paths], part.observed.before, equal_nan=True)
    assert np.array_equal(joined.rows.mark[3 * 120 + 7], second.mark[1, 7])


def test_fair_worlds_are_priced_flat_at_their_volatility(past: MarketHistory) -> None:
    settings = OptionMarketSettings(data=Sp500Data())
    market = build_worlds(settings, SMALL, past)
    assert market.history.num_paths == 20
    fair = market.tape.vol[-2:]
    assert (np.ptp(fair, axis=-1) < 1e-12).all()
    assert (np.ptp(market.tape.vol[:-2], axis=-1) > 1e-3).all()


def test_a_flat_surface_without_a_number_follows_implied_volatility() -> None:
    history = random_walk(80, implied_vol=np.linspace(0.1, 0.3, 80)[None])
    market = build_option_market(history, FlatSurface(vol_annual=None), OptionMarketSettings().env)
    expected = np.broadcast_to(np.linspace(0.1, 0.3, 80)[None, :, None], market.tape.vol.shape)
    assert np.array_equal(market.tape.vol, expected)
