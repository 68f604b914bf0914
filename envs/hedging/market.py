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
from conf.settings import in_one_message, settings
from conf.types import BoolArray, FloatArray, IntArray, ObsArray
from envs.core.batch import Window
from envs.core.costs import BPS, CostSettings, FlatCosts, RealisticCosts, SpreadCosts
from envs.core.features import Feature
from envs.core.market import BookOptions, EpisodeSettings, MarketSettings, cash_returns
from envs.core.reward import RewardSettings, RewardWeights
from envs.hedging.liability import (
    DATA_VOLATILITY,
    Leg,
    LiabilityName,
    Quotes,
    calendar_of,
    legs_of,
    price_liability,
)
from envs.hedging.listed import ListedOption, price_listed
from envs.hedging.objective import HedgingObjective, MeanDeviationCost
from envs.hedging.observation import (
    BlockName,
    block_values,
    hedging_features,
    observed_market,
)
from envs.market.clock import DAYS_PER_YEAR
from envs.market.history import MarketHistory, readonly
from envs.market.models.worlds import WorldSettings
from envs.market.sources.index import DataSettings, LoadedMarket, SyntheticData, load_market
from envs.options.surface import SurfaceSettings
from risk.overlay import RiskSettings

UNDERLYING = "underlying"
LEAST_PREMIUM = 1e-6  # of what the shares under the liability are worth
ModelVolatility = Annotated[
    Literal["quoted", "sale"] | Annotated[float, Field(gt=0.0, lt=5.0)],
    in_one_message("quoted, sale, or an annual volatility between 0 and 5"),
]
# The reward is what was earned in prices of the liability: the one term that has a meaning here.
HEDGING_REWARD = RewardSettings(weights=RewardWeights.only(portfolio_return=1.0), ruin_penalty=0.0)


@settings
class HedgingSettings(BookOptions):
    """Everything that defines the hedging environment, but for its market data."""

    kind: Literal["hedging"] = "hedging"
    liability: LiabilityName | tuple[Leg, ...] = "call"
    # holding: shares a unit; band: how far below and above the model's delta it may lie.
    # shifted_band: it lies around another number than delta, which is chosen too.
    action: Literal["band", "shifted_band", "holding"] = "band"
    rebalance_every: Annotated[int, Field(ge=1)] = 1  # sessions; in between nothing is traded
    objective: HedgingObjective = MeanDeviationCost()  # what hedges are judged by
    # At which the liability is priced and its Greeks are taken. quoted: by the data, at each close;
    # sale: by the data when it is sold; or one annual number. Then nothing else that is seen, but
    # for past returns and `extra_blocks`, tells what volatility is now.
    volatility: ModelVolatility = "quoted"
    extra_blocks: tuple[BlockName, ...] = ()  # more entries of the observation
    notional_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1  # of the initial equity
    episode: EpisodeSettings = EpisodeSettings(sessions=20, ruin_share=0.0)
    # Of every dollar of the underlying bought or sold, the first purchase and the last sale too.
    costs: FlatCosts | SpreadCosts = FlatCosts(rate_bps=100.0)
    hedges: tuple[ListedOption, ...] = ()  # traded beside the underlying
    # Of trading them: an option's own, but for the impact of orders that are larger than any here.
    hedge_costs: CostSettings = RealisticCosts()
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

    @model_validator(mode="after")
    def _check_hedges(self) -> HedgingSettings:
        life = self.episode.sessions
        for option in self.hedges:
            if option.sessions <= life:
                raise ValueError(
                    f"a hedge of {option.sessions} sessions does not outlive the episode's {life}"
                )
        if self.hedges and self.volatility != "quoted":
            raise ValueError("listed options trade at what is quoted: hedges need that volatility")
        return self

    @property
    def legs(self) -> tuple[Leg, ...]:
        """The options of one unit of the liability."""
        return legs_of(self.liability)


@dataclass(frozen=True)
class HedgingMarket:
    """What every episode of a hedger reads; shared by all of them, never written.

    M instruments: the underlying, a share whose dividends are reinvested, H listed options, then
    the L legs. The first K = 1 + H are traded. Delta, gamma and vega are those of the hedge: of a
    unit of the liability with its sign turned, so that holding `delta` shares is neutral.
    """

    history: MarketHistory
    features: tuple[Feature, ...]
    instruments: tuple[str, ...]
    mark: FloatArray  # (P, T, M) dollars a unit of the underlying, and an option on one share
    aged: FloatArray  # (P, T, M) likewise, of what was held into the close
    unit_cost: FloatArray  # (P, T, K) dollars a unit traded at `mark`
    closing_cost: FloatArray  # (P, T, K) likewise at `aged`; 0 where it is not sold for good
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
    option_delta: FloatArray  # (P, T, H) of the underlying's units that one option moves like
    neutral: FloatArray  # (P, T, H) options a unit, which together have the liability's gamma
    years_left: FloatArray  # (T,) of variance, to the end of the liability
    observed: ObsArray  # (P, T, F - K - 1) scaled, all but the hedger's own entries
    index_return: FloatArray  # (P, T) total return of the underlying from the close before
    surface: SurfaceSettings = DATA_VOLATILITY  # that the liability is priced on
    first_usable: int = 0

    def with_costs(self, factor: float | FloatArray) -> HedgingMarket:
        """The same with `factor` (or (P, T, 1), by path and session) times the costs."""
        unit, closing = factor * self.unit_cost, factor * self.closing_cost
        return replace(self, unit_cost=unit, closing_cost=closing)

    @property
    def num_traded(self) -> int:
        """K: the underlying and the listed options."""
        return int(self.unit_cost.shape[-1])

    @property
    def own_features(self) -> tuple[Feature, ...]:
        """The hedger's own entries, the last of the observation: K holdings and the cost."""
        return self.features[-self.num_traded - 1 :]

    @property
    def cost_share(self) -> FloatArray:
        """Of every dollar of the underlying traded, (P, T)."""
        share: FloatArray = self.unit_cost[..., 0] / self.mark[..., 0]
        return share

    def index_returns(self, window: Window) -> FloatArray:
        """Total return of the underlying, session to session, (P, n - 1)."""
        return self.index_return[:, window.start + 1 : window.stop]

    def starts(self, window: Window, life: int) -> IntArray:
        """Sessions of the window at which a liability is sold that ends within it."""
        listed = np.flatnonzero(self.listed)
        return listed[(listed >= window.start) & (listed + life < window.stop)]


def build_hedging_market(
    history: MarketHistory, options: HedgingSettings, surface: SurfaceSettings = DATA_VOLATILITY
) -> HedgingMarket:
    """Price the liabilities; InputError for a history too short for a single one.

    The market's history quotes the volatility of the liability's model.
    """
    life, legs, spot = options.episode.sessions, options.legs, history.close
    data = history
    longest = max((option.sessions for option in options.hedges), default=0)
    calendar = calendar_of(history, life, longest)
    if options.volatility == "sale":
        history = replace(history, implied_vol=history.implied_vol[:, calendar.sold])
    elif options.volatility != "quoted":
        history = replace(history, implied_vol=np.full(spot.shape, options.volatility))
    quotes = Quotes(history, surface)
    sold, sessions = calendar.sold, np.arange(history.num_sessions)
    priced = price_liability(spot, quotes, legs, life, calendar)
    listed = price_listed(
        history, quotes, options.hedges, options.hedge_costs, priced.gamma, life, calendar
    )
    notional = options.initial_equity_usd * options.notional_share
    units = notional / spot[:, sold]
    premium = priced.price[:, sold] * units
    if premium.min() <= LEAST_PREMIUM * notional:
        raise InputError(
            "a liability has next to no price when it is sold, and everything is measured in it",
            "Choose moneyness nearer to 1, or a higher volatility",
        )
    dividends = history.dividend_yield * history.days_to_next / DAYS_PER_YEAR
    reinvested = np.exp(np.append(0.0, np.cumsum(dividends[:-1])))
    underlying = (spot * reinvested)[..., None]
    sold_too = np.zeros((len(sessions), 1 + len(options.hedges)), np.bool_)
    sold_too[calendar.closes(life)] = True
    costs = options.costs.per_unit(spot, spot, spot, history.implied_vol) * reinvested
    costs = costs[..., None]
    closed = sessions % options.rebalance_every != 0
    years = history.clock.years(history.dates, calendar.dates[calendar.ends])
    index_return = np.zeros(spot.shape)
    index_return[:, 1:] = underlying[:, 1:, 0] / underlying[:, :-1, 0] - 1.0
    features = hedging_features(legs, life, options.extra_blocks, options.hedges)
    market_features = features[: -2 - len(options.hedges)]
    begins = sold == sessions
    blocks = block_values(options.extra_blocks, data, history.implied_vol, begins)
    return HedgingMarket(
        history=history,
        features=features,
        instruments=(
            UNDERLYING,
            *(option.name for option in options.hedges),
            *(leg.name(life) for leg in legs),
        ),
        mark=readonly(np.concatenate([underlying, listed.mark, priced.mark], axis=-1)),
        aged=readonly(np.concatenate([underlying, listed.aged, priced.aged], axis=-1)),
        unit_cost=readonly(np.concatenate([costs, listed.unit_cost], axis=-1)),
        closing_cost=readonly(
            np.concatenate([costs * sold_too[:, :1], listed.closing_cost], axis=-1)
        ),
        cash_return=cash_returns(history),
        market_closed=readonly(np.broadcast_to(closed, spot.shape)) if closed.any() else None,
        listed=begins,
        leaves=np.concatenate([sold_too, priced.leaves], axis=-1),
        liability=readonly(priced.held * units[..., None]),
        units=readonly(units),
        shares=readonly(units / reinvested),
        premium=readonly(premium),
        delta=readonly(priced.delta),
        gamma=readonly(priced.gamma),
        vega=readonly(priced.vega),
        option_delta=readonly(listed.delta / reinvested[:, None]),
        neutral=readonly(listed.neutral),
        years_left=years,
        observed=observed_market(history, priced, listed, units / premium, blocks, market_features),
        index_return=readonly(index_return),
        surface=surface,
    )


def hedge_delta(
    market: HedgingMarket, options: HedgingSettings, variance_multiple: FloatArray
) -> FloatArray:
    """The hedge's delta at so many times (P, T) the variance, shares a unit, (P, T)."""
    life, history = options.episode.sessions, market.history
    quotes = Quotes(history, market.surface, variance_multiple)
    calendar = calendar_of(history, life)
    return price_liability(history.close, quotes, options.legs, life, calendar).delta


@dataclass(frozen=True)
class HedgingMarketSettings(MarketSettings):
    """Which underlying, which liability on it, and what guards the book."""

    data: DataSettings = field(default_factory=SyntheticData)
    surface: SurfaceSettings = DATA_VOLATILITY
    env: HedgingSettings = field(default_factory=HedgingSettings)
    risk: RiskSettings = field(default_factory=lambda: RiskSettings(enabled=False))

    def __post_init__(self) -> None:
        if self.risk.enabled:
            raise nothing_to_limit()

    @property
    def surface_kind(self) -> str:
        """vix, flat, or none: the liability is priced at the volatility of the data."""
        return "none" if self.surface == DATA_VOLATILITY else self.surface.kind

    @property
    def data_worlds(self) -> WorldSettings | None:
        """The simulated worlds that an agent learns in; None: the training years."""
        return None if isinstance(self.data, SyntheticData) else self.data.worlds

    def load(self) -> LoadedMarket:
        """The underlying; no embargo, for liabilities end within the split of their sale."""
        return load_market(self.data, embargo_days=0, warmup_sessions=1)

    def build(self, history: MarketHistory) -> HedgingMarket:
        """The liabilities along a history; InputError for one that is no index."""
        if not isinstance(history, MarketHistory):
            raise InputError(f"{history.name} is a panel of assets", "Choose one index to hedge on")
        return build_hedging_market(history, self.env, self.surface)


def nothing_to_limit() -> InputError:
    """The risk module shrinks what is held, and here that leaves more of the liability open."""
    return InputError(
        "a liability cannot be cut down, so the risk module has nothing to limit",
        "Choose risk=none",
    )
