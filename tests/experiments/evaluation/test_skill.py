"""Skill: certainty equivalents by hand, and policies whose skill is known beforehand."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from agents.baselines.reference import CASH
from conf.errors import InputError
from envs.core.kernel import BookState
from envs.market.sources.index import past_of
from envs.option_portfolio.market import OptionMarket, OptionMarketSettings
from experiments.evaluation.skill import (
    NAMES,
    TRAINING,
    UNSEEN,
    Moments,
    build_paths,
    certainty_equivalent,
    compare,
    fixed_worlds,
    measure_skill,
    moments_of,
    skill_worlds,
)

SHAPE = {"paths": 6, "sessions": 200}
SMALL: dict[str, Any] = {**SHAPE, "training_paths": 6}


@pytest.fixture(scope="module")
def settings():
    return OptionMarketSettings()


@pytest.fixture(scope="module")
def past(settings):
    return past_of(settings.load(), "train")


@pytest.fixture(scope="module")
def worlds(settings, past):
    return list(skill_worlds(settings, past, **SMALL))


@pytest.fixture(scope="module")
def garch(worlds):
    return worlds[NAMES.index("garch")]


# --- arithmetic ----------------------------------------------------------------------------------


def test_a_certainty_equivalent_by_hand():
    """Days 1 %, -1 %, 2 %, 0 on two paths: mean .5 %, variance 1.25e-4; 252 of them a year."""
    moments = moments_of(np.array([[0.01, -0.01], [0.02, 0.0]]))
    assert certainty_equivalent(moments, 252.0) == pytest.approx(252 * (0.005 - 2.5 * 1.25e-4))
    assert certainty_equivalent(moments_of(np.zeros((3, 5))), 252.0) == 0.0


def drawn(paths=40, seeds=1, shift=0.0):
    rng = np.random.default_rng(0)
    market = 2e-4 + 0.005 * rng.standard_normal((paths, 500))
    own = 0.001 * rng.standard_normal((seeds, paths, 500)) + shift
    return moments_of(market + own), moments_of(market)


def test_on_the_same_paths_the_difference_is_known_better_than_either():
    agents, book = drawn()
    result = compare("garch", agents, book, 252.0)
    for interval in (result.policy, result.static, result.difference, result.ratio):
        assert interval is not None
        assert interval.low < interval.value < interval.high

    def width(interval):
        return interval.high - interval.low

    assert width(result.difference) < 0.5 * min(width(result.policy), width(result.static))
    assert result.ratio is not None
    assert result.ratio.value == pytest.approx(result.policy.value / result.static.value)


def test_several_seeds_are_averaged_and_widen_the_interval():
    agents, book = drawn(seeds=2)
    apart = Moments(agents.mean + np.array([[2e-4], [-2e-4]]), agents.square)
    near, far = (compare("garch", each, book, 252.0) for each in (agents, apart))
    alone = [
        compare("garch", Moments(m[None], s[None]), book, 252.0)
        for m, s in zip(*apart, strict=True)
    ]
    assert far.policy.value == pytest.approx(np.mean([one.policy.value for one in alone]))
    wide, narrow = (each.difference.high - each.difference.low for each in (far, near))
    assert wide > 2.0 * narrow


def test_where_the_static_book_is_worth_too_little_there_is_no_ratio():
    agents, book = drawn()
    poor = Moments(book.mean - book.mean.mean() + 7e-5, book.square)
    assert certainty_equivalent(poor, 252.0) < 0.005
    assert compare("heston", agents, poor, 252.0).ratio is None


# --- the worlds ----------------------------------------------------------------------------------


def test_the_static_book_as_a_policy_has_a_ratio_of_exactly_one(garch):
    book = garch.static_book
    lived = garch.live(book)
    better = Moments(lived.mean + 1e-3, lived.square)  # so small a world may not pay by chance
    again = Moments(better.mean[None], better.square[None])
    assert np.abs(garch.weights).max() > 0.05
    assert compare("garch", again, better, 252.0).ratio == (1.0, 1.0, 1.0)
    measured = measure_skill([book], [garch], resamples=50).worlds[0]
    assert measured.difference == (0.0, 0.0, 0.0)


def test_cash_is_worth_nothing_anywhere_and_is_the_best_book_of_the_fair_world(worlds):
    skill = measure_skill([CASH.policy], worlds, resamples=50)
    assert [world.world for world in skill.worlds] == list(NAMES)
    for world in skill.worlds:
        assert world.policy.value == pytest.approx(0.0, abs=1e-12)
    fair = skill.worlds[-1]
    assert fair.static == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)
    assert fair.difference == (0.0, 0.0, 0.0)
    assert fair.ratio is None
    assert (skill.policies, skill.paths) == (1, 6)
    assert skill.years == pytest.approx((200 - worlds[0].window.start - 1) / 252)


@dataclass(frozen=True)
class Foresight:
    """Trades what it could not know: today at the money, the side that gains by tomorrow."""

    market: OptionMarket

    def quantities(self, books: BookState):
        tape, at = self.market.tape, (books.path, books.session)
        change = tape.aged[books.path, books.session + 1] - tape.mark[at]
        spot = self.market.history.close[at]
        quantity = np.zeros_like(change)
        for slot, contract in enumerate(tape.slots):
            if contract.moneyness == 1.0 and contract.maturity_days == 30:
                large = np.abs(change[:, slot]) > 0.004 * spot
                quantity[:, slot] = np.sign(change[:, slot]) * large * 0.2 * books.equity / spot
        return quantity


def test_planted_foresight_is_seen(worlds):
    garch = worlds[NAMES.index("garch")]
    known = garch.live(Foresight(garch.market))
    sure = Moments(np.full(6, 3e-4), np.full(6, 1e-6))  # a good book: 7 % a year
    result = compare("garch", Moments(known.mean[None], known.square[None]), sure, 252.0)
    assert result.ratio is not None
    assert result.ratio.low > 1.0
    assert measure_skill([Foresight(garch.market)], [garch]).worlds[0].difference.low > 0.0


def test_the_unseen_paths_are_not_those_that_the_static_book_was_fitted_to(settings, past, garch):
    world = fixed_worlds(past)["garch"]
    training, _ = build_paths(world, settings, past, (TRAINING, 0), **SHAPE)
    unseen, _ = build_paths(world, settings, past, (UNSEEN, 0), **SHAPE)
    np.testing.assert_array_equal(unseen.history.close, garch.market.history.close)
    moves = [np.diff(np.log(market.history.close)) for market in (training, unseen)]
    between = np.corrcoef(np.concatenate(moves))[:6, 6:]
    assert np.abs(between).max() < 0.35


def test_only_training_years_are_read(settings, past, worlds):
    """Worlds of a history that ends with them are the same."""
    data = settings.load()
    assert past.dates[-1] < data.history.dates[data.splits.validation.start]
    (again,) = skill_worlds(settings, past, ("regime",), **SMALL)
    regime = worlds[NAMES.index("regime")]
    np.testing.assert_array_equal(again.market.history.close, regime.market.history.close)
    np.testing.assert_array_equal(again.weights, regime.weights)


def test_the_named_premia_are_there_and_the_fair_world_is_flat(worlds):
    by_name = {world.name: world.market for world in worlds}
    charged, none = (by_name[n].history.implied_vol for n in ("heston_premium", "heston"))
    assert charged.mean() - none.mean() == pytest.approx(0.03, abs=0.02)
    assert (by_name["fair"].history.implied_vol == 0.2).all()


def test_an_unknown_world_is_refused(settings, past):
    with pytest.raises(InputError, match=r"no world 'mars'.*Known: garch"):
        list(skill_worlds(settings, past, ("mars",)))
    with pytest.raises(InputError, match="no policy"):
        measure_skill([], [])
