"""Benchmark of the option market: pricing, the tape, and a policy over a thousand years."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from agents.factory import RecurrentPPOSettings, build_agent
from agents.side_by_side import torch_threads
from envs.adapters import KernelVecEnv
from envs.batch import Window
from envs.market.heston import HestonModel
from envs.market.indicators import WARMUP_SESSIONS
from envs.market.sources import SyntheticData, load_market
from envs.option_market import build_option_market
from envs.option_portfolio import OptionPortfolioKernel
from envs.options.black_scholes import price_and_greeks
from envs.options.tape import build_tape
from experiments.backtest import run_backtest
from experiments.benchmark_rows import Row, at_least, at_most
from experiments.benchmark_settings import Bench
from experiments.benchmark_timing import in_turn, seconds_of
from experiments.session import option_session
from experiments.settings import OptionMarketSettings

CONTRACTS_A_SECOND = 5e6
TAPE_SECONDS = 2.0
SIMULATION_SECONDS = 15.0
SESSIONS_A_YEAR = 252


def pricing_rows(bench: Bench) -> list[Row]:
    """Contracts a second, priced with all Greeks."""
    count = bench.asked.contracts
    rng = np.random.default_rng(0)
    strike, tau = rng.uniform(70.0, 140.0, count), rng.uniform(0.01, 1.0, count)
    vol, is_call = rng.uniform(0.05, 0.8, count), rng.random(count) < 0.5

    def call() -> float:
        return seconds_of(lambda: price_and_greeks(100.0, strike, tau, vol, 0.025, 0.015, is_call))

    taken = in_turn({"pricing": call}, bench.asked.repeats)["pricing"]
    what = "pricing with all Greeks, one core"
    speed = count / min(taken)
    return [Row("pricing.greeks", what, speed, "contracts/s", at_least(CONTRACTS_A_SECOND))]


def tape_rows(bench: Bench) -> list[Row]:
    """The tape of so many years of one history, and everything that the environment reads."""
    years, wanted = bench.asked.tape_years, option_session(bench.session).settings
    history = load_market(
        SyntheticData(model="heston", sessions=years * SESSIONS_A_YEAR, heston=HestonModel()),
        embargo_days=wanted.env.chain.longest_life_days,
    ).history

    def tape() -> float:
        return seconds_of(lambda: build_tape(history, wanted.surface, wanted.env.chain))

    def market() -> float:
        return seconds_of(lambda: build_option_market(history, wanted.surface, wanted.env))

    taken = in_turn({"tape": tape, "market": market}, bench.asked.repeats)
    tape_seconds, market_seconds = min(taken["tape"]), min(taken["market"])
    what = f"tape for {years} years of history"
    return [
        Row("tape.build", what, tape_seconds, "s", at_most(TAPE_SECONDS)),
        Row("tape.market", f"{what}, with observations", market_seconds, "s"),
    ]


@dataclass(frozen=True)
class Simulation:
    """Where the time of a simulated evaluation went, in seconds, and how much memory it took."""

    paths: float
    market: float
    backtest: float
    peak_mb: float  # of the whole process, its imports among it
    imports_mb: float  # of the process before it began

    @property
    def total(self) -> float:
        """Paths, pricing and policy together."""
        return self.paths + self.market + self.backtest


def monte_carlo_rows(bench: Bench) -> list[Row]:
    """A policy of the agent's size over simulated years, each repeat in a process of its own."""
    asked, wanted = bench.asked, option_session(bench.session).settings

    def run() -> Simulation:
        # A fresh process: its memory is this row's alone.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(
                simulate_years, wanted, bench.agent, asked.paths, asked.device, asked.threads
            ).result()

    runs = [run() for _ in range(asked.repeats)]
    best = min(runs, key=lambda one: one.total)
    what = f"policy over {asked.paths:,} simulated years"
    parts = {name: getattr(best, name) for name in ("paths", "market", "backtest")}
    details = {**parts, "each_repeat": [one.total for one in runs]}
    peak = max(one.peak_mb for one in runs)
    return [
        Row(
            "monte_carlo.seconds",
            f"{what}, with paths and pricing",
            best.total,
            "s",
            at_most(SIMULATION_SECONDS),
            details,
        ),
        Row(
            "monte_carlo.memory",
            f"{what}: peak memory",
            peak,
            "MB",
            details={"imports_mb": best.imports_mb},
        ),
    ]


def simulate_years(
    wanted: OptionMarketSettings, agent: RecurrentPPOSettings, paths: int, device: str, threads: int
) -> Simulation:
    """Simulate, price and trade one year on each of P paths with a fresh policy."""
    imports_mb = _peak_mb()
    with torch_threads(threads):
        laps = [time.perf_counter()]
        history = load_market(
            SyntheticData(paths=paths, sessions=WARMUP_SESSIONS + SESSIONS_A_YEAR),
            embargo_days=wanted.env.chain.longest_life_days,
        ).history
        laps.append(time.perf_counter())
        market = build_option_market(history, wanted.surface, wanted.env)
        laps.append(time.perf_counter())
        window = Window(market.first_usable, history.num_sessions)
        kernel = OptionPortfolioKernel(market, wanted.env, window, 1, random_start=False)
        policy = build_agent(agent, KernelVecEnv(kernel), 0, device).policy
        policy.set_training_mode(False)
        begin = time.perf_counter()
        run_backtest(policy, market, wanted.env, window)
        end = time.perf_counter()
    return Simulation(laps[1] - laps[0], laps[2] - laps[1], end - begin, _peak_mb(), imports_mb)


def _peak_mb() -> float:
    """The most memory that this process ever held."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
