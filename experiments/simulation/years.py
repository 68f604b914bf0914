"""Simulated years: paths drawn, priced and traded in chunks, several chunks at a time."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from agents.baselines.options import build_baselines
from agents.policy import Trader
from agents.ppo.parallel import torch_threads
from conf.types import BoolArray, FloatArray
from envs.core.batch import Window
from envs.market.exchange_calendar import trading_days
from envs.market.indicators import WARMUP_SESSIONS
from envs.market.models.gbm import Scenario
from envs.market.models.index_models import simulate_index
from envs.option_portfolio.market import OptionMarketSettings, build_option_market
from experiments.backtests.backtest import Backtest
from experiments.evaluation.open_run import CASH, pick, run_beside
from experiments.evaluation.split import INDEX
from experiments.runs.parallel import Workers, run_tasks
from experiments.simulation.models import FittedModel
from risk import metrics
from risk.bootstrap import equity_curve
from risk.guard import GuardState

YEAR_SESSIONS = 252
# Paths that are priced and traded together: enough for the network, few enough for memory. The
# paths depend on it, so it is no setting.
CHUNK = 500
_START = dt.date(2001, 1, 2)
_INITIAL_PRICE = 1000.0  # index points; only ratios to it matter


@dataclass(frozen=True)
class Years:
    """One book's P simulated years."""

    sharpe: FloatArray  # (P,)
    total_return: FloatArray  # (P,) of the year
    max_drawdown: FloatArray  # (P,)
    ruined: BoolArray  # (P,)
    halted: BoolArray  # (P,) the risk module had closed it by the end


@dataclass(frozen=True)
class SimulatedYears:
    """The years of every book under one model."""

    books: dict[str, Years]
    seconds: float  # of work, whichever processes did it


def simulate_years(
    models: Sequence[FittedModel],
    policy: Trader,
    baselines: Sequence[str],
    settings: OptionMarketSettings,
    paths: int,
    seed: int,
    workers: Workers,
    on_done: Callable[[], object] = lambda: None,
) -> list[SimulatedYears]:
    """A year of every book on each of `paths` paths of each model.

    The policy trades raw and, where the risk module is on, under it; the named `baselines`, the
    index and cash are without it. The same seed gives the same years however many chunks are worked
    on at once, and wherever. `on_done` is called after each of them.
    """
    sizes = [min(CHUNK, paths - first) for first in range(0, paths, CHUNK)]
    chunks = [
        (model, size, own)
        for model in models
        # A seed for each chunk: its paths do not depend on who draws them.
        for size, own in zip(sizes, _seeds(model, seed, len(sizes)), strict=True)
    ]

    def simulate(
        chunk: tuple[FittedModel, int, np.random.SeedSequence],
    ) -> tuple[dict[str, Years], float]:
        model, size, own = chunk
        begin = time.perf_counter()
        rng = np.random.default_rng(own)
        years = _simulate_chunk(model, policy, baselines, settings, size, rng)
        return years, time.perf_counter() - begin

    # A core for each chunk wastes less than two cores for each matrix product.
    with torch_threads(1):
        done = iter(run_tasks(simulate, chunks, workers, on_done))
    return [_together([next(done) for _ in sizes]) for _ in models]


def _together(chunks: Sequence[tuple[dict[str, Years], float]]) -> SimulatedYears:
    books = [years for years, _ in chunks]
    joined = {name: _joined([years[name] for years in books]) for name in books[0]}
    return SimulatedYears(joined, sum(seconds for _, seconds in chunks))


def _seeds(model: FittedModel, seed: int, count: int) -> list[np.random.SeedSequence]:
    return np.random.SeedSequence((seed, sum(model.name.encode()))).spawn(count)


def _simulate_chunk(
    model: FittedModel,
    policy: Trader,
    baselines: Sequence[str],
    settings: OptionMarketSettings,
    paths: int,
    rng: np.random.Generator,
) -> dict[str, Years]:
    scenario = Scenario(
        # The exchange's days under every model: 252 of them are a year by the calendar, too.
        dates=trading_days(_START, WARMUP_SESSIONS + YEAR_SESSIONS),
        num_paths=paths,
        initial_price=_INITIAL_PRICE,
        drift=model.drift,
        rate=model.rate,
        dividend_yield=model.dividend_yield,
        closed_day_weight=model.closed_day_weight,
    )
    history = simulate_index(model.model, scenario, rng)
    market = build_option_market(history, settings.surface, settings.env)
    window = Window(market.first_usable, history.num_sessions)
    # Nothing can be fitted to a simulated market without looking ahead in it.
    known = {b.name: b.policy for b in build_baselines(market, settings.env, None)}
    books = pick(baselines, known)
    backtests = run_beside(policy, books, market, settings.env, window, settings.risk)
    free = market.cash_return[window.start : window.stop - 1]
    index = equity_curve(market.index_returns(window))
    cash = np.broadcast_to(equity_curve(free), index.shape)
    return {
        **{name: _years_of(backtest) for name, backtest in backtests.items()},
        INDEX: _unmanaged(index, free),
        CASH: _unmanaged(cash, free),
    }


def _years_of(backtest: Backtest) -> Years:
    years = _unmanaged(backtest.equity, backtest.risk_free)
    halted = (backtest.guard[:, -1] == GuardState.HALTED) & ~backtest.ruined
    return replace(years, ruined=backtest.ruined, halted=halted)


def _unmanaged(equity: FloatArray, risk_free: FloatArray) -> Years:
    """The years of a book that can be neither ruined nor halted; equity (P, T + 1)."""
    never = np.zeros(len(equity), np.bool_)
    return Years(
        metrics.sharpe_ratio(metrics.simple_returns(equity), risk_free),
        equity[:, -1] / equity[:, 0] - 1.0,
        metrics.max_drawdown(equity),
        never,
        never,
    )


def _joined(parts: Sequence[Years]) -> Years:
    return Years(
        **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Years)}
    )
