"""How fast everything is, beside its budget: `python -m experiments.benchmark`.

`rows=[environment,pricing]` measures a part, `repeats=5` more often, `device=cuda` on a GPU.
Timings mean something on a machine that does nothing else.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from agents.ppo.parallel import torch_threads
from conf.errors import InputError
from conf.files import write_json
from experiments.benchmarks.environment import environment_rows
from experiments.benchmarks.growth import growth_rows
from experiments.benchmarks.market import monte_carlo_rows, pricing_rows, tape_rows
from experiments.benchmarks.rows import Row, rows_table
from experiments.benchmarks.settings import Bench, benchmark_settings
from experiments.benchmarks.startup import startup_rows
from experiments.benchmarks.training import training_rows
from experiments.runs.cli import GateFailed, launch
from experiments.runs.config import plain_config
from experiments.runs.folder import shown_path
from experiments.runs.market_setup import open_market
from experiments.runs.provenance import gather_provenance
from experiments.runs.settings import market_settings

log = logging.getLogger(__name__)

BENCHMARK = "benchmark.json"

PARTS: dict[str, Callable[[Bench], list[Row]]] = {
    "startup": startup_rows,  # first, for it may find arguments that are wrong
    "training": training_rows,
    "environment": environment_rows,
    "pricing": pricing_rows,
    "tape": tape_rows,
    "monte_carlo": monte_carlo_rows,
    "growth": growth_rows,
}


def benchmark(config: DictConfig) -> None:
    """Measure what was asked for; print it as a table and write it to `benchmark.json`."""
    bench = open_bench(plain_config(config))
    load = _load_before()
    rows: list[Row] = []
    with torch_threads(bench.request.threads):
        for name, measure in PARTS.items():
            if bench.wants(name):
                log.info("measuring: %s", name.replace("_", " "))
                rows += measure(bench)
        path = Path(HydraConfig.get().runtime.output_dir) / BENCHMARK
        write_json(path, describe(bench, rows, load))
    console = Console()
    console.print(rows_table(rows))
    console.print(_conditions(bench, load))
    console.print(f"written to {shown_path(path)}")
    missed = [row.name for row in rows if row.met is False]
    if bench.request.gate and missed:
        raise GateFailed(f"budgets missed: {', '.join(missed)}")


def open_bench(plain: dict[str, Any]) -> Bench:
    """Check the settings and load the market that everything is measured on."""
    request, agent = benchmark_settings(plain)
    if request.device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device is {request.device!r}, but torch sees no GPU", "Use cpu")
    return Bench(request, agent, open_market(market_settings(plain)), plain)


def describe(bench: Bench, rows: list[Row], load: float | None) -> dict[str, Any]:
    """The content of `benchmark.json`."""
    request = bench.request
    return {
        "format": 1,
        **gather_provenance(),  # machine, threads, versions, commit
        "device": request.device,
        "repeats": request.repeats,
        "load_before": load,  # processes that wanted to run, mean of the minute before
        "data": bench.setup.loaded.history.name,
        "settings": {name: bench.plain[name] for name in bench.plain if name != "callbacks"},
        "rows": [row.as_json() for row in rows],
    }


def _load_before() -> float | None:
    """How busy the machine was with other things; None where it does not say."""
    try:
        load = os.getloadavg()[0]
    except OSError:
        return None
    if load > 0.5:
        log.warning("the machine is busy (load %.1f): rates come out too low", load)
    return round(load, 2)


def _conditions(bench: Bench, load: float | None) -> str:
    machine = gather_provenance()["machine"]
    busy = "" if load is None else f", load before {load}"
    return (
        f"{machine['processor']}, {machine['cores']} cores, {bench.request.threads} threads of "
        f"torch, best of {bench.request.repeats}{busy}"
    )


def main() -> int:
    """Entry point of the command."""
    return launch(benchmark, "benchmark")


if __name__ == "__main__":
    sys.exit(main())
