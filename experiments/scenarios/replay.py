"""Books taken through a crisis or a shock, and what came of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.baselines.options import build_baselines
from agents.policy import Policy, Trader
from conf.types import DateArray, FloatArray
from envs.core.batch import Window
from envs.core.market import BookMarket
from experiments.backtests.backtest import Backtest, index_equity
from experiments.environments.setup import MarketSetup
from experiments.evaluation.open_run import CASH, MANAGED, pick, run_beside
from experiments.evaluation.regimes import Period
from experiments.evaluation.split import AGENT, INDEX
from experiments.scenarios.markets import shocked_markets
from experiments.scenarios.shocks import Shock
from risk import metrics
from risk.bootstrap import equity_curve
from risk.guard import GuardState

RUN_IN_SESSIONS = 42  # before a crisis or a shock, so that it meets a book that is invested
RECOVERY_SESSIONS = 252  # that are looked through for the day on which the loss is made good


@dataclass(frozen=True)
class OverlayActivity:
    """What the risk module did while it lasted."""

    restrained: float  # share of the days on which it was not ACTIVE
    halted: bool
    rule: str  # that took the most; "" for none
    clipped: float  # of what was wanted, dollars over equity, by all rules


@dataclass(frozen=True)
class Outcome:
    """One book in one crisis, from the last close before it."""

    total_return: float
    max_drawdown: float
    worst_day: float  # return
    recovered: int | None  # sessions until the loss was made good; 0: there was none; None: not yet
    ruined: bool
    overlay: OverlayActivity | None  # of the managed book


@dataclass(frozen=True)
class ScenarioPath:
    """All books through one crisis, or through one shock at one date."""

    dates: DateArray  # (n,) the close before, and every one until the end
    curves: Mapping[str, FloatArray]  # book -> (n,) equity over that at the close before
    outcomes: Mapping[str, Outcome]


def replay_crisis(
    setup: MarketSetup, policy: Policy, beside: Sequence[str], crisis: Period
) -> ScenarioPath:
    """The run's own market through a crisis that it covers."""
    dates = setup.market.history.dates
    begin = int(np.searchsorted(dates, crisis.first))  # the first session of the crisis
    end = int(np.searchsorted(dates, crisis.last, side="right")) - 1
    start = max(setup.market.first_usable, begin - 1 - RUN_IN_SESSIONS)
    window = Window(start, min(len(dates), end + 1 + RECOVERY_SESSIONS))
    books = _run(setup, setup.market, window, policy, beside)
    return _scenario_paths(books, begin - 1 - start, [end - start])[0]


def replay_shocks(
    setup: MarketSetup,
    policy: Policy,
    beside: Sequence[str],
    shocks: Sequence[Shock],
    at: int,
) -> dict[str, ScenarioPath]:
    """The run's market with each shock, one by one, at session `at` of its history."""
    start = max(setup.market.first_usable, at - 1 - RUN_IN_SESSIONS)
    longest = max(shock.sessions for shock in shocks)
    stop = min(setup.market.history.num_sessions, at + max(longest, RECOVERY_SESSIONS))
    by_shock: dict[str, ScenarioPath] = {}
    for shocked in shocked_markets(setup, shocks, at, Window(start, stop)):
        books = _run(setup, shocked.market, shocked.window, policy, beside)
        before = shocked.at - 1 - shocked.window.start
        ends = [before + shock.sessions for shock in shocked.shocks]
        scenario_paths = _scenario_paths(books, before, ends)
        by_shock |= {shock.name: p for shock, p in zip(shocked.shocks, scenario_paths, strict=True)}
    return {shock.name: by_shock[shock.name] for shock in shocks}


@dataclass(frozen=True)
class _Books:
    """Every book of P paths over one window."""

    dates: DateArray  # (n,)
    equity: Mapping[str, FloatArray]  # (P, n)
    backtests: Mapping[str, Backtest]  # of those that trade


def _run(
    setup: MarketSetup,
    market: BookMarket,
    window: Window,
    policy: Policy,
    beside: Sequence[str],
) -> _Books:
    env, risk = setup.settings.env, setup.settings.risk
    others: dict[str, Trader] = {}
    if setup.trades_options:  # of a panel the index is the equal mix, and cash is cash
        priced: Any = market
        options: Any = env
        train = setup.training_window if market is setup.market else None
        known = build_baselines(priced, options, train)
        others = pick(beside, {b.name: b.policy for b in known})
    backtests = run_beside(policy, others, market, env, window, risk)
    initial = env.initial_equity_usd
    free = market.cash_return[window.start : window.stop - 1]
    index = index_equity(market, window, initial)
    equity = {name: book.equity for name, book in backtests.items()}
    shown = [name for name in (AGENT, MANAGED) if name in equity]
    ordered = {name: equity.pop(name) for name in shown}
    cash = np.broadcast_to(initial * equity_curve(free), index.shape)
    dates = market.history.dates[window.start : window.stop]
    return _Books(dates, {**ordered, INDEX: index, **equity, CASH: cash}, backtests)


def _scenario_paths(books: _Books, before: int, ends: Sequence[int]) -> list[ScenarioPath]:
    """A scenario path for each price path, from place `before` of the window to its own end."""
    last = len(books.dates) - 1
    paths = []
    for path, its_end in enumerate(ends):
        end = min(its_end, last)
        outcomes = {
            name: _outcome(curve[path], before, end, books.backtests.get(name), path)
            for name, curve in books.equity.items()
        }
        curves = {
            name: curve[path, before : end + 1] / curve[path, before]
            for name, curve in books.equity.items()
        }
        paths.append(ScenarioPath(books.dates[before : end + 1], curves, outcomes))
    return paths


def _outcome(
    curve: FloatArray, before: int, end: int, backtest: Backtest | None, path: int
) -> Outcome:
    inside = curve[before : end + 1]
    # `alive` is before each session's trade: the state at the last close of all is in `ruined`.
    stands = backtest is None or bool(
        np.append(backtest.alive[path], not backtest.ruined[path])[end]
    )
    return Outcome(
        total_return=float(inside[-1] / inside[0] - 1.0),
        max_drawdown=float(metrics.max_drawdown(inside)),
        worst_day=float(metrics.simple_returns(inside).min()),
        recovered=sessions_to_recover(curve[before:], end - before),
        ruined=not stands,
        overlay=None
        if backtest is None or not backtest.rules
        else _activity(backtest, path, before, end),
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


def _activity(backtest: Backtest, path: int, before: int, end: int) -> OverlayActivity:
    inside = slice(before, end)
    equity = backtest.equity[path, inside]
    clipped = {rule: float((x[path, inside] / equity).sum()) for rule, x in backtest.rules.items()}
    most = max(clipped, key=lambda rule: clipped[rule])
    guard = backtest.guard[path, inside]
    return OverlayActivity(
        restrained=float((guard != GuardState.ACTIVE).mean()),
        halted=bool((guard == GuardState.HALTED).any()),
        rule=most if clipped[most] > 0.0 else "",
        clipped=sum(clipped.values()),
    )
