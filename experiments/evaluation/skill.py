"""Skill where the truth is known: a policy against the best static book of simulated worlds.

On real years chance decides between good policies; a world can be lived through as often as one
likes. Five of them, always the same, none of which an agent is trained on unless it asks for it.
What counts is the certainty equivalent, annual mean - 2.5 x annual variance of the daily excess
return: what a sure return would have to be for an investor of risk aversion 5 to prefer it.

The static book opens the same notionals each time contracts are listed and holds them to expiry; of
all such books it is the best on training paths of the world, costs included, and is scored on the
unseen paths that the policy meets. Whoever only holds premia is worth 1.0 of it; more than that
takes timing. In the fair world cash is the best book there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from agents.baselines.hold_to_expiry import HoldToExpiry
from agents.baselines.mean_variance import best_static_weights, listing_costs, slot_returns
from agents.policy import Trader
from conf.errors import InputError
from conf.types import FloatArray, IntArray
from envs.core.batch import Window
from envs.market.history import MarketHistory
from envs.market.models.garch import fit_index_garch
from envs.market.models.gbm import GbmModel
from envs.market.models.heston import HestonModel
from envs.market.models.regimes import IndexRegimes, IndexState
from envs.market.models.worlds import World, WorldHistories, WorldSettings, simulate_world
from envs.option_portfolio.market import OptionMarket, OptionMarketSettings
from envs.option_portfolio.worlds import price_worlds
from experiments.backtests.backtest import run_backtest
from risk.bootstrap import Interval, percentile_interval
from risk.metrics import simple_returns

RISK_AVERSION = 5.0
PAYS = 0.005  # certainty equivalent a year of the best static book from which a ratio says anything
PATHS = TRAINING_PATHS = 240  # to be scored on; to fit the static book to
SESSIONS = 820  # of a path: three years and what indicators need before

TITLES = {
    "garch": "GARCH, as fitted",
    "heston_premium": "Heston, 3 points paid",
    "heston": "Heston, nothing paid",
    "regime": "Regimes, 2 points paid",
    "fair": "Fair Brownian motion",
}
NAMES = tuple(TITLES)
TRAINING, UNSEEN = 0, 1  # tells the seeds apart


@dataclass(frozen=True)
class SkillWorld:
    """A world to be lived through, and its best static book."""

    name: str
    market: OptionMarket  # the unseen paths
    window: Window
    settings: OptionMarketSettings
    weights: FloatArray  # (M,) of the static book, shares of equity; zeros are cash

    @property
    def static_book(self) -> HoldToExpiry:
        """The book that policies are measured by."""
        return HoldToExpiry(self.market, self.weights, np.arange(len(self.weights)), alike=False)

    def live(self, policy: Trader) -> Moments:
        """The policy, deterministic and without the risk module, along every unseen path."""
        backtest = run_backtest(policy, self.market, self.settings.env, self.window)
        return moments_of(simple_returns(backtest.equity) - backtest.risk_free)


class Moments(NamedTuple):
    """Of the daily excess returns of each path, (..., P)."""

    mean: FloatArray
    square: FloatArray  # mean of the squares


@dataclass(frozen=True)
class WorldSkill:
    """What policies are worth in one world: annual certainty equivalents, with 95 % intervals."""

    world: str
    policy: Interval
    static: Interval  # the best static book; 0 in the fair world
    difference: Interval  # policy less static, path by path
    ratio: Interval | None  # of the two; None where the world does not pay


@dataclass(frozen=True)
class Skill:
    """Policies in every world."""

    worlds: tuple[WorldSkill, ...]
    policies: int  # seeds that were measured together
    paths: int
    years: float  # of each path

    @property
    def mean_ratio(self) -> float:
        """Over the worlds that pay; NaN where none does."""
        ratios = [world.ratio.value for world in self.worlds if world.ratio is not None]
        return float(np.mean(ratios)) if ratios else float("nan")


def fixed_worlds(past: MarketHistory) -> dict[str, World]:
    """The five by name; GARCH with drift and premium as fitted to the training years `past`.

    What is not in a name lies in the middle of what `WorldSettings` draws from. There is no noise
    on implied volatility, and nothing crashes but by the model.
    """
    drift, vol, calm = 0.03, 0.19, 0.12
    annual = float(past.rate.mean()) + drift

    def heston(premium: float) -> World:
        model = HestonModel(
            initial_variance=vol * vol,
            long_run_variance=vol * vol,
            mean_reversion=4.75,
            vol_of_vol=0.55,
            correlation=-0.65,
            vol_premium=premium,
        )
        return World("heston", model, drift)

    states = tuple(IndexState(drift=annual, vol_annual=each) for each in (calm, 2.3 * calm))
    return {
        "garch": World("garch", fit_index_garch(past), 0.0),
        "heston_premium": heston(0.03),
        "heston": heston(0.0),
        "regime": World("regime", IndexRegimes(states=states, vol_premium=0.02), drift),
        "fair": World("fair", GbmModel(vol_annual=0.20), 0.0),
    }


def build_paths(
    world: World,
    settings: OptionMarketSettings,
    past: MarketHistory,
    seed: Sequence[int],
    paths: int = PATHS,
    sessions: int = SESSIONS,
) -> tuple[OptionMarket, Window]:
    """Priced paths of a world, and the sessions of them that can be traded."""
    options = WorldSettings(paths=paths, sessions=sessions)
    history = simulate_world(world, options, past, np.random.default_rng(seed))
    fair = world.kind == "fair"
    histories = WorldHistories(None if fair else history, history if fair else None)
    market = price_worlds(settings, histories)
    return market, Window(market.first_usable, market.history.num_sessions)


def skill_worlds(
    settings: OptionMarketSettings,
    past: MarketHistory,
    names: Sequence[str] = NAMES,
    *,
    paths: int = PATHS,
    training_paths: int = TRAINING_PATHS,
    sessions: int = SESSIONS,
) -> Iterator[SkillWorld]:
    """The worlds in turn, with their static books; make a list to measure more than once.

    `past` is the training years, `settings` say how options are priced, sized and what trading
    costs. Training and unseen paths come from different seeds. InputError for an unknown name.
    """
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise InputError(f"there is no world {unknown[0]!r}", f"Known: {', '.join(NAMES)}")
    worlds = fixed_worlds(past)
    for name in names:
        world, number = worlds[name], NAMES.index(name)
        market, window = build_paths(world, settings, past, (UNSEEN, number), paths, sessions)
        if world.kind == "fair":
            weights = np.zeros(market.tape.num_slots)
        else:
            seed = (TRAINING, number)
            training = build_paths(world, settings, past, seed, training_paths, sessions)
            weights = best_static_book(settings, *training)
            del training  # as large as the market that is left
        yield SkillWorld(name, market, window, settings, weights)


def best_static_book(
    settings: OptionMarketSettings, market: OptionMarket, window: Window
) -> FloatArray:
    """Weights (M,) of the book that is worth most on these paths, within the largest notional."""
    returns, costs = slot_returns(market, window), listing_costs(market, window)
    return best_static_weights(returns, costs, RISK_AVERSION, settings.env.sizing.max_notional)


def measure_skill(
    policies: Sequence[Trader], worlds: Iterable[SkillWorld], *, resamples: int = 2000
) -> Skill:
    """What the policies, seeds of one recipe, are worth in each world on average.

    Intervals are over paths, the same for policies and static book, and over seeds where there are
    several; `resamples` of them are drawn.
    """
    if not policies:
        raise InputError("there is no policy to measure", "Give one or more")
    results, paths, years = [], 0, 0.0
    for world in worlds:
        each = [world.live(policy) for policy in policies]
        lived = Moments(*(np.stack(column) for column in zip(*each, strict=True)))
        annual = world.market.history.sessions_per_year
        results.append(
            compare(world.name, lived, world.live(world.static_book), annual, resamples=resamples)
        )
        sessions = world.window.stop - world.window.start - 1
        paths, years = world.market.history.num_paths, sessions / annual
    return Skill(tuple(results), len(policies), paths, years)


def moments_of(excess: FloatArray) -> Moments:
    """Of daily excess returns (..., T)."""
    return Moments(excess.mean(axis=-1), np.square(excess).mean(axis=-1))


def certainty_equivalent(moments: Moments, sessions_per_year: float) -> FloatArray:
    """Annual, (...), of moments whose last axis is paths: all their days are one sample."""
    mean, square = moments.mean.mean(axis=-1), moments.square.mean(axis=-1)
    value = sessions_per_year * (mean - RISK_AVERSION / 2.0 * (square - mean * mean))
    return np.asarray(value)


def compare(
    world: str,
    policies: Moments,
    static: Moments,
    sessions_per_year: float,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> WorldSkill:
    """Policies' moments (K, P) against the static book's (P,) on the same paths."""
    seeds, paths = policies.mean.shape
    rng = np.random.default_rng(seed)
    path = rng.integers(paths, size=(resamples, paths))
    drawn = rng.integers(seeds, size=(resamples, seeds))

    def worth(moments: Moments, chosen: slice | IntArray) -> FloatArray:
        sample = Moments(moments.mean[..., chosen], moments.square[..., chosen])
        return certainty_equivalent(sample, sessions_per_year)

    everything = slice(None)
    agent = worth(policies, everything).mean()
    agents = np.take_along_axis(worth(policies, path), drawn.T, axis=0).mean(axis=0)
    book, books = worth(static, everything), worth(static, path)

    def interval(value: FloatArray, draws: FloatArray) -> Interval:
        low, high = percentile_interval(draws)
        return Interval(float(value), float(low), float(high))

    ratio = None
    if book >= PAYS:
        # Where a draw's static book is worth nothing, a multiple of it says nothing.
        positive = np.where(books > 0.0, books, np.nan)
        ratio = interval(agent / book, agents / positive)
    return WorldSkill(
        world,
        interval(agent, agents),
        interval(book, books),
        interval(agent - book, agents - books),
        ratio,
    )
