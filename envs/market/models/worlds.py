"""Worlds to learn in: a seeded mixture of simulated markets, each with a law of its own.

An agent that learns on one history learns that history. Here every market draws its parameters
anew: how volatile it is, how its volatility moves, what sellers of options are paid (less than
nothing in some) and what the index earns. What helps in all of them is not the detail of one.
Implied volatility is the model's own with noise, ln(1 + share) an AR(1) that also answers returns:

    n' = decay n + noise - return beta x return,   implied vol = model's x exp(n)

Crashes come on top (R. Merton, Option pricing when underlying stock returns are discontinuous,
Journal of Financial Economics 3, 1976): without any, whoever sells options far out of the money
earns what the smile asks for crashes, and none ever comes. The drift makes up for them, and implied
volatility expects them.

Fair worlds are geometric Brownian motions at the rate, priced without a smile at their volatility:
nothing can be earned there, and an agent has to learn that too.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from conf.settings import settings
from conf.types import FloatArray
from envs.market.exchange_calendar import trading_days
from envs.market.history import MarketHistory, stack_paths
from envs.market.indicators import recursive_filter
from envs.market.models.garch import IndexGarch, fit_index_garch
from envs.market.models.gbm import GbmModel, Scenario
from envs.market.models.heston import HestonModel
from envs.market.models.index_models import IndexModel, simulate_index
from envs.market.models.regimes import IndexRegimes, IndexState
from envs.market.volatility_estimate import MIN_VOL_ANNUAL

_FIRST_DAY = dt.date(2001, 1, 2)
_INITIAL_PRICE = 1000.0  # index points; only ratios to it matter

WorldKind = Literal["heston", "garch", "regime", "fair"]
KINDS: tuple[WorldKind, ...] = ("heston", "garch", "regime", "fair")
Share = Annotated[float, Field(ge=0.0, le=1.0)]


def _rising(span: tuple[float, float]) -> tuple[float, float]:
    if not span[0] <= span[1]:
        raise ValueError(f"{span[0]:g} is above {span[1]:g}: give the lower end first")
    return span


# Ends of a uniform distribution.
Span = Annotated[tuple[float, float], AfterValidator(_rising)]
Positive = Annotated[float, Field(gt=0.0, le=100.0)]
Correlation = Annotated[float, Field(ge=-1.0, le=0.0)]
NegativeSpan = Annotated[tuple[Correlation, Correlation], AfterValidator(_rising)]
PositiveSpan = Annotated[tuple[Positive, Positive], AfterValidator(_rising)]


@settings
class WorldShares:
    """How many of the markets are of which kind; only their proportions matter."""

    heston: Share = 0.35
    garch: Share = 0.40
    regime: Share = 0.15
    fair: Share = 0.10

    @model_validator(mode="after")
    def _check(self) -> WorldShares:
        if not sum(getattr(self, kind) for kind in KINDS) > 0.0:
            raise ValueError("every share is 0: give at least one kind of world")
        return self


@settings
class WorldSettings:
    """How many markets, and the ranges that each draws its parameters from, uniformly."""

    markets: Annotated[int, Field(ge=1, le=1000)] = 90
    paths: Annotated[int, Field(ge=1, le=100_000)] = 12  # of each market
    sessions: Annotated[int, Field(ge=120, le=5000)] = 760  # of each path
    draws: Annotated[int, Field(ge=1, le=1000)] = 1  # of all worlds in a pathwise training
    seed: Annotated[int, Field(ge=0)] = 0  # of the worlds only
    shares: WorldShares = WorldShares()
    vol_premium: Span = (-0.015, 0.045)  # implied volatility less the model's own
    excess_drift: Span = (-0.01, 0.07)  # annual, above the rate, dividends included
    heston_vol: PositiveSpan = (0.13, 0.25)  # root of the long-run variance
    heston_mean_reversion: PositiveSpan = (1.5, 8.0)  # a year
    heston_vol_of_vol: PositiveSpan = (0.3, 0.8)  # a year
    heston_correlation: NegativeSpan = (-0.9, -0.4)
    calm_vol: PositiveSpan = (0.09, 0.15)  # of the calm regime
    storm_multiple: PositiveSpan = (1.8, 2.8)  # volatility of the other over it
    fair_vol: PositiveSpan = (0.10, 0.30)
    crashes_per_year: Span = (0.0, 2.0)
    crash_size: PositiveSpan = (0.02, 0.08)  # mean fall of the logarithm
    crash_sd: PositiveSpan = (0.01, 0.04)  # of it
    noise_sd: Span = (0.02, 0.12)  # of the logarithm of implied volatility
    noise_half_life: PositiveSpan = (2.0, 60.0)  # sessions
    noise_return_beta: Span = (0.0, 1.5)


@dataclass(frozen=True)
class World:
    """One market of the mixture."""

    kind: WorldKind
    model: IndexModel
    excess_drift: float  # annual, above the rate
    crashes_per_year: float = 0.0
    crash_size: float = 0.0
    crash_sd: float = 0.0
    noise_sd: float = 0.0
    noise_half_life: float = 1.0
    noise_return_beta: float = 0.0


@dataclass(frozen=True)
class WorldHistories:
    """The paths of all worlds, apart for those with and without a smile."""

    smiling: MarketHistory | None
    flat: MarketHistory | None  # to be priced at its implied volatility, whatever the strike


def draw_worlds(
    options: WorldSettings, past: MarketHistory, rng: np.random.Generator
) -> Iterator[World]:
    """The markets of a mixture, sorted by kind; `past` is the training years, to fit GARCH to."""
    kinds = _kinds(options)
    fitted = [fit_index_garch(past)] if "garch" in kinds else []

    def between(span: tuple[float, float]) -> float:
        return float(rng.uniform(*span))

    for kind in kinds:
        drift = 0.0 if kind == "fair" else between(options.excess_drift)
        premium = 0.0 if kind == "fair" else between(options.vol_premium)
        if kind == "fair":
            yield World(kind, GbmModel(vol_annual=between(options.fair_vol)), drift)
            continue
        if kind == "heston":
            variance = between(options.heston_vol) ** 2
            model: IndexModel = HestonModel(
                initial_variance=variance,
                long_run_variance=variance,
                mean_reversion=between(options.heston_mean_reversion),
                vol_of_vol=between(options.heston_vol_of_vol),
                correlation=between(options.heston_correlation),
                vol_premium=premium,
            )
        elif kind == "regime":
            calm = between(options.calm_vol)
            annual = drift + _mean_rate(past)
            states = (calm, calm * between(options.storm_multiple))
            model = IndexRegimes(
                states=tuple(IndexState(drift=annual, vol_annual=vol) for vol in states),
                vol_premium=premium,
            )
        else:
            model = garch_at(fitted[0], drift, past, premium)
        yield World(
            kind,
            model,
            drift,
            between(options.crashes_per_year),
            between(options.crash_size),
            between(options.crash_sd),
            between(options.noise_sd),
            between(options.noise_half_life),
            between(options.noise_return_beta),
        )


def _kinds(options: WorldSettings) -> list[WorldKind]:
    """The kind of each market, in the proportions of the shares (largest remainders)."""
    shares = np.array([getattr(options.shares, kind) for kind in KINDS])
    exact = shares / shares.sum() * options.markets
    counts = np.floor(exact).astype(int)
    for index in np.argsort(counts - exact, kind="stable")[: options.markets - counts.sum()]:
        counts[index] += 1
    return [kind for kind, count in zip(KINDS, counts.tolist(), strict=True) for _ in range(count)]


def garch_at(
    fitted: IndexGarch, excess_drift: float, past: MarketHistory, vol_premium: float
) -> IndexGarch:
    """The fitted model with another drift, annual above the rate, and another premium."""
    dividends = float(past.dividend_yield.mean())
    mean = excess_drift - dividends - float(fitted.fit.variance[0]) / 2.0
    return IndexGarch(replace(fitted.fit, mean=np.array([mean])), vol_premium)


def simulate_worlds(
    options: WorldSettings, past: MarketHistory, *, unseen: bool = False, draw: int = 0
) -> WorldHistories:
    """Every path of the mixture; `unseen` gives others of the same kind, for validation.

    Each `draw` has worlds of its own.

    Rate and dividends are the means of the training years `past`, the clock is theirs.
    """
    rng = np.random.default_rng([options.seed, int(unseen), draw])
    by_smile: dict[bool, list[MarketHistory]] = {True: [], False: []}
    for world in list(draw_worlds(options, past, rng)):
        by_smile[world.kind != "fair"].append(simulate_world(world, options, past, rng))
    stacked = {
        smile: stack_paths("worlds", parts) if parts else None for smile, parts in by_smile.items()
    }
    return WorldHistories(stacked[True], stacked[False])


def simulate_world(
    world: World, options: WorldSettings, past: MarketHistory, rng: np.random.Generator
) -> MarketHistory:
    """The paths of one world."""
    rate = _mean_rate(past)
    scenario = Scenario(
        dates=trading_days(_FIRST_DAY, options.sessions),
        num_paths=options.paths,
        initial_price=_INITIAL_PRICE,
        drift=rate + world.excess_drift,
        rate=rate,
        dividend_yield=float(past.dividend_yield.mean()),
        closed_day_weight=past.closed_day_weight,
    )
    history = with_crashes(simulate_index(world.model, scenario, rng), world, rng)
    return with_noise(history, world, rng)


def with_crashes(history: MarketHistory, world: World, rng: np.random.Generator) -> MarketHistory:
    """The history with falls at random sessions, as many a year as the world has."""
    if world.crashes_per_year == 0.0:
        return history
    years = history.clock.years(history.dates[:-1], history.dates[1:])
    expected = world.crashes_per_year * years
    count = rng.poisson(expected, (history.num_paths, len(years)))
    size, sd = world.crash_size, world.crash_sd
    fall = -count * size + np.sqrt(count) * sd * rng.standard_normal(count.shape)
    # The drift stays what it was: E[exp(fall)] over the crashes of a stretch is made up for.
    fall -= expected * np.expm1(-size + sd * sd / 2.0)
    moved = np.exp(np.cumsum(fall, axis=1))
    after = np.concatenate([np.ones((history.num_paths, 1)), moved], axis=1)
    before = np.concatenate([after[:, :1], after[:, :-1]], axis=1)
    variance = world.crashes_per_year * (size * size + sd * sd)
    return replace(
        history,
        open=history.open * before,
        high=history.high * np.maximum(before, after),
        low=history.low * np.minimum(before, after),
        close=history.close * after,
        implied_vol=np.sqrt(history.implied_vol**2 + variance),
    )


def with_noise(history: MarketHistory, world: World, rng: np.random.Generator) -> MarketHistory:
    """The history with the world's noise on its implied volatility."""
    if world.noise_sd == 0.0 and world.noise_return_beta == 0.0:
        return history
    decay = 0.5 ** (1.0 / world.noise_half_life)
    shocks = world.noise_sd * rng.standard_normal(history.close.shape)
    shocks[:, 1:] *= np.sqrt(1.0 - decay * decay)
    shocks[:, 1:] -= world.noise_return_beta * np.diff(np.log(history.close), axis=1)
    noise: FloatArray = recursive_filter(shocks, 1.0, decay, np.zeros((len(shocks), 1)))
    vol = np.maximum(history.implied_vol * np.exp(noise), MIN_VOL_ANNUAL)
    return replace(history, implied_vol=vol)


def _mean_rate(past: MarketHistory) -> float:
    return float(past.rate.mean())
