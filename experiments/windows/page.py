"""The page of a walk-forward, and its table for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from rich.table import Table as TerminalTable

from agents.baselines.reference import Baseline
from envs.market.history import VOL_ESTIMATED, MarketHistory
from experiments.environments.setup import MarketSetup
from experiments.evaluation.evaluation import PROMINENT
from experiments.evaluation.open_run import MANAGED
from experiments.evaluation.split import AGENT, INDEX
from experiments.reporting.charts import Bars, Chart, Mark, Panel
from experiments.reporting.contents import KeyNumber, Report, Section, Table, Text
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
    MEASURES,
    books_table,
    differences_table,
    evidence_table,
    verdicts_table,
)
from experiments.reporting.terminal import terminal_table
from experiments.runs.folder import shown_path
from experiments.statistics.performance import Performance
from experiments.windows.folder import WalkForwardRun
from experiments.windows.stitching import StitchedComparison, WalkForwardResult, WindowResult
from experiments.windows.windows import WalkForwardSettings
from risk.metrics import simple_returns

# Of the tables over all test years.
_MEASURES = MEASURES[:6]
_WRITE: Mapping[str, Callable[[float], str]] = {name: write for _, name, write in _MEASURES}

COLUMNS = (
    "tested", "trained on", "validation Sharpe", "test Sharpe", "return", "max drawdown",
    "index return",
)  # fmt: skip

_GUARD_BEGINS_ANEW = (
    "Under the risk module the guard, and the peak that its drawdown limits count from, begin anew "
    "with each window: a book that was halted for good trades again in the next window, and a "
    "drawdown over several windows is not seen. The managed record therefore shows less halting "
    "than one unbroken book would."
)


def build_walk_report(walk: WalkForwardRun, result: WalkForwardResult) -> Report:
    """The page: the stitched record first, then its windows and how it was made."""
    verdict, days, windows = result.headline.verdict, result.raw.dates, result.windows
    return Report(
        title=f"Walk-forward of {walk.config['experiment']}",
        subtitle=f"{len(windows)} windows, tested {days[1]} to {days[-1]} · "
        f"{walk.setup.loaded.history.name} · costs {walk.config['costs']['kind']} · "
        f"{walk.request.mode} · seed {walk.config['seed']}",
        outcome=str(verdict.outcome),
        verdict_text=f"All test years, {'under' if result.managed else 'without'} the risk module. "
        f"{verdict.reason}",
        key_numbers=_key_numbers(result.headline),
        sections=(
            _verdict_section(result),
            _performance_section(result),
            Section("Windows", (_sharpes(windows), _windows_table(windows), _spans_table(windows))),
            _method_section(walk, windows),
        ),
        footer=(
            "Research, not advice. A backtest is not a promise: fills at the close, modelled "
            "prices, and costs as configured.",
        ),
    )


def _windows_table(windows: Sequence[WindowResult]) -> Table:
    """A row for each window; the book is the managed one where there is one."""
    return Table(
        "Window by window",
        COLUMNS,
        tuple(_window_row(window) for window in windows),
        notes=(
            "A single year's Sharpe ratio has a standard error of about 1. That on the validation "
            "years is of the best of several policies: the test is expected to be lower.",
        ),
        folded=False,
    )


def windows_table(windows: Sequence[WindowResult]) -> TerminalTable:
    """The same for the terminal."""
    return terminal_table("window by window", COLUMNS, map(_window_row, windows))


def _window_row(window: WindowResult) -> tuple[str, ...]:
    """The cells of COLUMNS."""
    comparison, (first, last) = window.result.headline, window.spans["train"]
    agent, index = comparison.performance[AGENT], comparison.performance[INDEX]
    ruin = " (ruined)" if comparison.agent.ruined.any() else ""
    return (
        window.window.years,
        f"{first[:4]} to {last[:4]}",
        number(window.validation_sharpe),
        number(agent.mean("sharpe")),
        percent(agent.mean("total_return")) + ruin,
        percent(agent.mean("max_drawdown")),
        percent(index.mean("total_return")),
    )


def _spans_table(windows: Sequence[WindowResult]) -> Table:
    """First and last session of every stretch, and the policy that was tested."""
    rows = tuple(
        (
            window.window.years,
            *(" to ".join(window.spans[name]) for name in ("train", "validation", "test")),
            f"{'last' if window.validation_sharpe is None else 'best'}, step {window.policy_step}",
        )
        for window in windows
    )
    columns = ("window", "trained on", "validated on", "tested on", "policy")
    return Table("Sessions", columns, rows)


def _sharpes(windows: Sequence[WindowResult]) -> Chart:
    """The Sharpe ratio that each policy was chosen for, and that of its test."""

    def tested(book: str) -> np.ndarray:
        return np.array([w.result.headline.performance[book].mean("sharpe") for w in windows])

    labels = tuple(window.window.years for window in windows)
    chosen = np.array([w.validation_sharpe for w in windows], dtype=np.float64)  # None: NaN
    bars = (
        Bars("best on validation", labels, chosen, MUTED),
        Bars("test", labels, tested(AGENT), BOOKS["policy"]),
        Bars("buy and hold, test", labels, tested(INDEX), BOOKS["buy and hold"]),
    )
    return Chart(
        "windows",
        "Sharpe ratio by window",
        (Panel("annual Sharpe ratio", bars),),
        subtitle="The validation years chose the policy; the test years came after them.",
        height=330,
        description="; ".join(
            f"{label}: validation {number(a)}, test {number(b)}"
            for label, a, b in zip(labels, chosen, tested(AGENT), strict=True)
        ),
    )


# --- the stitched record --------------------------------------------------------------------------


def _key_numbers(comparison: StitchedComparison) -> tuple[KeyNumber, ...]:
    index, evidence = comparison.performance[INDEX], comparison.verdict.evidence
    cards = []
    for name, label in (
        ("sharpe", "Sharpe ratio"),
        ("annual_return", "Return a year"),
        ("max_drawdown", "Max drawdown"),
    ):
        note = f"index {_cell(index, name)}"
        if name in comparison.intervals:
            note = f"95 %: {_range(comparison, name)}; {note}"
        cards.append(KeyNumber(label, _cell(comparison.performance[AGENT], name), note))
    note = f"{evidence.num_trials} trial(s); {comparison.verdict.level:.2f} is asked for"
    return (*cards, KeyNumber("Deflated Sharpe", number(evidence.dsr), note))


def _verdict_section(result: WalkForwardResult) -> Section:
    verdict = result.headline.verdict
    verdicts = [("without the risk module", result.raw.verdict)]
    if result.managed is not None:
        verdicts.append(("under the risk module", result.managed.verdict))
    return Section(
        "Verdict",
        (
            sharpe_difference_chart(verdict.differences, level=verdict.level),
            verdicts_table(verdicts),
            evidence_table(verdict),
            differences_table(verdict, _baselines(result)),
        ),
        intro="The stitched record is compared with that of every benchmark on the same days, in "
        "pairs, by the rule that holds for every evaluation. The whole walk-forward counts as one "
        "trial beside all others on the same data.",
    )


def _performance_section(result: WalkForwardResult) -> Section:
    raw, managed = result.raw, result.managed
    agent = {AGENT: raw.equity[AGENT][0]}
    if managed is not None:
        agent = {MANAGED: managed.equity[AGENT][0], **agent}
    baselines = [name for name in (INDEX, *PROMINENT) if name in raw.equity]
    curves = {**agent, **{name: raw.equity[name][0] for name in baselines}}
    returns = {name: simple_returns(curve) for name, curve in curves.items()}
    name, days = next(iter(returns.items()))
    followed = {k: returns[k] for k in (*agent, INDEX) if k in returns}
    charts = (
        _with_borders(equity_chart(raw.dates, curves), result.windows),
        yearly_returns_chart(raw.dates[1:], followed),
        return_histogram(days, name=name),
        rolling_sharpe_chart(raw.dates[1:], followed, raw.risk_free, window=252),
    )
    intro = "The test years in a row. Lines across the equity show where a new policy begins."
    books = [("Books without the risk module", raw)]
    if managed is not None:
        intro = f"{intro} {_GUARD_BEGINS_ANEW}"
        books.append(("Books under the risk module", managed))
    tables = [
        books_table(title, comparison.performance, _baselines(result), _MEASURES)
        for title, comparison in books
    ]
    return Section("Performance", (*charts, _measures_table(result.headline), *tables), intro=intro)


def _with_borders(chart: Chart, windows: Sequence[WindowResult]) -> Chart:
    """The chart with a line where each window but the first begins."""
    begins = [window.result.raw.agent.dates[0] for window in windows[1:]]
    borders = tuple(
        Mark("x", day, "" if i else "a new policy", colour=MUTED) for i, day in enumerate(begins)
    )
    panels = tuple(replace(panel, marks=(*panel.marks, *borders)) for panel in chart.panels)
    return replace(chart, panels=panels)


def _measures_table(comparison: StitchedComparison) -> Table:
    """The agent's measures over all test years with their intervals."""
    agent = comparison.performance[AGENT]
    rows = tuple(
        (label[0].upper() + label[1:], _cell(agent, name), _range(comparison, name))
        for label, name, _ in _MEASURES
    )
    note = "The maximum drawdown has no interval: resampling breaks the path up, and with it the "
    columns = ("measure", "value", "95 % interval")
    return Table("The agent over all test years", columns, rows, notes=(f"{note}drawdowns.",))


def _cell(performance: Performance, name: str) -> str:
    return _WRITE[name](performance.mean(name))


def _range(comparison: StitchedComparison, name: str) -> str:
    """A measure's 95 % interval; a dash for one that has none."""
    if name not in comparison.intervals:
        return DASH
    interval, write = comparison.intervals[name], _WRITE[name]
    return f"{write(interval.low)} to {write(interval.high)}"


def _baselines(result: WalkForwardResult) -> Sequence[Baseline]:
    return result.windows[0].result.baselines


# --- how it was made ------------------------------------------------------------------------------


def _method_section(walk: WalkForwardRun, windows: Sequence[WindowResult]) -> Section:
    """What was done, what it does not show, and the facts to do it again."""
    notices = dict.fromkeys([*walk.notices, *(x for w in windows for x in w.result.notices)])
    method = [
        _training(walk.request),
        _purge(walk.setup.loaded.embargo_days),
        "Each test begins in cash at the last close of the year before, with a fresh book and a "
        "policy that remembers nothing, and so does each benchmark; those that are fitted are "
        "fitted on the window's training years. The growth of the years is multiplied; nothing is "
        "paid for closing a book at the end of a test. Every day is the return of exactly one "
        "window.",
    ]
    if walk.setup.trades_options:
        method.append(market_constants(walk.setup, walk.windows[0].first_test))
    first, last = (walk.settings_of(walk.windows[i]).top.total_timesteps for i in (0, -1))
    facts = (
        ("Folder", shown_path(walk.folder)),
        ("Windows", str(len(walk.windows))),
        ("Steps of the first window", f"{first:,}"),
        ("Steps of the last window", f"{last:,}"),
        ("Seed", str(walk.config["seed"])),
        ("Data fingerprint", walk.setup.loaded.history.fingerprint[:12]),
        ("Bootstrap resamples", str(walk.request.resamples)),
    )
    return Section(
        "How it was made",
        (
            *(Text(notice, kind="warning") for notice in notices),
            Text("\n\n".join(method)),
            Table("Facts", ("fact", "value"), facts, folded=False),
            *small_print(options=walk.setup.trades_options),
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
        (setup.settings.surface_kind == "vix", 2020, "surface on S&P 500 options of 1996–2020"),
        (estimated, 2013, "estimate of VIX (before 2014 in the embedded data) on 1999–2013"),
        (setup.settings.env.costs.kind == "realistic", 2019, "option spreads on quotes of 2019"),
    )
    text = (
        "The constants of the volatility surface, the volatility estimate and the costs are those "
        "of the configuration; they are not refitted for each window."
    )
    if known_later := [what for used, last, what in origins if used and last >= first_test]:
        text += " Their defaults were estimated on years that are tested here, or on later ones: "
        text += "; ".join(known_later) + "."
    return text


def _training(request: WalkForwardSettings) -> str:
    train = f"the {_years(request.train_years)}" if request.mode == "rolling" else "all years"
    fresh = request.retrain == "fresh"
    start = "fresh weights" if fresh else "the weights that the window before chose"
    return (
        f"Each window's policy is trained on {train} before its validation, from {start}, and "
        "chosen among its evaluations by its Sharpe ratio in the "
        f"{_years(request.validation_years)} after. Then it is tested in the "
        f"{_years(request.test_years)} after that, which neither it nor the choice has seen."
    )


def _purge(days: int) -> str:
    if days == 0:
        return (
            "Purge: stretches end before the close at which the next begins, so no return that is "
            "learned from reaches into it. What is held has no life beyond the next close, and so "
            "there is nothing to embargo."
        )
    return (
        f"Purge and embargo: the last {days} calendar days, the longest life of what can be held, "
        "are left out of every training and validation stretch. What is held in one stretch has "
        "ended before the next begins, so no return that is learned from reaches into it."
    )


def _years(count: int) -> str:
    return "year" if count == 1 else f"{count} years"
