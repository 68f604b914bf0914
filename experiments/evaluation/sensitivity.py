"""How a result depends on what was assumed: costs, the volatility surface, the period."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agents.policy import Policy, RiskManagedPolicy, Trader
from conf.types import DateArray, FloatArray
from experiments.backtests.backtest import index_equity, run_backtest, run_backtests
from experiments.environments.setup import MarketSetup
from experiments.evaluation.regimes import REGIMES, Period, PeriodRow, calendar_years, period_rows
from experiments.evaluation.split import (
    AGENT,
    INDEX,
    SplitEvaluation,
    performances,
    policies_of,
)
from experiments.statistics.performance import Performance
from risk.metrics import simple_returns
from risk.overlay import RiskSettings

COST_FACTORS = (0.0, 1.0, 2.0, 5.0)
SIMULATED = ("synthetic", "panel_simulated")  # data.source: dates without a meaning


@dataclass(frozen=True)
class CostRow:
    """One book under costs times a factor; means over paths."""

    factor: float
    book: str
    performance: Performance


def cost_sensitivity(
    setup: MarketSetup, policies: Mapping[str, Trader], split: str, risk: RiskSettings | None
) -> tuple[CostRow, ...]:
    """Every policy over a split under each of COST_FACTORS; under the risk module with `risk`."""
    rows, window = [], setup.window(split)
    for factor in COST_FACTORS:
        scaled = setup.with_costs(factor)
        backtests = run_backtests(policies, scaled.market, scaled.settings.env, window, risk)
        rows += [CostRow(factor, name, book.performance()) for name, book in backtests.items()]
    return tuple(rows)


@dataclass(frozen=True)
class FlatVolComparison:
    """Annual Sharpe ratios of every raw book under two volatility surfaces; means over paths."""

    surface: str  # that of the evaluation
    other: str
    sharpe: Mapping[str, tuple[float, float]]  # book -> under the one and the other


def flat_vol_comparison(
    result: SplitEvaluation, setup: MarketSetup, policy: Policy
) -> FlatVolComparison | None:
    """The books of a split once more where volatility is constant; None without options."""
    other = setup.at_flat_volatility()
    if other is None:
        return None
    window = setup.window(result.name)
    policies = policies_of(policy, other.baselines(window)[0])
    backtests = run_backtests(policies, other.market, other.settings.env, window)
    performance = performances(backtests, other, window)
    return FlatVolComparison(
        setup.settings.surface_kind,
        other.settings.surface_kind,
        {
            name: (measured.mean("sharpe"), performance[name].mean("sharpe"))
            for name, measured in result.raw.performance.items()
            if name in performance
        },
    )


@dataclass(frozen=True)
class Periods:
    """The agent and the index over the whole history, by regime and by year; the first path."""

    dates: DateArray  # (T,) of the returns
    returns: Mapping[str, FloatArray]  # book -> (T,) daily
    regimes: tuple[PeriodRow, ...]
    years: tuple[PeriodRow, ...]


def across_time(setup: MarketSetup, policy: Policy, *, managed: bool) -> Periods | None:
    """The policy through every usable session; None where dates are simulated."""
    if setup.settings.data.source in SIMULATED:
        return None
    window, env = setup.window("all"), setup.settings.env
    guarded = RiskManagedPolicy(policy, setup.settings.risk) if managed else policy
    backtest = run_backtest(guarded, setup.market, env, window, num_books=1)
    index = index_equity(setup.market, window, env.initial_equity_usd)[0]
    equity = {AGENT: backtest.equity[0], INDEX: index}
    dates, history = backtest.dates, setup.history.dates

    def rows(periods: tuple[Period, ...]) -> tuple[PeriodRow, ...]:
        return tuple(period_rows(periods, dates, backtest.risk_free, equity, setup.splits, history))

    return Periods(
        dates[1:],
        {name: simple_returns(curve) for name, curve in equity.items()},
        rows(REGIMES),
        rows(calendar_years(dates)),
    )
