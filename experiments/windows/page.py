"""The page of a walk-forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from rich import box
from rich.table import Table as TerminalTable

from agents.baselines.options import Baseline
from conf.types import FloatArray
from envs.market.history import VOL_ESTIMATED, MarketHistory
from envs.option_portfolio.market import OptionMarket
from experiments.evaluation.split import AGENT, INDEX
from experiments.reporting.charts import Bars, Chart, Mark, Panel
from experiments.reporting.contents import KeyNumber, Report, Section, Table, Text
from experiments.reporting.evaluation_page import BESIDE, MANAGED
from experiments.reporting.figures import (
    equity_chart,
    return_histogram,
    rolling_sharpe_chart,
    sharpe_difference_chart,
    yearly_returns_chart,
)
from experiments.reporting.model_card import small_print
from experiments.reporting.style import BOOKS, DASH, MUTED, number, percent
from experiments.reporting.tables import (
    differences_table,
    evidence_table,
    titles_of,
    verdicts_table,
)
from experiments.runs.folder import shown_path
from experiments.runs.market_setup import MarketSetup
from experiments.runs.settings import surface_kind
from experiments.statistics.performance import Performance
from experiments.windows.folder import WalkForwardRun
from experiments.windows.stitching import StitchedComparison, WindowResult
from experiments.windows.windows import WalkForwardSettings
from risk.metrics import simple_returns


def method_section(walk: WalkForwardRun, results: Sequence[WindowResult]) -> Section:
    """What was done, what it does not show, and the facts to do it again."""
    notices = dict.fromkeys([*walk.notices, *(x for r in results for x in r.result.notices)])
    method = [
        _training(walk.request),
        _purge(walk.setup.loaded.embargo_days),
        "Each test begins in cash at the last close of the year before, with a fresh book and a "
        "policy that remembers nothing, and so does each baseline; those that are fitted are "
        "fitted on the window's training years. The growth of the years is multiplied; nothing is "
        "paid for closing a book at the end of a test. Every day is the return of exactly one "
        "window.",
    ]
    if isinstance(walk.setup.market, OptionMarket):
        method.append(market_constants(walk.setup, walk.windows[0].first_test))
    return Section(
        "How it was made",
        (
            *(Text(notice, kind="warning") for notice in notices),
            Text("\n\n".join(method)),
            Table("Facts", ("fact", "value"), _facts(walk), folded=False),
            *small_print(walk.setup),
        ),
    )


def market_constants(setup: MarketSetup, first_test: int) -> str:
    """That an option market's constants are the same for all windows, and what they knew.

    first_test: calendar year; what was estimated on earlier years alone is not named.
    """
    history = setup.loaded.history
    estimated = isinstance(history, MarketHistory) and bool(
        np.any(history.implied_vol_source == VOL_ESTIMATED)
    )
    origins = (
        (surface_kind(setup.settings) == "vix", 2020, "surface on S&P 500 options of 1996–2020"),
        (estimated, 2013, "estimate of VIX (before 2014 in the embedded data) on 1999–2013"),
        (setup.settings.env.costs.kind == "realistic", 2019, "option spreads on quotes of 2019"),
    )
    known_later = [what for used, last, what in origins if used and last >= first_test]
    text = (
        "The constants of the volatility surface, the volatility estimate and the costs are those "
        "of the configuration; they are not refitted for each window."
    )
    if not known_later:
        return text
    return (
        f"{text} Their defaults were estimated on years that are tested here, or on later ones: "
        f"{'; '.join(known_later)}."
    )


def _training(request: WalkForwardSettings) -> str:
    train = (
        f"the {_years(request.train_years)} before its validation"
        if request.mode == "rolling"
        else "all years before its validation"
    )
    begun = (
        "from fresh weights"
        if request.retrain == "fresh"
        else "from the weights that the window before chose"
    )
    return (
        f"Each window's policy is trained on {train}, {begun}, and chosen among its evaluations by "
        f"its Sharpe ratio in the {_years(request.validation_years)} after. Then it is tested in "
        f"the {_years(request.test_years)} after that, which neither it nor the choice has seen."
    )


def _purge(days: int) -> str:
    if days:
        return (
            f"Purge and embargo: the last {days} calendar days, the longest life of what can be "
            "held, are left out of every training and validation stretch. What is held in one "
            "stretch has ended before the next begins, so no return that is learned from reaches "
            "into it."
        )
    return (
        "Purge: stretches end before the close at which the next begins, so no return that is "
        "learned from reaches into it. What is held has no life beyond the next close, and so "
        "there is nothing to embargo."
    )


def _facts(walk: WalkForwardRun) -> tuple[tuple[str, str], ...]:
    first, last = (walk.settings_of(walk.windows[i]).top.total_timesteps for i in (0, -1))
    return (
        ("Folder", shown_path(walk.folder)),
        ("Windows", str(len(walk.windows))),
        ("Steps of the first window", f"{first:,}"),
        ("Steps of the last window", f"{last:,}"),
        ("Seed", str(walk.config["seed"])),
        ("Data fingerprint", walk.setup.loaded.history.fingerprint[:12]),
        ("Bootstrap resamples", str(walk.request.resamples)),
    )


def _years(count: int) -> str:
    return "year" if count == 1 else f"{count} years"


_LABELS = {
    "sharpe": "Sharpe",
    "annual_return": "return a year",
    "annual_volatility": "volatility",
    "max_drawdown": "max drawdown",
    "sortino": "Sortino",
    "calmar": "Calmar",
}
RATIOS = ("sharpe", "sortino", "calmar")

COLUMNS = (
    "tested", "trained on", "validation Sharpe", "test Sharpe", "return", "max drawdown",
    "index return",
)  # fmt: skip


def windows_table(results: Sequence[WindowResult]) -> Table:
    """A row for each window; the book is the managed one where there is one."""
    return Table(
        "Window by window",
        COLUMNS,
        tuple(window_row(result) for result in results),
        notes=(
            "A single year's Sharpe ratio has a standard error of about 1. That on the validation "
            "years is of the best of several policies: the test is expected to be lower.",
        ),
        folded=False,
    )


def window_row(result: WindowResult) -> tuple[str, ...]:
    """The cells of COLUMNS."""
    comparison, (first, last) = result.result.headline, result.spans["train"]
    agent, index = comparison.performance[AGENT], comparison.performance[INDEX]
    ruin = " (ruined)" if comparison.agent.ruined.any() else ""
    return (
        result.window.years,
        f"{first[:4]} to {last[:4]}",
        number(result.validation_sharpe),
        number(mean_of(agent, "sharpe")),
        percent(mean_of(agent, "total_return")) + ruin,
        percent(mean_of(agent, "max_drawdown")),
        percent(mean_of(index, "total_return")),
    )


def spans_table(results: Sequence[WindowResult]) -> Table:
    """First and last session of every stretch, and the policy that was tested."""
    rows = tuple(
        (
            result.window.years,
            *(" to ".join(result.spans[name]) for name in ("train", "validation", "test")),
            f"{'last' if result.validation_sharpe is None else 'best'}, step {result.policy_step}",
        )
        for result in results
    )
    columns = ("window", "trained on", "validated on", "tested on", "policy")
    return Table("Sessions", columns, rows)


def terminal_table(results: Sequence[WindowResult]) -> TerminalTable:
    """The windows for the terminal."""
    table = TerminalTable(title="window by window", title_justify="left", box=box.SIMPLE_HEAD)
    for i, name in enumerate(COLUMNS):
        table.add_column(name, justify="right" if i else "left")
    for result in results:
        table.add_row(*window_row(result))
    return table


def measures_table(comparison: StitchedComparison) -> Table:
    """The agent's measures over all test years with their intervals."""
    rows = []
    for name, label in _LABELS.items():
        write = number if name in RATIOS else percent
        value = mean_of(comparison.performance[AGENT], name)
        rows.append((label[0].upper() + label[1:], write(value), range_of(comparison, name)))
    return Table(
        "The agent over all test years",
        ("measure", "value", "95 % interval"),
        tuple(rows),
        notes=(
            "The maximum drawdown has no interval: resampling breaks the path up, and with it "
            "the drawdowns.",
        ),
    )


def books_table(title: str, comparison: StitchedComparison, baselines: Sequence[Baseline]) -> Table:
    """Everybody's measures over all test years, the agent first; means over paths."""
    titles = titles_of(baselines)
    ordered = [AGENT, INDEX, *(n for n in comparison.performance if n not in (AGENT, INDEX))]

    def cells(measured: Performance) -> tuple[str, ...]:
        return tuple(
            (number if name in RATIOS else percent)(mean_of(measured, name)) for name in _LABELS
        )

    rows = tuple((titles.get(name, name), *cells(comparison.performance[name])) for name in ordered)
    columns = ("book", *_LABELS.values())
    return Table(title, columns, rows, emphasis=frozenset({0}))


def range_of(comparison: StitchedComparison, name: str) -> str:
    """A measure's 95 % interval, as people write it; a dash for one that has none."""
    if name not in comparison.intervals:
        return DASH
    write = number if name in RATIOS else percent
    return f"{write(comparison.intervals[name].low)} to {write(comparison.intervals[name].high)}"


def mean_of(performance: Performance, name: str) -> float:
    """A measure's mean over paths."""
    values: Mapping[str, FloatArray] = performance._asdict()
    return float(np.mean(values[name]))


_GUARD_BEGINS_ANEW = (
    "Under the risk module the guard, and the peak that its drawdown limits count from, begin anew "
    "with each window: a book that was halted for good trades again in the next window, and a "
    "drawdown over several windows is not seen. The managed record therefore shows less halting "
    "than one unbroken book would."
)


def build_walk_report(
    walk: WalkForwardRun,
    results: Sequence[WindowResult],
    raw: StitchedComparison,
    managed: StitchedComparison | None,
) -> Report:
    """The page: the stitched record first, then its windows and how it was made."""
    headline, history = managed or raw, walk.setup.loaded.history
    verdict, which = headline.verdict, "under" if managed else "without"
    return Report(
        title=f"Walk-forward of {walk.config['experiment']}",
        subtitle=f"{len(results)} windows, tested {raw.dates[1]} to {raw.dates[-1]} · "
        f"{history.name} · costs {walk.config['costs']['kind']} · {walk.request.mode} · seed "
        f"{walk.config['seed']}",
        outcome=str(verdict.outcome),
        verdict_text=f"All test years, {which} the risk module. {verdict.reason}",
        key_numbers=_key_numbers(headline),
        sections=(
            _verdict_section(results, raw, managed),
            _performance_section(results, raw, managed),
            Section(
                "Windows",
                (sharpe_by_window(results), windows_table(results), spans_table(results)),
            ),
            method_section(walk, results),
        ),
        footer=(
            "Research, not advice. A backtest is not a promise: fills at the close, modelled "
            "prices, and costs as configured.",
        ),
    )


def sharpe_by_window(results: Sequence[WindowResult]) -> Chart:
    """What each policy was chosen for beside what it then did."""
    labels = tuple(result.window.years for result in results)
    chosen = np.array([r.validation_sharpe for r in results], dtype=np.float64)  # None: NaN
    tested = np.array([mean_of(r.result.headline.performance[AGENT], "sharpe") for r in results])
    index = np.array([mean_of(r.result.headline.performance[INDEX], "sharpe") for r in results])
    bars = (
        Bars("best on validation", labels, chosen, MUTED),
        Bars("test", labels, tested, BOOKS["policy"]),
        Bars("buy and hold, test", labels, index, BOOKS["buy and hold"]),
    )
    return Chart(
        "windows",
        "Sharpe ratio by window",
        (Panel("annual Sharpe ratio", bars),),
        subtitle="The validation years chose the policy; the test years came after them.",
        height=330,
        description="; ".join(
            f"{label}: validation {number(a)}, test {number(b)}"
            for label, a, b in zip(labels, chosen, tested, strict=True)
        ),
    )


def _key_numbers(comparison: StitchedComparison) -> tuple[KeyNumber, ...]:
    index, evidence = comparison.performance[INDEX], comparison.verdict.evidence
    cards = []
    for name, label in (
        ("sharpe", "Sharpe ratio"),
        ("annual_return", "Return a year"),
        ("max_drawdown", "Max drawdown"),
    ):
        write = number if name in RATIOS else percent
        note = f"index {write(mean_of(index, name))}"
        if name in comparison.intervals:
            note = f"95 %: {range_of(comparison, name)}; {note}"
        value = mean_of(comparison.performance[AGENT], name)
        cards.append(KeyNumber(label, write(value), note))
    deflated = KeyNumber(
        "Deflated Sharpe",
        number(evidence.dsr),
        f"{evidence.num_trials} trial(s); {comparison.verdict.level:.2f} is asked for",
    )
    return (*cards, deflated)


def _verdict_section(
    results: Sequence[WindowResult], raw: StitchedComparison, managed: StitchedComparison | None
) -> Section:
    verdict = (managed or raw).verdict
    every = [("without the risk module", raw.verdict)]
    if managed is not None:
        every.append(("under the risk module", managed.verdict))
    return Section(
        "Verdict",
        (
            sharpe_difference_chart(verdict.differences, level=verdict.level),
            verdicts_table(every),
            evidence_table(verdict),
            differences_table(verdict, _baselines(results)),
        ),
        intro="The stitched record is compared with that of every baseline on the same days, in "
        "pairs, by the rule that holds for every evaluation. The whole walk-forward counts as one "
        "trial beside all others on the same data.",
    )


def _performance_section(
    results: Sequence[WindowResult], raw: StitchedComparison, managed: StitchedComparison | None
) -> Section:
    agent = {AGENT: raw.equity[AGENT][0]}
    if managed is not None:
        agent = {MANAGED: managed.equity[AGENT][0], **agent}
    curves = {**agent, **{name: raw.equity[name][0] for name in BESIDE if name in raw.equity}}
    returns = {name: simple_returns(curve) for name, curve in curves.items()}
    name, days = next(iter(returns.items()))
    followed = {k: returns[k] for k in (*agent, INDEX) if k in returns}
    charts = (
        _with_borders(equity_chart(raw.dates, curves), results),
        yearly_returns_chart(raw.dates[1:], followed),
        return_histogram(days, name=name),
        rolling_sharpe_chart(raw.dates[1:], followed, raw.risk_free, window=252),
    )
    intro = "The test years in a row. Lines across the equity show where a new policy begins."
    tables = [measures_table(managed or raw)]
    tables.append(books_table("Books without the risk module", raw, _baselines(results)))
    if managed is not None:
        intro = f"{intro} {_GUARD_BEGINS_ANEW}"
        tables.append(books_table("Books under the risk module", managed, _baselines(results)))
    return Section("Performance", (*charts, *tables), intro=intro)


def _with_borders(chart: Chart, results: Sequence[WindowResult]) -> Chart:
    """The chart with a line where each window but the first begins."""
    begins = [result.result.raw.agent.dates[0] for result in results[1:]]
    borders = tuple(
        Mark("x", day, "" if i else "a new policy", colour=MUTED) for i, day in enumerate(begins)
    )
    panels = tuple(replace(panel, marks=(*panel.marks, *borders)) for panel in chart.panels)
    return replace(chart, panels=panels)


def _baselines(results: Sequence[WindowResult]) -> Sequence[Baseline]:
    return results[0].result.baselines
