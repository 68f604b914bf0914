"""Evaluate a trained policy: verdict and report.

It is compared with every benchmark on the same days, without and with the risk module; the verdict,
its evidence and a report go to `evaluation/` in the run folder. Another market can replace the
run's own.

Examples:
    python -m experiments.evaluate run=outputs/production/<date>/<time>
    python -m experiments.evaluate run=<run> surface=flat split=test
    python -m experiments.evaluate run=<run> data=csv data.path=prices.csv
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import torch
from omegaconf import DictConfig
from pydantic import Field
from rich.console import Console

from callbacks.progress import Meter
from conf.errors import InputError
from conf.files import new_folder, write_json
from conf.settings import build_settings, settings
from experiments.environments.hedging import HedgingSetup
from experiments.evaluation.evaluation import PARTS, evaluate_run
from experiments.evaluation.hedging import MOST_RESAMPLES, evaluate_hedging, hedging_numbers
from experiments.evaluation.open_run import REPLACEABLE, TestedRun, open_run, own_keys
from experiments.evaluation.results import METRICS, write_evaluation
from experiments.evaluation.skill import PATHS
from experiments.evaluation.split import AGENT
from experiments.reporting.contents import Report
from experiments.reporting.evaluation_page import build_report
from experiments.reporting.hedging_page import build_hedging_report, hedges_table
from experiments.reporting.page import write_report
from experiments.reporting.tensorboard import write_pictures
from experiments.reporting.terminal import evaluation_lines, say_where, terminal_table
from experiments.runs.cli import GateFailed, launch
from experiments.runs.config import config_hash, plain_config
from experiments.runs.folder import shown_path
from experiments.runs.trial_ledger import ledger_of, warn_of_defects
from experiments.statistics.verdict import Outcome


@settings
class EvaluateSettings:
    """What to evaluate, where, and which of its policies."""

    run: str = Field(min_length=1)
    split: Literal["train", "validation", "test", "all"] | None = None
    policy: Literal["best", "last"] = "best"
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 2000  # of the bootstrap
    report: bool = True  # the page, its pictures and TensorBoard's
    skill: bool = False  # also in simulated worlds whose law is known
    skill_paths: Annotated[int, Field(ge=2, le=10_000)] = PATHS  # of each of them
    gate: bool = False  # exit code 1 unless the verdict is OUTPERFORMS


def evaluate(config: DictConfig) -> float:
    """Run the policy and every benchmark through whole splits; print and write the verdict."""
    # A few books at a time: handing them to a second core costs more than it brings.
    torch.set_num_threads(1)
    plain = plain_config(config)
    request: EvaluateSettings = build_settings(EvaluateSettings, own_keys(plain))
    tested = open_run(request.run, request.policy, plain)
    warn_of_defects(ledger_of(tested.run))
    if isinstance(tested.setup, HedgingSetup):
        return _evaluate_hedge(tested, request)
    splits = [request.split] if request.split else ["validation", "test"]
    with Meter(len(splits) + PARTS + request.skill, "part") as meter:
        evaluation = evaluate_run(
            tested,
            splits,
            resamples=request.resamples,
            # Only an evaluation in the run's own market is a trial of its search.
            is_trial=request.policy == "best" and not tested.changed,
            skill_paths=request.skill_paths if request.skill else None,
            on_done=meter.advance,
        )
    folder = tested.run / _folder_name(request, tested)
    report = build_report(evaluation) if request.report else None
    write(folder, tested, report, lambda temporary: write_evaluation(temporary, evaluation))
    console = Console()
    for item in evaluation_lines(evaluation):
        console.print(item)
    say_where(folder, f"python -m experiments.stress run={shown_path(tested.run)}")
    verdict = evaluation.splits[-1].headline.verdict
    if request.gate and verdict.outcome is not Outcome.OUTPERFORMS:
        name = evaluation.splits[-1].name
        raise GateFailed(f"verdict on the {name} years: {verdict.outcome}")
    return evaluation.splits[0].raw.performance[AGENT].mean("sharpe")


def _evaluate_hedge(tested: TestedRun, request: EvaluateSettings) -> float:
    """Minus the objective of the run's hedge on unseen liabilities, which is to be kept low."""
    if request.skill:
        raise InputError("skill=true is measured of option books", "Leave it away")
    if request.split and tested.setup.settings.data.source == "synthetic":
        raise InputError(
            f"split={request.split} means nothing where a hedge is judged on newly simulated paths",
            "Leave it away",
        )
    resamples = min(request.resamples, MOST_RESAMPLES)  # of 100,000 paths each
    evaluation = evaluate_hedging(tested, request.split or "test", resamples=resamples)
    folder = tested.run / _folder_name(request, tested)
    numbers = hedging_numbers(evaluation)
    report = build_hedging_report(evaluation) if request.report else None
    write(folder, tested, report, lambda temporary: write_json(temporary / METRICS, numbers))
    console, verdict = Console(), evaluation.verdict
    table = hedges_table(evaluation)
    rows = [[x if isinstance(x, str) else f"{x:.1f}" for x in row] for row in table.rows]
    console.print(terminal_table(table.title, table.columns, rows))
    console.print(f"{verdict.outcome}: {verdict.reason}")
    say_where(folder, f"python -m experiments.certify run={shown_path(tested.run)}")
    if request.gate and verdict.outcome is not Outcome.OUTPERFORMS:
        raise GateFailed(f"verdict: {verdict.outcome}")
    return -evaluation.rows[0].objective


def write(
    folder: Path, tested: TestedRun, report: Report | None, numbers: Callable[[Path], object]
) -> None:
    """What `numbers` writes into a folder, and the report with its pictures, in one step."""
    with new_folder(folder) as temporary:
        numbers(temporary)
        pictures = {} if report is None else write_report(temporary, report)
    if pictures:
        write_pictures(tested.run / "tensorboard" / folder.name, pictures, tested.step)


def _folder_name(request: EvaluateSettings, tested: TestedRun) -> str:
    """`evaluation`, and behind it what differs from the default, so that both are kept."""
    changed = tested.changed
    names = [str(changed[s][REPLACEABLE[s]]) if REPLACEABLE[s] else s for s in changed]
    names += [request.policy] if request.policy != "best" else []
    names += [request.split] if request.split else []
    if changed:
        names.append(config_hash(changed)[:6])
    return "_".join(["evaluation", *names])


def main() -> int:
    """Entry point of the command."""
    return launch(evaluate, "evaluate")


if __name__ == "__main__":
    sys.exit(main())
