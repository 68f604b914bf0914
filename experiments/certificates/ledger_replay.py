"""Ledger replay: a slow ledger in plain Python comes to the same equity from the trades alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
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
from envs.core.market import BookMarket, BookOptions
from envs.option_portfolio.market import OptionPortfolioSettings, build_option_market
from envs.options.surface import VixSurface
from experiments.backtests.backtest import run_backtest
from experiments.backtests.plain_ledger import Replay, replay
from experiments.backtests.trade_log import build_trade_log, read_trade_log, write_trade_log
from experiments.certificates.certificate import Certificate, Certification
from experiments.certificates.setups import (
    allocation,
    index_history,
    panel_histories,
    untrained_policy,
    with_own_columns,
)
from experiments.environments.setup import open_books
from experiments.evaluation.open_run import TestedRun
from experiments.evaluation.results import METRICS
from risk.overlay import RiskSettings

MAX_GAP = 1e-9  # of equity, and of the index for a quote
SPLITS = ("validation", "test")


def ledger_replay(wanted: Certification) -> list[Certificate]:
    """One certificate for each environment; for the run, and for the journals that it left."""
    made = [
        certificate_of("ledger.options", replayed(option_books(wanted))),
        certificate_of("ledger.allocation", replayed(allocation_books(wanted))),
    ]
    if wanted.tested is not None:
        made.append(certificate_of("ledger.run", replayed(books_of_the_run(wanted.tested))))
        left = dict(left_behind(wanted.tested.run))
        if left:
            made.append(certificate_of("ledger.files", left))
    return made


def certificate_of(name: str, found: dict[str, Replay]) -> Certificate:
    """PASS where every equity agrees, every quote is of its contract, and nothing was odd."""
    worst = max(found, key=lambda book: found[book].largest_gap)
    misquoted = max(found, key=lambda book: found[book].dearest_misquote)
    gap, misquote = found[worst].largest_gap, found[misquoted].dearest_misquote
    mischarged = max(found, key=lambda book: found[book].dearest_mischarge)
    mischarge = found[mischarged].dearest_mischarge
    index_gap = max(one.benchmark_gap for one in found.values())
    complaints = [f"{book}: {text}" for book, one in found.items() for text in one.complaints]
    closes = sum(len(one.equity) for one in found.values())
    what = (
        f"largest relative gap of {closes:,} closes of {len(found)} books ({MAX_GAP:g} allowed), "
        f"in {worst}"
    )
    if misquote > 0.0:
        what += f"; options off their model price by {misquote:.1e} of the index at most"
    if misquote > MAX_GAP:
        what += f" ({found[misquoted].misquoted} in {misquoted})"
    if mischarge > MAX_GAP:
        what += f"; a trade off the fee schedule by {mischarge:.1e} of the initial cash "
        what += f"({found[mischarged].mischarged} in {mischarged})"
    if index_gap > MAX_GAP:
        what += f"; buy-and-hold of the index off by {index_gap:.1e}"
    if complaints:
        what += f"; {complaints[0]}"
    passed = max(gap, misquote, mischarge, index_gap) <= MAX_GAP and not complaints
    details: dict[str, Any] = {
        "books": {book: _numbers(one) for book, one in found.items()},
        "complaints": complaints[:20],
    }
    return Certificate(name, passed, gap, what, details)


def _numbers(one: Replay) -> dict[str, Any]:
    return {
        "closes": len(one.equity),
        "largest_gap": one.largest_gap if np.isfinite(one.largest_gap) else None,
        "largest_misquote": one.dearest_misquote,
        "largest_mischarge": one.dearest_mischarge,
        "largest_benchmark_gap": one.benchmark_gap,
    }


@dataclass(frozen=True)
class Book:
    """A policy with a market to trade in."""

    name: str
    policy: Policy
    market: BookMarket
    options: BookOptions
    window: Window

    def managed(self, risk: RiskSettings) -> Book:
        """The same under the risk module."""
        policy = RiskManagedPolicy(self.policy, risk)
        return replace(self, name=f"{self.name}, risk module", policy=policy)


def option_books(wanted: Certification) -> Iterator[Book]:
    """Option books that trade at random, on both kinds of roll, without and with the module."""
    rng = np.random.default_rng(wanted.seed)
    history = with_own_columns(index_history("heston", wanted.profile.sessions), rng)
    for roll in ("expiry", "daily"):
        # The threshold is low enough that some orders pay for their impact.
        costs = {"kind": "realistic", "impact_threshold_units": 10.0}
        options: OptionPortfolioSettings = build_settings(
            OptionPortfolioSettings, {"chain": {"roll": roll}, "costs": costs}, "env"
        )
        market = build_option_market(history, VixSurface(), options)
        window = Window(market.first_usable, history.num_sessions)
        policy = RandomPolicy(market.tape.num_slots, wanted.seed, scale=0.15)
        book = Book(roll, policy, market, options, window)
        yield book
        yield book.managed(RiskSettings())


def allocation_books(wanted: Certification) -> Iterator[Book]:
    """Portfolios that a network without any sense allocates."""
    profile = wanted.profile
    for name, history in panel_histories(profile.sessions, everything=False):
        case = allocation(managed=False)
        market = case.build(history)
        window = Window(market.first_usable, history.num_sessions)
        policy = untrained_policy(open_books(case, market, window, 1), wanted.seed)
        book = Book(name, policy, market, case.env, window)
        yield book
        yield book.managed(replace(case.risk, enabled=True))


def books_of_the_run(tested: TestedRun) -> Iterator[Book]:
    """The run's policy over the years that it is judged on."""
    setup, risk = tested.setup, tested.setup.settings.risk
    for split in SPLITS if setup.splits else ("all",):
        window = setup.window(split)
        book = Book(split, tested.policy, setup.market, setup.settings.env, window)
        yield book
        if risk.enabled:
            yield book.managed(risk)


def replayed(books: Iterable[Book]) -> dict[str, Replay]:
    """Every book taken through its window, written down, read again and replayed."""
    found: dict[str, Replay] = {}
    with TemporaryDirectory() as folder:
        file = Path(folder) / "trades.parquet"
        for one in books:
            backtest = run_backtest(one.policy, one.market, one.options, one.window)
            for book in range(len(backtest.equity)):
                write_trade_log(build_trade_log(backtest, one.market, one.options, book), file)
                path = f", path {book}" if len(backtest.equity) > 1 else ""
                cash = one.options.initial_equity_usd
                found[one.name + path] = replay(read_trade_log(file), cash)
    return found


def left_behind(run: Path) -> Iterator[tuple[str, Replay]]:
    """The journals beside the daily tables of the run's evaluations, each against its table."""
    for file in sorted(run.glob("evaluation*/trades_*.parquet")):
        written = read_json(file.parent / METRICS)["splits"]
        split = file.stem.split("_")[1]
        daily = pd.read_parquet(file.with_name(file.name.replace("trades_", "daily_", 1)))
        days = pd.DatetimeIndex(daily.index).date
        claimed = dict(zip(days, daily["equity"].tolist(), strict=True))
        found = replay(read_trade_log(file), float(written[split]["initial_equity_usd"]))
        first, *rest = found.equity
        found.equity = [first, *((day, claimed.get(day, math.nan), own) for day, _, own in rest)]
        yield f"{file.parent.name}/{file.name}", found
