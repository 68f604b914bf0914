"""The classical strategies that an agent is measured against: same market, costs and risk module.

The option books use the shortest maturity of the chain; at the money is the strike nearest to
spot when the contract is listed, and a wing is one or two strikes farther out. A strategy that
needs a strike which the chain does not have is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agents.baselines.hold_to_expiry import HoldToExpiry
from agents.baselines.mean_variance import mean_variance_weights, slot_returns
from agents.baselines.reference import CASH, Baseline, RandomPolicy
from agents.baselines.weekend_seller import WeekendSeller
from agents.policy import Strategy
from envs.core.batch import Window
from envs.option_portfolio.market import OptionMarket, OptionPortfolioSettings
from envs.options.chain import Slot

EQUAL_WEIGHT_PREMIUM = 0.20  # gross, share of equity
WEEKEND_NOTIONAL = 0.50  # a leg, share of equity


@dataclass(frozen=True)
class Leg:
    """One contract of an option strategy."""

    is_call: bool
    steps: int  # strikes above (+) or below (-) the one at the money
    sign: int  # +1 long, -1 short
    part: int = 0  # legs of one part are opened together or, below the tick, not at all


@dataclass(frozen=True)
class OptionStrategy:
    """An option strategy by its legs, each of the same notional."""

    name: str
    title: str
    description: str
    notional: float  # a leg, share of equity
    legs: tuple[Leg, ...]


_CALL, _PUT = True, False
_FORWARD = (Leg(_CALL, 0, 1), Leg(_PUT, 0, -1))
_SHORT_OUTER_CALL, _LONG_OUTER_PUT = Leg(_CALL, 1, -1, part=1), Leg(_PUT, -1, 1, part=2)
_SHORT_OUTER_PUT = Leg(_PUT, -1, -1, part=2)

STRATEGIES = (
    OptionStrategy(
        "index_forward",
        "Index forward",
        "The index on a synthetic forward: long the call and short the put at the money, "
        "over the whole equity.",
        1.0,
        _FORWARD,
    ),
    OptionStrategy(
        "put_write",
        "Put-write",
        "Sells the put at the money over the whole equity, which stays in cash.",
        1.0,
        (Leg(_PUT, 0, -1),),
    ),
    OptionStrategy(
        "covered_call",
        "Covered call",
        "The index forward, with the call one strike above the money sold.",
        1.0,
        (*_FORWARD, _SHORT_OUTER_CALL),
    ),
    OptionStrategy(
        "protective_put",
        "Protective put",
        "The index forward, with the put one strike below the money bought.",
        1.0,
        (*_FORWARD, _LONG_OUTER_PUT),
    ),
    OptionStrategy(
        "collar",
        "Collar",
        "The index forward, with the put one strike below the money bought and the call one "
        "strike above it sold.",
        1.0,
        (*_FORWARD, _LONG_OUTER_PUT, _SHORT_OUTER_CALL),
    ),
    OptionStrategy(
        "short_straddle",
        "Short straddle",
        "Sells the call and the put at the money, each over half of the equity.",
        0.5,
        (Leg(_CALL, 0, -1), Leg(_PUT, 0, -1)),
    ),
    OptionStrategy(
        "short_strangle",
        "Short strangle",
        "Sells the call one strike above and the put one strike below the money, each over half "
        "of the equity.",
        0.5,
        (_SHORT_OUTER_CALL, _SHORT_OUTER_PUT),
    ),
    OptionStrategy(
        "iron_condor",
        "Iron condor",
        "The short strangle over half of the equity, with the next strikes out bought as cover; "
        "a side whose cover costs less than a tick is left out.",
        0.5,
        (
            _SHORT_OUTER_CALL,
            Leg(_CALL, 2, 1, part=1),
            _SHORT_OUTER_PUT,
            Leg(_PUT, -2, 1, part=2),
        ),
    ),
    OptionStrategy(
        "long_straddle",
        "Long straddle",
        "Buys the call and the put at the money, each over a quarter of the equity.",
        0.25,
        (Leg(_CALL, 0, 1), Leg(_PUT, 0, 1)),
    ),
)


def build_baselines(
    market: OptionMarket,
    options: OptionPortfolioSettings,
    train: Window | None,
    seed: int = 0,
) -> tuple[Baseline, ...]:
    """Every strategy that the chain has the strikes for.

    The static portfolio is fitted on `train`, a window of the same market, and left out where
    that is None; the others learn nothing. `seed` is that of the random policy.

    Examples:
        >>> from envs import make_option_portfolio
        >>> kernel = make_option_portfolio(split="test").kernel
        >>> [each.name for each in build_baselines(kernel.market, kernel.options, train=None)][:3]
        ['cash', 'index_forward', 'put_write']
    """
    count = market.tape.num_slots

    def even(sign: float) -> Strategy:
        share = np.full(count, sign * EQUAL_WEIGHT_PREMIUM / count)
        return HoldToExpiry(market, share, np.arange(count), "premium", alike=False)

    return (
        CASH,
        *_option_books(market),
        Baseline(
            "equal_weight_long",
            "Equal weight, long",
            f"Buys every contract for the same premium, {EQUAL_WEIGHT_PREMIUM:.0%} of equity in "
            "all, and holds it to expiry.",
            even(1.0),
        ),
        Baseline(
            "equal_weight_short",
            "Equal weight, short",
            f"Sells every contract for the same premium, {EQUAL_WEIGHT_PREMIUM:.0%} of equity in "
            "all as far as the notional allows, and holds it to expiry.",
            even(-1.0),
        ),
        Baseline(
            "random",
            "Random",
            "Asks for a small random position in every contract at each close.",
            RandomPolicy(count, seed),
        ),
        *([] if train is None else [_static_portfolio(market, options, train)]),
        Baseline(
            "weekend_seller",
            "Weekend seller",
            "Sells the call and the put nearest the money over each weekend, each over half of "
            "the equity, and is flat otherwise.",
            WeekendSeller(market, WEEKEND_NOTIONAL),
        ),
    )


def _static_portfolio(
    market: OptionMarket, options: OptionPortfolioSettings, train: Window
) -> Baseline:
    weight = mean_variance_weights(
        slot_returns(market, train),
        options.sizing.max_notional,
        sessions_per_year=market.history.sessions_per_year,
    )
    return Baseline(
        "static_mean_variance",
        "Static mean-variance",
        "The constant book with the best ratio of mean to volatility over the training "
        "stretch, held to expiry.",
        HoldToExpiry(market, weight, np.arange(len(weight))),
    )


def _option_books(market: OptionMarket) -> list[Baseline]:
    slots, books = market.tape.slots, []
    for strategy in STRATEGIES:
        legs = _slots_of(strategy, slots)
        if legs is None:
            continue
        weight, part = np.zeros(len(slots)), np.zeros(len(slots), np.int64)
        for slot, leg in zip(legs, strategy.legs, strict=True):
            weight[slot], part[slot] = leg.sign * strategy.notional, leg.part
        policy = HoldToExpiry(market, weight, part)
        books.append(Baseline(strategy.name, strategy.title, strategy.description, policy))
    return books


def _slots_of(strategy: OptionStrategy, slots: tuple[Slot, ...]) -> list[int] | None:
    """The slot of each leg; None where the chain lacks a strike."""
    shortest = min(slot.maturity_days for slot in slots)
    strikes = sorted({slot.moneyness for slot in slots})
    at_the_money = int(np.argmin(np.abs(np.array(strikes) - 1.0)))
    contracts = [(slot.maturity_days, slot.is_call, slot.moneyness) for slot in slots]
    ranks = [at_the_money + leg.steps for leg in strategy.legs]
    if min(ranks) < 0 or max(ranks) >= len(strikes):
        return None
    return [
        contracts.index((shortest, leg.is_call, strikes[rank]))
        for leg, rank in zip(strategy.legs, ranks, strict=True)
    ]
