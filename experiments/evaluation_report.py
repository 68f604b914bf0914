"""The page that a person reads: an evaluation's results as sections, charts and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agents.policy import Policy
from envs.option_market import OptionMarket
from experiments.book_figures import attribution_chart, attribution_totals_chart
from experiments.cost_sensitivity import cost_sensitivity
from experiments.evaluation import AGENT, INDEX, Contest, SplitResult, contests
from experiments.figures import sharpe_difference_chart
from experiments.formats import number, percent
from experiments.held_items import attribution_intro, held_items
from experiments.model_card import model_card
from experiments.other_markets import across_time, mirage
from experiments.report_contents import KeyNumber, Report, Section, Text
from experiments.report_tables import (
    attribution_table,
    books_table,
    costs_table,
    differences_table,
    episodes_table,
    evidence_table,
    period_table,
    risk_rules_table,
    scorecard_tables,
    verdicts_table,
)
from experiments.session import Session
from experiments.split_charts import BESIDE, book_charts, performance_charts
from experiments.tables import caveat
from risk.comparison import Verdict

SIMULATED = ("synthetic", "panel_simulated")  # data.source


def build_report(
    header: Mapping[str, Any],
    run: Mapping[str, Any],
    results: Sequence[SplitResult],
    session: Session,
    policy: Policy,
) -> Report:
    """The report on the last of the splits, with the earlier ones beside it.

    header: what was evaluated; run: the run's `manifest` and `config`.
    """
    main = results[-1]
    contest = main.headline
    verdict = contest.verdict
    sections = [
        _verdict_section(main, results),
        _performance_section(main),
        _book_section(main, session),
        _attribution_section(main, session),
        _time_section(main, session, policy),
        _cost_section(main, session, policy),
    ]
    if isinstance(session.market, OptionMarket):
        sections.append(_mirage_section(main, session, policy))
    sections.append(_scorecard_section(contest))
    sections += [_other_split_section(result) for result in results[:-1]]
    sections.append(Section("Model card", model_card(header, run, session)))
    dates = contest.agent.dates
    return Report(
        title=f"Evaluation of {header['run']}",
        subtitle=f"{main.name} years, {dates[0]} to {dates[-1]} · {header['data']}"
        f"{'' if header['surface'] == 'none' else ' · surface ' + str(header['surface'])}"
        f" · costs {header['costs']} · {header['policy']} policy, step {header['policy_step']}",
        verdict_word=str(verdict.word),
        verdict_text=_verdict_text(main),
        key_numbers=_key_numbers(contest, verdict),
        sections=tuple(sections),
        footer=(
            "Research, not advice. A backtest is not a promise: fills at the close, costs as "
            "stated in the model card, and options at modelled prices.",
        ),
    )


def _verdict_text(result: SplitResult) -> str:
    which, contest = contests(result)[-1]
    said = f"{result.name.capitalize()} years, {which}. {contest.verdict.reason}"
    return f"{said} {caveat(result.name)}".rstrip()


def _key_numbers(contest: Contest, verdict: Verdict) -> tuple[KeyNumber, ...]:
    agent, index = contest.performance[AGENT], contest.performance[INDEX]

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


def _verdict_section(main: SplitResult, results: Sequence[SplitResult]) -> Section:
    every = [
        (f"{result.name}, {label}", contest.verdict)
        for result in results
        for label, contest in contests(result)
    ]
    contest = main.headline
    return Section(
        "Verdict",
        (
            sharpe_difference_chart(contest.verdict.differences, level=contest.verdict.level),
            verdicts_table(every),
            evidence_table(contest.verdict),
            differences_table(contest.verdict, main.baselines),
        ),
        intro="The agent is compared with every baseline on the same days, in pairs. It BEATS "
        "if its Sharpe ratio is higher than that of every single one beyond chance and its "
        "deflated Sharpe ratio clears the bar; it DOES NOT BEAT if one of them is better with "
        "Holm's correction for their number, or if it was ruined; all else is INCONCLUSIVE. The "
        "word in a row below is of that one baseline, without correction.",
    )


def _performance_section(result: SplitResult) -> Section:
    tables = [
        books_table(f"Books {label}", contest, result.baselines)
        for label, contest in contests(result)
    ]
    single_years = [
        episodes_table(f"Single years {label}", contest)
        for label, contest in contests(result)
        if contest.episodes
    ]
    return Section("Performance", (*performance_charts(result), *tables, *single_years))


def _book_section(result: SplitResult, session: Session) -> Section:
    contest = result.headline
    items = [
        *book_charts(result, session),
        *held_items(contest, session),
    ]
    if result.managed is not None:
        items.append(risk_rules_table(result.managed.agent))
    return Section("The book", tuple(items))


def _attribution_section(result: SplitResult, session: Session) -> Section:
    contest = result.headline
    terms = {name: values[0] for name, values in contest.attribution.terms.items()}
    dates = contest.agent.dates[1:]
    return Section(
        "Where the P&L came from",
        (
            attribution_chart(dates, terms),
            attribution_totals_chart(terms),
            attribution_table(contest),
        ),
        intro=attribution_intro(session),
    )


def _time_section(result: SplitResult, session: Session, policy: Policy) -> Section:
    if session.settings.data.source in SIMULATED:
        return Section(
            "Regimes and years", (Text("Simulated paths have no calendar to be split by."),)
        )
    over = across_time(session, policy, managed=result.managed is not None)
    return Section(
        "Regimes and years",
        (
            over.chart,
            period_table("Market regimes", over.regimes),
            period_table("Years", over.years),
        ),
        intro="Over the whole history. What lies in the training years was seen while learning "
        "and says nothing about the future; validation years chose the policy.",
    )


def _cost_section(result: SplitResult, session: Session, policy: Policy) -> Section:
    beside = {b.name: b.policy for b in result.baselines if b.name in BESIDE}
    risk = None if result.managed is None else session.settings.risk
    rows = cost_sensitivity(session, {AGENT: policy, **beside}, result.name, risk)
    label = "without the risk module" if risk is None else "under the risk module"
    return Section(
        "What if trading cost more",
        (costs_table(f"{result.name} years, {label}", rows, result.baselines),),
        intro="The same decisions where every trade costs nothing, what was assumed, twice and "
        "five times that. A result that needs the assumed costs to hold exactly is fragile.",
    )


def _mirage_section(result: SplitResult, session: Session, policy: Policy) -> Section:
    return Section(
        "Honest market and flat market",
        (mirage(result, session, policy),),
        intro="The same books under the surface that follows the volatility index and where every "
        "option is priced at one constant volatility. The flat market is wrong on purpose, and "
        "what a book shows there above the other is a mirage.",
    )


def _scorecard_section(contest: Contest) -> Section:
    return Section(
        "Scorecard",
        scorecard_tables(contest.scorecard),
        intro="Targets, what was measured, and how far it could have come out otherwise. A "
        "target is met or missed by the measured number.",
    )


def _other_split_section(result: SplitResult) -> Section:
    tables = [
        books_table(f"Books {label}, {result.name}", contest, result.baselines)
        for label, contest in contests(result)
    ]
    return Section(
        f"{result.name.capitalize()} years",
        tuple(tables),
        intro=f"{result.raw.agent.dates[0]} to {result.raw.agent.dates[-1]}. {caveat(result.name)}",
    )
