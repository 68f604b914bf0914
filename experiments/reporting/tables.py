"""The tables of the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from agents.baselines.reference import Baseline
from experiments.evaluation.regimes import PeriodResult, PeriodRow
from experiments.evaluation.scorecard import ScoreLine
from experiments.evaluation.sensitivity import CostRow, FlatVolComparison
from experiments.evaluation.split import AGENT, INDEX, BenchmarkComparison
from experiments.reporting.contents import Table
from experiments.reporting.style import dollars, number, percent, shown_name
from experiments.statistics.performance import Performance
from experiments.statistics.verdict import Outcome, Verdict

# Label, measure, how it is written.
MEASURES = (
    ("Sharpe", "sharpe", number),
    ("return a year", "annual_return", percent),
    ("volatility", "annual_volatility", percent),
    ("max drawdown", "max_drawdown", percent),
    ("Sortino", "sortino", number),
    ("Calmar", "calmar", number),
    ("winning days", "win_rate", percent),
    ("beta", "beta", number),
    ("turnover a year", "turnover", number),
    ("costs a year", "cost_drag", percent),
)


def titles_of(baselines: Sequence[Baseline]) -> dict[str, str]:
    """Name -> title of every book in a comparison."""
    return {AGENT: "Agent", INDEX: "Index", **{b.name: b.title for b in baselines}}


def books_table(
    title: str,
    performance: Mapping[str, Performance],
    baselines: Sequence[Baseline],
    measures: Sequence[tuple[str, str, Callable[[float], str]]] = MEASURES,
) -> Table:
    """Every book's measures, the agent first; means over paths."""
    titles = titles_of(baselines)
    rows = tuple(
        (titles[name], *(write(performance[name].mean(m)) for _, m, write in measures))
        for name in dict.fromkeys((AGENT, INDEX, *performance))
    )
    columns = ("book", *(label for label, _, _ in measures))
    return Table(title, columns, rows, emphasis=frozenset({0}))


def verdicts_table(every: Sequence[tuple[str, Verdict]]) -> Table:
    """The verdicts of several books, with their reasons below."""
    rows = []
    for name, verdict in every:
        outcomes = [difference.outcome for difference in verdict.differences]
        outperformed = outcomes.count(Outcome.OUTPERFORMS)
        better = outcomes.count(Outcome.UNDERPERFORMS)
        sharpe = verdict.evidence.sharpe
        rows.append((name, str(verdict.outcome), sharpe, outperformed, better))
    return Table(
        "All verdicts",
        ("book", "verdict", "its Sharpe", "benchmarks outperformed", "benchmarks better"),
        tuple(rows),
        notes=tuple(f"{name}: {verdict.reason}" for name, verdict in every),
    )


def differences_table(verdict: Verdict, baselines: Sequence[Baseline]) -> Table:
    """The agent less each benchmark."""
    titles = titles_of(baselines)
    rows = tuple(
        (
            titles.get(d.benchmark, d.benchmark),
            d.sharpe_opponent,
            number(d.difference, plus=True),
            f"{number(d.low, plus=True)} to {number(d.high, plus=True)}",
            number(d.p_value, 3),
            percent(d.mean_return_difference, plus=True),
            str(d.outcome),
        )
        for d in verdict.differences
    )
    interval = f"{verdict.level:.0%} interval"
    columns = ("benchmark", "its Sharpe", "difference", interval, "p", "return a year", "outcome")
    notes = tuple(f"{baseline.title}: {baseline.description}" for baseline in baselines)
    return Table("Agent less each benchmark", columns, rows, notes=notes)


def evidence_table(verdict: Verdict) -> Table:
    """What the verdict rests on beside the differences."""
    e, overfitting = verdict.evidence, verdict.overfitting_probability
    years = e.min_track_record_years
    record = f"{number(years, 1)} years" if np.isfinite(years) else "no length would do"
    luck = f"above {number(e.benchmark_sharpe)}, the best of {e.num_trials} trial(s) by luck"
    rows = [
        ("Sharpe ratio of the agent", number(e.sharpe), "annual, excess over cash"),
        ("Probabilistic Sharpe ratio", number(e.psr, 3), "chance that the true one is above 0"),
        ("Deflated Sharpe ratio", number(e.dsr, 3), luck),
        ("Skewness", number(e.skewness), "of daily returns"),
        ("Kurtosis", number(e.kurtosis), "of daily returns; 3 if they were normal"),
        ("Shortest sufficient record", record, "to tell this Sharpe ratio from 0"),
        (
            "Superior predictive ability",
            number(verdict.spa_p_value, 3),
            "p-value of: no benchmark is better than the agent",
        ),
    ]
    if np.isfinite(overfitting):
        meaning = "that the multirun's best job on half of the days is below its median on the rest"
        rows.append(("Probability of overfitting", number(overfitting, 3), meaning))
    return Table("Evidence", ("measure", "value", "meaning"), tuple(rows))


def attribution_table(comparison: BenchmarkComparison) -> Table:
    """P&L of the whole split by cause, mean over paths."""
    attribution, start = comparison.attribution, comparison.agent.equity[:, :1]
    causes = {name: values for name, values in attribution.terms.items() if np.any(values)}
    rows = tuple(
        (name, dollars(_total(values)), percent(_total(values / start)))
        for name, values in (*causes.items(), ("total", attribution.pnl))
    )
    shares = attribution.residual_share[np.isfinite(attribution.residual_share)]
    note = (
        "Sum of absolute residuals over that of the daily P&L of what was held: "
        f"{percent(shares.mean())}."
        if shares.size
        else "Nothing was held."
    )
    columns = ("cause", "dollars", "of the initial equity")
    return Table("P&L by cause", columns, rows, notes=(note,), emphasis=frozenset({len(causes)}))


def period_table(title: str, rows: Sequence[PeriodRow]) -> Table:
    """Return, Sharpe ratio and drawdown by period, the index beside the agent."""

    def measures(result: PeriodResult) -> tuple[str, str, str]:
        return percent(result.total_return), number(result.sharpe), percent(result.max_drawdown)

    cells = tuple(
        (
            row.name,
            f"{row.first} to {row.last}",
            row.seen or "none",
            *measures(row.books[AGENT]),
            *measures(row.books[INDEX]),
        )
        for row in rows
    )
    columns = ("period", "covered", "split", "return", "Sharpe", "max drawdown")
    index = ("index return", "index Sharpe", "index drawdown")
    return Table(title, (*columns, *index), cells, folded=False)


def episodes_table(title: str, comparison: BenchmarkComparison) -> Table:
    """Single years begun with nothing but cash: means, and shares won."""
    titles = titles_of(())
    rows = tuple(
        (
            titles[name],
            len(episodes.total_return),
            percent(float(episodes.total_return.mean())),
            percent(float(episodes.max_drawdown.mean())),
            number(float(np.nanmean(episodes.sharpe))),
            percent(episodes.win_rate),
            number(episodes.profit_factor),
        )
        for name, episodes in comparison.episodes.items()
    )
    columns = (
        *("book", "episodes", "average return", "average max drawdown", "average Sharpe"),
        *("win rate", "profit factor"),
    )
    note = "Episodes overlap on a single history, so they are no independent draws."
    return Table(title, columns, rows, notes=(note,), emphasis=frozenset({0}))


def costs_table(title: str, rows: Sequence[CostRow], baselines: Sequence[Baseline]) -> Table:
    """Each book under each factor of the costs; means over paths."""
    titles = titles_of(baselines)
    cells = tuple(
        (
            titles[row.book],
            f"× {row.factor:g}",
            number(row.performance.mean("sharpe")),
            percent(row.performance.mean("annual_return")),
            percent(row.performance.mean("cost_drag")),
        )
        for row in sorted(rows, key=lambda row: (row.book != AGENT, row.book, row.factor))
    )
    columns = ("book", "costs", "Sharpe", "return a year", "costs a year")
    return Table(title, columns, cells, folded=False)


def flat_vol_table(split: str, comparison: FlatVolComparison) -> Table:
    """Sharpe ratios of every raw book under both surfaces."""
    rows = tuple(
        (shown_name(book), own, other, other - own)
        for book, (own, other) in comparison.sharpe.items()
    )
    title = f"Sharpe ratio by surface, {split} years, without the risk module"
    columns = ("book", comparison.surface, comparison.other, "difference")
    return Table(title, columns, rows, emphasis=frozenset({0}))


def risk_rules_table(overlay: Mapping[str, Any]) -> Table:
    """How often each rule of the risk module bound, and what it took."""
    rows = tuple(
        (rule, percent(numbers["days_bound"]), number(numbers["clipped_a_year"]))
        for rule, numbers in overlay["rules"].items()
    )
    days = ", ".join(f"{name} {percent(x)}" for name, x in overlay["guard_days"].items())
    columns = ("rule", "days it bound", "value clipped a year, × equity")
    note = f"Days by state of the guard: {days}."
    return Table("The risk module", columns, rows, notes=(note,))


def scorecard_tables(lines: Sequence[ScoreLine]) -> tuple[Table, ...]:
    """A table for each table of targets."""
    tables = []
    for name in dict.fromkeys(line.table for line in lines):
        chosen = [line for line in lines if line.table == name]
        has_interval = any(np.isfinite(line.low) for line in chosen)
        rows = tuple(
            (
                line.measure,
                line.target,
                _shown(line, line.measured),
                f"{_shown(line, line.low)} to {_shown(line, line.high)}"
                if has_interval
                else percent(line.days_in_breach),
                _met(line),
            )
            for line in chosen
        )
        measured = (
            ("measured", "95 % interval") if has_interval else ("worst day", "days in breach")
        )
        columns = ("measure", "target", *measured, "result")
        tables.append(Table(name[0].upper() + name[1:], columns, rows))
    return tuple(tables)


def _shown(line: ScoreLine, value: float) -> str:
    if line.unit == "share":
        return percent(value)
    return dollars(value) if line.unit == "usd" else number(value)


def _met(line: ScoreLine) -> str:
    if line.passed is None:
        return "" if np.isfinite(line.measured) else "undefined"
    return "met" if line.passed else "missed"


def _total(values: np.ndarray) -> float:
    return float(values.sum(axis=-1).mean())
