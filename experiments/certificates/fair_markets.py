"""Markets in which nothing can be earned above the rate, and policies that try.

Options on a geometric Brownian motion that drifts at the rate less dividends, priced at its true
volatility; forwards under Heston's stochastic volatility, on which no surface here is right, but
put-call parity holds on all; assets that all drift at the rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from agents.baselines.allocation import build_allocation_baselines
from agents.baselines.options import build_baselines
from agents.policy import PolicyState, Trader
from conf.settings import build_settings
from conf.types import BoolArray, FloatArray, ObsArray
from envs.allocation.market import AllocationMarketSettings, AllocationSettings, PanelMarket
from envs.core.batch import Window
from envs.core.costs import FlatCosts
from envs.core.market import MarketSettings
from envs.market.sources.index import SyntheticData, simulate_market
from envs.market.sources.panel import PanelSimulatedData, simulate_panel
from envs.option_portfolio.market import OptionMarket, OptionMarketSettings, OptionPortfolioSettings
from envs.options.chain import ChainSettings
from envs.options.surface import FlatSurface
from experiments.certificates.setups import ASSETS, History, untrained_policy
from experiments.environments.setup import open_books
from experiments.evaluation.open_run import TestedRun
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
    """A market without an edge, drawn as often as asked for."""

    name: str
    draw: Callable[[int, np.random.Generator], History]  # so many paths
    settings: MarketSettings
    policies: Callable[[Any, Window], dict[str, Trader]]  # of a market that was drawn


def fair_markets(
    tested: TestedRun | None, rolls: tuple[Roll, ...], seed: int
) -> Iterator[FairMarket]:
    """Every fair market; the run's policy trades in the one that it fits into."""
    env: Any = None if tested is None else tested.setup.settings.env
    trades_options = tested is not None and tested.setup.trades_options
    if trades_options and not _needs_own_columns(env):
        yield _options_on_gbm(env.chain.roll, tested, seed)
        yield _managed(_options_on_gbm(env.chain.roll, tested, seed), tested)
    else:
        for roll in rolls:
            yield _options_on_gbm(roll, None, seed)
        yield _managed(_options_on_gbm("expiry", None, seed), None)
    yield _forwards_under_heston()
    yield _assets(None if trades_options else tested, seed)


def _options_on_gbm(roll: Roll, tested: TestedRun | None, seed: int) -> FairMarket:
    data = _index_data("gbm")
    env: Any = OptionPortfolioSettings(chain=ChainSettings(roll=roll))
    if tested is not None:
        env = tested.setup.settings.env
    settings = OptionMarketSettings(
        surface=FlatSurface(vol_annual=data.gbm.vol_annual),
        env=_free_of_charge(env),
        risk=_trained_under(tested),
    )

    def policies(market: OptionMarket, window: Window) -> dict[str, Trader]:
        baselines = _option_baselines(market, settings)
        chosen = {name: baselines[name] for name in OPTION_BASELINES if name in baselines}
        return {**chosen, **_policy(tested, market, window, settings, seed)}

    return FairMarket(
        f"gbm_{env.chain.roll}",
        lambda paths, rng: simulate_market(data, rng, paths=paths),
        settings,
        policies,
    )


def _managed(market: FairMarket, tested: TestedRun | None) -> FairMarket:
    """The same under the risk module, which must not know what is to come either."""
    risk = RiskSettings()
    if tested is not None and tested.setup.settings.risk.enabled:
        risk = tested.setup.settings.risk

    def policies(priced: Any, window: Window) -> dict[str, Trader]:
        every = market.policies(priced, window)
        return {name: every[name] for name in UNDER_THE_MODULE if name in every}

    settings: Any = market.settings
    return FairMarket(f"{market.name}_managed", market.draw, replace(settings, risk=risk), policies)


def _forwards_under_heston() -> FairMarket:
    data = _index_data("heston")
    settings = OptionMarketSettings(
        surface=FlatSurface(),
        env=_free_of_charge(OptionPortfolioSettings()),
        risk=RiskSettings(enabled=False),
    )

    def policies(market: OptionMarket, window: Window) -> dict[str, Trader]:
        forward = _option_baselines(market, settings)["index_forward"]
        return {"index_forward": forward, "trend_forward": TrendForward.of(market)}

    return FairMarket(
        "heston", lambda paths, rng: simulate_market(data, rng, paths=paths), settings, policies
    )


def _assets(tested: TestedRun | None, seed: int) -> FairMarket:
    count, env = ASSETS, AllocationSettings()
    if tested is not None:
        count, env = len(tested.setup.market.instruments), _env_of(tested)
    values = {"assets": count, "sessions": SESSIONS, "rate": RATE, "gbm": {"drift": RATE}}
    data: PanelSimulatedData = build_settings(PanelSimulatedData, values, "data")
    settings = AllocationMarketSettings(env=_free_of_charge(env), risk=_trained_under(tested))

    def policies(market: PanelMarket, window: Window) -> dict[str, Trader]:
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
        return {**baselines, **rules, **_policy(tested, market, window, settings, seed)}

    return FairMarket(
        "assets", lambda paths, rng: simulate_panel(data, rng, paths=paths), settings, policies
    )


def _index_data(model: str) -> SyntheticData:
    values = {"model": model, "sessions": SESSIONS, "rate": RATE}
    data: SyntheticData = build_settings(SyntheticData, values, "data")
    return data


def _env_of(tested: TestedRun) -> Any:
    return tested.setup.settings.env


def _trained_under(tested: TestedRun | None) -> RiskSettings:
    """The risk module where the run's agent learned under it."""
    off = RiskSettings(enabled=False)
    return off if tested is None else tested.setup.training_risk or off


def _free_of_charge(env: Any) -> Any:
    """Without costs, and without an end by ruin, which would write off what a book owes."""
    return replace(env, costs=NO_COSTS, episode=replace(env.episode, ruin_share=0.0))


def _needs_own_columns(options: OptionPortfolioSettings) -> bool:
    """Does the policy see columns of a file, which no simulated market has?"""
    return any(block.startswith("extra:") for block in options.observation.extra_blocks)


def _option_baselines(market: OptionMarket, settings: OptionMarketSettings) -> dict[str, Trader]:
    return {b.name: b.policy for b in build_baselines(market, settings.env, None)}


def _policy(
    tested: TestedRun | None, market: Any, window: Window, settings: MarketSettings, seed: int
) -> dict[str, Trader]:
    if tested is not None:
        return {POLICY: tested.policy}
    return {UNTRAINED: untrained_policy(open_books(settings, market, window, 1), seed)}


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
