"""Ledger replay: a slow ledger in plain Python comes to the same equity from the trades alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from agents.baselines.reference import RandomPolicy
from agents.persistence.strict_json import read_json
from agents.policy import Policy, RiskManagedPolicy
from conf.settings import build_settings
from envs.core.batch import Window
from envs.core.market import BookMarket, MarketSettings
from envs.option_portfolio.market import OptionMarketSettings, OptionPortfolioSettings
from experiments.backtests.backtest import run_backtest
from experiments.backtests.plain_ledger import LargestGap, Replay, replay
from experiments.backtests.trade_log import build_trade_log, read_trade_log, write_trade_log
from experiments.certificates.certificate import Certificate, Certification
from experiments.certificates.small_environments import (
    allocation_settings,
    few_paths,
    hedging_settings,
    index_history,
    panel_histories,
    untrained_policy,
    whole_window,
    with_extra_columns,
)
from experiments.evaluation.open_run import TestedRun
from experiments.evaluation.results import METRICS

MAX_GAP = 1e-9  # of equity, and of the index for a quote
SPLITS = ("validation", "test")


def ledger_replay(certification: Certification) -> list[Certificate]:
    """One certificate for each environment; for the run, and for the trade logs that it left."""
    tested = certification.tested
    replays = {
        "ledger.options": dict(option_replays(certification)),
        "ledger.allocation": dict(allocation_replays(certification)),
        "ledger.hedging": dict(hedging_replays(certification)),
    }
    if tested is not None:
        replays["ledger.run"] = dict(run_replays(tested))
        saved = dict(saved_log_replays(tested.run))
        if saved:
            replays["ledger.files"] = saved
    return [certificate_of(name, books) for name, books in replays.items()]


def certificate_of(name: str, replays: Mapping[str, Replay]) -> Certificate:
    """PASS where equity, index, quotes and costs agree, and no line of a log contradicts another.

    `replays` is by the name of the book.
    """

    def largest(gaps: Mapping[str, LargestGap]) -> tuple[float, str]:
        book = max(gaps, key=lambda book: gaps[book].gap)
        return gaps[book].gap, f"{gaps[book].where} in {book}"

    worst = max(replays, key=lambda book: replays[book].equity_gap)
    gap = replays[worst].equity_gap
    quote_gap, quote = largest({book: each.quotes for book, each in replays.items()})
    cost_gap, trade = largest({book: each.costs for book, each in replays.items()})
    index_gap = max(each.benchmark_gap for each in replays.values())
    complaints = [f"{book}: {text}" for book, each in replays.items() for text in each.complaints]
    closes = sum(len(each.equity) for each in replays.values())
    what = (
        f"largest relative gap of {closes:,} closes of {len(replays)} books "
        f"({MAX_GAP:g} allowed), in {worst}"
    )
    if quote_gap > 0.0:
        what += f"; options off their model price by {quote_gap:.1e} of the index at most"
    if quote_gap > MAX_GAP:
        what += f" ({quote})"
    if cost_gap > MAX_GAP:
        what += f"; a trade off the fee schedule by {cost_gap:.1e} of the initial cash ({trade})"
    if index_gap > MAX_GAP:
        what += f"; buy-and-hold of the index off by {index_gap:.1e}"
    if complaints:
        what += f"; {complaints[0]}"
    passed = max(gap, quote_gap, cost_gap, index_gap) <= MAX_GAP and not complaints
    details: dict[str, Any] = {
        "books": {book: _numbers(each) for book, each in replays.items()},
        "complaints": complaints[:20],
    }
    return Certificate(name, passed, gap, what, details)


def _numbers(replayed: Replay) -> dict[str, Any]:
    gaps = {
        "largest_gap": replayed.equity_gap,
        "largest_misquote": replayed.quotes.gap,
        "largest_mischarge": replayed.costs.gap,
        "largest_benchmark_gap": replayed.benchmark_gap,
    }
    finite = {name: gap if math.isfinite(gap) else None for name, gap in gaps.items()}
    return {"closes": len(replayed.equity), **finite}


def replays_of(
    name: str, policy: Policy, settings: MarketSettings, market: BookMarket, window: Window
) -> Iterator[tuple[str, Replay]]:
    """A policy taken through a window without and with the risk module, each book replayed.

    Its trade log is written to a file and read again first.
    """
    env, policies = settings.env, {name: policy}
    if settings.risk.enabled:
        policies[f"{name}, risk module"] = RiskManagedPolicy(policy, settings.risk)
    for title, each in policies.items():
        backtest = run_backtest(each, market, env, window)
        for book in range(len(backtest.equity)):
            with TemporaryDirectory() as folder:
                file = Path(folder) / "trades.parquet"
                write_trade_log(build_trade_log(backtest, market, env, book), file)
                replayed = replay(read_trade_log(file), env.initial_equity_usd)
            yield f"{title}, path {book}" if len(backtest.equity) > 1 else title, replayed


def option_replays(certification: Certification) -> Iterator[tuple[str, Replay]]:
    """Option books that trade at random, on both kinds of roll."""
    seed = certification.seed
    history = index_history("heston", certification.profile.sessions)
    history = with_extra_columns(history, np.random.default_rng(seed))
    for roll in ("expiry", "daily"):
        # The threshold is low enough that orders pay for their impact.
        costs = {"kind": "realistic", "impact_threshold_units": 10.0}
        values = {"chain": {"roll": roll}, "costs": costs}
        settings = OptionMarketSettings(env=build_settings(OptionPortfolioSettings, values, "env"))
        market = settings.build(history)
        policy = RandomPolicy(market.tape.num_slots, seed, scale=0.15)
        yield from replays_of(roll, policy, settings, market, whole_window(market))


def allocation_replays(certification: Certification) -> Iterator[tuple[str, Replay]]:
    """Portfolios that an untrained network allocates."""
    settings = allocation_settings(managed=True)
    for name, history in panel_histories(certification.profile.sessions, everything=False):
        market = settings.build(history)
        policy = untrained_policy(settings, market, certification.seed)
        yield from replays_of(name, policy, settings, market, whole_window(market))


def hedging_replays(certification: Certification) -> Iterator[tuple[str, Replay]]:
    """Hedges that an untrained network makes, of several options on prices that pay dividends."""
    history, settings = index_history("heston", certification.profile.sessions), hedging_settings()
    history = with_extra_columns(history, np.random.default_rng(certification.seed))
    for every in (1, 5):
        weekly: Any = replace(settings, env=replace(settings.env, rebalance_every=every))
        market = weekly.build(history)
        policy = untrained_policy(weekly, market, certification.seed)
        yield from replays_of(f"every {every}", policy, weekly, market, whole_window(market))


def run_replays(tested: TestedRun) -> Iterator[tuple[str, Replay]]:
    """The run's policy over the years that it is judged on."""
    setup, policy, market = tested.setup, tested.policy, tested.setup.market
    history = few_paths(setup.history)
    if history is not setup.history:
        market = setup.settings.build(history)
    for split in SPLITS if setup.splits else ("all",):
        yield from replays_of(split, policy, setup.settings, market, setup.window(split))


def saved_log_replays(run: Path) -> Iterator[tuple[str, Replay]]:
    """The trade logs beside the daily tables of the run's evaluations, each against its table."""
    for file in sorted(run.glob("evaluation*/trades_*.parquet")):
        split = file.stem.split("_")[1]
        initial = read_json(file.parent / METRICS)["splits"][split]["initial_equity_usd"]
        daily = pd.read_parquet(file.with_name(file.name.replace("trades_", "daily_", 1)))
        days = pd.DatetimeIndex(daily.index).date
        claimed = dict(zip(days, daily["equity"].tolist(), strict=True))
        replayed = replay(read_trade_log(file), float(initial))
        first, *rest = replayed.equity
        replayed.equity = [first, *((day, claimed.get(day, math.nan), own) for day, _, own in rest)]
        yield f"{file.parent.name}/{file.name}", replayed
