"""The page of a walk-forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from agents.baselines import Baseline
from envs.option_market import OptionMarket
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
from experiments.model_card import small_print
from experiments.palette import BOOKS, MUTED
from experiments.report_contents import KeyNumber, Report, Section, Table, Text
from experiments.report_tables import (
    differences_table,
    evidence_table,
    verdicts_table,
)
from experiments.run_folder import shown_path
from experiments.split_charts import BESIDE, MANAGED
from experiments.walk_forward_folder import Walk
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
            _method_section(walk, results),
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
        note = f"95 %: {range_of(contest, name)}; index {write(mean_of(index, name))}"
        cards.append(KeyNumber(label, write(contest.intervals[name].value), note))
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
    tables = [measures_table(managed or raw)]
    tables.append(books_table("Books without the risk module", raw, _baselines(results)))
    if managed is not None:
        tables.append(books_table("Books under the risk module", managed, _baselines(results)))
    return Section(
        "Performance",
        (*charts, *tables),
        intro="The test years in a row. Lines across the equity show where a new policy begins.",
    )


def _method_section(walk: Walk, results: Sequence[WindowResult]) -> Section:
    asked, days = walk.asked, walk.session.loaded.embargo_days
    notices = dict.fromkeys([*walk.notices, *(x for r in results for x in r.result.notices)])
    purged = (
        f"Purge and embargo: the last {days} calendar days, the longest life of what can be held, "
        "are left out of every training and validation stretch. What is held in one stretch has "
        "ended before the next begins, so no return that is learned from reaches into it."
        if days
        else "Purge: stretches end before the close at which the next begins, so no return that is "
        "learned from reaches into it. What is held has no life beyond the next close, and so "
        "there is nothing to embargo."
    )
    train = (
        f"the {_years(asked.train_years)} before its validation"
        if asked.mode == "rolling"
        else "all years before its validation"
    )
    begun = (
        "from fresh weights"
        if asked.retrain == "fresh"
        else "from the weights that the window before chose"
    )
    method = (
        f"Each window's policy is trained on {train}, {begun}, and chosen among its evaluations by "
        f"its Sharpe ratio in the {_years(asked.validation_years)} after. Then it is tested in the "
        f"{_years(asked.test_years)} after that, which neither it nor the choice has seen.\n\n"
        f"{purged}\n\n"
        "Each test begins in cash at the last close of the year before, with a fresh book and a "
        "policy that remembers nothing, and so does each baseline; those that are fitted are "
        "fitted on the window's training years. The growth of the years is multiplied; nothing is "
        "paid for closing a book at the end of a test. Every day is the return of exactly one "
        "window."
    )
    if isinstance(walk.session.market, OptionMarket):
        method += (
            "\n\nThe numbers of the volatility surface are those of the configuration; they are "
            "not refitted for each window."
        )
    facts = (
        ("Folder", shown_path(walk.folder)),
        ("Windows", str(len(walk.windows))),
        ("Steps of the first window", f"{walk.settings_of(walk.windows[0]).top.total_timesteps:,}"),
        ("Steps of the last window", f"{walk.settings_of(walk.windows[-1]).top.total_timesteps:,}"),
        ("Seed", str(walk.config["seed"])),
        ("Data fingerprint", walk.session.loaded.history.fingerprint[:12]),
        ("Bootstrap resamples", str(asked.resamples)),
    )
    return Section(
        "How it was made",
        (
            *(Text(notice, kind="warning") for notice in notices),
            Text(method),
            Table("Facts", ("fact", "value"), facts, folded=False),
            *small_print(walk.session),
        ),
    )


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


def _years(count: int) -> str:
    return "year" if count == 1 else f"{count} years"
