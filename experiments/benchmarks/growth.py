"""How time and memory grow with episodes, paths and sessions, as slopes on logarithmic scales."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.policy import PolicyState
from conf.types import BoolArray, ObsArray
from envs.core.batch import Window
from envs.market.indicators import WARMUP_SESSIONS
from envs.market.sources.index import SyntheticData, load_market
from envs.option_portfolio.market import OptionMarket, build_option_market
from envs.sb3_vec_env import KernelVecEnv
from experiments.backtests.backtest import run_backtest
from experiments.benchmarks.market import SESSIONS_A_YEAR
from experiments.benchmarks.rows import Row
from experiments.benchmarks.settings import Bench
from experiments.benchmarks.timing import growth_exponent, in_turn, peak_bytes, seconds_of
from experiments.benchmarks.training import training_kernel
from experiments.runs.market_setup import option_setup
from experiments.runs.settings import OptionMarketSettings

_STEPS = 20


@dataclass(frozen=True)
class ConstantPolicy:
    """Asks for the same small book every day: costs nothing beside what is measured."""

    num_actions: int
    size: float = 0.02

    def predict(
        self,
        observation: ObsArray,
        state: PolicyState = None,
        episode_start: BoolArray | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], PolicyState]:
        """The same actions (N, A) for whatever is observed."""
        return np.full((len(observation), self.num_actions), self.size, np.float32), None


def growth_rows(bench: Bench) -> list[Row]:
    """One row for time and one for memory, for each of N, P and T."""
    sizes = bench.request.growth
    return [
        *_growth(bench, "episodes", "N (steps of the VecEnv)", sizes.episodes, _episodes),
        *_growth(bench, "paths", "P (a year: paths, pricing, trading)", sizes.paths, _paths),
        *_growth(bench, "sessions", "T (pricing a history)", sizes.sessions, _sessions),
    ]


Work = Callable[[Bench, int], tuple[Callable[[], object], Callable[[], object]]]


def _growth(bench: Bench, name: str, what: str, sizes: Sequence[int], work: Work) -> list[Row]:
    """Fit the growth of `work`: what is timed at each size, and what all of its memory is for."""
    made = {size: work(bench, size) for size in sizes}
    clocks = {size: _clock(timed) for size, (timed, _) in made.items()}
    taken = in_turn(clocks, bench.request.repeats)
    seconds = [min(taken[size]) for size in sizes]
    memory = [float(peak_bytes(everything)) for _, everything in made.values()]
    return [
        Row(
            f"growth.{name}.{kind}",
            f"growth of {kind} with {what}",
            growth_exponent(sizes, values),
            "exponent",
            details={"sizes": list(sizes), unit: values},
        )
        for kind, unit, values in (("time", "seconds", seconds), ("memory", "bytes", memory))
    ]


def _clock(call: Callable[[], object]) -> Callable[[], float]:
    return lambda: seconds_of(call)


def _episodes(bench: Bench, size: int) -> tuple[Callable[[], object], Callable[[], object]]:
    def opened() -> KernelVecEnv:
        env = KernelVecEnv(training_kernel(bench, size))
        env.reset()
        return env

    def step_through(env: KernelVecEnv) -> None:
        for _ in range(_STEPS):
            env.step(actions)

    env = opened()
    rng = np.random.default_rng(0)
    actions = rng.uniform(-0.1, 0.1, (size, *(env.action_space.shape or ()))).astype(np.float32)
    return lambda: step_through(env), lambda: step_through(opened())


def _paths(bench: Bench, size: int) -> tuple[Callable[[], object], Callable[[], object]]:
    wanted = option_setup(bench.setup).settings

    def year() -> None:
        market = _simulated(wanted, size, WARMUP_SESSIONS + SESSIONS_A_YEAR)
        window = Window(market.first_usable, market.history.num_sessions)
        policy = ConstantPolicy(market.tape.num_slots)
        run_backtest(policy, market, wanted.env, window)

    return year, year


def _sessions(bench: Bench, size: int) -> tuple[Callable[[], object], Callable[[], object]]:
    wanted = option_setup(bench.setup).settings

    def price() -> None:
        _simulated(wanted, 1, size)

    return price, price


def _simulated(wanted: OptionMarketSettings, paths: int, sessions: int) -> OptionMarket:
    history = load_market(
        SyntheticData(paths=paths, sessions=sessions),
        embargo_days=wanted.env.chain.longest_life_days,
    ).history
    return build_option_market(history, wanted.surface, wanted.env)
