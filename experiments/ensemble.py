"""Merge runs into one policy.

The best policies of finished runs become one policy, which acts as the average of them, or with
`regime=volatility` or `regime=trend` as the specialist of the regime that the market is in. It lies
in a run folder of its own, which every other command opens.

Examples:
    python -m experiments.ensemble runs=[<run>,<run>,<run>]
    python -m experiments.ensemble runs=<multirun>
    python -m experiments.ensemble runs=[<run>,<run>] regime=volatility
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from pydantic import BeforeValidator, Field
from rich.console import Console

from agents.regimes import Gating, RegimeKind
from conf.errors import InputError
from conf.settings import build_settings, settings
from experiments.evaluation.run_comparison import find_runs
from experiments.runs.cli import launch
from experiments.runs.config import plain_config
from experiments.runs.folder import check_run_name, run_lock, shown_path
from experiments.runs.merging import Specialists, merge_runs
from experiments.runs.record import write_composition


@settings
class EnsembleSettings:
    """What to merge."""

    runs: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
        Field(min_length=1),
    ]
    regime: RegimeKind | None = None
    feature: Annotated[str, Field(min_length=1)] | None = None
    gating: Gating = "hard"
    experiment: str = "ensemble"

    @property
    def specialists(self) -> Specialists | None:
        """What the runs are specialists of; None: of nothing, they are averaged."""
        if self.regime is not None:
            return Specialists(self.regime, self.feature, self.gating)
        if self.feature is not None:
            raise InputError(f"feature={self.feature} tells regimes apart", "Give regime= too")
        return None


def merge(config: DictConfig) -> float:
    """Merge, write the run folder and print what it scores on the validation years."""
    request: EnsembleSettings = build_settings(EnsembleSettings, plain_config(config))
    check_run_name(request.experiment)
    runs = find_runs(",".join(request.runs))
    folder = Path(HydraConfig.get().runtime.output_dir)
    with run_lock(folder):
        judged, value = merge_runs(runs, folder, request.experiment, request.specialists)
        write_composition(folder, config)
    shown, console = shown_path(folder), Console()
    console.print(f"merged {len(runs)} policies: validation {judged.title} {judged.shown(value)}")
    console.print(f"next: python -m experiments.evaluate run={shown}", soft_wrap=True)
    return judged.merit(value)


def main() -> int:
    """Entry point of the command."""
    return launch(merge, "ensemble")


if __name__ == "__main__":
    sys.exit(main())
