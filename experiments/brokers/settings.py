"""Which broker an account has, in what contracts, and how orders are given to it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from conf.settings import settings
from experiments.brokers.listed import Root, RootName, root_of
from experiments.brokers.simulated import Faults


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
    contracts: Literal["model", RootName] = "model"  # in any fraction, or whole listed ones
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
