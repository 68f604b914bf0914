"""Benchmark of learning: ours against stock sb3-contrib, and against what the machine can do."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from torch.utils.flop_counter import FlopCounterMode

from agents.factory import RecurrentPPOSettings
from agents.ppo.parallel import torch_threads
from experiments.benchmarks.rows import Row, at_least, at_most
from experiments.benchmarks.settings import Bench
from experiments.benchmarks.timing import in_turn, matmul_rate, now

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


class _Stopwatch(BaseCallback):
    """Notes when the rollout begins and ends, and when the update is over."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self._device = device
        self.times: list[float] = []

    def _note(self) -> None:
        self.times.append(now(self._device))

    _on_rollout_start = _on_rollout_end = _on_training_end = _note

    def _on_step(self) -> bool:
        return True


class LearningClock:
    """An agent that learns from one rollout at each call, and says how long it took."""

    def __init__(self, bench: Bench, agent: RecurrentPPOSettings, num_envs: int) -> None:
        self._device, self._epochs = bench.request.device, agent.n_epochs
        self._model = bench.model(agent, num_envs, self._device)
        self._model.set_logger(Logger(folder=None, output_formats=[]))
        self.taken: list[Learning] = []

    def __call__(self) -> float:
        """Seconds of the rollout and the epochs that are run."""
        stopwatch = _Stopwatch(self._device)
        self._model.learn(1, callback=stopwatch, reset_num_timesteps=False)
        begin, collected, end = stopwatch.times
        self.taken.append(Learning(collected - begin, end - collected, self._epochs))
        return end - begin


def training_rows(bench: Bench) -> list[Row]:
    """Ours against stock, and how well the update uses the machine."""
    request, agent = bench.request, bench.agent
    stock = replace(
        agent, kind="recurrent_ppo_stock", n_epochs=min(request.stock_epochs, agent.n_epochs)
    )
    clocks = {
        "ours": LearningClock(bench, agent, request.num_envs),
        "stock_1": LearningClock(bench, stock, 1),
        f"stock_{request.num_envs}": LearningClock(bench, stock, request.num_envs),
    }

    def matrix_products() -> float:
        return matmul_rate(request.device, request.matrix_size, request.seconds / 2)

    with torch_threads(request.threads):
        for clock in clocks.values():
            clock()  # warms up, and shows which stock agent is worth the time of being repeated
        better = min(
            (name for name in clocks if name != "ours"),
            key=lambda name: clocks[name].taken[0].iteration(agent.n_epochs),
        )
        calls: dict[str, Callable[[], float]] = {name: clocks[name] for name in ("ours", better)}
        calls["matrix products"] = matrix_products
        rates = in_turn(calls, request.repeats, warm_up=False)["matrix products"]
    taken = {name: clock.taken[1:] or clock.taken for name, clock in clocks.items()}
    return [*speed_rows(agent, taken), _utilisation_row(bench, taken["ours"], max(rates))]


def speed_rows(agent: RecurrentPPOSettings, taken: Mapping[str, list[Learning]]) -> list[Row]:
    """`taken` of "ours" and, repeat for repeat at the same time, of the better stock agent."""
    epochs, steps = agent.n_epochs, agent.rollout_steps
    speed = {name: [steps / x.iteration(epochs) for x in many] for name, many in taken.items()}
    stock = max((name for name in taken if name != "ours"), key=lambda name: max(speed[name]))
    ratios = [ours / other for ours, other in zip(speed["ours"], speed[stock], strict=False)]
    rows = [
        Row(
            "training.speedup",
            f"PPO, rollout + update: ours against {_title(stock)}",
            max(speed["ours"]) / max(speed[stock]),
            "x",
            at_least(SPEEDUP),
            {"better_stock": stock, "ratio_of_each_repeat": ratios},
        )
    ]
    for name, values in speed.items():
        run = taken[name][0].epochs
        what = f"PPO: {_title(name)}"
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


def _title(name: str) -> str:
    kind, _, episodes = name.partition("_")
    return kind if not episodes else f"{kind}, N = {episodes}"


def _utilisation_row(bench: Bench, ours: list[Learning], matrix_rate: float) -> Row:
    """The update's share of the machine's rate of matrix products."""
    agent = bench.agent
    flops_a_step = update_flops(bench.model(agent, 1, "cpu").policy, agent.sequence_length or 64)
    work = flops_a_step * agent.rollout_steps * agent.n_epochs
    rate = max(work / learning.update for learning in ours)
    return Row(
        "training.flop_utilisation",
        "PPO: model FLOPs of the update over the matrix rate",
        rate / matrix_rate,
        "",
        details={"flops_a_step": flops_a_step, "flops_a_second": rate, "matmul_rate": matrix_rate},
    )


def update_flops(policy: Any, steps: int) -> float:
    """Floating-point operations that learning from one observation needs, forward and backward.

    policy: a recurrent one on the CPU; steps: of the sequences that it learns from. Torch counts
    matrix products only: not element-wise work, nor the optimiser.
    """
    lstm = policy.lstm_actor
    state = torch.zeros(lstm.num_layers, 1, lstm.hidden_size)
    observations = torch.zeros(steps, *policy.observation_space.shape)
    actions = torch.zeros(steps, *policy.action_space.shape)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TF32 acceleration")
        # The counter cannot look into the LSTM of oneDNN.
        with (
            torch.backends.mkldnn.flags(enabled=False),
            FlopCounterMode(display=False) as counter,
        ):
            values, log_prob, _ = policy.evaluate_actions(
                observations, actions, RNNStates((state, state), (state, state)), torch.zeros(steps)
            )
            (values.sum() + log_prob.sum()).backward()
    return float(counter.get_total_flops() / steps)
