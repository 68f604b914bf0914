"""The reward: named terms, each a function of the step, weighted once.

Every term maps a `Step` of N episodes to a raw value (N,); the reward is the sum of weight times
term. The weights, and nothing else, say how much a term counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from conf.settings import settings
from conf.types import FloatArray

NonNegative = Annotated[float, Field(ge=0.0)]

MIN_RETURNS_FOR_SHARPE = 5
SHARPE_STD_FLOOR = 1e-6
SHARPE_LIMIT = 1.0  # daily; sixteen a year, so only the first few days of an episode are cut
VOLATILITY_SESSIONS, MIN_RETURNS_FOR_VOLATILITY = 20, 5
# Where the utility of wealth is cut: there is none of a loss of everything.
LEAST_GROSS_RETURN = 0.01


@settings
class RewardWeights:
    """Weight of each term; a weight of 0 switches the term off."""

    portfolio_return: NonNegative = 100.0
    sharpe: NonNegative = 0.3
    drawdown: NonNegative = 0.2
    cost: NonNegative = 1.0
    diversity: NonNegative = 0.1
    concentration: NonNegative = 1.0
    market_correlation: NonNegative = 0.0
    turnover: NonNegative = 0.0
    excess_trades: NonNegative = 0.0
    utility: NonNegative = 0.0
    volatility: NonNegative = 0.0
    deep_drawdown: NonNegative = 0.0
    crra: NonNegative = 0.0
    goal_return: NonNegative = 0.0
    goal_drawdown: NonNegative = 0.0

    @classmethod
    def only(cls, **weights: float) -> RewardWeights:
        """These, and no other term.

        Examples:
            >>> weights = RewardWeights.only(utility=100.0)
            >>> weights.utility, weights.sharpe
            (100.0, 0.0)
        """
        return cls(**{**dict.fromkeys((field.name for field in fields(cls)), 0.0), **weights})


# The utility of the day and nothing else: what pathwise training maximises.
UTILITY_WEIGHTS = RewardWeights.only(utility=1.0)


@settings
class RewardSettings:
    """Weights and the parameters of the terms."""

    weights: RewardWeights = Field(default_factory=RewardWeights)
    concentration_cap: NonNegative = 0.20  # share of equity one position may be worth
    concentration_slope: NonNegative = 10.0  # penalty per unit above the cap
    free_turnover: NonNegative = 0.05  # share of equity that may be traded a day unpunished
    free_trades: NonNegative = 5.0  # trades a day that the term excess_trades leaves unpunished
    risk_aversion: NonNegative = 5.0  # of the terms utility and crra
    # Both count less that of a portfolio with this share in the index and the rest in cash. No
    # action changes it, so what is best stays so, but most of the market's noise is gone.
    benchmark_share: NonNegative = 0.0
    drawdown_threshold: NonNegative = 0.05  # above which deep_drawdown counts
    ruin_penalty: NonNegative = 10.0  # subtracted once, when an episode ends in ruin


class Step(NamedTuple):
    """What happened between two closes, for N episodes and M positions."""

    portfolio_return: FloatArray  # (N,) simple, after costs
    excess_return: FloatArray  # (N,) portfolio return less the risk-free return
    cost_share: FloatArray  # (N,) costs over the equity before
    traded_share: FloatArray  # (N,) dollars traded over the equity before
    drawdown: FloatArray  # (N,) 0..1
    held_value: FloatArray  # (N, M) dollars, of what was held into this close
    equity: FloatArray  # (N,) dollars
    market_return: FloatArray  # (N,) of the index
    episode_sharpe: FloatArray  # (N,) daily, not annualised, NaN-free
    # (N,) positions that were changed, counted on demand; a trade that closes at the next close
    # counts too, an expiry does not
    trades: Callable[[], FloatArray]
    # (N,) of recent returns with the index, NaN-free; costly, so computed on demand
    market_correlation: Callable[[], FloatArray]
    # (N,) standard deviation of the last 20 daily returns, likewise; 0 before there are five
    recent_volatility: Callable[[], FloatArray]
    # (N, 2) shortfall of return below the goal, excess of drawdown over it; where there is a goal
    goal_gaps: Callable[[], FloatArray]
    # (N,) by name, one of `exposures` of the environment: of the book held into this close, as of
    # the close at which it was traded; InputError where the environment has none of that name
    exposure: Callable[[str], FloatArray]


def sharpe(step: Step, _: RewardSettings) -> FloatArray:
    """Mean over standard deviation of the episode's excess returns, daily, cut at +-1."""
    return np.minimum(np.maximum(step.episode_sharpe, -SHARPE_LIMIT), SHARPE_LIMIT)


def diversity(step: Step, _: RewardSettings) -> FloatArray:
    """One minus the Herfindahl index of the positions' absolute values; 0 with no position."""
    return diversification(step.held_value)


def concentration(step: Step, options: RewardSettings) -> FloatArray:
    """Minus the slope times what the largest position is worth above its cap."""
    largest: FloatArray = np.abs(step.held_value).max(axis=-1) / np.maximum(step.equity, 1.0)
    excess: FloatArray = np.maximum(largest - options.concentration_cap, 0.0)
    return -options.concentration_slope * excess


def turnover(step: Step, options: RewardSettings) -> FloatArray:
    """Minus what was traded beyond the free share of equity."""
    return -np.maximum(step.traded_share - options.free_turnover, 0.0)


def excess_trades(step: Step, options: RewardSettings) -> FloatArray:
    """Minus the number of trades beyond the free ones."""
    return -np.maximum(step.trades() - options.free_trades, 0.0)


def utility(step: Step, options: RewardSettings) -> FloatArray:
    """Mean-variance utility of the day: excess return - risk aversion / 2 x its square."""
    value = _mean_variance(step.excess_return, options.risk_aversion)
    if options.benchmark_share:
        risk_free = step.portfolio_return - step.excess_return
        benchmark = options.benchmark_share * (step.market_return - risk_free)
        value = value - _mean_variance(benchmark, options.risk_aversion)
    return value


def deep_drawdown(step: Step, options: RewardSettings) -> FloatArray:
    """Minus the current drawdown where it exceeds the threshold, 0 elsewhere."""
    return np.where(step.drawdown > options.drawdown_threshold, -step.drawdown, 0.0)


def crra(step: Step, options: RewardSettings) -> FloatArray:
    """Utility of the day's gross return G at constant relative risk aversion g.

    (G^(1 - g) - 1) / (1 - g), and ln G for g = 1 (Pratt 1964; Arrow 1965); G is cut at 1 %.
    """
    value = _power_utility(step.portfolio_return, options.risk_aversion)
    if options.benchmark_share:
        risk_free = step.portfolio_return - step.excess_return
        benchmark = risk_free + options.benchmark_share * (step.market_return - risk_free)
        value = value - _power_utility(benchmark, options.risk_aversion)
    return value


def _mean_variance(excess_return: FloatArray, risk_aversion: float) -> FloatArray:
    return excess_return - 0.5 * risk_aversion * excess_return**2


def _power_utility(simple_return: FloatArray, risk_aversion: float) -> FloatArray:
    log_gross: FloatArray = np.log1p(np.maximum(simple_return, LEAST_GROSS_RETURN - 1.0))
    power = 1.0 - risk_aversion
    return log_gross if power == 0.0 else np.expm1(power * log_gross) / power


TERMS: dict[str, Callable[[Step, RewardSettings], FloatArray]] = {
    "portfolio_return": lambda step, _: step.portfolio_return,
    "sharpe": sharpe,
    "drawdown": lambda step, _: -step.drawdown,
    "cost": lambda step, _: -step.cost_share,
    "diversity": diversity,
    "concentration": concentration,
    "market_correlation": lambda step, _: -np.abs(step.market_correlation()),
    "turnover": turnover,
    "excess_trades": excess_trades,
    "utility": utility,
    "volatility": lambda step, _: -step.recent_volatility(),
    "deep_drawdown": deep_drawdown,
    "crra": crra,
    "goal_return": lambda step, _: -step.goal_gaps()[:, 0],
    "goal_drawdown": lambda step, _: -step.goal_gaps()[:, 1],
}


class Reward:
    """Evaluates the terms that have a weight."""

    def __init__(self, options: RewardSettings) -> None:
        self.options = options
        weights = {name: float(getattr(options.weights, name)) for name in TERMS}
        self.weights = {name: weight for name, weight in weights.items() if weight > 0.0}

    @property
    def term_names(self) -> tuple[str, ...]:
        """The terms in use, in the order of the columns that `evaluate` gives."""
        return tuple(self.weights)

    def evaluate(self, step: Step) -> tuple[FloatArray, FloatArray]:
        """The reward (N,) and its weighted terms (N, K)."""
        terms = np.empty((len(step.equity), len(self.weights)))
        for column, (name, weight) in enumerate(self.weights.items()):
            terms[:, column] = weight * TERMS[name](step, self.options)
        return terms.sum(axis=-1), terms


def diversification(value: FloatArray) -> FloatArray:
    """1 - HHI of absolute values (N, M) -> (N,); 0 where there is no position.

    HHI is the sum of squared shares (Herfindahl 1950): 1 with all in one, 1/M when equal.
    """
    return diversification_of(value, np.abs(value).sum(axis=-1))


def diversification_of(value: FloatArray, gross: FloatArray) -> FloatArray:
    """`diversification` where the sum of absolute values (N,) is already known."""
    invested = gross > 0.0
    # Shares first: the squares of nearly worthless positions would underflow.
    share = value / np.where(invested, gross, 1.0)[..., None]
    return np.where(invested, 1.0 - (share * share).sum(axis=-1), 0.0)
