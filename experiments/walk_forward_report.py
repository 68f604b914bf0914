"""The page of a walk-forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from agents.baselines import Baseline
from experiments.charts import Bars, Chart, Mark, Panel
from experiments.evaluation import AGENT, INDEX
from experiments.figures import (
    equity_chart,
    return_histogram,
    rolling_sharpe_chart,
    sharpe_difference_chart,
    yearly_returns_chart,
)
from experiments.formats import number, percent
from experiments.palette import BOOKS, MUTED
from experiments.report_contents import KeyNumber, Report, Section
from experiments.report_tables import (
    differences_table,
    evidence_table,
    verdicts_table,
)
from experiments.split_charts import BESIDE, MANAGED
from experiments.walk_forward_folder import Walk
from experiments.walk_forward_method import method_section
from experiments.walk_forward_record import StitchedContest, WindowResult
from experiments.walk_forward_tables import (
    RATIOS,
    books_table,
    mean_of,
    measures_table,
    range_of,
    spans_table,
    windows_table,
)
from risk.metrics import simple_returns

FloatArray = NDArray[np.float64]

_GUARD_BEGINS_ANEW = (
    "Under the risk module the guard, and the peak that its drawdown limits count from, begin anew "
    "with each window: a book that was halted for good trades again in the next window, and a "
    "drawdown over several windows is not seen. The managed record therefore shows less halting "
    "than one unbroken book would."
)


def build_walk_report(
    walk: Walk,
    results: Sequence[WindowResult],
    raw: StitchedContest,
    managed: StitchedContest | None,
) -> Report:
    """The page: the stitched record first, then its windows and how it was made."""
    headline, history = managed or raw, walk.session.loaded.history
    verdict, which = headline.verdict, "under" if managed else "without"
    return Report(
        title=f"Walk-forward of {walk.config['experiment']}",
        subtitle=f"{len(results)} windows, tested {raw.dates[1]} to {raw.dates[-1]} · "
        f"{history.name} · costs {walk.config['costs']['kind']} · {walk.asked.mode} · seed "
        f"{walk.config['seed']}",
        verdict_word=str(verdict.word),
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


def _key_numbers(contest: StitchedContest) -> tuple[KeyNumber, ...]:
    index, evidence = contest.performance[INDEX], contest.verdict.evidence
    cards = []
    for name, label in (
        ("sharpe", "Sharpe ratio"),
        ("annual_return", "Return a year"),
        ("max_drawdown", "Max drawdown"),
    ):
        write = number if name in RATIOS else percent
        note = f"index {write(mean_of(index, name))}"
        if name in contest.intervals:
            note = f"95 %: {range_of(contest, name)}; {note}"
        value = mean_of(contest.performance[AGENT], name)
        cards.append(KeyNumber(label, write(value), note))
    deflated = KeyNumber(
        "Deflated Sharpe",
        number(evidence.dsr),
        f"{evidence.num_trials} trial(s); {contest.verdict.level:.2f} is asked for",
    )
    return (*cards, deflated)


def _verdict_section(
    results: Sequence[WindowResult], raw: StitchedContest, managed: StitchedContest | None
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
    results: Sequence[WindowResult], raw: StitchedContest, managed: StitchedContest | None
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
