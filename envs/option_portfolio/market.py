"""The option market of the option book: settings, tape, observations, unit costs, built once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
from pydantic import Field

from conf.errors import InputError
from conf.settings import settings
from conf.types import BoolArray, FloatArray
from envs.core.batch import Window
from envs.core.costs import AnyCosts
from envs.core.features import Feature
from envs.core.goal import GoalSettings
from envs.core.market import BookOptions, MarketSettings, as_rows, cash_returns
from envs.market.clock import DAYS_PER_YEAR
from envs.market.history import MarketHistory
from envs.market.models.worlds import WorldSettings
from envs.market.sources.index import (
    DataSettings,
    LoadedMarket,
    Sp500Data,
    SyntheticData,
    load_market,
)
from envs.option_portfolio.observation import (
    MarketObservation,
    MarketRows,
    ObservationSettings,
    observe_market,
)
from envs.option_portfolio.sizing import SizingSettings
from envs.options.black_scholes import in_blocks
from envs.options.chain import ChainSettings
from envs.options.surface import FlatSurface, VixSurface
from envs.options.tape import OptionTape, build_tape
from risk.overlay import RiskSettings


@settings
class OptionPortfolioSettings(BookOptions):
    """Everything that defines the option-book environment, but for its market data."""

    kind: Literal["options"] = "options"
    chain: ChainSettings = Field(default_factory=ChainSettings)
    sizing: SizingSettings = Field(default_factory=SizingSettings)
    observation: ObservationSettings = Field(default_factory=ObservationSettings)

    @property
    def goal(self) -> GoalSettings | None:
        """What episodes are to reach, and see; None where they have no goal."""
        return self.observation.goal

    @property
    def lot(self) -> float | None:
        """Units of a whole contract; None where a part of one may be held."""
        return None if self.sizing.fractional else self.sizing.contract_multiplier


@dataclass(frozen=True)
class OptionMarket:
    """What every episode of the option book reads; shared by all of them, never written."""

    history: MarketHistory
    tape: OptionTape
    observed: MarketObservation
    unit_cost: FloatArray  # (P, T, M) dollars a unit traded at `mark`
    closing_unit_cost: FloatArray | None  # (P, T, M) likewise at `aged`; None if expiry is free
    cash_return: FloatArray  # (T,) of cash to the next close, exp(rate x days / 365) - 1
    market_closed: BoolArray | None = None  # (P, T) closes at which nothing can be traded

    @property
    def first_usable(self) -> int:
        """The first session at which an episode can begin."""
        return self.observed.first_usable

    @property
    def features(self) -> tuple[Feature, ...]:
        """The observation, entry by entry."""
        return self.observed.features

    @property
    def instruments(self) -> tuple[str, ...]:
        """The slots' names."""
        return tuple(slot.name for slot in self.tape.slots)

    @property
    def mark(self) -> FloatArray:
        """Dollars of the contract that sits in each slot, (P, T, M)."""
        return self.tape.mark

    @property
    def aged(self) -> FloatArray:
        """Dollars now of the contract that sat there yesterday, (P, T, M)."""
        return self.tape.aged

    @cached_property
    def rows(self) -> MarketRows:
        """What the kernel gathers from, laid out once for all episodes."""
        closing, observed = self.closing_unit_cost, self.observed
        return MarketRows(
            mark=as_rows(self.tape.mark),
            spot=as_rows(self.history.close),
            unit_cost=as_rows(self.unit_cost),
            closing_cost=None if closing is None else as_rows(closing),
            before=as_rows(observed.before),
            after=as_rows(observed.after),
            log_price=as_rows(observed.log_price),
        )

    @property
    def listed(self) -> BoolArray:
        """Sessions at which a contract is listed, (T,)."""
        return np.asarray(self.tape.rolled.any(axis=-1))

    def with_costs(self, factor: float | FloatArray) -> OptionMarket:
        """The same with `factor` (or (P, T, 1), by path and session) times the unit costs."""
        closing = self.closing_unit_cost
        return replace(
            self,
            unit_cost=factor * self.unit_cost,
            closing_unit_cost=None if closing is None else factor * closing,
        )

    def index_returns(self, window: Window) -> FloatArray:
        """Return of the index from each session of the window to the next, (P, n - 1).

        Dividends are reinvested.
        """
        history, now = self.history, slice(window.start, window.stop - 1)
        close = history.close[:, window.start : window.stop]
        days = history.days_to_next[now]
        dividends = np.exp(history.dividend_yield[now] * days / DAYS_PER_YEAR)
        return close[:, 1:] / close[:, :-1] * dividends - 1.0


MIN_SESSIONS_PER_YEAR = 200.0


def build_option_market(
    history: MarketHistory,
    surface: FlatSurface | VixSurface,
    options: OptionPortfolioSettings,
) -> OptionMarket:
    """Price the chain, lay out the observations and the costs; InputError unless data are daily."""
    if history.sessions_per_year < MIN_SESSIONS_PER_YEAR:
        raise InputError(
            f"{history.name} has {history.sessions_per_year:.1f} sessions a year, and an option "
            "book is traded daily",
            "Give daily prices, or allocate to assets (+exp=allocation), which may be weekly",
        )
    tape = build_tape(history, surface, options.chain)
    daily = options.chain.roll == "daily"
    return OptionMarket(
        history=history,
        tape=tape,
        observed=observe_market(history, tape, options.observation),
        unit_cost=_unit_cost(options.costs, history, tape, tape.mark, tape.strike),
        closing_unit_cost=_closing_cost(options.costs, history, tape) if daily else None,
        cash_return=cash_returns(history),
    )


@dataclass(frozen=True)
class OptionMarketSettings(MarketSettings):
    """Which index, at which volatility, which option book on it, and what guards the book."""

    data: DataSettings = field(default_factory=Sp500Data)
    surface: FlatSurface | VixSurface = field(default_factory=VixSurface)
    env: OptionPortfolioSettings = field(default_factory=OptionPortfolioSettings)
    risk: RiskSettings = field(default_factory=RiskSettings)

    @property
    def surface_kind(self) -> str:
        """vix or flat."""
        return self.surface.kind

    @property
    def data_worlds(self) -> WorldSettings | None:
        """The simulated worlds that an agent learns in; None: the training years."""
        return None if isinstance(self.data, SyntheticData) else self.data.worlds

    def load(self) -> LoadedMarket:
        """The index, its splits apart by the longest contract's life."""
        return load_market(self.data, embargo_days=self.env.chain.longest_life_days)

    def build(self, history: MarketHistory) -> OptionMarket:
        """The priced chain; InputError for a history that is no index."""
        if not isinstance(history, MarketHistory):
            raise InputError(f"{history.name} has no implied volatility", "Choose an index")
        return build_option_market(history, self.surface, self.env)


def _unit_cost(
    costs: AnyCosts,
    history: MarketHistory,
    tape: OptionTape,
    premium: FloatArray,
    strike: FloatArray,
) -> FloatArray:
    def formula(
        premium: FloatArray, spot: FloatArray, strike: FloatArray, vol: FloatArray, call: BoolArray
    ) -> tuple[FloatArray]:
        intrinsic = np.maximum(np.where(call, spot - strike, strike - spot), 0.0)
        return (costs.per_unit(premium, spot, intrinsic, vol),)

    spot, vol = history.close[:, :, None], history.implied_vol[:, :, None]
    return in_blocks(formula, [premium, spot, strike, vol, tape.is_call])[0]


def _closing_cost(costs: AnyCosts, history: MarketHistory, tape: OptionTape) -> FloatArray:
    """Cost of selling yesterday's contract at each close; nothing where it expired."""
    earlier = np.concatenate([tape.strike[:, :1], tape.strike[:, :-1]], axis=1)
    cost = _unit_cost(costs, history, tape, tape.aged, earlier)
    return np.where(tape.rolled & ~tape.expired, cost, 0.0)
