"""Benchmark of the option market: pricing, the tape, and a policy over a thousand years."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from envs.market.models.heston import HestonModel
from envs.market.sources.index import SyntheticData, load_market
from envs.options.black_scholes import price_and_greeks
from envs.options.tape import build_tape
from experiments.benchmarks.rows import Row, at_least, at_most
from experiments.benchmarks.settings import Bench
from experiments.benchmarks.timing import in_turn, seconds_of
from experiments.runs.parallel import Workers
from experiments.simulation.models import fit_models
from experiments.simulation.years import YEAR_SESSIONS, simulate_years

CONTRACTS_A_SECOND = 5e6
TAPE_SECONDS = 2.0
SIMULATION_SECONDS = 15.0


def pricing_rows(bench: Bench) -> list[Row]:
    """Contracts a second, priced with all Greeks."""
    count = bench.request.contracts
    rng = np.random.default_rng(0)
    strike, tau = rng.uniform(70.0, 140.0, count), rng.uniform(0.01, 1.0, count)
    vol, is_call = rng.uniform(0.05, 0.8, count), rng.random(count) < 0.5

    def price() -> float:
        return seconds_of(lambda: price_and_greeks(100.0, strike, tau, vol, 0.025, 0.015, is_call))

    seconds = min(in_turn({"pricing": price}, bench.request.repeats)["pricing"])
    what, budget = "pricing with all Greeks, one core", at_least(CONTRACTS_A_SECOND)
    return [Row("pricing.greeks", what, count / seconds, "contracts/s", budget)]


def tape_rows(bench: Bench) -> list[Row]:
    """The tape of so many years of one history, and everything that the environment reads."""
    years, settings = bench.request.tape_years, bench.setup.settings
    data = SyntheticData(model="heston", sessions=years * YEAR_SESSIONS, heston=HestonModel())
    history = load_market(data, embargo_days=settings.env.chain.longest_life_days).history

    def tape() -> float:
        return seconds_of(lambda: build_tape(history, settings.surface, settings.env.chain))

    def market() -> float:
        return seconds_of(lambda: settings.build(history))

    taken = in_turn({"tape": tape, "market": market}, bench.request.repeats)
    what = f"tape for {years} years of history"
    return [
        Row("tape.build", what, min(taken["tape"]), "s", at_most(TAPE_SECONDS)),
        Row("tape.market", f"{what}, with observations", min(taken["market"]), "s"),
    ]


def monte_carlo_rows(bench: Bench) -> list[Row]:
    """A fresh policy over simulated years of `experiments.monte_carlo`, without the risk module."""
    request, setup = bench.request, bench.setup
    (model,) = fit_models(setup.loaded, ("gbm",))
    raw = replace(setup.settings, risk=replace(setup.settings.risk, enabled=False))
    policy = bench.model(bench.agent, 1, "cpu").policy
    policy.set_training_mode(False)

    def simulate() -> float:
        return seconds_of(
            lambda: simulate_years(
                [model], policy, (), raw, request.paths, 0, Workers(request.threads)
            )
        )

    seconds = in_turn({"years": simulate}, request.repeats, warm_up=False)["years"]
    return [
        Row(
            "monte_carlo.seconds",
            f"policy over {request.paths:,} simulated years, with paths and pricing, no risk "
            "module and no benchmarks",
            min(seconds),
            "s",
            at_most(SIMULATION_SECONDS),
            {"each_repeat": seconds},
        )
    ]
