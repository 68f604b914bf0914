"""The market of a hedger: settings, liabilities priced along every path, observations, built once.

A liability is listed, that is sold at the model's price, at every `episode.sessions`-th session,
and is paid out that many sessions later, when the next is listed. One unit of it is options on one
share; so many units are sold that the shares under them are worth `notional_share` of the initial
equity when it is listed. Whatever is said of a unit is so comparable between price levels.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from conf.errors import InputError
from conf.settings import settings
from conf.types import BoolArray, FloatArray, IntArray, ObsArray
from envs.core.batch import Window
from envs.core.costs import BPS, FlatCosts
from envs.core.features import CLIP, Feature, Scaling
from envs.core.market import BookOptions, EpisodeSettings, MarketSettings, cash_returns
from envs.core.reward import RewardSettings, RewardWeights
from envs.hedging.liability import (
    Leg,
    LiabilityName,
    PricedLiability,
    calendar_of,
    legs_of,
    price_liability,
)
from envs.hedging.objective import HedgingObjective, MeanDeviationCost
from envs.market.clock import DAYS_PER_YEAR
from envs.market.history import MarketHistory, readonly
from envs.market.sources.index import DataSettings, LoadedMarket, SyntheticData, load_market
from risk.overlay import RiskSettings

UNDERLYING = "underlying"
# The reward is what was earned in prices of the liability: the one term that has a meaning here.
HEDGING_REWARD = RewardSettings(weights=RewardWeights.only(portfolio_return=1.0), ruin_penalty=0.0)


@settings
class HedgingSettings(BookOptions):
    """Everything that defines the hedging environment, but for its market data."""

    kind: Literal["hedging"] = "hedging"
    liability: LiabilityName | tuple[Leg, ...] = "call"
    # holding: shares a unit; band: how far below and above the model's delta it may lie.
    action: Literal["band", "holding"] = "band"
    rebalance_every: Annotated[int, Field(ge=1)] = 1  # sessions; in between nothing is traded
    objective: HedgingObjective = MeanDeviationCost()  # what hedges are judged by
    notional_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1  # of the initial equity
    episode: EpisodeSettings = EpisodeSettings(sessions=20, ruin_share=0.0)
    # Of every dollar of the underlying bought or sold, the first purchase and the last sale too.
    costs: FlatCosts = FlatCosts(rate_bps=100.0)
    reward: RewardSettings = HEDGING_REWARD

    @model_validator(mode="after")
    def _check(self) -> HedgingSettings:
        life = self.episode.sessions
        if life % self.rebalance_every:
            raise ValueError(
                f"rebalance_every = {self.rebalance_every} does not divide the {life} sessions of "
                "episode.sessions"
            )
        if not self.legs or all(leg.expiry(life) < life for leg in self.legs):
            raise ValueError(f"no leg of the liability lives for the {life} sessions of an episode")
        for leg in self.legs:
            if leg.expiry(life) > life:
                raise ValueError(f"a leg of {leg.sessions} sessions outlives the episode's {life}")
            if leg.quantity == 0.0:
                raise ValueError("a leg of the liability has quantity 0")
        if self.costs.rate_bps * BPS >= 1.0:
            raise ValueError(f"costs.rate_bps = {self.costs.rate_bps} leaves nothing of a trade")
        others = [
            name
            for name, weight in vars(self.reward.weights).items()
            if weight and name != "portfolio_return"
        ]
        if others:
            raise ValueError(
                f"reward.weights.{others[0]} has no meaning here: the reward is what was earned in "
                "prices of the liability (choose reward=hedging)"
            )
        return self

    @property
    def legs(self) -> tuple[Leg, ...]:
        """The options of one unit of the liability."""
        return legs_of(self.liability)


@dataclass(frozen=True)
class HedgingMarket:
    """What every episode of a hedger reads; shared by all of them, never written.

    M instruments: the underlying, a share whose dividends are reinvested, then the L legs. Delta,
    gamma and vega are those of the hedge: of a unit of the liability with its sign turned, so that
    holding `delta` shares is neutral.
    """

    history: MarketHistory
    features: tuple[Feature, ...]
    instruments: tuple[str, ...]
    mark: FloatArray  # (P, T, M) dollars a unit of the underlying, and an option on one share
    aged: FloatArray  # (P, T, M) likewise, of what was held into the close
    cash_return: FloatArray  # (T,)
    market_closed: BoolArray | None  # (P, T) closes at which the underlying cannot be traded
    listed: BoolArray  # (T,) sessions at which a liability is sold
    leaves: BoolArray  # (T, M) what is paid out or, of the underlying, sold at this close
    liability: FloatArray  # (P, T, L) options held after the close
    units: FloatArray  # (P, T) of the liability
    shares: FloatArray  # (P, T) of the underlying's units that are a share a unit of the liability
    premium: FloatArray  # (P, T) dollars, price of the liability when it was sold
    delta: FloatArray  # (P, T) shares a unit
    gamma: FloatArray  # (P, T) change of that a dollar of the underlying
    vega: FloatArray  # (P, T) dollars a unit for 1.00 of volatility
    years_left: FloatArray  # (T,) of variance, to the end of the liability
    observed: ObsArray  # (P, T, F - 2) scaled, all but the hedger's own entries
    index_return: FloatArray  # (P, T) total return of the underlying from the close before
    first_usable: int = 0

    def with_costs(self, factor: float | FloatArray) -> HedgingMarket:
        """The same: what trading costs stands in the settings."""
        return self

    def index_returns(self, window: Window) -> FloatArray:
        """Total return of the underlying, session to session, (P, n - 1)."""
        return self.index_return[:, window.start + 1 : window.stop]

    def starts(self, window: Window, life: int) -> IntArray:
        """Sessions of the window at which a liability is sold that ends within it."""
        listed = np.flatnonzero(self.listed)
        return listed[(listed >= window.start) & (listed + life < window.stop)]


def build_hedging_market(history: MarketHistory, options: HedgingSettings) -> HedgingMarket:
    """Price the liabilities; InputError for a history too short for a single one."""
    life, legs, spot = options.episode.sessions, options.legs, history.close
    calendar = calendar_of(history, life)
    sold, sessions = calendar.sold, np.arange(history.num_sessions)
    priced = price_liability(history, legs, life, calendar)
    notional = options.initial_equity_usd * options.notional_share
    units = notional / spot[:, sold]
    premium = priced.price[:, sold] * units
    if premium.min() <= 0.0:
        raise InputError(
            "a liability has no price when it is sold",
            "Choose moneyness nearer to 1, or a higher volatility",
        )
    dividends = history.dividend_yield * history.days_to_next / DAYS_PER_YEAR
    reinvested = np.exp(np.append(0.0, np.cumsum(dividends[:-1])))
    underlying = (spot * reinvested)[..., None]
    sold_too = np.zeros((len(sessions), 1), np.bool_)
    sold_too[calendar.closes(life)] = True
    closed = sessions % options.rebalance_every != 0
    years = history.clock.years(history.dates, calendar.dates[calendar.ends])
    index_return = np.zeros(spot.shape)
    index_return[:, 1:] = underlying[:, 1:, 0] / underlying[:, :-1, 0] - 1.0
    features = hedging_features(legs, life)
    return HedgingMarket(
        history=history,
        features=features,
        instruments=(UNDERLYING, *(leg.name(life) for leg in legs)),
        mark=readonly(np.concatenate([underlying, priced.mark], axis=-1)),
        aged=readonly(np.concatenate([underlying, priced.aged], axis=-1)),
        cash_return=cash_returns(history),
        market_closed=readonly(np.broadcast_to(closed, spot.shape)) if closed.any() else None,
        listed=sold == sessions,
        leaves=np.concatenate([sold_too, priced.leaves], axis=-1),
        liability=readonly(priced.held * units[..., None]),
        units=readonly(units),
        shares=readonly(units / reinvested),
        premium=readonly(premium),
        delta=readonly(priced.delta),
        gamma=readonly(priced.gamma),
        vega=readonly(priced.vega),
        years_left=years,
        observed=_observed(history, priced, units / premium, features[:-2]),
        index_return=readonly(index_return),
    )


def hedge_delta(
    history: MarketHistory, options: HedgingSettings, vol_annual: FloatArray
) -> FloatArray:
    """The hedge's delta at another volatility (P, T), shares a unit, (P, T)."""
    life = options.episode.sessions
    other = replace(history, implied_vol=vol_annual)
    return price_liability(other, options.legs, life, calendar_of(history, life)).delta


def _observed(
    history: MarketHistory,
    priced: PricedLiability,
    per_price: FloatArray,
    features: tuple[Feature, ...],
) -> ObsArray:
    """The market's entries (P, T, F), scaled; `per_price` (P, T): units that one price buys."""
    vol = history.implied_vol
    session_vol = vol / np.sqrt(history.clock.units_per_year)
    whole = [
        priced.delta,
        priced.gamma * history.close * session_vol,
        priced.vega * vol * per_price,
    ]
    raw = [priced.seen, np.stack([*whole, vol], axis=-1)]
    return Scaling(features).apply(np.concatenate(raw, axis=-1))


@dataclass(frozen=True)
class HedgingMarketSettings(MarketSettings):
    """Which underlying, which liability on it, and what guards the book."""

    data: DataSettings = field(default_factory=SyntheticData)
    env: HedgingSettings = field(default_factory=HedgingSettings)
    risk: RiskSettings = field(default_factory=lambda: RiskSettings(enabled=False))

    def __post_init__(self) -> None:
        if self.risk.enabled:
            raise nothing_to_limit()

    @property
    def surface_kind(self) -> str:
        """None: the liability is priced at the volatility of the data."""
        return "none"

    def load(self) -> LoadedMarket:
        """The underlying; an embargo as long as the liability, whose end the training sees."""
        return load_market(self.data, embargo_days=0, warmup_sessions=1)

    def build(self, history: MarketHistory) -> HedgingMarket:
        """The liabilities along a history; InputError for one that is no index."""
        if not isinstance(history, MarketHistory):
            raise InputError(f"{history.name} is a panel of assets", "Choose one index to hedge on")
        return build_hedging_market(history, self.env)


def nothing_to_limit() -> InputError:
    """The risk module shrinks what is held, and here that leaves more of the liability open."""
    return InputError(
        "a liability cannot be cut down, so the risk module has nothing to limit",
        "Choose risk=none",
    )


def hedging_features(legs: tuple[Leg, ...], life: int) -> tuple[Feature, ...]:
    """The observation: two entries a leg, four of the whole liability, two of the hedger."""
    own = "portfolio"
    by_leg = (
        (
            Feature(
                f"moneyness.{leg.name(life)}",
                "market",
                1.0,
                -CLIP,
                CLIP,
                raw="log of forward over strike, in standard deviations left",
            ),
            Feature(f"time_left.{leg.name(life)}", "market", 1.0, 0, 1, raw="share of its life"),
        )
        for leg in legs
    )
    return (
        *(feature for pair in by_leg for feature in pair),
        Feature("delta", "market", 1.0, -CLIP, CLIP, raw="shares a unit that are neutral"),
        Feature("gamma", "market", 0.1, -CLIP, CLIP, raw="change of delta for a usual session"),
        Feature("vega", "market", 1.0, -CLIP, CLIP, raw="prices, for all of the volatility"),
        Feature("volatility", "market", 0.2, 0, CLIP, raw="implied, annual"),
        Feature("holding", own, 1.0, -CLIP, CLIP, raw="shares a unit"),
        Feature("cost", own, 1.0, -CLIP, CLIP, raw="lost since the sale, in prices"),
    )
