"""What an account is opened with and keeps: when it decides, where its orders go, in what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field, model_validator

from conf.settings import settings
from envs.core.market import EquityUsd, MarketSettings
from experiments.accounts.listed import Root, RootName, root_of, with_contracts
from experiments.accounts.simulated_broker import Faults
from experiments.environments.opening import market_settings

# When is decided: at the close itself, as a backtest does, some minutes before it, or after it.
AT_CLOSE: Final = "close"
BEFORE_CLOSE: Final = "before_close"
AFTER_CLOSE: Final = "after_close"


@settings
class AlpacaSettings:
    """How orders are given to Alpaca."""

    cushion: Annotated[float, Field(ge=0.0, le=0.5)] = 0.02  # share that a limit may be worse by
    patience_s: Annotated[float, Field(ge=0.0, le=600.0)] = 30.0  # that an order stays open
    timeout_s: Annotated[float, Field(gt=0.0, le=60.0)] = 10.0  # for each answer
    # A server of one's own in the place of Alpaca's, for drills.
    url: Annotated[str, Field(pattern=r"^http://127\.0\.0\.1:\d+$")] | None = None


@settings
class BrokerSettings:
    """Where orders go: nowhere (`model`: the book trades as in a backtest), or to a broker."""

    kind: Literal["model", "simulated", "alpaca"] = "model"
    contracts: Literal["model"] | RootName = "model"  # in any fraction, or whole listed ones
    spy_ratio: Annotated[float, Field(ge=0.05, le=0.2)] = 0.1  # SPY over the index
    adjust_usd: Annotated[float, Field(ge=0.0)] = 0.0  # a session; a larger gap opens nothing
    live: bool = False
    confirm: str = ""
    alpaca: AlpacaSettings = Field(default_factory=AlpacaSettings)
    backup: bool = False  # a second one takes the reductions that the first one does not do
    faults: Faults = Field(default_factory=Faults)

    @property
    def root(self) -> Root | None:
        """What is traded; None: the model's contracts."""
        return None if self.contracts == "model" else root_of(self.contracts, self.spy_ratio)


@settings
class AccountSettings:
    """What an account is opened with and keeps."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    decide: Literal["close", "before_close", "after_close"] = AT_CLOSE
    equity_usd: EquityUsd | None = None  # to begin with; None: what the agent was trained with
    broker: BrokerSettings = Field(default_factory=BrokerSettings)

    @model_validator(mode="after")
    def _check(self) -> AccountSettings:
        if self.decide == AFTER_CLOSE and self.broker.kind == "model":
            raise ValueError("decide=after_close needs a broker: broker.kind=simulated")
        if self.broker.backup and self.broker.kind != "simulated":
            raise ValueError("broker.backup needs a broker: broker.kind=simulated")
        return self

    def market(self, config: Mapping[str, Any]) -> MarketSettings:
        """The run's market, with this equity and in these contracts."""
        env = dict(config["env"])
        if self.equity_usd is not None:
            env["initial_equity_usd"] = self.equity_usd
        options = market_settings({**config, "env": env})
        return with_contracts(options, self.broker.root)
