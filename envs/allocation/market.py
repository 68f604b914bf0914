"""The panel market of the allocation: settings, observations and index, built once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from conf.errors import InputError
from conf.settings import settings
from conf.types import BoolArray, FloatArray, ObsArray
from envs.core.batch import Window
from envs.core.costs import BPS, FlatCosts
from envs.core.features import CLIP, Feature, Scaling
from envs.core.market import BookOptions, EquityUsd, MarketSettings, cash_returns
from envs.core.reward import RewardSettings, RewardWeights
from envs.market.indicators import panel_features, panel_warmup
from envs.market.panel import PanelHistory
from envs.market.sources.panel import LoadedPanel, PanelSettings, PanelSimulatedData, load_panel
from risk.overlay import RiskSettings

# The default reward: return less risk, losses and costs.
ALLOCATION_REWARD = RewardSettings(
    weights=RewardWeights.only(portfolio_return=1.0, cost=10.0, volatility=0.1, deep_drawdown=2.0),
    ruin_penalty=1.0,
)


@settings
class AllocationSettings(BookOptions):
    """Everything that defines the allocation environment, but for its market data."""

    kind: Literal["allocation"] = "allocation"
    initial_equity_usd: EquityUsd = 10_000.0
    # weights: what is held after each close. band: weights and widths; each asset is traded only
    # when it is further from its weight than its width, and only to there.
    action: Literal["weights", "band"] = "weights"
    # Half the sum of absolute changes of weight, cash included; less than this is not traded.
    rebalance_threshold: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    costs: FlatCosts = FlatCosts(rate_bps=10.0)  # of every dollar bought or sold
    reward: RewardSettings = ALLOCATION_REWARD

    @model_validator(mode="after")
    def _check_trading(self) -> AllocationSettings:
        if self.costs.rate_bps * BPS >= 1.0:
            raise ValueError(f"costs.rate_bps = {self.costs.rate_bps} leaves nothing of a trade")
        if self.action == "band" and self.rebalance_threshold > 0.0:
            raise ValueError(
                f"rebalance_threshold = {self.rebalance_threshold} does not go with action = band, "
                "which has its own: set it to 0"
            )
        return self


@dataclass(frozen=True)
class PanelMarket:
    """What every episode of the allocation reads; shared by all of them, never written."""

    history: PanelHistory
    features: tuple[Feature, ...]  # of the observation: 3 A + 2
    observed: ObsArray  # (P, T, 2 A) the scaled returns and volatilities among them
    cash_return: FloatArray  # (T,) of cash to the next close, exp(rate x days / 365) - 1
    index_return: FloatArray  # (P, T) mean of the assets' returns from the close before
    first_usable: int  # the first session at which an episode can begin
    market_closed: BoolArray | None = None  # (P, T) closes at which nothing can be traded

    @property
    def instruments(self) -> tuple[str, ...]:
        """The assets' names."""
        return self.history.assets

    @property
    def mark(self) -> FloatArray:
        """Dollars a unit, (P, T, A)."""
        return self.history.close

    @property
    def aged(self) -> FloatArray:
        """Likewise: an asset is tomorrow what it is today."""
        return self.history.close

    @property
    def listed(self) -> BoolArray:
        """Sessions at which an asset begins anew, (T,): none."""
        return np.zeros(self.history.num_sessions, np.bool_)

    def with_costs(self, factor: float | FloatArray) -> PanelMarket:
        """The same: what assets cost to trade stands in the settings."""
        return self

    def index_returns(self, window: Window) -> FloatArray:
        """Equally weighted mean of the assets' returns, session to session, (P, n - 1)."""
        return self.index_return[:, window.start + 1 : window.stop]


def build_panel_market(history: PanelHistory, options: AllocationSettings) -> PanelMarket:
    """Lay out the observations and the index. InputError for a history within its warm-up."""
    first = panel_warmup() - 1
    if history.num_sessions <= first:
        raise InputError(
            f"{history.name} has {history.num_sessions} sessions",
            f"Features need {first + 1} of them; give a longer history",
        )
    panel, features = panel_features(history), allocation_features(history.assets)
    assets = history.num_assets
    raw = np.concatenate([panel.returns, panel.volatility], axis=-1)
    return PanelMarket(
        history=history,
        features=features,
        observed=Scaling(features[assets : 3 * assets]).apply(raw),
        cash_return=cash_returns(history),
        index_return=panel.returns.mean(axis=-1),
        first_usable=first,
    )


@dataclass(frozen=True)
class AllocationMarketSettings(MarketSettings):
    """Which assets, how they are allocated to, and what guards the portfolio."""

    data: PanelSettings = field(default_factory=PanelSimulatedData)
    env: AllocationSettings = field(default_factory=AllocationSettings)
    risk: RiskSettings = field(default_factory=RiskSettings)

    @property
    def surface_kind(self) -> str:
        """None: there are no options."""
        return "none"

    def load(self) -> LoadedPanel:
        """The panel of assets."""
        return load_panel(self.data)

    def build(self, history: PanelHistory) -> PanelMarket:
        """Observations and index; InputError for a history that is no panel."""
        if not isinstance(history, PanelHistory):
            raise InputError(f"{history.name} is one index", "Choose a panel of assets")
        return build_panel_market(history, self.env)


def allocation_features(assets: tuple[str, ...]) -> tuple[Feature, ...]:
    """The observation of an allocation among A assets, 3 A + 2 features in this order."""
    return (
        *(
            Feature(f"weight.{name}", "portfolio", 1.0, 0, 1, raw="dollars held / equity")
            for name in assets
        ),
        *(
            Feature(f"return.{name}", "market", 0.02, -CLIP, CLIP, raw="simple, since last close")
            for name in assets
        ),
        *(
            Feature(f"volatility.{name}", "market", 0.2, 0, CLIP, raw="annual, last 20 returns")
            for name in assets
        ),
        Feature("cash", "portfolio", 1.0, 0, 1, raw="cash / equity"),
        Feature("equity", "portfolio", 1.0, -1, CLIP, center=1.0, raw="equity / initial equity"),
    )
