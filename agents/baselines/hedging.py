"""The classical hedges that an agent is measured against: same market, same costs.

Holdings are shares a unit of the liability. What has a parameter is fitted to the training paths,
on the objective that the verdict is about.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from agents.baselines.reference import Baseline
from agents.policy import PolicyBatch, Trader
from conf.errors import InputError
from conf.types import FloatArray, IntArray
from envs.core.batch import Window
from envs.core.kernel import BookState
from envs.hedging.env import HedgingKernel
from envs.hedging.liability import DATA_VOLATILITY
from envs.hedging.market import HedgingMarket, HedgingSettings, hedge_delta

LEAST_VARIANCE = 0.05  # of the variance that is adjusted downwards, as a share of it
FIT_EPISODES = 10_000
BANDS = tuple(0.01 * 1.25**k for k in range(17))  # .01 to .36 shares
# A dollar, where the underlying costs 100: from nearly no to a very narrow band.
SLOPES = tuple(-0.02 * k for k in range(16))
AVERSIONS = tuple(0.0625 * 2.0**k for k in range(13))


class BandHedge:
    """Holds what it held, moved into [low, high]; both (P, T) shares a unit of the liability."""

    def __init__(self, market: HedgingMarket, low: FloatArray, high: FloatArray) -> None:
        self.low, self.high, self._shares = low, high, market.shares

    def quantities(self, books: BookState) -> FloatArray:
        """Units (N, M); the legs' are the environment's affair."""
        where = books.path, books.session
        shares, held = self._shares[where], np.zeros_like(books.quantity)
        at_least = np.maximum(books.quantity[:, 0], self.low[where] * shares)
        held[:, 0] = np.minimum(at_least, self.high[where] * shares)
        return held


class StaticHedge:
    """Holds the delta of the sale to the end."""

    def __init__(self, market: HedgingMarket) -> None:
        self._shares, self._listed = market.delta * market.shares, market.listed

    def quantities(self, books: BookState) -> FloatArray:
        """Units (N, M)."""
        held = np.zeros_like(books.quantity)
        begins = self._listed[books.session] | (books.session == books.start)
        now = self._shares[books.path, books.session]
        held[:, 0] = np.where(begins, now, books.quantity[:, 0])
        return held


class DeltaGammaHedge:
    """Holds the listed options that have the liability's gamma, and delta with them."""

    def __init__(self, market: HedgingMarket) -> None:
        self._market = market

    def quantities(self, books: BookState) -> FloatArray:
        """Units (N, M)."""
        market, where, held = (
            self._market,
            (books.path, books.session),
            np.zeros_like(books.quantity),
        )
        options = market.neutral[where] * market.units[where][:, None]
        theirs = (options * market.option_delta[where]).sum(axis=-1)
        held[:, 1 : market.num_traded] = options
        held[:, 0] = market.delta[where] * market.shares[where] - theirs
        return held


def delta_hedge(market: HedgingMarket) -> BandHedge:
    """Black and Scholes: neutral after every trade."""
    return BandHedge(market, market.delta, market.delta)


def leland_hedge(market: HedgingMarket, options: HedgingSettings) -> BandHedge:
    """Delta at the variance that pays for the costs of trading at every step dt.

    sigma² (1 ± sqrt(2 / pi) 2 c / (sigma sqrt(dt))), plus where options are sold; 2 c is the cost
    of a round trip. H. Leland, Option pricing and replication with transactions costs, Journal of
    Finance 40 (1985).
    """
    step = options.rebalance_every / market.history.clock.units_per_year
    deviation = market.history.implied_vol * math.sqrt(step)
    number = math.sqrt(2.0 / math.pi) * 2.0 * market.cost_share / deviation
    delta = _delta_at(market, options, 1.0 + _side(options) * number)
    return BandHedge(market, delta, delta)


def whalley_wilmott_hedge(
    market: HedgingMarket, options: HedgingSettings, aversion: float
) -> BandHedge:
    """Delta within ±(3 c e^(-r tau) S gamma² / (2 a))^(1/3).

    A. E. Whalley and P. Wilmott, An asymptotic analysis of an optimal hedging model for option
    pricing with transaction costs, Mathematical Finance 7 (1997). `aversion` is a, of a dollar
    where the underlying costs 100 when the liability is sold.
    """
    width = whalley_wilmott_width(market, options, aversion)
    return BandHedge(market, market.delta - width, market.delta + width)


def whalley_wilmott_width(
    market: HedgingMarket, options: HedgingSettings, aversion: float
) -> FloatArray:
    """Half the width of that band, (P, T) shares a unit."""
    spot, a = market.history.close, _aversion(market, options, aversion)
    cubed = 1.5 * market.cost_share * _discount(market) * spot * np.square(market.gamma) / a
    return np.cbrt(cubed)


def zakamouline_hedge(
    market: HedgingMarket, options: HedgingSettings, aversion: float
) -> BandHedge:
    """A band around the delta at another volatility, both fitted to the numerical optimum.

    With tau left, D = e^(-r tau) and gamma G, the half-width is c / (a S sigma² tau) + 1.12 c^.31
    tau^.05 (D / sigma)^.25 (|G| / a)^.5, and the variance is multiplied by 1 ± 4.76 c^.78 tau^-.02
    (D / sigma)^.25 (a S² |G|)^.15, plus where options are sold. V. Zakamouline, Efficient analytic
    approximation of the optimal hedging strategy for a European call option with transaction costs,
    Quantitative Finance 6 (2006).
    """
    spot, vol, c = market.history.close, market.history.implied_vol, market.cost_share
    a, gamma = _aversion(market, options, aversion), np.abs(market.gamma)
    years = np.maximum(market.years_left, 1e-6)
    discounted = (_discount(market) / vol) ** 0.25
    width = c / (a * spot * vol * vol * years)
    width = width + 1.12 * c**0.31 * years**0.05 * discounted * np.sqrt(gamma / a)
    number = 4.76 * c**0.78 / years**0.02 * discounted * (a * spot * spot * gamma) ** 0.15
    delta = _delta_at(market, options, 1.0 + _side(options) * number)
    return BandHedge(market, delta - width, delta + width)


def minimum_variance_hedge(market: HedgingMarket, slope: float) -> BandHedge:
    """Delta + vega x slope / (S sqrt(tau)): volatility rises as the underlying falls, slope < 0.

    A relative move of x moves volatility by slope x / sqrt(tau) on average. J. Hull and A. White,
    Optimal delta hedging for options, Journal of Banking and Finance 82 (2017), who let the slope
    depend on delta.
    """
    years = np.maximum(market.years_left, 1e-6)
    delta = market.delta + slope * market.vega / (market.history.close * np.sqrt(years))
    return BandHedge(market, delta, delta)


def constant_band(market: HedgingMarket, width: float) -> BandHedge:
    """Delta within ±width shares."""
    return BandHedge(market, market.delta - width, market.delta + width)


def _side(options: HedgingSettings) -> float:
    """1 where options are sold, -1 where they are bought."""
    return -1.0 if sum(leg.quantity for leg in options.legs) > 0.0 else 1.0


def _aversion(market: HedgingMarket, options: HedgingSettings, aversion: float) -> FloatArray:
    """Of a dollar at each path's own price level, (P, T)."""
    start = options.initial_equity_usd * options.notional_share
    return aversion * 100.0 * market.units / start


def _discount(market: HedgingMarket) -> FloatArray:
    discount: FloatArray = np.exp(-market.history.rate * market.years_left)
    return discount


def _delta_at(market: HedgingMarket, options: HedgingSettings, multiple: FloatArray) -> FloatArray:
    """The hedge's delta (P, T) at so many times (P, T) the variance."""
    return hedge_delta(market, options, np.maximum(multiple, LEAST_VARIANCE))


# --- what hedging costs ---------------------------------------------------------------------------


class HedgeRun(NamedTuple):
    """What E liabilities cost, in their prices."""

    lost: FloatArray  # (L, E) from session to session; the sum is what one costs in all
    paid: FloatArray  # (E,) of it to trade


def liabilities(
    market: HedgingMarket, options: HedgingSettings, window: Window
) -> tuple[IntArray, IntArray]:
    """Sale and path of every liability that begins and ends within a window, (E,) each.

    InputError where there is none.
    """
    life = options.episode.sessions
    starts = market.starts(window, life)
    if not len(starts):
        raise InputError(
            f"no liability of {life} sessions begins and ends within sessions {window.start} to "
            f"{window.stop - 1} of {market.history.name}",
            "Widen the split, or set env.episode.sessions lower",
        )
    paths = market.history.num_paths
    return np.repeat(starts, paths), np.tile(np.arange(paths), len(starts))


def run_hedge(
    trader: Trader,
    market: HedgingMarket,
    options: HedgingSettings,
    window: Window,
    most: int | None = None,
) -> HedgeRun:
    """All `liabilities` of a window hedged by one trader, or `most` of them, spread evenly.

    Examples:
        >>> from envs import make_option_hedging
        >>> own = make_option_hedging(split="test").kernel
        >>> hedge = delta_hedge(own.market)
        >>> run_hedge(hedge, own.market, own.options, own.window, most=4).lost.shape
        (20, 4)
    """
    life = options.episode.sessions
    start, path = liabilities(market, options, window)
    if most is not None and most < len(start):
        chosen = np.linspace(0, len(start) - 1, most).astype(np.int64)
        start, path = start[chosen], path[chosen]
    kernel = HedgingKernel(market, options, window, len(start), random_start=False)
    observation = kernel.place(start, path, start + life)
    batch, state, begins = PolicyBatch([trader]), None, np.ones(len(start), np.bool_)
    weight, lost = options.reward.weights.portfolio_return, []
    for _ in range(life):
        quantity, state = batch.quantities(kernel, observation, state, begins)
        result = kernel.trade_to(quantity)
        lost.append(result.reward / -weight)
        observation, begins = result.observation, np.zeros_like(begins)
    return HedgeRun(np.stack(lost), kernel.ledger.costs / market.premium[path, start])


def hedging_costs(
    trader: Trader,
    market: HedgingMarket,
    options: HedgingSettings,
    window: Window,
    most: int | None = None,
) -> FloatArray:
    """What each liability lost from session to session, in its prices, (L, E): see `run_hedge`."""
    return run_hedge(trader, market, options, window, most).lost


@dataclass(frozen=True)
class FittedHedges:
    """The parameters of the classical hedges."""

    width: float  # of the constant band, shares
    whalley_wilmott: float  # risk aversions
    zakamouline: float
    slope: float = 0.0  # of volatility against the underlying


def fit_hedges(market: HedgingMarket, options: HedgingSettings, window: Window) -> FittedHedges:
    """The parameters that are best on up to FIT_EPISODES liabilities of a window."""

    def best(hedge: Callable[[float], Trader], values: tuple[float, ...]) -> float:
        def score(value: float) -> float:
            lost = hedging_costs(hedge(value), market, options, window, FIT_EPISODES)
            return options.objective(lost)

        return min(values, key=score)

    slopes = SLOPES if market.surface != DATA_VOLATILITY else (0.0,)
    return FittedHedges(
        best(lambda width: constant_band(market, width), BANDS),
        best(lambda a: whalley_wilmott_hedge(market, options, a), AVERSIONS),
        best(lambda a: zakamouline_hedge(market, options, a), AVERSIONS),
        best(lambda slope: minimum_variance_hedge(market, slope), slopes),
    )


def build_hedging_baselines(
    market: HedgingMarket, options: HedgingSettings, fitted: FittedHedges
) -> tuple[Baseline, ...]:
    """Every classical hedge on a market."""
    ww, zak, width = fitted.whalley_wilmott, fitted.zakamouline, fitted.width
    minimum_variance = Baseline(
        "minimum_variance",
        "Minimum variance",
        f"Holds delta and a slope of {fitted.slope:g} times vega: volatility moves with the index.",
        minimum_variance_hedge(market, fitted.slope),
    )
    delta_gamma = Baseline(
        "delta_gamma",
        "Delta-gamma",
        "Holds the listed options that have the liability's gamma, and delta with them.",
        DeltaGammaHedge(market),
    )
    return (
        *((delta_gamma,) if options.hedges else ()),
        *((minimum_variance,) if market.surface != DATA_VOLATILITY else ()),
        Baseline(
            "delta",
            "Delta",
            "Holds the Black-Scholes delta after every trade.",
            delta_hedge(market),
        ),
        Baseline(
            "leland",
            "Leland",
            "Holds the delta at a variance that pays for the trading.",
            leland_hedge(market, options),
        ),
        Baseline(
            "whalley_wilmott",
            "Whalley-Wilmott",
            f"Trades to the edge of their asymptotic band, with a risk aversion of {ww:g}.",
            whalley_wilmott_hedge(market, options, ww),
        ),
        Baseline(
            "zakamouline",
            "Zakamouline",
            f"Trades to the edge of his fitted band, with a risk aversion of {zak:g}.",
            zakamouline_hedge(market, options, zak),
        ),
        Baseline(
            "constant_band",
            "Constant band",
            f"Trades to the edge of a band of {width:.3f} shares on each side of delta.",
            constant_band(market, width),
        ),
        Baseline(
            "static", "Static", "Holds the delta of the sale to the end.", StaticHedge(market)
        ),
    )
