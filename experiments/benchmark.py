"""Measure how fast everything is, beside its budget.

Timings mean something on a machine that does nothing else.

Examples:
    python -m experiments.benchmark rows=[environment,pricing]
    python -m experiments.benchmark repeats=5
    python -m experiments.benchmark device=cuda gate=true
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from agents.ppo.parallel import torch_threads
from conf.files import write_json
from experiments.benchmarks.environment import environment_rows
from experiments.benchmarks.hedging import hedging_rows
from experiments.benchmarks.learning import learning_rows
from experiments.benchmarks.market import monte_carlo_rows, pricing_rows, tape_rows
from experiments.benchmarks.rows import Row, rows_table
from experiments.benchmarks.settings import Bench, open_bench
from experiments.benchmarks.startup import startup_rows
from experiments.benchmarks.training import training_rows
from experiments.runs.cli import GateFailed, launch
from experiments.runs.config import plain_config
from experiments.runs.folder import shown_path
from experiments.runs.provenance import gather_provenance

log = logging.getLogger(__name__)

BENCHMARK = "benchmark.json"

PARTS: dict[str, Callable[[Bench], list[Row]]] = {
    "startup": startup_rows,  # first, for it may find arguments that are wrong
    "training": training_rows,
    "learning": learning_rows,
    "hedging": hedging_rows,
    "environment": environment_rows,
    "pricing": pricing_rows,
    "tape": tape_rows,
    "monte_carlo": monte_carlo_rows,
}


def benchmark(config: DictConfig) -> None:
    """Measure the requested rows; print them as a table and write them to `benchmark.json`."""
    bench = open_bench(plain_config(config))
    load = _load_before()
    rows: list[Row] = []
    with torch_threads(bench.request.threads):
        for name, measure in PARTS.items():
            if {name, "all"} & set(bench.request.rows):
                log.info("measuring: %s", name.replace("_", " "))
                rows += measure(bench)
        content = _describe(bench, rows, load)
    path = Path(HydraConfig.get().runtime.output_dir) / BENCHMARK
    write_json(path, content)
    _print(rows, content)
    Console().print(f"written to {shown_path(path)}")
    missed = [row.name for row in rows if row.met is False]
    if bench.request.gate and missed:
        raise GateFailed(f"budgets missed: {', '.join(missed)}")


def _load_before() -> float | None:
    """How busy the machine was with other things; None where it does not say."""
    try:
        load = os.getloadavg()[0]
    except OSError:
        return None
    if load > 0.5:
        log.warning("the machine is busy (load %.1f): rates come out too low", load)
    return round(load, 2)


def _describe(bench: Bench, rows: list[Row], load: float | None) -> dict[str, Any]:
    """The content of `benchmark.json`."""
    request = bench.request
    return {
        "format": 1,
        **gather_provenance(),  # machine, threads, versions, commit
        "device": request.device,
        "repeats": request.repeats,
        "load_before": load,  # processes ready to run, mean of the minute before
        "data": bench.setup.history.name,
        "settings": {name: bench.plain[name] for name in bench.plain if name != "callbacks"},
        "rows": [row.as_json() for row in rows],
    }


def _print(rows: list[Row], content: dict[str, Any]) -> None:
    console, machine, load = Console(), content["machine"], content["load_before"]
    console.print(rows_table(rows))
    busy = "" if load is None else f", load before {load}"
    console.print(
        f"{machine['processor']}, {machine['cores']} cores, {content['threads']} threads of torch, "
        f"best of {content['repeats']}{busy}"
    )


def main() -> int:
    """Entry point of the command."""
    return launch(benchmark, "benchmark")


if __name__ == "__main__":
    sys.exit(main())
