"""The pictures of one split: how the books did, and what the agent's book held."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from experiments.book_figures import exposures_chart, position_heatmap, turnover_chart
from experiments.charts import Chart
from experiments.evaluation import AGENT, INDEX, SplitResult
from experiments.figures import equity_chart, return_histogram, rolling_sharpe_chart
from experiments.session import Session
from risk.metrics import simple_returns

FloatArray = NDArray[np.float64]

MANAGED = "managed"
# Of the baselines, those whose curves stand in colour beside the agent's; all are in the tables.
BESIDE = (
    *(INDEX, "put_write", "static_mean_variance", "weekend_seller"),
    *("equal_weight", "minimum_variance", "mean_variance", "cash"),
)


def curves_of(result: SplitResult) -> Mapping[str, FloatArray]:
    """Equity of the first path: the headline book first, then the raw one, index and baselines."""
    raw = result.raw.equity
    beside = {name: raw[name][0] for name in BESIDE if name in raw}
    agent = {AGENT: raw[AGENT][0]}
    if result.managed is not None:
        agent = {MANAGED: result.managed.equity[AGENT][0], **agent}
    return {**agent, **beside}


def performance_charts(result: SplitResult) -> tuple[Chart, ...]:
    """Equity with drawdown, daily returns, rolling Sharpe ratio."""
    curves = curves_of(result)
    dates, risk_free = result.raw.agent.dates, result.raw.agent.risk_free
    returns = {name: simple_returns(curve) for name, curve in curves.items()}
    name, agent = next(iter(returns.items()))
    followed = {k: returns[k] for k in (MANAGED, AGENT, INDEX) if k in returns}
    return (
        equity_chart(dates, curves),
        return_histogram(agent, name=name),
        rolling_sharpe_chart(dates[1:], followed, risk_free),
    )


def book_charts(result: SplitResult, session: Session) -> tuple[Chart, ...]:
    """Positions, exposures and turnover of the first path's book."""
    done, instruments = result.headline.agent, session.market.instruments
    days = done.dates[1:]
    books = {AGENT: result.raw.agent}
    limit = None
    if result.managed is not None:
        books = {MANAGED: result.managed.agent, **books}
        limit = session.settings.risk.limits.max_monthly_turnover
    shares = done.position[0] / done.equity[0, :-1, None]
    return (
        position_heatmap(days, instruments, shares),
        exposures_chart(
            days,
            {name: {g: x[0] for g, x in book.exposures.items()} for name, book in books.items()},
        ),
        turnover_chart(
            days,
            {name: book.traded[0] / book.equity[0, :-1] for name, book in books.items()},
            limit=limit,
        ),
    )
