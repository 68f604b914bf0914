"""Books taken through a crisis or a shock, and the outcome of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.baselines.options import build_baselines
from agents.policy import Trader
from conf.types import DateArray, FloatArray
from envs.core.batch import Window
from envs.core.market import BookMarket
from experiments.backtests.backtest import Backtest, index_equity
from experiments.environments.setup import MarketSetup
from experiments.evaluation.open_run import CASH, MANAGED, pick, run_beside
from experiments.evaluation.regimes import Period
from experiments.evaluation.split import AGENT, INDEX
from experiments.scenarios.shocks import Shock, shocked_markets
from risk import metrics
from risk.bootstrap import equity_curve
from risk.guard import GuardState

RUN_IN_SESSIONS = 42  # before a crisis or a shock, so that it meets a book that is invested
RECOVERY_SESSIONS = 252  # within which a recovery from the loss is looked for


@dataclass(frozen=True)
class OverlayActivity:
    """What the risk module did during a crisis or a shock."""

    restrained_share: float  # of the days: it was not ACTIVE
    halted: bool
    rule: str | None  # that took the most away
    clipped_share: float  # dollars of the request over equity, taken away by all rules


@dataclass(frozen=True)
class ScenarioOutcome:
    """One book in one crisis or shock, from the last close before it."""

    total_return: float
    max_drawdown: float
    worst_day: float  # return
    recovered: int | None  # sessions until the loss was recovered; 0: no loss; None: not yet
    ruined: bool
    overlay: OverlayActivity | None  # of the managed book


@dataclass(frozen=True)
class ScenarioPath:
    """All books through one crisis, or through one shock at one date."""

    dates: DateArray  # (n,) the close before, and every one until the end
    curves: Mapping[str, FloatArray]  # book -> (n,) equity over that at the close before
    outcomes: Mapping[str, ScenarioOutcome]


def replay_crisis(
    setup: MarketSetup, policy: Trader, benchmarks: Sequence[str], crisis: Period
) -> ScenarioPath:
    """The run's own market through a crisis that it covers."""
    dates = setup.market.history.dates
    begin = int(np.searchsorted(dates, crisis.first))  # the first session of the crisis
    end = int(np.searchsorted(dates, crisis.last, side="right")) - 1
    start = max(setup.market.first_usable, begin - 1 - RUN_IN_SESSIONS)
    window = Window(start, min(len(dates), end + 1 + RECOVERY_SESSIONS))
    places = begin - 1 - start, [end - start]
    return _replay(setup, setup.market, window, policy, benchmarks, *places)[0]


def replay_shocks(
    setup: MarketSetup,
    policy: Trader,
    benchmarks: Sequence[str],
    shocks: Sequence[Shock],
    at: int,
) -> dict[str, ScenarioPath]:
    """The run's market with each shock, one by one, at session `at` of its history."""
    start = max(setup.market.first_usable, at - 1 - RUN_IN_SESSIONS)
    longest = max(shock.sessions for shock in shocks)
    stop = min(setup.market.history.num_sessions, at + max(longest, RECOVERY_SESSIONS))
    by_shock: dict[str, ScenarioPath] = {}
    for shocked in shocked_markets(setup, shocks, at, Window(start, stop)):
        before = shocked.at - 1 - shocked.window.start
        ends = [before + shock.sessions for shock in shocked.shocks]
        paths = _replay(setup, shocked.market, shocked.window, policy, benchmarks, before, ends)
        by_shock |= {shock.name: path for shock, path in zip(shocked.shocks, paths, strict=True)}
    return {shock.name: by_shock[shock.name] for shock in shocks}


def _replay(
    setup: MarketSetup,
    market: BookMarket,
    window: Window,
    policy: Trader,
    benchmarks: Sequence[str],
    before: int,
    ends: Sequence[int],
) -> list[ScenarioPath]:
    """A scenario path for each price path, from place `before` of the window to its own end."""
    env: Any = setup.settings.env
    baselines: dict[str, Trader] = {}
    if setup.trades_options:  # of a panel the index is the equal mix, and cash is cash
        priced: Any = market
        train = setup.training_window if market is setup.market else None
        built = build_baselines(priced, env, train)
        baselines = pick(benchmarks, {baseline.name: baseline.policy for baseline in built})
    backtests = run_beside(policy, baselines, market, env, window, setup.settings.risk)
    index = index_equity(market, window, env.initial_equity_usd)
    cash = equity_curve(market.cash_return[window.start : window.stop - 1])
    equity = {name: backtest.equity for name, backtest in backtests.items()}
    agents = {name: equity.pop(name) for name in (AGENT, MANAGED) if name in equity}
    cash_equity = np.broadcast_to(env.initial_equity_usd * cash, index.shape)
    books = {**agents, INDEX: index, **equity, CASH: cash_equity}
    dates = market.history.dates[window.start : window.stop]
    paths = []
    for path, its_end in enumerate(ends):
        end = min(its_end, len(dates) - 1)
        inside = slice(before, end + 1)
        curves = {name: curve[path, inside] / curve[path, before] for name, curve in books.items()}
        outcomes = {
            name: _outcome(curve[path], before, end, backtests.get(name), path)
            for name, curve in books.items()
        }
        paths.append(ScenarioPath(dates[inside], curves, outcomes))
    return paths


def _outcome(
    curve: FloatArray, before: int, end: int, backtest: Backtest | None, path: int
) -> ScenarioOutcome:
    inside = curve[before : end + 1]
    ruined, overlay = False, None
    if backtest is not None:
        # `alive` is before each session's trade: the state at the last close of all is in `ruined`.
        ruined = not np.append(backtest.alive[path], not backtest.ruined[path])[end]
        overlay = _activity(backtest, path, slice(before, end)) if backtest.rules else None
    return ScenarioOutcome(
        total_return=float(inside[-1] / inside[0] - 1.0),
        max_drawdown=float(metrics.max_drawdown(inside)),
        worst_day=float(metrics.simple_returns(inside).min()),
        recovered=sessions_to_recover(curve[before:], end - before),
        ruined=ruined,
        overlay=overlay,
    )


def sessions_to_recover(curve: FloatArray, end: int) -> int | None:
    """Sessions from the start until the loss by place `end` is recovered.

    Counted from the lowest point up to `end`: the first place behind it at which the curve is back
    where it started. 0 where nothing was lost, None where it is not back by the end of the curve.
    """
    trough = int(np.argmin(curve[: end + 1]))
    if curve[trough] >= curve[0]:
        return 0
    back = np.flatnonzero(curve[trough:] >= curve[0])
    return int(trough + back[0]) if len(back) else None


def _activity(backtest: Backtest, path: int, inside: slice) -> OverlayActivity:
    equity, guard = backtest.equity[path, inside], backtest.guard[path, inside]
    clipped = {rule: float((x[path, inside] / equity).sum()) for rule, x in backtest.rules.items()}
    largest = max(clipped, key=lambda rule: clipped[rule])
    return OverlayActivity(
        restrained_share=float((guard != GuardState.ACTIVE).mean()),
        halted=bool((guard == GuardState.HALTED).any()),
        rule=largest if clipped[largest] > 0.0 else None,
        clipped_share=sum(clipped.values()),
    )
