"""Train an agent.

`resume=<run>` goes on with one that was killed, and `resume=<multirun>` does the jobs of a multirun
that are missing.

Examples:
    python -m experiments.train +exp=production seed=1 costs=flat
    python -m experiments.train -m +exp=quickstart seed=1,2
    python -m experiments.train resume=outputs/production/<date>/<time>
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from conf.errors import InputError
from experiments.runs.cli import launch, quoted
from experiments.runs.config import plain_config
from experiments.runs.folder import MANIFEST, check_run_name, resolve_run, run_lock, shown_path
from experiments.runs.record import write_composition
from experiments.runs.training import (
    INVOCATION_KEYS,
    prepare_job,
    refuse_used_folder,
    train_agent,
    train_in,
    validation_score,
)
from experiments.runs.trial_ledger import ROOT
from experiments.sweeps.multirun import arguments_of, is_multirun

log = logging.getLogger(__name__)


def train(config: DictConfig) -> float | None:
    """Train as configured; the best policy's validation score, for Hydra's optimising sweepers."""
    folder, plain = Path(HydraConfig.get().runtime.output_dir), plain_config(config)
    if plain["resume"] is not None:
        folder = resolve_run(plain["resume"])
    elif HydraConfig.get().mode == RunMode.MULTIRUN and (folder / MANIFEST).is_file():
        # A job of a multirun that goes on; with other settings it is refused.
        own = {name: value for name, value in plain.items() if name not in INVOCATION_KEYS}
        return train_in(folder, own)
    with run_lock(folder):  # before anything is written or logged
        job = prepare_job(plain, folder)
        if not job.resumed:
            write_composition(job.folder, config)
        train_agent(job)
    log.info("next: python -m experiments.evaluate run=%s", shown_path(job.folder))
    return validation_score(job.folder)


def _prepared(arguments: Sequence[str]) -> list[str]:
    """The arguments, checked before Hydra makes a folder and writes into it.

    A resumed run is logged into; a folder that holds a run, or a name that leads out of `outputs`,
    is refused.
    """
    prepared = list(arguments)
    for argument in arguments:
        key, _, value = argument.partition("=")
        value = value.strip("'\"")
        if key == "experiment":
            check_run_name(value)
        elif key == "hydra.run.dir" and "$" not in value:
            refuse_used_folder(Path(value))
        elif key == "resume" and value not in ("", "null"):
            many = next((p for p in (Path(value), Path(ROOT) / value) if is_multirun(p)), None)
            if many is not None:
                others = [text for text in arguments if text != argument]
                return _missing_jobs(many.resolve(), others)
            folder = resolve_run(value)
            prepared.append(f"hydra.run.dir={quoted(folder)}")
    return prepared


def _missing_jobs(folder: Path, others: Sequence[str]) -> list[str]:
    """The arguments of the multirun in `folder`; jobs that are finished there stay as they are."""
    odd = [text for text in others if not text.startswith("hydra/launcher=")]
    if odd:
        raise InputError(
            f"{odd[0]!r} was given together with resume=",
            "A multirun keeps its own settings; start a new one to change them",
        )
    return ["-m", *arguments_of(folder), *others, f"hydra.sweep.dir={quoted(folder)}"]


def main() -> int:
    """Entry point of the command."""
    return launch(train, "config", prepare=_prepared)


if __name__ == "__main__":
    sys.exit(main())
