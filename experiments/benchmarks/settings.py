"""What a benchmark measures, and what it measures it on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from agents.factory import RecurrentPPOSettings, build_agent
from conf.errors import InputError
from conf.settings import build_settings, in_one_message, settings
from envs.core.kernel import BookKernel
from envs.kernels import open_kernel
from envs.sb3_vec_env import KernelVecEnv
from experiments.environments.opening import market_settings, open_market, option_setup, section
from experiments.environments.option_book import OptionSetup
from experiments.runs.settings import SECTIONS

Part = Literal[
    "all",
    "training",
    "learning",
    "hedging",
    "environment",
    "pricing",
    "tape",
    "monte_carlo",
    "startup",
]
Count = Annotated[int, Field(ge=1)]


@settings
class BenchmarkSettings:
    """Which rows to measure, how often, and at which sizes."""

    rows: Annotated[tuple[Part, ...], Field(min_length=1)] = ("all",)
    repeats: Count = 3
    seconds: Annotated[float, Field(gt=0.0, le=60.0)] = 0.5  # of each repeat of what is fast
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$"), in_one_message("cpu or cuda")] = (
        "cpu"
    )
    threads: Annotated[int, Field(ge=1, le=1024)] = 2
    num_envs: Annotated[int, Field(ge=1, le=65536)] = 16
    stock_epochs: Count = 1  # of agent.n_epochs that stock really runs; all do the same work
    matrix_size: Count = 1536
    batches: Annotated[tuple[Count, ...], Field(min_length=1)] = (16, 1024)
    contracts: Count = 1_000_000
    tape_years: Count = 22
    paths: Count = 1000  # simulated years of the Monte Carlo row
    learning_seconds: Annotated[float, Field(gt=0.0, le=3600.0)] = 120.0  # of each agent
    skill_paths: Annotated[int, Field(ge=2, le=10_000)] = 120  # that it learns on, and is judged on
    hedging_effort: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0  # of the trainings of hedging
    hedging_paths: Annotated[int, Field(ge=100)] = 100_000  # that they are judged on
    hedging_arguments: tuple[str, ...] = ()  # of +exp=hedging
    pfhedge: bool = False  # install pfhedge in an environment of its own, and compare with it
    train_arguments: tuple[str, ...] = ()  # of the `experiments.train` that is started
    gate: bool = False  # exit code 1 where a budget is missed


@dataclass(frozen=True)
class Bench:
    """Everything that the rows are measured with."""

    request: BenchmarkSettings
    agent: RecurrentPPOSettings
    setup: OptionSetup
    plain: dict[str, Any]  # the sections of the configuration as they were given

    def kernel(self, num_envs: int) -> BookKernel:
        """Episodes of the training years, as the agent meets them."""
        setup, env = self.setup, self.setup.settings.env
        window, risk = setup.window("train"), setup.training_risk
        return open_kernel(setup.market, env, window, num_envs, seed=0, risk=risk)

    def model(self, agent: RecurrentPPOSettings, num_envs: int, device: str) -> OnPolicyAlgorithm:
        """A fresh agent in these episodes."""
        # Where the divergence of the policy may end an update early, updates are not comparable.
        agent = replace(agent, target_kl=None)
        return build_agent(agent, KernelVecEnv(self.kernel(num_envs)), 0, device)


def open_bench(plain: dict[str, Any]) -> Bench:
    """Check the settings and load the market; InputError for what is wrong."""
    own = {name: value for name, value in plain.items() if name not in SECTIONS}
    request: BenchmarkSettings = build_settings(BenchmarkSettings, own)
    agent: RecurrentPPOSettings = build_settings(
        RecurrentPPOSettings, section(plain, "agent"), "agent"
    )
    if agent.kind != "recurrent_ppo":
        raise InputError(
            f"agent.kind is {agent.kind!r}: the benchmark compares recurrent_ppo with it already",
            "Leave agent=recurrent_ppo",
        )
    if request.device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device is {request.device!r}, but torch sees no GPU", "Use cpu")
    return Bench(request, agent, option_setup(open_market(market_settings(plain))), plain)
