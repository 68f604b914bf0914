"""The page that a person reads: an evaluation's results as sections, charts and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from conf.types import FloatArray
from experiments.environments.setup import MarketSetup
from experiments.evaluation.evaluation import PROMINENT, Evaluation
from experiments.evaluation.open_run import MANAGED
from experiments.evaluation.sensitivity import CostRow, FlatVolComparison, Periods
from experiments.evaluation.split import (
    AGENT,
    INDEX,
    BenchmarkComparison,
    SplitEvaluation,
    comparisons,
)
from experiments.reporting.book_figures import (
    attribution_chart,
    attribution_totals_chart,
    exposures_chart,
    position_heatmap,
    turnover_chart,
)
from experiments.reporting.charts import Chart
from experiments.reporting.contents import Item, KeyNumber, Report, Section, Table, Text
from experiments.reporting.figures import (
    equity_chart,
    return_histogram,
    rolling_sharpe_chart,
    sharpe_difference_chart,
    yearly_returns_chart,
)
from experiments.reporting.model_card import model_card
from experiments.reporting.style import dollars, number, percent
from experiments.reporting.tables import (
    attribution_table,
    books_table,
    costs_table,
    differences_table,
    episodes_table,
    evidence_table,
    flat_vol_table,
    period_table,
    risk_rules_table,
    scorecard_tables,
    verdicts_table,
)
from experiments.reporting.terminal import caveat
from experiments.statistics.comparison import Verdict
from risk.metrics import simple_returns


def holdings_items(comparison: BenchmarkComparison) -> tuple[Item, ...]:
    """Tables of the positions: an option book's or a portfolio's."""
    if "strategies" in comparison.held:
        return (_strategies_table(comparison), *_position_items(comparison))
    return (_weights_table(comparison),)


OPTION_CAUSES = (
    "Each day's P&L, split by a second-order expansion around the close before. The residual is "
    "what that expansion leaves unexplained of the options' P&L, and roll the same of contracts "
    "on the day they expire. Charts show the first path, the table the mean."
)
ASSET_CAUSES = (
    "Each day's P&L: market is what the same amount in equal weights would have gained, selection "
    "what the choice of assets added, carry the interest on cash. Charts show the first path, the "
    "table the mean."
)


def _weights_table(comparison: BenchmarkComparison) -> Table:
    mean, last = comparison.held["mean_weights"], comparison.held["last_book"]
    rows = tuple((name, percent(mean[name]), percent(last["weights"][name])) for name in mean)
    columns = ("asset", "mean weight", f"weight on {last['date']}")
    return Table("Weights", columns, rows, folded=False)


def _strategies_table(comparison: BenchmarkComparison) -> Table:
    """How often the first path's book was which strategy."""
    days, share = comparison.held["strategies"], comparison.held["strategy_share"]
    rows = tuple((name, count, percent(share[name])) for name, count in days.items())
    return Table("Strategies held", ("strategy", "days", "share"), rows)


def _position_items(comparison: BenchmarkComparison) -> tuple[Item, ...]:
    """The book after the last trade, as the first path has it."""
    report = comparison.held["last_book"]
    held = tuple(
        (p["option"], p["strike"], p["days_to_expiry"], p["quantity"], dollars(p["value"]))
        for p in report["positions"]
    )
    facts = (
        ("Portfolio value", dollars(report["portfolio_value"])),
        ("Cash", dollars(report["cash"])),
        ("Total exposure", dollars(report["total_exposure"])),
        ("Delta", number(report["portfolio_delta"])),
        ("Gamma, for 1 %", number(report["portfolio_gamma"], 3)),
        ("Vega, a point", dollars(report["portfolio_vega"])),
        ("Theta, a day", dollars(report["portfolio_theta"])),
        ("IV rank, one year", number(report["iv_rank"])),
        ("Sharpe, 60 days", number(report["sharpe"])),
        ("Drawdown", percent(report["drawdown"])),
        ("Max drawdown", percent(report["max_drawdown"])),
        ("Strategy", report["strategy"]),
    )
    title = f"The book on {report['date']}"
    if not held:
        return (Table(title, ("measure", "value"), facts), Text("Nothing was held."))
    columns = ("option", "strike", "days left", "quantity", "value")
    return (
        Table(title, ("measure", "value"), facts),
        Table(f"Positions on {report['date']}", columns, held),
    )


def curves_of(result: SplitEvaluation) -> Mapping[str, FloatArray]:
    """Equity of the first path: the headline book first, then the raw one, index and baselines."""
    raw = result.raw.equity
    beside = {name: raw[name][0] for name in (INDEX, *PROMINENT) if name in raw}
    agent = {AGENT: raw[AGENT][0]}
    if result.managed is not None:
        agent = {MANAGED: result.managed.equity[AGENT][0], **agent}
    return {**agent, **beside}


def performance_charts(result: SplitEvaluation) -> tuple[Chart, ...]:
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


def book_charts(result: SplitEvaluation, setup: MarketSetup) -> tuple[Chart, ...]:
    """Positions, exposures and turnover of the first path's book."""
    backtest, instruments = result.headline.agent, setup.market.instruments
    days = backtest.dates[1:]
    books = {AGENT: result.raw.agent}
    limit = None
    if result.managed is not None:
        books = {MANAGED: result.managed.agent, **books}
        limit = setup.settings.risk.limits.max_monthly_turnover
    shares = backtest.position[0] / backtest.equity[0, :-1, None]
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


def build_report(evaluation: Evaluation) -> Report:
    """The report on the last of the splits, with the earlier ones beside it. It only draws."""
    results, header = evaluation.splits, evaluation.header
    main, has_options = results[-1], evaluation.setup.trades_options
    comparison = main.headline
    verdict = comparison.verdict
    sections = [
        _verdict_section(main, results),
        _performance_section(main),
        _book_section(main, evaluation.setup),
        _attribution_section(comparison, OPTION_CAUSES if has_options else ASSET_CAUSES),
        _time_section(evaluation.periods),
        _cost_section(main, evaluation.costs),
        *([] if evaluation.flat_vol is None else [_flat_vol_section(main, evaluation.flat_vol)]),
        _scorecard_section(comparison),
        *(_other_split_section(result) for result in results[:-1]),
        Section("Model card", model_card(evaluation)),
    ]
    dates = comparison.agent.dates
    return Report(
        title=f"Evaluation of {header['run']}",
        subtitle=f"{main.name} years, {dates[0]} to {dates[-1]} · {header['data']}"
        f"{'' if header['surface'] == 'none' else ' · surface ' + str(header['surface'])}"
        f" · costs {header['costs']} · {header['policy']} policy, step {header['policy_step']}",
        outcome=str(verdict.outcome),
        verdict_text=_verdict_text(main),
        key_numbers=_key_numbers(comparison, verdict),
        sections=tuple(sections),
        footer=(
            "Research, not advice. A backtest is not a promise: fills at the close, costs as "
            "stated in the model card, and options at modelled prices.",
        ),
    )


def _verdict_text(result: SplitEvaluation) -> str:
    which, comparison = comparisons(result)[-1]
    said = f"{result.name.capitalize()} years, {which}. {comparison.verdict.reason}"
    return f"{said} {caveat(result.name)}".rstrip()


def _key_numbers(comparison: BenchmarkComparison, verdict: Verdict) -> tuple[KeyNumber, ...]:
    agent, index = comparison.performance[AGENT], comparison.performance[INDEX]

    def mean(name: str) -> float:
        return float(np.mean(getattr(agent, name)))

    return (
        KeyNumber(
            "Sharpe ratio", number(mean("sharpe")), f"index {number(float(np.mean(index.sharpe)))}"
        ),
        KeyNumber(
            "Return a year",
            percent(mean("annual_return")),
            f"volatility {percent(mean('annual_volatility'))}",
        ),
        KeyNumber(
            "Max drawdown",
            percent(mean("max_drawdown")),
            f"index {percent(float(np.mean(index.max_drawdown)))}",
        ),
        KeyNumber(
            "Deflated Sharpe",
            number(verdict.evidence.dsr),
            f"{verdict.evidence.num_trials} trial(s); {verdict.level:.2f} is asked for",
        ),
    )


def _verdict_section(main: SplitEvaluation, results: Sequence[SplitEvaluation]) -> Section:
    every = [
        (f"{result.name}, {label}", comparison.verdict)
        for result in results
        for label, comparison in comparisons(result)
    ]
    comparison = main.headline
    return Section(
        "Verdict",
        (
            sharpe_difference_chart(comparison.verdict.differences, level=comparison.verdict.level),
            verdicts_table(every),
            evidence_table(comparison.verdict),
            differences_table(comparison.verdict, main.baselines),
        ),
        intro="The agent is compared with every baseline on the same days, in pairs. It "
        "OUTPERFORMS if its Sharpe ratio is higher than that of every single one beyond chance and "
        "its deflated Sharpe ratio clears the bar; it UNDERPERFORMS if one of them is better with "
        "Holm's correction for their number, or if it was ruined; all else is INCONCLUSIVE. The "
        "outcome in a row below is of that one baseline, without correction.",
    )


def _performance_section(result: SplitEvaluation) -> Section:
    tables = [
        books_table(f"Books {label}", comparison.performance, result.baselines)
        for label, comparison in comparisons(result)
    ]
    single_years = [
        episodes_table(f"Single years {label}", comparison)
        for label, comparison in comparisons(result)
        if comparison.episodes
    ]
    return Section("Performance", (*performance_charts(result), *tables, *single_years))


def _book_section(result: SplitEvaluation, setup: MarketSetup) -> Section:
    items = [*book_charts(result, setup), *holdings_items(result.headline)]
    if result.overlay is not None:
        items.append(risk_rules_table(result.overlay))
    return Section("The book", tuple(items))


def _attribution_section(comparison: BenchmarkComparison, intro: str) -> Section:
    terms = {name: values[0] for name, values in comparison.attribution.terms.items()}
    dates = comparison.agent.dates[1:]
    return Section(
        "Where the P&L came from",
        (
            attribution_chart(dates, terms),
            attribution_totals_chart(terms),
            attribution_table(comparison),
        ),
        intro=intro,
    )


def _time_section(periods: Periods | None) -> Section:
    if periods is None:
        return Section(
            "Regimes and years", (Text("Simulated paths have no calendar to be split by."),)
        )
    return Section(
        "Regimes and years",
        (
            yearly_returns_chart(periods.dates, periods.returns),
            period_table("Market regimes", periods.regimes),
            period_table("Years", periods.years),
        ),
        intro="Over the whole history. What lies in the training years was seen while learning "
        "and says nothing about the future; validation years chose the policy.",
    )


def _cost_section(result: SplitEvaluation, rows: Sequence[CostRow]) -> Section:
    label = comparisons(result)[-1][0]
    return Section(
        "What if trading cost more",
        (costs_table(f"{result.name} years, {label}", rows, result.baselines),),
        intro="The same decisions where every trade costs nothing, what was assumed, twice and "
        "five times that. A result that needs the assumed costs to hold exactly is fragile.",
    )


def _flat_vol_section(result: SplitEvaluation, flat_vol: FlatVolComparison) -> Section:
    return Section(
        "Honest market and flat market",
        (flat_vol_table(result.name, flat_vol),),
        intro="The same books under the surface that follows the volatility index and where every "
        "option is priced at one constant volatility. The flat market is wrong on purpose, and "
        "what a book shows there above the other is an artefact of that.",
    )


def _scorecard_section(comparison: BenchmarkComparison) -> Section:
    return Section(
        "Scorecard",
        scorecard_tables(comparison.scorecard),
        intro="Targets, what was measured, and how far it could have come out otherwise. A "
        "target is met or missed by the measured number.",
    )


def _other_split_section(result: SplitEvaluation) -> Section:
    tables = [
        books_table(f"Books {label}, {result.name}", comparison.performance, result.baselines)
        for label, comparison in comparisons(result)
    ]
    return Section(
        f"{result.name.capitalize()} years",
        tuple(tables),
        intro=f"{result.raw.agent.dates[0]} to {result.raw.agent.dates[-1]}. {caveat(result.name)}",
    )
