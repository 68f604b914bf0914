"""The page of a hedge: costs beside the classical hedges, distributions, no-trade region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from conf.types import FloatArray
from experiments.evaluation.hedging import Edges, HedgedPath, HedgingEvaluation, NoTradeRegion
from experiments.evaluation.split import AGENT
from experiments.reporting.charts import Chart, Histogram, Intervals, Line, Mark, Panel
from experiments.reporting.contents import Item, KeyNumber, Report, Section, Table
from experiments.reporting.figures import common_edges
from experiments.reporting.style import INK, OTHERS, book_colours, percent, shown_name

_DISTRIBUTED = (AGENT, "delta")
_LEFT_OUT = 0.001  # of each tail of a distribution, for a few would stretch the axis
_BAND = OTHERS[1]
_MARGIN = 0.25  # shares a unit
_CUT = f"Edges are drawn up to {_MARGIN} beyond everything else."


def build_hedging_report(evaluation: HedgingEvaluation) -> Report:
    """Everything that was measured, on one page."""
    verdict, agent, tries = evaluation.verdict, evaluation.rows[0], evaluation.num_trials
    items: list[Item] = [hedges_table(evaluation), _differences(evaluation)]
    pictures: list[Item] = [_distributions(evaluation)]
    if evaluation.regions:
        pictures.append(_regions(evaluation.regions))
    pictures.append(_examples(evaluation.examples))
    return Report(
        title="Hedging",
        subtitle=f"{evaluation.header['run']}, {verdict.paths:,} liabilities, "
        f"{evaluation.unseen}; {tries} {'try' if tries == 1 else 'tries'}",
        outcome=str(verdict.outcome),
        verdict_text=verdict.reason,
        key_numbers=(
            KeyNumber("objective", percent(agent.objective), "of the price of the liability"),
            KeyNumber("mean cost", percent(agent.mean), f"{percent(agent.paid)} paid to trade"),
            KeyNumber("deviation", percent(agent.deviation), "of the cost"),
            KeyNumber("hedging error", percent(agent.error), "deviation without trading costs"),
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
        ("hedge", "mean", "deviation", "paid to trade", "hedging error", "objective"),
        tuple(
            (
                shown_name(row.name),
                *(100.0 * x for x in (row.mean, row.deviation, row.paid, row.error, row.objective)),
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
    """What it costs in all, the trading alone, and the rest, of the policy and of delta."""
    parts = {
        "in all": {name: evaluation.costs[name] for name in _DISTRIBUTED},
        "paid to trade": {name: evaluation.paid[name] for name in _DISTRIBUTED},
        "hedging error: the rest": {
            name: evaluation.costs[name] - evaluation.paid[name] for name in _DISTRIBUTED
        },
    }
    return Chart(
        "hedge_costs",
        "What a liability costs",
        tuple(_distribution(label, shares) for label, shares in parts.items()),
        subtitle="How many liabilities cost how much, with the first purchase and the last sale. "
        f"The highest and the lowest {100.0 * _LEFT_OUT:g} % are left out.",
        x_label="% of the price",
        x_unit="percent",
        height=560,
    )


def _distribution(label: str, prices: Mapping[str, FloatArray]) -> Panel:
    ends = np.quantile(list(prices.values()), [_LEFT_OUT, 1.0 - _LEFT_OUT])
    shown = {
        name: 100.0 * each[(each >= ends[0]) & (each <= ends[1])] for name, each in prices.items()
    }
    edges, colours = common_edges(np.concatenate(list(shown.values()))), book_colours(prices)
    histograms = (
        Histogram(
            shown_name(name), edges, np.histogram(each, edges)[0].astype(np.float64), colours[name]
        )
        for name, each in shown.items()
    )
    return Panel(label, tuple(histograms))


def _regions(regions: Sequence[NoTradeRegion]) -> Chart:
    return Chart(
        "no_trade_region",
        "Where nothing is traded",
        tuple(_region(region) for region in regions),
        subtitle="By the price and the time left, of a hedger who holds delta and has lost what "
        f"is usual by then: what is held between the two lines of a colour stays as it is. {_CUT}",
        x_label="price, % of that at the sale",
        x_unit="percent",
        height=190 * len(regions),
    )


def _region(region: NoTradeRegion) -> Panel:
    colours = book_colours((AGENT, "whalley_wilmott"))
    moneyness = 100.0 * region.spot_over_start
    lines = [Line("delta", moneyness, region.delta, INK, dash=True)]
    for name, edges in {AGENT: region.learned, "whalley_wilmott": region.whalley_wilmott}.items():
        lines += [
            Line(shown_name(name), moneyness, edge, colours[name], group=shown_name(name))
            for edge in _near(edges, region.delta)
        ]
    left = region.sessions_left
    return Panel(f"shares a unit, {left} session{'s' * (left > 1)} left", tuple(lines))


def _examples(examples: Sequence[HedgedPath]) -> Chart:
    return Chart(
        "hedged_paths",
        "Some liabilities, day by day",
        tuple(_example(each) for each in examples),
        subtitle="What the policy holds, between the edges of its band, which move with what the "
        f"hedge has cost so far, in shares a unit. {_CUT}",
        x_label="sessions since the sale",
        height=190 * len(examples),
    )


def _example(path: HedgedPath) -> Panel:
    def steps(values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Constant from each close to the next."""
        return np.repeat(np.arange(len(values) + 1.0), 2)[1:-1], np.repeat(values, 2)

    colour = book_colours((AGENT,))[AGENT]
    shown = np.concatenate([path.holding, path.delta])
    band = () if path.band is None else _near(path.band, shown)
    lines = [
        Line("holding", *steps(path.holding), colour, width=2.2),
        Line("delta", *steps(path.delta), INK, dash=True, width=1.2),
        *(Line("band", *steps(edge), _BAND, group="band", width=1.2) for edge in band),
    ]
    label = f"{path.title}: costs {percent(path.cost)}, {percent(path.paid)} to trade"
    return Panel(label, tuple(lines))


def _near(edges: Edges, shown: FloatArray) -> Edges:
    """Edges that leave the picture of what is shown are drawn at its border."""
    low, high = shown.min() - _MARGIN, shown.max() + _MARGIN
    return np.clip(edges[0], low, high), np.clip(edges[1], low, high)
