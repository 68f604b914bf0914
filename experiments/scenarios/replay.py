"""Books taken through a crisis or a shock, and what came of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agents.baselines.options import build_baselines
from agents.policy import Policy
from conf.types import DateArray, FloatArray
from envs.allocation.market import PanelMarket
from envs.core.batch import Window
from envs.option_portfolio.market import OptionMarket, OptionPortfolioSettings
from experiments.backtests.backtest import Backtest, index_equity
from experiments.evaluation.open_run import CASH, MANAGED, pick, run_beside
from experiments.evaluation.regimes import Period
from experiments.evaluation.split import AGENT, INDEX
from experiments.runs.market_setup import Session
from experiments.scenarios.markets import shocked_markets
from experiments.scenarios.shocks import Shock
from risk import metrics
from risk.bootstrap import equity_curve
from risk.guard import GuardState

RUN_IN_SESSIONS = 42  # before a crisis or a shock, so that it meets a book that is invested
RECOVERY_SESSIONS = 252  # that are looked through for the day on which the loss is made good


@dataclass(frozen=True)
class OverlayDeeds:
    """What the risk module did while it lasted."""

    restrained: float  # share of the days on which it was not ACTIVE
    halted: bool
    rule: str  # that took the most; "" for none
    taken: float  # of what was wanted, dollars over equity, by all rules


@dataclass(frozen=True)
class Outcome:
    """One book in one crisis, from the last close before it."""

    total_return: float
    max_drawdown: float
    worst_day: float  # return
    recovered: int | None  # sessions until the loss was made good; 0: there was none; None: not yet
    ruined: bool
    overlay: OverlayDeeds | None  # of the managed book


@dataclass(frozen=True)
class Passage:
    """All books through one crisis, or through one shock at one date."""

    dates: DateArray  # (n,) the close before, and every one until the end
    curves: Mapping[str, FloatArray]  # book -> (n,) equity over that at the close before
    outcomes: Mapping[str, Outcome]


def live_crisis(session: Session, policy: Policy, beside: Sequence[str], crisis: Period) -> Passage:
    """The run's own market through a crisis that it covers."""
    dates = session.market.history.dates
    begin = int(np.searchsorted(dates, crisis.first))  # the first session of the crisis
    end = int(np.searchsorted(dates, crisis.last, side="right")) - 1
    start = max(session.market.first_usable, begin - 1 - RUN_IN_SESSIONS)
    window = Window(start, min(len(dates), end + 1 + RECOVERY_SESSIONS))
    books = _run(session, session.market, window, policy, beside)
    return _passages(books, begin - 1 - start, [end - start])[0]


def live_shocks(
    session: Session,
    policy: Policy,
    beside: Sequence[str],
    shocks: Sequence[Shock],
    at: int,
) -> dict[str, Passage]:
    """The run's market with each shock, one by one, at session `at` of its history."""
    start = max(session.market.first_usable, at - 1 - RUN_IN_SESSIONS)
    longest = max(shock.sessions for shock in shocks)
    stop = min(session.market.history.num_sessions, at + max(longest, RECOVERY_SESSIONS))
    found: dict[str, Passage] = {}
    for shocked in shocked_markets(session, shocks, at, Window(start, stop)):
        books = _run(session, shocked.market, shocked.window, policy, beside)
        before = shocked.at - 1 - shocked.window.start
        ends = [before + shock.sessions for shock in shocked.shocks]
        passages = _passages(books, before, ends)
        found |= {shock.name: p for shock, p in zip(shocked.shocks, passages, strict=True)}
    return {shock.name: found[shock.name] for shock in shocks}


@dataclass(frozen=True)
class _Books:
    """Every book of P paths over one window."""

    dates: DateArray  # (n,)
    equity: Mapping[str, FloatArray]  # (P, n)
    done: Mapping[str, Backtest]  # of those that trade


def _run(
    session: Session,
    market: OptionMarket | PanelMarket,
    window: Window,
    policy: Policy,
    beside: Sequence[str],
) -> _Books:
    env, risk = session.settings.env, session.settings.risk
    train = session.training_window if market is session.market else None
    if isinstance(market, OptionMarket) and isinstance(env, OptionPortfolioSettings):
        baselines = build_baselines(market, env, train, window)
        others = pick(beside, {b.name: b.policy for b in baselines})
    else:
        others = {}  # the index of a panel is the equal mix, and cash is cash
    done = run_beside(policy, others, market, env, window, risk)
    initial = env.initial_equity_usd
    free = market.growth[window.start : window.stop - 1]
    index = index_equity(market, window, initial)
    equity = {name: book.equity for name, book in done.items()}
    shown = [name for name in (AGENT, MANAGED) if name in equity]
    ordered = {name: equity.pop(name) for name in shown}
    cash = np.broadcast_to(initial * equity_curve(free), index.shape)
    dates = market.history.dates[window.start : window.stop]
    return _Books(dates, {**ordered, INDEX: index, **equity, CASH: cash}, done)


def _passages(books: _Books, before: int, ends: Sequence[int]) -> list[Passage]:
    """A passage a path, from place `before` of the window to its own end."""
    last = len(books.dates) - 1
    found = []
    for path, wanted in enumerate(ends):
        end = min(wanted, last)
        outcomes = {
            name: _outcome(curve[path], before, end, books.done.get(name), path)
            for name, curve in books.equity.items()
        }
        curves = {
            name: curve[path, before : end + 1] / curve[path, before]
            for name, curve in books.equity.items()
        }
        found.append(Passage(books.dates[before : end + 1], curves, outcomes))
    return found


def _outcome(curve: FloatArray, before: int, end: int, done: Backtest | None, path: int) -> Outcome:
    inside = curve[before : end + 1]
    # `alive` is before each session's trade: the state at the last close of all is in `ruined`.
    stands = done is None or bool(np.append(done.alive[path], not done.ruined[path])[end])
    return Outcome(
        total_return=float(inside[-1] / inside[0] - 1.0),
        max_drawdown=float(metrics.max_drawdown(inside)),
        worst_day=float(metrics.simple_returns(inside).min()),
        recovered=sessions_to_recover(curve[before:], end - before),
        ruined=not stands,
        overlay=None if done is None or not done.rules else _deeds(done, path, before, end),
    )


def sessions_to_recover(curve: FloatArray, end: int) -> int | None:
    """Sessions from the start until what was lost by place `end` is made good.

    Counted from the lowest point up to `end`: the first place behind it at which the curve is back
    where it started. 0 where nothing was lost, None where it is not back by the end of the curve.
    """
    trough = int(np.argmin(curve[: end + 1]))
    if curve[trough] >= curve[0]:
        return 0
    back = np.flatnonzero(curve[trough:] >= curve[0])
    return int(trough + back[0]) if len(back) else None


def _deeds(done: Backtest, path: int, before: int, end: int) -> OverlayDeeds:
    inside = slice(before, end)
    equity = done.equity[path, inside]
    taken = {rule: float((x[path, inside] / equity).sum()) for rule, x in done.rules.items()}
    most = max(taken, key=lambda rule: taken[rule])
    guard = done.guard[path, inside]
    return OverlayDeeds(
        restrained=float((guard != GuardState.ACTIVE).mean()),
        halted=bool((guard == GuardState.HALTED).any()),
        rule=most if taken[most] > 0.0 else "",
        taken=sum(taken.values()),
    )
