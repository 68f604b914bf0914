"""Whether an account is ready for more money: the documented criteria, and a test that holds.

The documented criteria are judged as they were written, each with how often it errs. Beside them
two e-processes watch the daily excess returns of the stage (`experiments.statistics.sequential`):
what is recommended follows them alone. Nothing is ever moved: a judgement is an event of the store,
one a session. A stage begins at the session at which it was first judged, so its record cannot be
chosen afterwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field
from rich.table import Table

from conf.errors import InputError
from conf.settings import settings
from conf.types import FloatArray
from envs.core.market import cash_returns
from experiments.accounts.account import ALERT, CLOSED, Account, as_done
from experiments.accounts.verification import verify
from experiments.brokers.orders import total_cost
from experiments.reporting.style import compact_dollars
from experiments.reporting.terminal import terminal_table
from experiments.statistics.sequential import DEMOTION, MEDIAN_YEARS, PROMOTION, SharpeTest
from experiments.statistics.triggers import deepest_fall
from risk.metrics import (
    SESSIONS_PER_YEAR,
    sessions_per_year,
    sharpe_ratio,
    simple_returns,
)

JUDGED = "judged"  # kind of event

StageName = Literal["paper", "small", "moderate", "full"]
Outcome = Literal["met", "not met", "too early"]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]

_RAMP: tuple[StageName, ...] = ("paper", "small", "moderate", "full")
_GOOD_SHARPE = 1.5  # a year: the agent that a criterion should not miss
_PATHS = 4000  # behind an error rate
_MEETS = {">": np.greater, "<": np.less, ">=": np.greater_equal}
_OF_THE_MARKET = "jump"  # the alert that is no failure


@settings
class Stage:
    """The amounts of a stage and what is asked for there; null: the document asks for nothing."""

    capital_usd: tuple[Positive, Positive]
    months: tuple[Count, Count]  # the first at whose end it is judged; how many of the newest count
    min_sharpe: float | None = None
    max_drawdown: Annotated[float, Field(gt=0, lt=1)] | None = None
    no_failures: bool = False
    cost_tolerance: Positive | None = None  # share of the costs that were expected
    as_backtest: bool = False

    def __post_init__(self) -> None:
        for name in ("capital_usd", "months"):
            low, high = getattr(self, name)
            if low > high:
                raise InputError(f"{name} is [{low}, {high}]", "Give the lower number first")


@settings
class Retraining:
    """The trigger that holds at every stage."""

    min_sharpe: float
    sessions: Annotated[int, Field(ge=2)]


@settings
class Ramp:
    """All stages, from paper to full size."""

    paper: Stage
    small: Stage
    moderate: Stage
    full: Stage
    retraining: Retraining


class Record(NamedTuple):
    """What the account earned at its stage, from close to close."""

    since: str
    session: str  # the newest
    equity_usd: FloatArray  # (T + 1,)
    returns: FloatArray  # (T,); over missed sessions one
    excess: FloatArray  # (T,) over cash
    year: float  # sessions


@dataclass(frozen=True)
class Criterion:
    """One documented criterion, and what meeting it can prove."""

    name: str
    asked: str
    measured: str
    outcome: Outcome
    proves: str


@dataclass(frozen=True)
class Judgement:
    """Where an account stands at a session."""

    session: str
    stage: StageName
    since: str
    sessions: int  # T
    criteria: tuple[Criterion, ...]  # the last one is the trigger of retraining
    promotion: tuple[float, float]  # wealth of the e-process, now and at its highest
    demotion: tuple[float, float]
    documented: str  # promote, hold or retrain
    recommended: str  # promote, hold or demote


def judge(account: Account, ramp: Ramp, stage: StageName | None = None) -> Judgement:
    """Judge the account's record at a stage, by default the last one (at first `paper`)."""
    judged = account.store.of(JUDGED)
    if stage is None:
        stage = judged[-1].content["stage"] if judged else "paper"
    record = stage_record(account, _since(account, stage))
    criteria = tuple(_criteria(account, ramp, stage, record))
    promotion, demotion = (_wealth(test, record) for test in (PROMOTION, DEMOTION))
    met = [criterion.outcome for criterion in criteria]
    passed = "promote" if set(met) == {"met"} else "hold"
    promoted = "promote" if promotion[1] >= PROMOTION.threshold else "hold"
    return Judgement(
        session=record.session,
        stage=stage,
        since=record.since,
        sessions=record.excess.size,
        criteria=criteria,
        promotion=promotion,
        demotion=demotion,
        documented="retrain" if met[-1] == "not met" else passed,
        recommended="demote" if demotion[1] >= DEMOTION.threshold else promoted,
    )


def record_judgement(account: Account, judgement: Judgement) -> None:
    """Put the judgement into the store, unless this session was judged at this stage before."""
    same = (judgement.session, judgement.stage)
    judged = account.store.of(JUDGED)
    if not judged or (judged[-1].content["session"], judged[-1].content["stage"]) != same:
        account.store.append(JUDGED, asdict(judgement))


def stage_record(account: Account, since: str) -> Record:
    """The account from a session on, from close to close; InputError where there is none."""
    closed = [e.content for e in account.store.of(CLOSED) if e.content["session"] >= since]
    if not closed:
        raise InputError(f"account {account.name} has closed no session", "Let it decide first")
    history = account.history()
    closes = [(content["session"], content["equity_usd"]) for content in closed]
    if since == account.sessions[0].content["session"]:  # with the cost of its first trades
        closes.insert(0, (since, account.market_settings.env.initial_equity_usd))
    days, equity = (np.array(column) for column in zip(*closes, strict=True))
    growth = np.cumsum(np.log1p(cash_returns(history)))
    at = np.searchsorted(history.dates, days.astype("datetime64[D]"))
    cash = np.expm1(np.diff(growth[at - 1]))
    returns = simple_returns(equity) if len(closes) > 1 else np.zeros(0)
    year, newest = sessions_per_year(history.dates), closed[-1]["session"]
    return Record(since, newest, equity, returns, returns - cash, year)


def _since(account: Account, stage: StageName) -> str:
    sessions = [event.content["session"] for event in account.sessions]
    judged = account.store.of(JUDGED)
    others = [event.number for event in judged if event.content["stage"] != stage]
    if not others:
        return str(sessions[0])
    own = [event.content["session"] for event in judged if event.number > others[-1]]
    return str(own[0] if own else account.store.of(CLOSED)[-1].content["session"])


def _wealth(test: SharpeTest, record: Record) -> tuple[float, float]:
    if not record.excess.size:
        return 1.0, 1.0
    wealth = test.wealth(record.excess, record.year)
    return float(wealth[-1]), float(wealth.max())


# --- the documented criteria ---------------------------------------------------------------------


def _criteria(account: Account, ramp: Ramp, name: StageName, record: Record) -> Iterator[Criterion]:
    """What the stage asks for, then the trigger of retraining."""
    stage: Stage = getattr(ramp, name)
    low, high = stage.capital_usd
    equity, count = record.equity_usd[0], record.excess.size
    asked = f"{compact_dollars(low)} to {compact_dollars(high)}"
    yield Criterion("capital", asked, f"${equity:,.0f}", _outcome(low <= equity <= high), "-")
    window = tuple(round(months * record.year / 12.0) for months in stage.months)
    time: Outcome = "met" if count >= window[0] else "too early"
    asked, measured = f"{stage.months[0]} months", f"{count} of {window[0]} sessions"
    yield Criterion("time", asked, measured, time, "nothing")
    year, excess = record.year, record.excess
    sharpe = partial(sharpe_ratio, risk_free=0.0, sessions_per_year=year)
    if stage.min_sharpe is not None:
        yield _of_returns("Sharpe ratio", excess, year, sharpe, ">", stage.min_sharpe, window)
    if stage.max_drawdown is not None:
        limit, fall = stage.max_drawdown, deepest_fall
        yield _of_returns("drawdown", record.returns, year, fall, "<", limit, window)
    if stage.no_failures:
        yield _failures(account, record.since)
    if stage.cost_tolerance is not None:
        yield _costs(account, stage.cost_tolerance, record.since)
    if stage.as_backtest:
        result = verify(account)
        measured = f"{len(result.differences)} differences"
        proves = f"{result.decisions} decisions, {result.backtest_sessions} backtested"
        yield Criterion("backtest", "as tested", measured, _outcome(result.holds), proves)
    limit, last = ramp.retraining.min_sharpe, ramp.retraining.sessions
    title = f"Sharpe ratio, {last} sessions"
    yield _of_returns(title, excess, year, sharpe, ">=", limit, (last, last))


def _of_returns(
    name: str,
    returns: FloatArray,
    year: float,
    measure: Callable[[FloatArray], FloatArray],
    sign: str,
    limit: float,
    window: tuple[int, ...],
) -> Criterion:
    """A bound on a measure of the newest returns: the fewest and the most that count."""
    least, most = window
    meets, asked = _MEETS[sign], f"{sign} {limit:g}"
    count, recent = returns.size, returns[-most:]
    if count < 2:
        return Criterion(name, asked, "-", "too early", "nothing")
    value, deviation = float(measure(recent)), recent.std(ddof=1)
    outcome = _outcome(bool(meets(value, limit))) if count >= least else "too early"
    # How many normal records, as long and as volatile as this one, meet it.
    length = int(np.clip(count, least, most))
    noise = np.random.default_rng(0).standard_normal((_PATHS, length))
    lucky, good = (
        100.0 * meets(measure(deviation * (noise + sharpe / np.sqrt(year))), limit).mean()
        for sharpe in (0.0, _GOOD_SHARPE)
    )
    proves = f"met by {lucky:.0f} % without skill, {good:.0f} % at a true {_GOOD_SHARPE:g}"
    return Criterion(name, asked, f"{value:.2f}", outcome, proves)


def _failures(account: Account, since: str) -> Criterion:
    alerts = Counter(
        event.content["kind"]
        for event in account.store.of(ALERT)
        if event.content["session"] >= since and event.content["kind"] != _OF_THE_MARKET
    )
    measured = ", ".join(f"{kind} {count}" for kind, count in sorted(alerts.items())) or "none"
    proves = "no order was sent" if account.settings.broker.kind == "model" else "what was recorded"
    return Criterion("failures", "none", measured, _outcome(not alerts), proves)


def _costs(account: Account, tolerance: float, since: str) -> Criterion:
    """What was paid for the trades that were done, beside what the kernel takes for them."""
    asked = f"within {100 * tolerance:.0f} %"
    if account.settings.broker.kind == "model":
        return Criterion("costs", asked, "the model's", "met", "nothing: there is no broker")
    kernel, _, _ = account.kernel_at_opening()
    expected, paid, days = 0.0, 0.0, account.days()
    for day in days:
        held = kernel.ledger.quantity.copy()
        planned = kernel.plan(held if day.requested is None else day.requested)
        done = as_done(kernel, planned, day)
        if day.session >= since:
            change = done.quantity - held
            expected += float(kernel.trading_cost(change, done.price, done.row)[0])
            paid += total_cost(day.executions or (), done.price[0], day.places)
        if day is not days[-1]:
            kernel.settle(done)
    measured, proves = f"${paid:,.2f} of ${expected:,.2f}", "what its broker charged"
    outcome = _outcome(abs(paid - expected) <= tolerance * expected)
    return Criterion("costs", asked, measured, outcome if expected else "too early", proves)


def _outcome(met: bool) -> Outcome:
    return "met" if met else "not met"


# --- for the terminal ----------------------------------------------------------------------------


def judgement_lines(judgement: Judgement, ramp: Ramp) -> Iterator[Table | str]:
    """The criteria as a table, the e-processes, and what is recommended."""
    title = f"stage {judgement.stage}, {judgement.since} to {judgement.session}"
    columns = ("documented criterion", "asked", "measured", "", "what it can prove")
    rows = [(c.name, c.asked, c.measured, c.outcome, c.proves) for c in judgement.criteria]
    yield terminal_table(title, columns, rows)
    yield f"by the documented criteria: {judgement.documented}"
    tests = (PROMOTION, judgement.promotion), (DEMOTION, judgement.demotion)
    for test, (now, highest) in tests:
        claim = f"a Sharpe ratio {test.shows} {test.null_sharpe:g}"
        yield f"{claim}: e-process {now:.3g}, highest {highest:.3g} of {test.threshold:g}"
    for sharpe, years in MEDIAN_YEARS.items():
        sessions = f"{years * SESSIONS_PER_YEAR:,.0f} sessions"
        yield f"at a true {sharpe:g} half are promoted within {years:g} years, {sessions}"
    place = _RAMP.index(judgement.stage)
    words = {"hold": "hold", "demote": "demote: retrain, and back to paper"}
    if place + 1 < len(_RAMP):
        low, high = getattr(ramp, _RAMP[place + 1]).capital_usd
        amounts = f"{compact_dollars(low)} to {compact_dollars(high)}"
        words["promote"] = f"promote to {_RAMP[place + 1]}, {amounts}"
    yield f"recommended: {words.get(judgement.recommended, 'promote beyond these stages')}"
