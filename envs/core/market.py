"""What every market of books offers to the kernel, the agents and the reports."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from conf.settings import settings
from conf.types import BoolArray, FloatArray
from envs.core.batch import Window
from envs.core.costs import CostSettings, RealisticCosts
from envs.core.features import Feature
from envs.core.goal import GoalSettings
from envs.core.reward import RewardSettings
from envs.market.clock import DAYS_PER_YEAR
from envs.market.history import MarketHistory
from envs.market.panel import PanelHistory
from envs.market.splits import Loaded
from risk.overlay import RiskSettings

EquityUsd = Annotated[float, Field(ge=0.01, le=1e15)]  # beyond it floats lose the cents


@settings
class EpisodeSettings:
    """How long an episode is and when it counts as ruined."""

    sessions: Annotated[int, Field(ge=2)] = 252
    ruin_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.20  # of the initial equity


@settings
class BookOptions:
    """The settings that every environment of books has."""

    initial_equity_usd: EquityUsd = 100_000.0
    episode: EpisodeSettings = Field(default_factory=EpisodeSettings)
    costs: CostSettings = Field(default_factory=RealisticCosts)
    reward: RewardSettings = Field(default_factory=RewardSettings)

    @property
    def lot(self) -> float | None:
        """Units that can only be traded together; None for any fraction of one."""
        return None

    @property
    def goal(self) -> GoalSettings | None:
        """What episodes are to reach; None where they have no goal."""
        return None

    @model_validator(mode="after")
    def _check_goal(self) -> Self:
        weights = self.reward.weights
        if self.goal is None and (weights.goal_return or weights.goal_drawdown):
            raise ValueError(
                "reward.weights.goal_return or goal_drawdown is not 0, and there is no goal: set "
                "env.observation.goal of an option book"
            )
        return self


BookHistory = MarketHistory | PanelHistory  # P paths over T sessions


def cash_returns(history: BookHistory) -> FloatArray:
    """What a dollar earns from each session to the next, (T,): exp(rate x days / 365) - 1."""
    returns: FloatArray = np.expm1(history.rate * history.days_to_next / DAYS_PER_YEAR)
    return returns


class BookMarket(Protocol):
    """What every episode reads; shared by all of them, never written. M instruments."""

    @property
    def history(self) -> BookHistory:
        """Where prices come from."""

    @property
    def features(self) -> tuple[Feature, ...]:
        """The observation, entry by entry."""

    @property
    def instruments(self) -> tuple[str, ...]:
        """What can be traded, M names."""

    @property
    def cash_return(self) -> FloatArray:
        """Of cash from each session to the next, (T,): exp(rate x days / 365) - 1."""

    @property
    def first_usable(self) -> int:
        """The first session at which an episode can begin."""

    @property
    def mark(self) -> FloatArray:
        """Dollars a unit that is traded at each close, (P, T, M)."""

    @property
    def aged(self) -> FloatArray:
        """Dollars at each close of a unit that was held into it, (P, T, M)."""

    @property
    def market_closed(self) -> BoolArray | None:
        """Closes at which nothing can be traded, (P, T); None for none."""

    @property
    def listed(self) -> BoolArray:
        """Sessions at which an instrument begins anew, (T,)."""

    def with_costs(self, factor: float | FloatArray) -> Self:
        """The same where trading costs `factor` (or (P, T, 1), by path and session) times."""

    def index_returns(self, window: Window) -> FloatArray:
        """Total return of the index from each session of the window to the next, (P, n - 1)."""


class MarketSettings(ABC):
    """Which data, priced how, which book on it, and what guards the book."""

    data: Any
    env: BookOptions
    risk: RiskSettings

    @property
    @abstractmethod
    def surface_kind(self) -> str:
        """Which volatility surface; "none" where no option is priced."""

    @abstractmethod
    def load(self) -> Loaded[Any, Any]:
        """The history that `data` asks for, and its splits."""

    @abstractmethod
    def build(self, history: Any) -> BookMarket:
        """What episodes on a history read; InputError for a history of another environment."""


def as_rows(values: NDArray[Any]) -> NDArray[Any]:
    """(P, T, ...) -> (P x T, ...), contiguous: `take` copies the whole of any other array.

    Row = path x T + session: what the kernel gathers from.
    """
    flat = (values.shape[0] * values.shape[1], *values.shape[2:])
    return np.ascontiguousarray(values).reshape(flat)
