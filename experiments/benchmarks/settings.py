"""What a benchmark is asked to measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from agents.factory import RecurrentPPOSettings
from conf.errors import InputError
from conf.settings import build_settings, settings
from experiments.runs.market_setup import MarketSetup
from experiments.runs.settings import SECTIONS, section

Part = Literal[
    "all", "training", "environment", "pricing", "tape", "monte_carlo", "startup", "growth"
]
Count = Annotated[int, Field(ge=1)]
Sizes = Annotated[tuple[Count, ...], Field(min_length=2)]


@settings
class GrowthSizes:
    """Sizes at which time and memory are taken to see how they grow."""

    episodes: Sizes = (256, 1024, 4096)  # N
    paths: Sizes = (32, 128, 512)  # P
    sessions: Sizes = (2000, 8000, 32000)  # T


@settings
class BenchmarkSettings:
    """Which rows to measure, how often, and at which sizes."""

    rows: Annotated[tuple[Part, ...], Field(min_length=1)] = ("all",)
    repeats: Count = 3
    seconds: Annotated[float, Field(gt=0.0, le=60.0)] = 0.5  # of each repeat of what is fast
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")] = "cpu"
    threads: Annotated[int, Field(ge=1, le=1024)] = 2
    num_envs: Annotated[int, Field(ge=1, le=65536)] = 16
    stock_epochs: Count = 1  # of agent.n_epochs that stock really runs; all do the same work
    matrix_size: Count = 1536
    batches: Annotated[tuple[Count, ...], Field(min_length=1)] = (16, 1024)
    contracts: Count = 1_000_000
    tape_years: Count = 22
    paths: Count = 1000  # simulated years of the Monte Carlo row
    growth: GrowthSizes = GrowthSizes()
    train_arguments: tuple[str, ...] = ()  # of the `experiments.train` that is started
    gate: bool = False  # exit code 1 where a budget is missed


@dataclass(frozen=True)
class Bench:
    """Everything that the rows are measured with."""

    request: BenchmarkSettings
    agent: RecurrentPPOSettings
    setup: MarketSetup
    plain: dict[str, Any]  # the sections of the configuration as they were given

    def wants(self, part: str) -> bool:
        """Is this part of the table asked for?"""
        return part in self.request.rows or "all" in self.request.rows


def benchmark_settings(plain: dict[str, Any]) -> tuple[BenchmarkSettings, RecurrentPPOSettings]:
    """Check the command's own settings and the agent's; InputError for what is wrong."""
    own = {name: value for name, value in plain.items() if name not in SECTIONS}
    request: BenchmarkSettings = build_settings(BenchmarkSettings, own, "benchmark")
    agent: RecurrentPPOSettings = build_settings(
        RecurrentPPOSettings, section(plain, "agent"), "agent"
    )
    if agent.kind != "recurrent_ppo":
        raise InputError(
            f"agent.kind is {agent.kind!r}: the benchmark compares recurrent_ppo with it already",
            "Leave agent=recurrent_ppo",
        )
    return request, agent
