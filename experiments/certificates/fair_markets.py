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
from agents.policy import Trader
from conf.settings import build_settings
from conf.types import FloatArray
from envs.allocation.env import rebalanced_quantity
from envs.allocation.market import AllocationMarketSettings, AllocationSettings, PanelMarket
from envs.core.batch import Window
from envs.core.costs import FlatCosts
from envs.core.kernel import BookState
from envs.core.market import BookMarket, MarketSettings
from envs.market.sources.index import SyntheticData, simulate_market
from envs.market.sources.panel import PanelSimulatedData, simulate_panel
from envs.option_portfolio.market import OptionMarket, OptionMarketSettings, OptionPortfolioSettings
from envs.option_portfolio.observation import MARKET
from envs.option_portfolio.sizing import target_quantity
from envs.options.chain import ChainSettings
from envs.options.surface import FlatSurface
from experiments.certificates.small_environments import ASSETS, History, untrained_policy
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
# Large positions, which the risk module has to cut.
UNDER_RISK_MODULE = (POLICY, UNTRAINED, "random", "short_strangle", "long_straddle")
NO_COSTS = FlatCosts(rate_bps=0.0)
RISK_OFF = RiskSettings(enabled=False)


@dataclass(frozen=True)
class FairMarket:
    """A market without an edge, of which any number of paths can be drawn."""

    name: str
    draw: Callable[[int, np.random.Generator], History]  # so many paths
    settings: MarketSettings
    policies: Callable[[Any, Window], dict[str, Trader]]  # of a market that was drawn


def fair_markets(
    tested: TestedRun | None, rolls: tuple[Roll, ...], seed: int
) -> Iterator[FairMarket]:
    """Every fair market; the run's policy trades in the one that it fits into."""
    option_run = allocation_run = None
    if tested is not None and tested.setup.trades_options:
        env: Any = tested.setup.settings.env
        if not any(block.startswith("extra:") for block in env.observation.extra_blocks):
            option_run, rolls = tested, (env.chain.roll,)  # no simulated market has own columns
    else:
        allocation_run = tested
    markets = [_options_on_gbm(roll, option_run, seed) for roll in rolls]
    yield from markets
    yield _managed(markets[0], option_run)
    yield _forwards_under_heston()
    yield _assets(allocation_run, seed)


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
        return {**chosen, **_policy(tested, market, settings, seed)}

    return FairMarket(
        f"gbm_{roll}",
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
        return {name: every[name] for name in UNDER_RISK_MODULE if name in every}

    settings: Any = market.settings
    return FairMarket(f"{market.name}_managed", market.draw, replace(settings, risk=risk), policies)


def _forwards_under_heston() -> FairMarket:
    data = _index_data("heston")
    env = _free_of_charge(OptionPortfolioSettings())
    settings = OptionMarketSettings(surface=FlatSurface(), env=env, risk=RISK_OFF)

    def policies(market: OptionMarket, window: Window) -> dict[str, Trader]:
        forward = _option_baselines(market, settings)["index_forward"]
        return {"index_forward": forward, "trend_forward": TrendForward(market)}

    return FairMarket(
        "heston", lambda paths, rng: simulate_market(data, rng, paths=paths), settings, policies
    )


def _assets(tested: TestedRun | None, seed: int) -> FairMarket:
    count = ASSETS
    env: Any = AllocationSettings()
    if tested is not None:
        count, env = len(tested.setup.market.instruments), tested.setup.settings.env
    values = {"assets": count, "sessions": SESSIONS, "rate": RATE, "gbm": {"drift": RATE}}
    data: PanelSimulatedData = build_settings(PanelSimulatedData, values, "data")
    settings = AllocationMarketSettings(env=_free_of_charge(env), risk=_trained_under(tested))

    def policies(market: PanelMarket, window: Window) -> dict[str, Trader]:
        return {
            **{
                baseline.name: baseline.policy
                for baseline in build_allocation_baselines(market, window)[0]
                if baseline.name in ("cash", "equal_weight", "random")
            },
            "winner": AllInOne(market, "return", 1.0),
            "loser": AllInOne(market, "return", -1.0),
            "wildest": AllInOne(market, "volatility", 1.0),
            "calmest": AllInOne(market, "volatility", -1.0),
            **_policy(tested, market, settings, seed),
        }

    return FairMarket(
        "assets", lambda paths, rng: simulate_panel(data, rng, paths=paths), settings, policies
    )


def _index_data(model: str) -> SyntheticData:
    values = {"model": model, "sessions": SESSIONS, "rate": RATE}
    data: SyntheticData = build_settings(SyntheticData, values, "data")
    return data


def _trained_under(tested: TestedRun | None) -> RiskSettings:
    """The risk module where the run's agent learned under it."""
    return RISK_OFF if tested is None else tested.setup.training_risk or RISK_OFF


def _free_of_charge(env: Any) -> Any:
    """Without costs, and without an end by ruin, which would write off what a book owes."""
    return replace(env, costs=NO_COSTS, episode=replace(env.episode, ruin_share=0.0))


def _option_baselines(market: OptionMarket, settings: OptionMarketSettings) -> dict[str, Trader]:
    return {b.name: b.policy for b in build_baselines(market, settings.env, None)}


def _policy(
    tested: TestedRun | None, market: BookMarket, settings: MarketSettings, seed: int
) -> dict[str, Trader]:
    if tested is not None:
        return {POLICY: tested.policy}
    return {UNTRAINED: untrained_policy(settings, market, seed)}


@dataclass(frozen=True)
class TrendForward:
    """The whole equity in a synthetic forward, long after a rise and short after a fall.

    In the longest contracts of a market, which are the last to fall below the tick.
    """

    market: OptionMarket

    def direction(self, books: BookState) -> FloatArray:
        """The sign (N,) of the forward: that of the last return, as it is observed."""
        column = [feature.name for feature in MARKET].index("return")
        last = self.market.observed.before[books.path, books.session, column]
        direction: FloatArray = np.sign(last.astype(np.float64))
        return direction

    def quantities(self, books: BookState) -> FloatArray:
        """Units (N, M) at the bounds of the sizing: call and put are held in the same quantity."""
        slots, at = self.market.tape.slots, (books.path, books.session)
        longest = max(slot.maturity_days for slot in slots)
        nearest = min(abs(slot.moneyness - 1.0) for slot in slots)
        pair = [
            (1.0 if slot.is_call else -1.0)
            * (slot.maturity_days == longest and abs(slot.moneyness - 1.0) == nearest)
            for slot in slots
        ]
        return target_quantity(
            self.direction(books)[:, None] * np.array(pair),
            books.quantity,
            self.market.mark[at],
            self.market.history.close[at],
            books.equity,
            books.options.sizing,
        )


@dataclass(frozen=True)
class AllInOne:
    """Everything in the asset whose return or volatility was the highest, or the lowest."""

    market: PanelMarket
    feature: Literal["return", "volatility"]
    sign: float

    def quantities(self, books: BookState) -> FloatArray:
        """Units (N, A)."""
        market, at = self.market, (books.path, books.session)
        assets = len(market.instruments)
        first = 0 if self.feature == "return" else assets
        observed = self.sign * market.observed[at][:, first : first + assets]
        weights = np.eye(assets + 1)[observed.argmax(axis=-1)]
        return rebalanced_quantity(
            weights, books.quantity, books.cash, books.equity, market.mark[at], books.options
        )
