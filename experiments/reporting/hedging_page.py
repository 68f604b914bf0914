"""The page of a hedge: costs beside the classical hedges, distributions, no-trade region."""

from __future__ import annotations

import numpy as np

from experiments.evaluation.hedging import HedgingEvaluation, NoTradeRegion
from experiments.evaluation.split import AGENT
from experiments.reporting.charts import Chart, Histogram, Intervals, Line, Mark, Panel
from experiments.reporting.contents import Item, KeyNumber, Report, Section, Table
from experiments.reporting.figures import common_edges
from experiments.reporting.style import INK, book_colours, shown_name

_DISTRIBUTED = (AGENT, "delta")


def build_hedging_report(evaluation: HedgingEvaluation) -> Report:
    """Everything that was measured, on one page."""
    verdict, agent = evaluation.verdict, evaluation.rows[0]
    items: list[Item] = [hedges_table(evaluation), _differences(evaluation)]
    pictures: list[Item] = [_distributions(evaluation)]
    if evaluation.region is not None:
        pictures.append(_region(evaluation.region))
    return Report(
        title="Hedging",
        subtitle=f"{evaluation.header['run']}, {verdict.paths:,} liabilities, "
        f"{evaluation.unseen}; {evaluation.num_trials} tries",
        outcome=str(verdict.outcome),
        verdict_text=verdict.reason,
        key_numbers=(
            KeyNumber("objective", _percent(agent.objective), "of the price of the liability"),
            KeyNumber("mean cost", _percent(agent.mean), f"{_percent(agent.paid)} paid to trade"),
            KeyNumber("hedging error", _percent(agent.deviation), "deviation of the cost"),
        ),
        sections=(
            Section("Against the classical hedges", tuple(items)),
            Section("What it does", tuple(pictures)),
        ),
    )


def hedges_table(evaluation: HedgingEvaluation) -> Table:
    """What each hedge costs, in percent of the price."""
    return Table(
        "What a liability costs, % of its price",
        ("hedge", "mean", "deviation", "paid to trade", "objective"),
        tuple(
            (
                shown_name(row.name),
                *(100.0 * x for x in (row.mean, row.deviation, row.paid, row.objective)),
            )
            for row in evaluation.rows
        ),
        emphasis=frozenset({0}),
    )


def _differences(evaluation: HedgingEvaluation) -> Chart:
    rows = sorted(evaluation.verdict.differences, key=lambda row: row.difference)
    values, low, high = 100.0 * np.array([(row.difference, row.low, row.high) for row in rows]).T
    names = tuple(shown_name(row.benchmark) for row in rows)
    outcomes = tuple(str(row.outcome) for row in rows)
    intervals = Intervals("difference", names, values, low, high, outcomes)
    return Chart(
        "hedge_differences",
        "Policy against each hedge",
        (Panel("", (intervals,), unit="percent", marks=(Mark("x", 0.0, dash=False),)),),
        subtitle=f"Difference of objectives with {100 * evaluation.verdict.level:g} % bootstrap "
        "intervals; to the left of zero the policy costs less.",
        x_label="objective, policy minus hedge, % of the price",
        x_unit="percent",
        height=100 + 25 * max(len(rows), 3),
    )


def _distributions(evaluation: HedgingEvaluation) -> Chart:
    costs = {name: 100.0 * evaluation.costs[name] for name in _DISTRIBUTED}
    edges = common_edges(np.concatenate(list(costs.values())))
    colours = book_colours(costs)
    series = tuple(
        Histogram(
            shown_name(name), edges, np.histogram(cost, edges)[0].astype(np.float64), colours[name]
        )
        for name, cost in costs.items()
    )
    return Chart(
        "hedge_costs",
        "What a liability costs",
        (Panel("liabilities", series),),
        subtitle="With the first purchase and the last sale.",
        x_label="% of the price",
        x_unit="percent",
    )


def _region(region: NoTradeRegion) -> Chart:
    colours = book_colours((AGENT, "whalley_wilmott"))
    moneyness = 100.0 * region.spot_over_start
    lines = [Line("delta", moneyness, region.delta, INK, dash=True)]
    bands = {AGENT: region.learned, "whalley_wilmott": region.whalley_wilmott}
    for name, edges in bands.items():
        lines += [
            Line(shown_name(name), moneyness, edge, colours[name], group=shown_name(name))
            for edge in edges
        ]
    return Chart(
        "no_trade_region",
        "Where nothing is traded",
        (Panel("shares a unit", tuple(lines)),),
        subtitle="In the middle of the liability's life: what is held between the two lines of a "
        "colour stays as it is.",
        x_label="price, % of that at the sale",
        x_unit="percent",
    )


def _percent(prices: float) -> str:
    return f"{100.0 * prices:.1f} %"
