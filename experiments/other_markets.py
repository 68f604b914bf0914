"""The same policy elsewhere: over the whole history, and where every volatility is the same."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from agents.baselines import build_baselines
from agents.managed import RiskManagedPolicy
from agents.policy import Policy
from envs.option_market import build_option_market
from envs.options.surface import FlatSurface, VixSurface
from experiments.backtest import index_equity, run_backtest, run_backtests
from experiments.charts import Chart
from experiments.evaluation import AGENT, INDEX, SplitResult, performances
from experiments.figures import yearly_returns_chart
from experiments.regimes import REGIMES, PeriodRow, calendar_years, period_rows
from experiments.report_contents import Table
from experiments.session import Session, option_session
from risk.metrics import simple_returns
from risk.performance import Performance


@dataclass(frozen=True)
class AcrossTime:
    """The policy over the whole history, by regime and by year."""

    regimes: list[PeriodRow]
    years: list[PeriodRow]
    chart: Chart


def across_time(session: Session, policy: Policy, *, managed: bool) -> AcrossTime:
    """Run the policy through every usable session; the first path's results by period."""
    window, env = session.window("all"), session.settings.env
    history = session.loaded.history
    guarded = RiskManagedPolicy(policy, session.settings.risk) if managed else policy
    done = run_backtest(guarded, session.market, env, window, num_books=1)
    index = index_equity(session.market, window, env.initial_equity_usd)[0]
    equity = {AGENT: done.equity[0], INDEX: index}
    common = (
        done.dates,
        done.risk_free,
        equity,
        session.splits,
        history.dates,
    )
    returns = {name: simple_returns(curve) for name, curve in equity.items()}
    return AcrossTime(
        period_rows(REGIMES, *common),
        period_rows(calendar_years(done.dates), *common),
        yearly_returns_chart(done.dates[1:], returns),
    )


def mirage(result: SplitResult, session: Session, policy: Policy) -> Table:
    """Sharpe ratios of every raw book here, and where the surface is the other one."""
    options = option_session(session)
    here, env = options.settings.surface, options.settings.env
    other = VixSurface() if isinstance(here, FlatSurface) else FlatSurface()
    market = build_option_market(options.loaded.history, other, env)
    elsewhere = replace(session, market=market)
    window = session.window(result.name)
    policies = {AGENT: policy}
    for baseline in build_baselines(market, env, elsewhere.training_window, window):
        policies[baseline.name] = baseline.policy
    done = run_backtests(policies, elsewhere.market, env, window)
    there = performances(done, elsewhere, window)
    rows = tuple(
        (
            name.replace("_", " "),
            _sharpe(result.raw.performance[name]),
            _sharpe(there[name]),
            _sharpe(there[name]) - _sharpe(result.raw.performance[name]),
        )
        for name in result.raw.performance
        if name in there
    )
    return Table(
        f"Sharpe ratio by surface, {result.name} years, without the risk module",
        ("book", here.kind, other.kind, "difference"),
        rows,
        emphasis=frozenset({0}),
    )


def _sharpe(performance: Performance) -> float:
    return float(np.mean(performance.sharpe))
