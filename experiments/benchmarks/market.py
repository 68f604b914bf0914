"""Benchmark of the option market: pricing, the tape, and a policy over a thousand years."""

from __future__ import annotations

import multiprocessing
import re
import resource
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from agents.factory import RecurrentPPOSettings, build_agent
from envs.core.batch import Window
from envs.market.indicators import WARMUP_SESSIONS
from envs.market.models.heston import HestonModel
from envs.market.sources.index import SyntheticData, load_market
from envs.option_portfolio.env import OptionPortfolioKernel
from envs.option_portfolio.market import build_option_market
from envs.options.black_scholes import price_and_greeks
from envs.options.tape import build_tape
from envs.sb3_vec_env import KernelVecEnv
from experiments.benchmarks.rows import Row, at_least, at_most
from experiments.benchmarks.settings import Bench
from experiments.benchmarks.timing import in_turn, seconds_of
from experiments.runs.market_setup import option_setup
from experiments.runs.settings import OptionMarketSettings
from experiments.simulation.models import FittedModel, fit_laws
from experiments.simulation.years import simulate_years

CONTRACTS_A_SECOND = 5e6
TAPE_SECONDS = 2.0
SIMULATION_SECONDS = 15.0
SESSIONS_A_YEAR = 252


def pricing_rows(bench: Bench) -> list[Row]:
    """Contracts a second, priced with all Greeks."""
    count = bench.request.contracts
    rng = np.random.default_rng(0)
    strike, tau = rng.uniform(70.0, 140.0, count), rng.uniform(0.01, 1.0, count)
    vol, is_call = rng.uniform(0.05, 0.8, count), rng.random(count) < 0.5

    def call() -> float:
        return seconds_of(lambda: price_and_greeks(100.0, strike, tau, vol, 0.025, 0.015, is_call))

    taken = in_turn({"pricing": call}, bench.request.repeats)["pricing"]
    what = "pricing with all Greeks, one core"
    speed = count / min(taken)
    return [Row("pricing.greeks", what, speed, "contracts/s", at_least(CONTRACTS_A_SECOND))]


def tape_rows(bench: Bench) -> list[Row]:
    """The tape of so many years of one history, and everything that the environment reads."""
    years, wanted = bench.request.tape_years, option_setup(bench.setup).settings
    history = load_market(
        SyntheticData(model="heston", sessions=years * SESSIONS_A_YEAR, heston=HestonModel()),
        embargo_days=wanted.env.chain.longest_life_days,
    ).history

    def tape() -> float:
        return seconds_of(lambda: build_tape(history, wanted.surface, wanted.env.chain))

    def market() -> float:
        return seconds_of(lambda: build_option_market(history, wanted.surface, wanted.env))

    taken = in_turn({"tape": tape, "market": market}, bench.request.repeats)
    tape_seconds, market_seconds = min(taken["tape"]), min(taken["market"])
    what = f"tape for {years} years of history"
    return [
        Row("tape.build", what, tape_seconds, "s", at_most(TAPE_SECONDS)),
        Row("tape.market", f"{what}, with observations", market_seconds, "s"),
    ]


@dataclass(frozen=True)
class Simulation:
    """What a simulated evaluation took: seconds, and memory of the whole process."""

    seconds: float
    peak_mb: float  # its imports among it
    imports_mb: float  # before it began


def monte_carlo_rows(bench: Bench) -> list[Row]:
    """A policy of the agent's size over simulated years, each repeat in a process of its own."""
    request, market = bench.request, option_setup(bench.setup)
    (model,) = fit_laws(market.loaded, ("gbm",))

    def run() -> Simulation:
        # A fresh process: its memory is this row's alone.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(
                simulation, model, market.settings, bench.agent, request.paths, request.threads
            ).result()

    runs = [run() for _ in range(request.repeats)]
    what = f"policy over {request.paths:,} simulated years"
    return [
        Row(
            "monte_carlo.seconds",
            f"{what}, with paths and pricing, no risk module and no opponents",
            min(one.seconds for one in runs),
            "s",
            at_most(SIMULATION_SECONDS),
            {"each_repeat": [one.seconds for one in runs]},
        ),
        Row(
            "monte_carlo.memory",
            f"{what}: peak memory",
            max(one.peak_mb for one in runs),
            "MB",
            details={"imports_mb": runs[0].imports_mb},
        ),
    ]


def simulation(
    model: FittedModel,
    wanted: OptionMarketSettings,
    agent: RecurrentPPOSettings,
    paths: int,
    threads: int,
) -> Simulation:
    """Years of `experiments.monte_carlo` for a fresh policy without the risk module."""
    imports_mb = _peak_mb()
    raw = replace(wanted, risk=replace(wanted.risk, enabled=False))
    history = load_market(
        SyntheticData(sessions=2 * WARMUP_SESSIONS),
        embargo_days=wanted.env.chain.longest_life_days,
    ).history
    market = build_option_market(history, wanted.surface, wanted.env)
    window = Window(market.first_usable, history.num_sessions)
    kernel = OptionPortfolioKernel(market, wanted.env, window, 1, random_start=False)
    policy = build_agent(agent, KernelVecEnv(kernel), 0, "cpu").policy
    policy.set_training_mode(False)
    taken = seconds_of(lambda: simulate_years(model, policy, (), raw, paths, 0, threads))
    return Simulation(taken, _peak_mb(), imports_mb)


def _peak_mb() -> float:
    """The most memory that this process ever held."""
    try:
        # Linux: its ru_maxrss is at least what the parent had when it started this process.
        (peak,) = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
        return int(peak) * 1024 / 1e6
    except (OSError, ValueError):
        unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
