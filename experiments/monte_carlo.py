"""Simulate years from several laws for a trained policy.

The policy trades through years from several models that are fitted to the past of its own market,
without and with the risk module, beside the index, cash and a few benchmarks. Distributions of
Sharpe ratio, return and drawdown and the probabilities of ruin and of a large loss, each with an
interval, go to `monte_carlo/` in the run folder.

Examples:
    python -m experiments.monte_carlo run=outputs/production/<date>/<time>
    python -m experiments.monte_carlo run=<run> models=[heston] paths=200
    python -m experiments.monte_carlo run=<run> beside=[iron_condor] jobs=4
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import DictConfig
from pydantic import Field
from rich.console import Console

from callbacks.progress import Meter
from conf.errors import InputError
from conf.files import new_folder, write_json
from conf.settings import build_settings, settings
from experiments.environments.opening import option_setup
from experiments.evaluation.open_run import MANAGED, open_run, own_keys
from experiments.evaluation.split import AGENT, INDEX
from experiments.reporting.contents import Report
from experiments.reporting.page import write_report
from experiments.reporting.terminal import say_where
from experiments.runs.cli import launch
from experiments.runs.config import plain_config
from experiments.runs.folder import shown_path
from experiments.runs.parallel import ParallelSettings, open_workers
from experiments.simulation.models import MODELS, FittedModel, ModelName, fit_models
from experiments.simulation.page import build_page, terminal_tables
from experiments.simulation.statistics import ModelResult, book_risks
from experiments.simulation.years import CHUNK, SimulatedYears, simulate_years

RESULT_FORMAT = 2  # 2: "parameters" was "law"


@settings
class MonteCarloSettings:
    """What to simulate, how often, and which benchmarks to compare with."""

    run: Annotated[str, Field(min_length=1)]
    paths: Annotated[int, Field(ge=2, le=100_000)] = 1000  # years of each model
    models: Annotated[tuple[ModelName, ...], Field(min_length=1)] = MODELS
    policy: Literal["best", "last"] = "best"
    beside: tuple[str, ...] = ("put_write",)  # benchmarks
    seed: Annotated[int, Field(ge=0)] = 0
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95  # of the intervals
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 2000  # of the bootstrap
    jobs: Annotated[int, Field(ge=1, le=1024)] = 2
    parallel: ParallelSettings = ParallelSettings()
    report: bool = True  # the page and its pictures


def monte_carlo(config: DictConfig) -> float:
    """Simulate, trade, print and write; the headline book's mean Sharpe ratio over all models."""
    plain = plain_config(config)
    request: MonteCarloSettings = build_settings(MonteCarloSettings, own_keys(plain))
    if len(set(request.models)) < len(request.models):
        raise InputError("a model is named twice", "Name each once: models=[gbm,bootstrap]")
    with open_workers(request.parallel, request.jobs) as workers:
        run = open_run(request.run, request.policy, plain)
        setup = option_setup(run.setup)
        models = fit_models(setup.loaded, request.models)
        chunks = len(models) * -(-request.paths // CHUNK)
        with Meter(chunks, "chunk") as meter:
            simulated = simulate_years(
                models,
                run.policy,
                request.beside,
                setup.settings,
                request.paths,
                request.seed,
                workers,
                meter.advance,
            )
    results = [_result(*pair, request) for pair in zip(models, simulated, strict=True)]
    numbers = {name: getattr(request, name) for name in ("paths", "seed", "level")}
    header = {**run.header(), **numbers}
    folder = run.folder("monte_carlo")
    _write(folder, header, results, build_page(header, results) if request.report else None)
    _print(folder, header, results)
    return sum(r.risks[r.headline].mean["sharpe"].value for r in results) / len(results)


def _result(
    model: FittedModel, simulated: SimulatedYears, request: MonteCarloSettings
) -> ModelResult:
    books = simulated.books
    order = dict.fromkeys((AGENT, MANAGED, INDEX, *books))
    years = {name: books[name] for name in order if name in books}
    risks = book_risks(years, request.level, request.resamples, request.seed)
    return ModelResult(model, years, risks, simulated.seconds)


def _write(
    folder: Path, header: Mapping[str, Any], results: Sequence[ModelResult], page: Report | None
) -> None:
    """`monte_carlo.json`, and the page with its pictures, in one step."""
    models = {result.model.name: result.plain() for result in results}
    with new_folder(folder) as temporary:
        content = {"format": RESULT_FORMAT, **header, "models": models}
        write_json(temporary / "monte_carlo.json", content)
        if page is not None:
            write_report(temporary, page)


def _print(folder: Path, header: Mapping[str, Any], results: Sequence[ModelResult]) -> None:
    console = Console()
    console.print(f"{header['run']}: {header['policy']} policy (step {header['policy_step']})")
    for result in results:
        for table in terminal_tables(result, header["level"]):
            console.print(table)
    say_where(folder, f"python -m experiments.certify run={shown_path(folder.parent)}")


def main() -> int:
    """Entry point of the command."""
    return launch(monte_carlo, "monte_carlo")


if __name__ == "__main__":
    sys.exit(main())
