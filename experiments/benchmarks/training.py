"""Benchmark of learning: ours against stock sb3-contrib, and against what the machine can do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sb3_contrib import RecurrentPPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from agents.factory import RecurrentPPOSettings, build_agent
from agents.ppo.parallel import torch_threads
from envs.option_portfolio.env import OptionPortfolioKernel
from envs.sb3_vec_env import KernelVecEnv
from experiments.benchmarks.flops import update_flops
from experiments.benchmarks.rows import Row, at_least, at_most
from experiments.benchmarks.settings import Bench
from experiments.benchmarks.timing import finish, in_turn, matmul_rate, median
from experiments.runs.market_setup import option_setup

PRODUCTION_STEPS = 300_000
PRODUCTION_MINUTES = 15.0
SPEEDUP = 15.0


@dataclass(frozen=True)
class Learning:
    """One rollout and the part of its update that was really run."""

    rollout: float  # seconds
    update: float  # seconds of `epochs` epochs
    epochs: int

    def iteration(self, epochs: int) -> float:
        """Seconds of a rollout and an update of so many epochs, all of which do the same work."""
        return self.rollout + self.update * epochs / self.epochs


class LearningClock:
    """An agent that learns from one rollout at each call, and says how long it took."""

    def __init__(self, agent: RecurrentPPO, device: str) -> None:
        self._agent, self._device = agent, device
        self.taken: list[Learning] = []

    def __call__(self) -> float:
        """Seconds of the rollout and the epochs that are run."""
        watch = _Watch(self._device)
        self._agent.learn(1, callback=watch, reset_num_timesteps=False)
        done = Learning(
            watch.collected - watch.began, watch.ended - watch.collected, self._agent.n_epochs
        )
        self.taken.append(done)
        return done.rollout + done.update


class _Watch(BaseCallback):
    """Notes when the rollout begins and ends, and when the update is over."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self._device = device
        self.began = self.collected = self.ended = 0.0

    def _now(self) -> float:
        finish(self._device)
        return time.perf_counter()

    def _on_rollout_start(self) -> None:
        self.began = self._now()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.collected = self._now()

    def _on_training_end(self) -> None:
        self.ended = self._now()


def training_rows(bench: Bench) -> list[Row]:
    """Ours against stock, how well the machine is used, and what threads bring."""
    request, agent = bench.request, bench.agent
    clocks = {
        "ours": _clock(bench, agent, request.num_envs),
        "stock_1": _clock(bench, stock_agent(bench), 1),
        f"stock_{request.num_envs}": _clock(bench, stock_agent(bench), request.num_envs),
    }
    rates: list[float] = []

    def measure_rate() -> float:
        rates.append(matmul_rate(request.device, request.matrix_size, request.seconds / 2))
        return rates[-1]

    with torch_threads(request.threads):
        for clock in clocks.values():
            clock()  # warms up, and shows which stock agent is worth the time of being repeated
        stock = min(
            (name for name in clocks if name != "ours"),
            key=lambda name: clocks[name].taken[0].iteration(agent.n_epochs),
        )
        calls: dict[str, Callable[[], float]] = {name: clocks[name] for name in ("ours", stock)}
        calls["matrix products"] = measure_rate
        in_turn(calls, request.repeats, warm_up=False)
    taken = {name: clock.taken[1:] or clock.taken for name, clock in clocks.items()}
    threads = _threads(bench) if not request.device.startswith("cuda") else []
    return [*speed_rows(agent, taken), *_use_rows(bench, taken["ours"], rates), *threads]


def speed_rows(agent: RecurrentPPOSettings, taken: Mapping[str, list[Learning]]) -> list[Row]:
    """`taken` of "ours" and, repeat for repeat at the same time, of the better stock agent."""
    epochs, steps = agent.n_epochs, agent.rollout_steps
    speed = {name: [steps / one.iteration(epochs) for one in many] for name, many in taken.items()}
    stock = max((name for name in taken if name != "ours"), key=lambda name: max(speed[name]))
    ratios = [ours / other for ours, other in zip(speed["ours"], speed[stock], strict=False)]
    rows = [
        Row(
            "training.speedup",
            f"PPO, rollout + update: ours against {_named(stock)}",
            max(speed["ours"]) / max(speed[stock]),
            "x",
            at_least(SPEEDUP),
            {"better_stock": stock, "ratio_of_each_repeat": ratios},
        )
    ]
    for name, values in speed.items():
        run = taken[name][0].epochs
        what = f"PPO: {_named(name)}"
        if run != epochs:
            what += f" ({run} of {epochs} epochs run, the rest reckoned)"
        if name not in ("ours", stock):
            what += ", the slower: tried once"
        details = {"epochs_run": run, "epochs_counted": epochs, "each_repeat": values}
        rows.append(Row(f"training.{name}", what, max(values), "steps/s", details=details))
    minutes = PRODUCTION_STEPS / max(speed["ours"]) / 60.0
    what = f"PPO: {PRODUCTION_STEPS:,} steps of ours, without callbacks"
    rows.append(Row("training.production", what, minutes, "minutes", at_most(PRODUCTION_MINUTES)))
    return rows


def _named(name: str) -> str:
    kind, _, episodes = name.partition("_")
    return kind if not episodes else f"{kind}, N = {episodes}"


def _use_rows(bench: Bench, ours: list[Learning], rates: list[float]) -> list[Row]:
    epochs, steps = bench.agent.n_epochs, bench.agent.rollout_steps
    best = min(ours, key=lambda one: one.iteration(epochs))
    update, rollout = best.update * epochs / best.epochs, best.rollout
    market = option_setup(bench.setup).market
    per_step = update_flops(bench.agent, len(market.observed.features), market.tape.num_slots)
    work = per_step * steps * best.epochs
    used = max(work / one.update for one in ours)
    return [
        Row(
            "training.flop_utilisation",
            "PPO: model FLOPs of the update over the matrix rate",
            used / max(rates),
            "",
            details={"flops_a_step": per_step, "flops_a_second": used, "matmul_rate": max(rates)},
        ),
        Row(
            "training.arithmetic",
            f"PPO: the updates of {PRODUCTION_STEPS:,} steps, were they matrix products alone",
            PRODUCTION_STEPS * per_step * epochs / max(rates) / 60.0,
            "minutes",
        ),
        Row(
            "training.rollout_share",
            "PPO: rollout, share of ours",
            rollout / (rollout + update),
            "",
        ),
        Row("training.update_share", "PPO: update, share of ours", update / (rollout + update), ""),
    ]


def _threads(bench: Bench) -> list[Row]:
    """Ours with one thread and with all that were asked for, in turn."""
    request, agent = bench.request, bench.agent
    counts = sorted({1, request.threads})
    clocks = {count: _clock(bench, agent, request.num_envs) for count in counts}

    def with_threads(count: int) -> Callable[[], float]:
        def call() -> float:
            with torch_threads(count):
                return clocks[count]()

        return call

    in_turn({count: with_threads(count) for count in counts}, request.repeats)
    seconds = {
        count: [one.iteration(agent.n_epochs) for one in clock.taken[1:]]
        for count, clock in clocks.items()
    }
    rows = [
        Row(
            f"training.threads_{count}",
            f"PPO: ours, {count} thread{'s' if count > 1 else ''}",
            agent.rollout_steps / min(values),
            "steps/s",
        )
        for count, values in seconds.items()
    ]
    if len(counts) > 1:
        ratios = [one / many for one, many in zip(*seconds.values(), strict=True)]
        what = f"PPO: ours, {request.threads} threads against 1"
        rows.append(Row("training.threads_gain", what, median(ratios), "x"))
    return rows


def _clock(bench: Bench, agent: RecurrentPPOSettings, num_envs: int) -> LearningClock:
    env = KernelVecEnv(training_kernel(bench, num_envs))
    # Where the divergence of the policy may end an update early, updates are not comparable.
    model: Any = build_agent(replace(agent, target_kl=None), env, 0, bench.request.device)
    model.set_logger(Logger(folder=None, output_formats=[]))
    return LearningClock(model, bench.request.device)


def training_kernel(bench: Bench, num_envs: int) -> OptionPortfolioKernel:
    """Episodes of the training years, as the agent meets them."""
    setup = bench.setup
    options = option_setup(setup)
    return OptionPortfolioKernel(
        options.market,
        options.settings.env,
        setup.window("train"),
        num_envs,
        seed=0,
        risk=setup.training_risk,
    )


def stock_agent(bench: Bench) -> RecurrentPPOSettings:
    """The same hyperparameters for sb3-contrib as it comes, its updates cut to a few epochs."""
    epochs = min(bench.request.stock_epochs, bench.agent.n_epochs)
    return replace(bench.agent, kind="recurrent_ppo_stock", n_epochs=epochs)
