"""Put runs side by side.

Every run must have been evaluated. Each is compared with the first on the same days; runs that
differ only in their seed are also summed up together.

Examples:
    python -m experiments.compare run=<run>,<run>
    python -m experiments.compare run=<multirun>
    python -m experiments.compare run=<run>,<run> split=validation book=policy
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from pydantic import Field
from rich.console import Console

from conf.files import new_folder, write_json
from conf.settings import build_settings, settings
from experiments.evaluation.run_comparison import (
    compare_evaluated,
    comparison_numbers,
    find_runs,
)
from experiments.reporting.figures import equity_chart
from experiments.reporting.matplotlib_backend import chart_png
from experiments.reporting.terminal import comparison_lines
from experiments.runs.cli import launch
from experiments.runs.config import plain_config
from experiments.runs.folder import shown_path


@settings
class CompareSettings:
    """What to put side by side."""

    run: str = Field(min_length=1)
    split: Literal["train", "validation", "test", "all"] = "test"
    book: Literal["policy", "managed"] | None = None
    evaluation: Annotated[str, Field(pattern=r"^evaluation[A-Za-z0-9._-]*$")] = "evaluation"
    resamples: Annotated[int, Field(ge=100)] = 2000


def compare_runs(config: DictConfig) -> None:
    """Print and write the runs' measures, their differences and the seeds' summary."""
    request: CompareSettings = build_settings(CompareSettings, plain_config(config))
    comparison = compare_evaluated(
        find_runs(request.run), request.evaluation, request.split, request.book, request.resamples
    )
    folder, runs = Path(HydraConfig.get().runtime.output_dir), comparison.runs
    with new_folder(folder) as temporary:
        write_json(temporary / "comparison.json", comparison_numbers(comparison))
        chart = equity_chart(runs[0].dates, {run.name: run.equity for run in runs})
        (temporary / "equity.png").write_bytes(chart_png(chart))
    console = Console()
    for item in comparison_lines(comparison):
        console.print(item)
    console.print(f"written to {shown_path(folder)}")


def main() -> int:
    """Entry point of the command."""
    return launch(compare_runs, "compare")


if __name__ == "__main__":
    sys.exit(main())
