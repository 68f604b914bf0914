"""Markets in which nothing can be earned above the rate, and policies that try.

Options on a geometric Brownian motion that drifts at the rate less dividends, priced at its true
volatility; forwards under Heston's stochastic volatility, on which no surface here is right, but
put-call parity holds on all; assets that all drift at the rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from agents.baselines.allocation import build_allocation_baselines
from agents.baselines.options import build_baselines
from agents.policy import PolicyState, Trader
from conf.settings import build_settings
from conf.types import BoolArray, FloatArray, ObsArray
from envs.allocation.market import AllocationSettings, PanelMarket
from envs.core.batch import Window
from envs.core.costs import FlatCosts
from envs.market.sources.index import SyntheticData, simulate_market
from envs.market.sources.panel import PanelSimulatedData, simulate_panel
from envs.option_portfolio.market import OptionMarket, OptionPortfolioSettings
from envs.options.chain import ChainSettings
from envs.options.surface import FlatSurface
from experiments.certificates.setups import ASSETS, History, Market, MarketCase, untrained_policy
from experiments.evaluation.open_run import Examined
from risk.overlay import RiskSettings

Roll = Literal["expiry", "daily"]

RATE = 0.025  # continuous, annual
WARMUP_SESSIONS = 50
TRADED_SESSIONS = 45  # two expiries of the shorter contracts
SESSIONS = WARMUP_SESSIONS + TRADED_SESSIONS
POLICY, UNTRAINED = "policy", "untrained"
OPTION_BASELINES = (
    *("cash", "index_forward", "put_write", "covered_call", "short_strangle", "iron_condor"),
    *("long_straddle", "equal_weight_long", "random", "weekend_seller"),
)
# Loud ones, for whom the module has something to do.
UNDER_THE_MODULE = (POLICY, UNTRAINED, "random", "short_strangle", "long_straddle")
NO_COSTS = FlatCosts(rate_bps=0.0)


@dataclass(frozen=True)
class FairMarket:
    """A market without an edge, drawn as often as wanted."""

    name: str
    draw: Callable[[int, np.random.Generator], History]  # so many paths
    case: MarketCase
    policies: Callable[[Market, Window], dict[str, Trader]]


def fair_markets(
    examined: Examined | None, rolls: tuple[Roll, ...], seed: int
) -> Iterator[FairMarket]:
    """Every fair market; the run's policy trades in the one that it fits into."""
    chosen = None if examined is None else MarketCase.of(examined.setup).options
    if isinstance(chosen, OptionPortfolioSettings) and not _needs_own_columns(chosen):
        yield _options_on_gbm(chosen.chain.roll, examined, seed)
        yield _managed(_options_on_gbm(chosen.chain.roll, examined, seed), examined)
    else:
        for roll in rolls:
            yield _options_on_gbm(roll, None, seed)
        yield _managed(_options_on_gbm("expiry", None, seed), None)
    yield _forwards_under_heston()
    panel = examined if isinstance(chosen, AllocationSettings) else None
    yield _assets(panel, seed)


def _options_on_gbm(roll: Roll, examined: Examined | None, seed: int) -> FairMarket:
    data: SyntheticData = build_settings(
        SyntheticData, {"model": "gbm", "sessions": SESSIONS, "rate": RATE}, "data"
    )
    options = OptionPortfolioSettings(chain=ChainSettings(roll=roll))
    if examined is not None:
        wanted = MarketCase.of(examined.setup).options
        options = wanted if isinstance(wanted, OptionPortfolioSettings) else options
    case = MarketCase(_free_of_charge(options), FlatSurface(vol_annual=data.gbm.vol_annual))

    def policies(market: Market, window: Window) -> dict[str, Trader]:
        baselines = _option_baselines(market, case, window)
        found = {name: baselines[name] for name in OPTION_BASELINES if name in baselines}
        return {**found, **_policy(examined, market, window, case, seed)}

    return FairMarket(
        f"gbm_{options.chain.roll}",
        lambda paths, rng: simulate_market(data, rng, paths=paths),
        case,
        policies,
    )


def _managed(market: FairMarket, examined: Examined | None) -> FairMarket:
    """The same under the risk module, which must not know what is to come either."""
    risk = RiskSettings()
    if examined is not None and examined.setup.settings.risk.enabled:
        risk = examined.setup.settings.risk

    def policies(priced: Market, window: Window) -> dict[str, Trader]:
        found = market.policies(priced, window)
        return {name: found[name] for name in UNDER_THE_MODULE if name in found}

    return FairMarket(
        f"{market.name}_managed", market.draw, replace(market.case, risk=risk), policies
    )


def _forwards_under_heston() -> FairMarket:
    data: SyntheticData = build_settings(
        SyntheticData, {"model": "heston", "sessions": SESSIONS, "rate": RATE}, "data"
    )
    case = MarketCase(_free_of_charge(OptionPortfolioSettings()), FlatSurface())

    def policies(market: Market, window: Window) -> dict[str, Trader]:
        baselines = _option_baselines(market, case, window)
        forward = {"index_forward": baselines["index_forward"]}
        if isinstance(market, OptionMarket):
            forward["trend_forward"] = TrendForward.of(market)
        return forward

    return FairMarket(
        "heston", lambda paths, rng: simulate_market(data, rng, paths=paths), case, policies
    )


def _assets(examined: Examined | None, seed: int) -> FairMarket:
    count, options = ASSETS, AllocationSettings()
    if examined is not None:
        count = len(examined.setup.market.instruments)
        wanted = MarketCase.of(examined.setup).options
        options = wanted if isinstance(wanted, AllocationSettings) else options
    values = {"assets": count, "sessions": SESSIONS, "rate": RATE, "gbm": {"drift": RATE}}
    data: PanelSimulatedData = build_settings(PanelSimulatedData, values, "data")
    case = MarketCase(_free_of_charge(options))

    def policies(market: Market, window: Window) -> dict[str, Trader]:
        if not isinstance(market, PanelMarket):
            return {}
        baselines = {
            b.name: b.policy
            for b in build_allocation_baselines(market, window)[0]
            if b.name in ("cash", "equal_weight", "buy_and_hold", "random")
        }
        rules = {
            "winner": AllInOne(count, "return.", 1.0),
            "loser": AllInOne(count, "return.", -1.0),
            "wildest": AllInOne(count, "volatility.", 1.0),
            "calmest": AllInOne(count, "volatility.", -1.0),
        }
        return {**baselines, **rules, **_policy(examined, market, window, case, seed)}

    return FairMarket(
        "assets", lambda paths, rng: simulate_panel(data, rng, paths=paths), case, policies
    )


def _free_of_charge(
    options: OptionPortfolioSettings | AllocationSettings,
) -> OptionPortfolioSettings | AllocationSettings:
    """Without costs, and without an end by ruin, which would forgive what a book owes."""
    episode = replace(options.episode, ruin_share=0.0)
    return replace(options, costs=NO_COSTS, episode=episode)


def _needs_own_columns(options: OptionPortfolioSettings) -> bool:
    """Does the policy see columns of a file, which no simulated market has?"""
    return any(block.startswith("extra:") for block in options.observation.extra_blocks)


def _option_baselines(market: Market, case: MarketCase, window: Window) -> dict[str, Trader]:
    options = case.options
    if not isinstance(market, OptionMarket) or not isinstance(options, OptionPortfolioSettings):
        return {}
    return {b.name: b.policy for b in build_baselines(market, options, None)}


def _policy(
    examined: Examined | None, market: Market, window: Window, case: MarketCase, seed: int
) -> dict[str, Trader]:
    if examined is not None:
        return {POLICY: examined.policy}
    return {UNTRAINED: untrained_policy(case.open(market, window, 1), seed)}


@dataclass(frozen=True)
class TrendForward:
    """The whole equity in a synthetic forward, long after a rise and short after a fall."""

    pair: FloatArray  # (M,) 1 for the call and -1 for the put nearest the money
    seen: int  # where the observation has the last return

    @classmethod
    def of(cls, market: OptionMarket) -> TrendForward:
        """In the longest contracts of a market, which are the last to fall below the tick."""
        slots = market.tape.slots
        longest = max(slot.maturity_days for slot in slots)
        nearest = min(abs(slot.moneyness - 1.0) for slot in slots)
        pair = [
            (1.0 if slot.is_call else -1.0)
            * (slot.maturity_days == longest and abs(slot.moneyness - 1.0) == nearest)
            for slot in slots
        ]
        names = [feature.name for feature in market.features]
        return cls(np.array(pair), names.index("return"))

    def predict(
        self,
        observation: ObsArray,
        state: PolicyState = None,
        episode_start: BoolArray | None = None,
        deterministic: bool = False,
    ) -> tuple[FloatArray, PolicyState]:
        """Actions (N, M) at their bounds, where call and put are held in the same quantity."""
        return np.sign(observation[:, self.seen, None].astype(np.float64)) * self.pair, None


@dataclass(frozen=True)
class AllInOne:
    """Everything in the asset whose return or volatility was the highest, or the lowest."""

    assets: int
    feature: Literal["return.", "volatility."]
    sign: float

    def predict(
        self,
        observation: ObsArray,
        state: PolicyState = None,
        episode_start: BoolArray | None = None,
        deterministic: bool = False,
    ) -> tuple[FloatArray, PolicyState]:
        """Weights (N, A + 1), cash last."""
        first = self.assets * (1 if self.feature == "return." else 2)
        seen = self.sign * observation[:, first : first + self.assets]
        return np.eye(self.assets + 1)[seen.argmax(axis=-1)], None
