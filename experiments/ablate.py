"""Judge techniques: does each help, hurt, or is neither shown?

Each technique (conf/techniques/*.yaml) is trained with several seeds, and so is the same training
without it. The verdict is about the difference of their validation scores, seed by seed: *helps*,
*hurts* or *not shown*. With cumulative=true each technique is on top of those before it, and the
seeds of the last are merged. All begin from a cold start of PPO (pretrain=none) unless pretrain is
given. One that was killed goes on with resume=<its folder>.

Examples:
    python -m experiments.ablate +exp=quickstart techniques=[larger_batch]
    python -m experiments.ablate techniques=[curiosity] seeds=[0,1,2] jobs=2
    python -m experiments.ablate resume=outputs/quickstart/<ablation>/<time>
"""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from pydantic import Field
from rich.console import Console

from callbacks.progress import Meter
from conf.errors import InputError
from conf.files import new_folder, write_json
from conf.settings import build_settings, settings
from experiments.reporting.page import write_report
from experiments.reporting.terminal import say_where
from experiments.runs.cli import launch
from experiments.runs.config import plain_config
from experiments.runs.folder import ABLATION, run_lock, shown_path
from experiments.runs.parallel import PARALLEL_KEYS, open_workers, parallel_settings
from experiments.runs.record import finished_runs
from experiments.runs.training import refuse_other_overrides
from experiments.statistics.paired_effects import Effect
from experiments.sweeps.ablation import (
    SCORE,
    Ablation,
    AblationResult,
    AblationSettings,
    ablation_numbers,
    begin_ablation,
    reopen_ablation,
    train_arms,
)
from experiments.sweeps.ablation_page import build_page, terminal_lines
from experiments.sweeps.arguments import of_runs, prepared

log = logging.getLogger(__name__)

RESULT = "ablation"
_INVOCATION = ("resume", "jobs", "report", *PARALLEL_KEYS)
_OF_ABLATION = ("seeds", "level", "cumulative")
_OWN = (*_OF_ABLATION, *_INVOCATION)


@settings
class Invocation:
    """What may differ each time that an ablation goes on."""

    jobs: Annotated[int, Field(ge=1, le=1024)] = 1
    report: bool = True


def ablate(config: DictConfig) -> None:
    """Do the runs that are missing; print and write the comparison."""
    plain = plain_config(config)
    given = {name: plain[name] for name in Invocation.__dataclass_fields__}
    request: Invocation = build_settings(Invocation, given)
    where, folder = parallel_settings(plain), Path(HydraConfig.get().runtime.output_dir)
    with run_lock(folder), open_workers(where, request.jobs) as workers:
        ablation = _open(plain, folder)
        runs = len(ablation.arms) * len(ablation.settings.seeds)
        log.info("%d runs in %s", runs, shown_path(folder))
        with Meter(runs, "run", line_after=finished_runs(folder)) as meter:
            result = train_arms(ablation, workers, meter.advance)
        with new_folder(folder / RESULT) as temporary:
            write_json(temporary / "ablation.json", ablation_numbers(ablation, result))
            if request.report:
                write_report(temporary, build_page(ablation, result))
    console = Console()
    for line in terminal_lines(ablation, result):
        console.print(line)
    say_where(folder / RESULT, *_best_by_hand(ablation, result))


def _best_by_hand(ablation: Ablation, result: AblationResult) -> list[str]:
    """The run with the technique that helps most, where one does."""
    helping = [effect for effect in result.effects[SCORE] if effect.effect is Effect.HELPS]
    best = sorted(helping, key=lambda effect: -effect.mean)[:1]
    seed = ablation.settings.seeds[0]
    lines = [shlex.join(ablation.arguments(effect.name, seed)) for effect in best]
    return [f"the best by hand: python -m experiments.train {line}" for line in lines]


def _open(plain: Mapping[str, Any], folder: Path) -> Ablation:
    if plain["resume"] is not None:
        refuse_other_overrides(
            _INVOCATION, "An ablation keeps its own settings; start a new one to change them"
        )
        return reopen_ablation(folder)
    techniques = plain.get("techniques") or {}
    chosen = {"techniques": techniques} | {name: plain[name] for name in _OF_ABLATION}
    if not techniques:
        raise InputError(
            "there is no technique to judge",
            "Choose some: techniques=[larger_batch,entropy_linear]",
        )
    base = of_runs(HydraConfig.get().overrides.task, _OWN, "techniques")
    checked: AblationSettings = build_settings(AblationSettings, chosen)
    return begin_ablation(folder, base, checked)


def _prepared(arguments: Sequence[str]) -> list[str]:
    return prepared(arguments, ABLATION, "an ablation", "ablate")


def main() -> int:
    """Entry point of the command."""
    return launch(ablate, "ablate", prepare=_prepared)


if __name__ == "__main__":
    sys.exit(main())
