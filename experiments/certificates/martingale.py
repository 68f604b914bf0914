"""Martingale: where nothing can be earned above the rate, no policy earns anything.

The fair markets: options on a geometric Brownian motion that drifts at the rate less dividends,
priced at its true volatility; forwards under Heston's stochastic volatility, on which no surface
here is right, but put-call parity holds on all; assets that all drift at the rate; liabilities
sold at their worth. Prices and paths share one clock of variance (`envs.market.clock`), business or
calendar. Without costs the discounted P&L of every policy has mean zero there. Interest is
discounted by the calendar days and the rate alone, not by what the market says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from agents.baselines.allocation import build_allocation_baselines
from agents.baselines.hedging import BandHedge, StaticHedge, delta_hedge
from agents.baselines.options import build_baselines
from agents.policy import PolicyBatch, Trader
from conf.settings import build_settings
from conf.types import FloatArray
from envs.allocation.market import AllocationMarketSettings, AllocationSettings, PanelMarket
from envs.allocation.rebalance import rebalanced_quantity
from envs.core.batch import Window
from envs.core.costs import FlatCosts
from envs.core.kernel import BookKernel, BookState
from envs.core.market import BookMarket, MarketSettings
from envs.hedging.market import HedgingMarket, HedgingMarketSettings, HedgingSettings
from envs.market.clock import CALENDAR, CLOSED_DAY_WEIGHT
from envs.market.sources.index import SyntheticData, simulate_market
from envs.market.sources.panel import PanelSimulatedData, simulate_panel
from envs.option_portfolio.market import OptionMarket, OptionMarketSettings, OptionPortfolioSettings
from envs.option_portfolio.observation import MARKET
from envs.option_portfolio.sizing import target_quantity
from envs.options.chain import ChainSettings
from envs.options.surface import FlatSurface
from experiments.backtests.backtest import rollout
from experiments.certificates.certificate import Certificate, Certification
from experiments.certificates.small_environments import (
    ASSETS,
    History,
    hedging_settings,
    untrained_policy,
    whole_window,
)
from experiments.environments.hedging import HedgingSetup
from experiments.environments.setup import open_books
from experiments.evaluation.open_run import TestedRun
from risk.overlay import RiskSettings

Roll = Literal["expiry", "daily"]

MAX_STANDARD_ERRORS = 3.0
EXACT = 1e-9  # share of equity: the largest gain of a policy that never risks anything
RATE = 0.025  # continuous, annual
SESSIONS = 50 + 45  # the warm-up, then two expiries of the shorter contracts
POLICY, UNTRAINED = "policy", "untrained"
OPTION_BASELINES = (
    *("cash", "index_forward", "put_write", "covered_call", "short_strangle", "iron_condor"),
    *("long_straddle", "equal_weight_long", "random", "weekend_seller"),
)
# Large positions, which the risk module has to cut.
UNDER_RISK_MODULE = (POLICY, UNTRAINED, "random", "short_strangle", "long_straddle")
RISK_OFF = RiskSettings(enabled=False)


@dataclass(frozen=True)
class FairGain:
    """The gain of a policy in a fair market, as shares of the initial equity."""

    mean: float  # discounted
    error: float  # of the mean
    paths: int

    @classmethod
    def of(cls, gain: FloatArray) -> FairGain:
        """Of gains (N,), one a path."""
        error = float(gain.std(ddof=1) / np.sqrt(len(gain)))
        return cls(float(gain.mean()), error, len(gain))

    @property
    def standard_errors(self) -> float:
        """How far from zero; a policy that risks nothing has to gain nothing."""
        if self.error > EXACT:
            return self.mean / self.error
        return 0.0 if abs(self.mean) <= EXACT else math.copysign(math.inf, self.mean)


def martingale(certification: Certification) -> list[Certificate]:
    """One certificate for each fair market."""
    profile, seed = certification.profile, certification.seed
    rolls: tuple[Roll, ...] = ("expiry", "daily") if profile.everything else ("expiry",)
    clocks = (CLOSED_DAY_WEIGHT, CALENDAR) if profile.everything else (CLOSED_DAY_WEIGHT,)
    return [
        certificate_of(
            f"martingale.{market.name}",
            fair_gains(market, profile.paths, profile.policy_paths, seed),
        )
        for market in fair_markets(certification.tested, rolls, seed, clocks)
    ]


def certificate_of(name: str, gains: Mapping[str, FairGain]) -> Certificate:
    """PASS where every mean lies within three standard errors of zero."""
    worst = max(gains, key=lambda policy: abs(gains[policy].standard_errors))
    gain = gains[worst]
    number = abs(gain.standard_errors)
    return Certificate(
        name,
        number <= MAX_STANDARD_ERRORS,
        number,
        f"standard errors from zero ({MAX_STANDARD_ERRORS:g} allowed): {worst}, the furthest of "
        f"{len(gains)} policies, gained {gain.mean:+.4%} ± {gain.error:.4%} of equity on "
        f"{gain.paths:,} paths",
        {
            policy: {
                "mean": each.mean,
                "standard_error": each.error,
                "standard_errors_from_zero": each.standard_errors
                if math.isfinite(each.standard_errors)
                else None,
                "paths": each.paths,
            }
            for policy, each in gains.items()
        },
    )


def fair_gains(market: FairMarket, paths: int, at_once: int, seed: int) -> dict[str, FairGain]:
    """Every policy over all paths, a block of them at a time to bound memory."""
    rng = np.random.default_rng([seed, *market.name.encode()])
    gains: dict[str, list[FloatArray]] = {}
    for first in range(0, paths, at_once):
        block = min(at_once, paths - first)
        priced = market.settings.build(market.draw(block, rng))
        window = whole_window(priced)
        policies = market.policies(priced, window)
        kernel = open_books(market.settings, priced, window, block * len(policies))
        gained = discounted_gain(kernel, PolicyBatch(list(policies.values())))
        for name, each in zip(policies, gained.reshape(len(policies), block), strict=True):
            gains.setdefault(name, []).append(each)
    return {name: FairGain.of(np.concatenate(each)) for name, each in gains.items()}


def discounted_gain(kernel: BookKernel, policies: PolicyBatch) -> FloatArray:
    """P&L (N,) of the whole window as a share of the initial equity, discounted at the rate."""
    window, dates = kernel.window, kernel.market.history.dates.astype("datetime64[D]")
    for _ in rollout(policies, kernel, kernel.reset(), window.stop - window.start - 1):
        pass
    days = (dates[window.stop - 1] - dates[window.start]).astype(np.int64)
    discount = math.exp(-RATE * float(days) / 365.0)
    gain: FloatArray = kernel.ledger.equity * discount / kernel.options.initial_equity_usd - 1.0
    return gain


# --- fair markets --------------------------------------------------------------------------------


@dataclass(frozen=True)
class FairMarket:
    """A market without an edge, of which any number of paths can be drawn."""

    name: str
    settings: MarketSettings
    policies: Callable[[Any, Window], dict[str, Trader]]  # of a market that was drawn

    def draw(self, paths: int, rng: np.random.Generator) -> History:
        """So many paths."""
        data = self.settings.data
        simulate = simulate_panel if isinstance(data, PanelSimulatedData) else simulate_market
        return simulate(data, rng, paths=paths)


def fair_markets(
    tested: TestedRun | None,
    rolls: tuple[Roll, ...],
    seed: int,
    clocks: tuple[float, ...] = (CLOSED_DAY_WEIGHT,),
) -> Iterator[FairMarket]:
    """Every fair market; the run's policy trades in the one that it fits into.

    `clocks` are weights of a closed day in the variance.
    """
    option_run = allocation_run = hedging_run = None
    if tested is not None and isinstance(tested.setup, HedgingSetup):
        hedging_run = tested
    elif tested is not None and tested.setup.trades_options:
        env: Any = tested.setup.settings.env
        if not any(block.startswith("extra:") for block in env.observation.extra_blocks):
            option_run, rolls = tested, (env.chain.roll,)  # no simulated market has own columns
    else:
        allocation_run = tested
    markets = [_options_on_gbm(roll, clock, option_run, seed) for clock in clocks for roll in rolls]
    yield from markets
    yield _managed(markets[0], option_run)
    yield _forwards_under_heston()
    yield _assets(allocation_run, seed)
    yield _hedges(hedging_run, seed)


def _options_on_gbm(roll: Roll, clock: float, tested: TestedRun | None, seed: int) -> FairMarket:
    data = replace(_index_data("gbm"), closed_day_weight=clock)
    env: Any = OptionPortfolioSettings(chain=ChainSettings(roll=roll))
    if tested is not None:
        env = tested.setup.settings.env
    settings = OptionMarketSettings(
        data=data,
        surface=FlatSurface(vol_annual=data.gbm.vol_annual),
        env=_free_of_charge(env),
        risk=_trained_under(tested),
    )

    def policies(market: OptionMarket, window: Window) -> dict[str, Trader]:
        baselines = _option_baselines(market, settings)
        chosen = {name: baselines[name] for name in OPTION_BASELINES if name in baselines}
        return {**chosen, **_policy(tested, market, settings, seed)}

    name = f"gbm_{roll}_calendar" if clock == CALENDAR else f"gbm_{roll}"
    return FairMarket(name, settings, policies)


def _managed(market: FairMarket, tested: TestedRun | None) -> FairMarket:
    """The same under the risk module, which must not know what is to come either."""
    risk = RiskSettings()
    if tested is not None and tested.setup.settings.risk.enabled:
        risk = tested.setup.settings.risk

    def policies(priced: Any, window: Window) -> dict[str, Trader]:
        every = market.policies(priced, window)
        return {name: every[name] for name in UNDER_RISK_MODULE if name in every}

    settings: Any = market.settings
    return FairMarket(f"{market.name}_managed", replace(settings, risk=risk), policies)


def _forwards_under_heston() -> FairMarket:
    env = _free_of_charge(OptionPortfolioSettings())
    data = _index_data("heston")
    settings = OptionMarketSettings(data=data, surface=FlatSurface(), env=env, risk=RISK_OFF)

    def policies(market: OptionMarket, window: Window) -> dict[str, Trader]:
        forward = _option_baselines(market, settings)["index_forward"]
        return {"index_forward": forward, "trend_forward": TrendForward(market)}

    return FairMarket("heston", settings, policies)


def _assets(tested: TestedRun | None, seed: int) -> FairMarket:
    count = ASSETS
    env: Any = AllocationSettings()
    if tested is not None:
        count, env = len(tested.setup.market.instruments), tested.setup.settings.env
    values = {"assets": count, "sessions": SESSIONS, "rate": RATE, "gbm": {"drift": RATE}}
    data: PanelSimulatedData = build_settings(PanelSimulatedData, values, "data")
    settings = AllocationMarketSettings(
        data=data, env=_free_of_charge(env), risk=_trained_under(tested)
    )

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

    return FairMarket("assets", settings, policies)


def _hedges(tested: TestedRun | None, seed: int) -> FairMarket:
    """Liabilities sold at their worth, hedged or not with a share that pays dividends."""
    env: Any = hedging_settings().env if tested is None else tested.setup.settings.env
    data = _index_data("gbm")
    data = replace(data, sessions=max(data.sessions, env.episode.sessions + 1))
    # At the volatility that the paths have, whatever the run sells at.
    env = replace(_free_of_charge(env), volatility="quoted")
    settings = HedgingMarketSettings(data=data, env=env)

    def policies(market: HedgingMarket, window: Window) -> dict[str, Trader]:
        nothing = np.zeros_like(market.delta)
        trend = np.sign(market.index_return)
        return {
            "delta": delta_hedge(market),
            "static": StaticHedge(market),
            "naked": BandHedge(market, nothing, nothing),
            "trend": BandHedge(market, trend, trend),
            **_policy(tested, market, settings, seed),
        }

    return FairMarket("hedges", settings, policies)


def _index_data(model: str) -> SyntheticData:
    values = {"model": model, "sessions": SESSIONS, "rate": RATE}
    data: SyntheticData = build_settings(SyntheticData, values, "data")
    return data


def _trained_under(tested: TestedRun | None) -> RiskSettings:
    """The risk module where the run's agent learned under it."""
    return RISK_OFF if tested is None else tested.setup.training_risk or RISK_OFF


def _free_of_charge(env: Any) -> Any:
    """Without costs, and without an end by ruin, which would write off what a book owes."""
    nothing = FlatCosts(rate_bps=0.0)
    if isinstance(env, HedgingSettings):
        env = replace(env, hedge_costs=nothing)
    return replace(env, costs=nothing, episode=replace(env.episode, ruin_share=0.0))


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
