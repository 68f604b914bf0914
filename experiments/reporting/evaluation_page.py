"""The page of an evaluation: sections, charts and tables of numbers that were computed before."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
from experiments.reporting.contents import Item, KeyNumber, Report, Section, Table, Text
from experiments.reporting.figures import (
    equity_chart,
    return_histogram,
    rolling_sharpe_chart,
    sharpe_difference_chart,
    yearly_returns_chart,
)
from experiments.reporting.model_card import model_card
from experiments.reporting.skill_section import skill_section
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
from risk.metrics import simple_returns

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


def build_report(evaluation: Evaluation) -> Report:
    """The report on the last of the splits, with the earlier ones beside it. It only draws."""
    results, header, setup = evaluation.splits, evaluation.header, evaluation.setup
    main, earlier = results[-1], results[:-1]
    comparison, dates = main.headline, main.headline.agent.dates
    surface = "" if header["surface"] == "none" else f" · surface {header['surface']}"
    sections = [
        _verdict_section(results),
        _performance_section(main),
        _book_section(main, setup),
        _attribution_section(comparison, OPTION_CAUSES if setup.trades_options else ASSET_CAUSES),
        _time_section(evaluation.periods),
        _cost_section(main, evaluation.costs),
        *([] if evaluation.flat_vol is None else [_flat_vol_section(main, evaluation.flat_vol)]),
        *([] if evaluation.skill is None else [skill_section(evaluation.skill)]),
        _scorecard_section(comparison),
        *(_earlier_split_section(result) for result in earlier),
        Section("Model card", model_card(evaluation)),
    ]
    which, _ = comparisons(main)[-1]
    reason = f"{main.name.capitalize()} years, {which}. {comparison.verdict.reason}"
    return Report(
        title=f"Evaluation of {header['run']}",
        subtitle=f"{main.name} years, {dates[0]} to {dates[-1]} · {header['data']}{surface}"
        f" · costs {header['costs']} · {header['policy']} policy, step {header['policy_step']}",
        outcome=str(comparison.verdict.outcome),
        verdict_text=f"{reason} {main.caution}".rstrip(),
        key_numbers=_key_numbers(comparison),
        sections=tuple(sections),
        footer=(
            "Research, not advice. A backtest is not a promise: fills at the close, costs as "
            "stated in the model card, and options at modelled prices.",
        ),
    )


def _key_numbers(comparison: BenchmarkComparison) -> tuple[KeyNumber, ...]:
    agent, index = comparison.performance[AGENT], comparison.performance[INDEX]
    evidence = comparison.verdict.evidence
    annual_return, volatility = agent.mean("annual_return"), agent.mean("annual_volatility")
    required = f"{evidence.num_trials} trial(s); {comparison.verdict.level:.2f} is asked for"

    def against_index(label: str, measure: str, write: Callable[[float], str]) -> KeyNumber:
        note = f"index {write(index.mean(measure))}"
        return KeyNumber(label, write(agent.mean(measure)), note)

    return (
        against_index("Sharpe ratio", "sharpe", number),
        KeyNumber("Return a year", percent(annual_return), f"volatility {percent(volatility)}"),
        against_index("Max drawdown", "max_drawdown", percent),
        KeyNumber("Deflated Sharpe", number(evidence.dsr), required),
    )


def _verdict_section(results: Sequence[SplitEvaluation]) -> Section:
    verdicts = [
        (f"{result.name}, {label}", comparison.verdict)
        for result in results
        for label, comparison in comparisons(result)
    ]
    verdict = results[-1].headline.verdict
    return Section(
        "Verdict",
        (
            sharpe_difference_chart(verdict.differences, level=verdict.level),
            verdicts_table(verdicts),
            evidence_table(verdict),
            differences_table(verdict, results[-1].baselines),
        ),
        intro="The agent is compared with every benchmark on the same days, in pairs. It "
        "OUTPERFORMS if its Sharpe ratio is higher than that of every single one beyond chance and "
        "its deflated Sharpe ratio clears the bar; it UNDERPERFORMS if one of them is better with "
        "Holm's correction for their number, or if it was ruined; all else is INCONCLUSIVE. The "
        "outcome in a row below is of that one benchmark, without correction.",
    )


def _performance_section(result: SplitEvaluation) -> Section:
    """Equity with drawdown, daily returns, rolling Sharpe ratio; tables of all books."""
    curves, dates = curves_of(result), result.raw.agent.dates
    returns = {name: simple_returns(curve) for name, curve in curves.items()}
    name, agent = next(iter(returns.items()))
    followed = {k: returns[k] for k in (MANAGED, AGENT, INDEX) if k in returns}
    episodes = [
        episodes_table(f"Single years {label}", comparison)
        for label, comparison in comparisons(result)
        if comparison.episodes
    ]
    items: tuple[Item, ...] = (
        equity_chart(dates, curves),
        return_histogram(agent, name=name),
        rolling_sharpe_chart(dates[1:], followed, result.raw.agent.risk_free),
        *_books_tables(result),
        *episodes,
    )
    return Section("Performance", items)


def curves_of(result: SplitEvaluation) -> dict[str, FloatArray]:
    """Equity of the first path: the headline book first, then the raw one, index and baselines."""
    equity = {} if result.managed is None else {MANAGED: result.managed.equity[AGENT][0]}
    names = [name for name in (AGENT, INDEX, *PROMINENT) if name in result.raw.equity]
    return {**equity, **{name: result.raw.equity[name][0] for name in names}}


def _books_tables(result: SplitEvaluation, suffix: str = "") -> list[Table]:
    return [
        books_table(f"Books {label}{suffix}", comparison.performance, result.baselines)
        for label, comparison in comparisons(result)
    ]


def _book_section(result: SplitEvaluation, setup: MarketSetup) -> Section:
    """Positions, exposures and turnover of the first path's book, and what was held."""
    backtest, comparison = result.headline.agent, result.headline
    days, books = backtest.dates[1:], {AGENT: result.raw.agent}
    limit = None
    if result.managed is not None:
        books = {MANAGED: result.managed.agent, **books}
        limit = setup.settings.risk.limits.max_monthly_turnover
    shares = backtest.position[0] / backtest.equity[0, :-1, None]
    exposures = {
        name: {exposure: values[0] for exposure, values in book.exposures.items()}
        for name, book in books.items()
    }
    turnover = {name: book.traded[0] / book.equity[0, :-1] for name, book in books.items()}
    items: list[Item] = [
        position_heatmap(days, setup.market.instruments, shares),
        exposures_chart(days, exposures),
        turnover_chart(days, turnover, limit=limit),
    ]
    if setup.trades_options:
        items += [_strategies_table(comparison), *_position_items(comparison)]
    else:
        items.append(_weights_table(comparison))
    if result.overlay is not None:
        items.append(risk_rules_table(result.overlay))
    return Section("The book", tuple(items))


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
    positions = tuple(
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
        ("Theta, a session", dollars(report["portfolio_theta"])),
        ("IV rank, one year", number(report["iv_rank"])),
        ("Sharpe, 60 days", number(report["sharpe"])),
        ("Drawdown", percent(report["drawdown"])),
        ("Max drawdown", percent(report["max_drawdown"])),
        ("Strategy", report["strategy"]),
    )
    book = Table(f"The book on {report['date']}", ("measure", "value"), facts)
    if not positions:
        return (book, Text("Nothing was held."))
    columns = ("option", "strike", "days left", "quantity", "value")
    return (book, Table(f"Positions on {report['date']}", columns, positions))


def _attribution_section(comparison: BenchmarkComparison, intro: str) -> Section:
    terms = {name: values[0] for name, values in comparison.attribution.terms.items()}
    by_day = attribution_chart(comparison.agent.dates[1:], terms)
    items = (by_day, attribution_totals_chart(terms), attribution_table(comparison))
    return Section("Where the P&L came from", items, intro=intro)


def _time_section(periods: Periods | None) -> Section:
    title = "Regimes and years"
    if periods is None:
        return Section(title, (Text("Simulated paths have no calendar to be split by."),))
    return Section(
        title,
        (
            yearly_returns_chart(periods.dates, periods.returns),
            period_table("Market regimes", periods.regimes),
            period_table("Years", periods.years),
        ),
        intro="Over the whole history. What lies in the training years was seen while learning "
        "and says nothing about the future; validation years chose the policy.",
    )


def _cost_section(result: SplitEvaluation, rows: Sequence[CostRow]) -> Section:
    label, _ = comparisons(result)[-1]
    title = f"{result.name.capitalize()} years, {label}"
    return Section(
        "What if trading cost more",
        (costs_table(title, rows, result.baselines),),
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


def _earlier_split_section(result: SplitEvaluation) -> Section:
    dates = result.raw.agent.dates
    return Section(
        f"{result.name.capitalize()} years",
        tuple(_books_tables(result, f", {result.name}")),
        intro=f"{dates[0]} to {dates[-1]}. {result.caution}",
    )
