"""Results as tables for the terminal, 80 characters wide; no name and no number is cut short."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from conf.types import DateArray
from experiments.evaluation.evaluation import Evaluation
from experiments.evaluation.open_run import MANAGED
from experiments.evaluation.run_comparison import FEWEST_SEEDS, RunComparison, differing
from experiments.evaluation.skill import Skill
from experiments.evaluation.split import AGENT, INDEX, comparisons
from experiments.reporting.style import shown_name
from experiments.runs.folder import shown_path
from experiments.statistics.performance import Performance
from experiments.statistics.verdict import Outcome, Verdict

# Of an evaluation; the report has every book.
SHOWN = (AGENT, INDEX, "put_write", "weekend_seller", "equal_weight", "mean_variance")

_RUNS_ABREAST = 4  # of a comparison: more are another table

# Measure, title, how it is written.
ROWS = (
    ("total_return", "total return", "percent"),
    ("annual_return", "annual return", "percent"),
    ("annual_volatility", "annual volatility", "percent"),
    ("sharpe", "Sharpe ratio", "number"),
    ("sortino", "Sortino ratio", "number"),
    ("calmar", "Calmar ratio", "number"),
    ("max_drawdown", "max drawdown", "percent"),
    ("max_drawdown_sessions", "its length, sessions", "count"),
    ("win_rate", "winning days", "percent"),
    ("positive_months", "positive months", "percent"),
    ("positive_years", "positive years", "percent"),
    ("profit_factor", "profit factor", "number"),
    ("var_95", "VaR 95 %, a day", "percent"),
    ("cvar_95", "CVaR 95 %, a day", "percent"),
    ("beta", "beta to the index", "number"),
    ("turnover", "turnover, x equity a year", "number"),
    ("cost_drag", "costs a year", "percent"),
)
_GREEK_ROWS = (
    ("delta", "mean delta", "number"),
    ("gamma", "mean gamma", "number"),
    ("vega", "mean vega, $ a point", "number"),
    ("theta", "mean theta, $ a day", "number"),
)
_MOST_DIFFERENCES = 10


def say_where(folder: Path, *then: str) -> None:
    """The last lines of a command: where the result is, and what to do next.

    Lines are not broken, so that they can be copied.
    """
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"written to {shown_path(folder)}", markup=False)
    report = folder / "report.html"
    opened = (f"open {shown_path(report)}",) if report.is_file() else ()
    if opened or then:
        console.print(f"next: {'; '.join((*opened, *then))}", markup=False)


def terminal_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table with names to the left, which stay whole, and numbers to the right."""
    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    for k, column in enumerate(columns):
        justify: JustifyMethod = "right" if k and column else "left"
        table.add_column(column, justify=justify, no_wrap=k == 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def performance_table(title: str, dates: DateArray, books: Mapping[str, Performance]) -> Table:
    """Measures down, books across; means over paths."""
    columns = ("", *(shown_name(name) for name in books))
    measures = [{key: book.mean(key) for key, _, _ in ROWS} for book in books.values()]
    return terminal_table(f"{title}: {dates[0]} to {dates[-1]}", columns, _measure_rows(measures))


def evaluation_lines(evaluation: Evaluation) -> Iterator[Table | Text | str]:
    """The SHOWN books on each split, what the risk module did, and the verdicts."""
    header = evaluation.header
    yield (
        f"{header['run']}: {header['policy']} policy (step {header['policy_step']}) on "
        f"{header['data']}, surface {header['surface']}, costs {header['costs']}"
    )
    yield from dict.fromkeys(n for result in evaluation.splits for n in result.notices)
    for result in evaluation.splits:
        raw, agent = result.raw.performance, result.raw.agent
        books = {name: raw[name] for name in SHOWN if name in raw}
        if result.managed is not None:
            managed = {MANAGED: result.managed.performance[AGENT]}
            books = {AGENT: books.pop(AGENT), **managed, **books}
        yield performance_table(result.name, agent.dates, books)
        if result.overlay is not None:
            yield risk_table(result.overlay)
        if agent.ruined.any():
            yield f"{int(agent.ruined.sum())} book(s) were ruined"
        for label, comparison in comparisons(result):
            book = f"{result.name} years, the book {label}"
            yield verdict_text(book, comparison.verdict, result.caution)
    if evaluation.skill is not None:
        yield skill_lines(evaluation.skill)


def skill_lines(skill: Skill) -> Table:
    """What the raw policy is worth in each world, in % a year, and over the best static book."""
    rows = []
    for world in skill.worlds:
        ratio = "-"
        if world.ratio is not None:
            value, low, high = world.ratio
            ratio = f"{value:.2f} ({low:.2f} to {high:.2f})"
        value, low, high = (100.0 * each for each in world.policy)
        policy = f"{value:.2f} ({low:.2f} to {high:.2f})"
        rows.append((shown_name(world.world), policy, f"{100.0 * world.static.value:.2f}", ratio))
    columns = ("", "certainty equivalent, %", "static book", "ratio")
    return terminal_table(f"skill, {skill.paths} paths of each world", columns, rows)


def comparison_lines(comparison: RunComparison) -> list[Table | str]:
    """What sets the runs apart, their measures, differences from the first, the seeds' summary."""
    runs, seeds = comparison.runs, comparison.seeds
    blocks = [runs[k : k + _RUNS_ABREAST] for k in range(0, len(runs), _RUNS_ABREAST)]
    measures = [
        terminal_table(
            f"{comparison.split} split, {comparison.book} book",
            ("", *(_in_lines(f"{run.name}/(seed {run.seed})") for run in block)),
            _measure_rows(
                [{**run.metrics, **run.mean_greeks} for run in block],
                ROWS + _GREEK_ROWS if any(run.mean_greeks for run in runs) else ROWS,
            ),
        )
        for block in blocks
    ]
    differences = terminal_table(
        f"{runs[0].name} against the others, Sharpe ratio a year",
        ("", "difference", "95 % interval", ""),
        [
            (d.benchmark, f"{d.difference:+.2f}", f"{d.low:+.2f} to {d.high:+.2f}", d.outcome)
            for d in comparison.verdict.differences
        ],
    )
    if seeds is None:
        return [_differing(comparison), *measures, differences]
    interval = (
        f"; for an interval {FEWEST_SEEDS} are needed"
        if np.isnan(seeds.low)
        else f", 95 % interval {seeds.low:.2f} to {seeds.high:.2f}"
    )
    summary = f"{len(runs)} seeds of one configuration: interquartile mean of Sharpe "
    return [_differing(comparison), *measures, differences, f"{summary}{seeds.value:.2f}{interval}"]


def _differing(comparison: RunComparison) -> str:
    """`differs in: seed 0 -> 1`, where more than two runs have all their values."""
    found = differing(comparison.runs)
    shown = [
        f"{name} {' -> '.join(_setting(value) for value in values)}"
        for name, values in list(found.items())[:_MOST_DIFFERENCES]
    ]
    more = len(found) - len(shown)
    return f"differs in: {', '.join(shown) or 'nothing'}{f' and {more} more' if more else ''}"


def _setting(value: object) -> str:
    is_number = isinstance(value, float)
    text = "-" if value is None else f"{value:g}" if is_number else str(value)
    return text if len(text) <= 30 else f"{text[:27]}..."


def _in_lines(path: str) -> str:
    return path.replace("/", "/\n").replace("/\n(", "\n(")


def verdict_text(which: str, verdict: Verdict, caution: str = "") -> Text:
    """The verdict for the terminal: word, reason, and what to mind."""
    styles = {Outcome.OUTPERFORMS: "bold green", Outcome.UNDERPERFORMS: "bold red"}
    outcome = (str(verdict.outcome), styles.get(verdict.outcome, "bold yellow"))
    return Text.assemble(f"verdict, {which}: ", outcome, f". {verdict.reason} {caution}")


def risk_table(overlay: Mapping[str, Any]) -> Table:
    """What the risk module did to the managed book; see `risk_report`."""
    days = ", ".join(f"{name} {100 * x:.1f} %" for name, x in overlay["guard_days"].items() if x)
    blocked_pnl = overlay["blocked_pnl_a_year"]
    verb = "cost" if blocked_pnl > 0.0 else "saved"
    return terminal_table(
        f"the risk module, managed book ({days}); it {verb} {100 * abs(blocked_pnl):.1f} % a year",
        ("rule", "days it bound", "clipped a year, x equity"),
        [
            (rule, f"{100 * numbers['days_bound']:.1f} %", f"{numbers['clipped_a_year']:.2f}")
            for rule, numbers in overlay["rules"].items()
            if numbers["days_bound"]
        ],
    )


def _measure_rows(
    books: Sequence[Mapping[str, float | None]], rows: Sequence[tuple[str, str, str]] = ROWS
) -> Iterator[list[str]]:
    """The label of each measure, and its value in each book."""
    for key, label, style in rows:
        yield [label, *(_written(book.get(key), style) for book in books)]


def _written(value: float | None, style: str) -> str:
    if value is None or not np.isfinite(value):
        return "-"
    if style == "percent":
        return f"{100 * value:.1f} %"
    return f"{value:.0f}" if style == "count" else f"{value:.2f}"
