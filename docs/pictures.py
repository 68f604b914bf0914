"""The benchmarks of each environment's page: a picture and a table of them, without any training.

    python docs/pictures.py option_portfolio portfolio_allocation option_hedging

draws docs/images/<name>.png with the charts of the reports and prints the numbers of the table.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_module

from agents.baselines.hedging import liabilities, run_hedge
from experiments.backtests.backtest import index_equity, run_backtests
from experiments.environments.hedging import HedgingSetup
from experiments.environments.opening import market_settings, open_market
from experiments.environments.setup import MarketSetup
from experiments.evaluation.split import INDEX, performances
from experiments.reporting.charts import Chart, Histogram, Panel
from experiments.reporting.figures import common_edges, equity_chart
from experiments.reporting.matplotlib_backend import chart_png
from experiments.reporting.style import book_colours, shown_name
from experiments.runs.config import plain_config

IMAGES = Path(__file__).parent / "images"
HEDGES_SHOWN = ("delta", "zakamouline")


def open_setup(*overrides: str) -> MarketSetup:
    """The market of a training with these overrides."""
    with initialize_config_module("conf", version_base="1.3"):
        return open_market(market_settings(plain_config(compose("config", [*overrides]))))


def benchmarks(key: str, title: str, shown: tuple[str, ...], *overrides: str) -> Chart:
    """Equity of the benchmarks in the test years; prints Sharpe, return, drawdown by split."""
    setup = open_setup(*overrides)
    for name in ("validation", "test"):
        window = setup.window(name)
        policies = {each.name: each.policy for each in setup.baselines(window)[0]}
        books = run_backtests(policies, setup.market, setup.settings.env, window)
        print(f"| {name} | Sharpe ratio | return a year | drawdown |\n|---|---|---|---|")
        for book, measured in performances(books, setup, window).items():
            mean = {part: measured.mean(part) for part in ("annual_return", "max_drawdown")}
            shares = " | ".join(f"{100 * share:.1f} %" for share in mean.values())
            print(f"| {shown_name(book)} | {measured.mean('sharpe'):.2f} | {shares} |")
    curves = {name: book.equity[0] for name, book in books.items()}
    curves[INDEX] = index_equity(setup.market, window, setup.settings.env.initial_equity_usd)[0]
    dates = setup.history.dates[window.start : window.stop]
    return equity_chart(dates, {name: curves[name] for name in shown}, key=key, title=title)


def option_portfolio() -> Chart:
    """The option book's, on the embedded S&P 500."""
    shown = (INDEX, "put_write", "iron_condor", "long_straddle", "collar")
    return benchmarks("option_portfolio", "Benchmarks of the option book, test years", shown)


def portfolio_allocation() -> Chart:
    """The allocation's, among twenty stocks."""
    shown = ("equal_weight", "minimum_variance", "hrp", "mean_variance", "cash")
    title = "Benchmarks of the allocation, twenty stocks, test years"
    return benchmarks("portfolio_allocation", title, shown, "+exp=allocation_stocks")


def option_hedging() -> Chart:
    """What classical hedges cost, on simulated paths that nothing was fitted to."""
    setup = open_setup("+exp=hedging")
    assert isinstance(setup, HedgingSetup)
    market, window = next(iter(setup.unseen(10_000) or ()))
    env, costs = setup.settings.env, {}
    print(f"{len(liabilities(market, env, window)[0])} liabilities")
    for hedge in setup.hedges_on(market):
        run = run_hedge(hedge.policy, market, env, window)
        cost = run.lost.sum(axis=0)
        costs[hedge.name] = 100.0 * cost
        parts = (cost.mean(), cost.std(), run.paid.mean(), env.objective(run.lost))
        print(f"| {shown_name(hedge.name)} | {' | '.join(f'{100 * x:.1f}' for x in parts)} |")
    colours = book_colours(HEDGES_SHOWN)
    edges = common_edges(np.concatenate([costs[name] for name in HEDGES_SHOWN]))
    shown = tuple(
        Histogram(shown_name(name), edges, np.histogram(costs[name], edges)[0] * 1.0, colours[name])
        for name in HEDGES_SHOWN
    )
    return Chart(
        "option_hedging",
        "What a sold call costs its hedger",
        (Panel("liabilities", shown),),
        subtitle="One month, hedged daily, at 1 % of every dollar traded; 10,000 simulated paths.",
        x_label="% of the price",
        x_unit="percent",
        height=300,
    )


PICTURES: dict[str, Callable[[], Chart]] = {
    chart.__name__: chart for chart in (option_portfolio, portfolio_allocation, option_hedging)
}

if __name__ == "__main__":
    for name in sys.argv[1:] or PICTURES:
        (IMAGES / f"{name}.png").write_bytes(chart_png(PICTURES[name]()))
