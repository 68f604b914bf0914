"""Evaluate a trained policy: `python -m experiments.evaluate run=outputs/production/<date>/<time>`.

It runs beside every baseline on the same days, without and with the risk module; the verdict, its
evidence and a report go to `evaluation/` in the run folder. Any market can be put in the place of
the run's own: data=csv data.path=prices.csv, surface=flat, costs=flat.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from omegaconf import DictConfig
from pydantic import Field
from rich.console import Console

from agents.persistence.policy_file import LoadedPolicy
from conf.files import new_folder, write_json
from conf.settings import build_settings, settings
from experiments.backtests.backtest import Backtest
from experiments.backtests.trade_log import build_trade_log, write_trade_log
from experiments.evaluation.open_run import (
    REPLACEABLE,
    changes,
    check_policy_fits,
    load_chosen,
    own_keys,
    replaced_sections,
)
from experiments.evaluation.results import daily_table, recorded_books, split_numbers
from experiments.evaluation.risk_report import risk_report, risk_table
from experiments.evaluation.split import AGENT, INDEX, SplitEvaluation, comparisons, evaluate_split
from experiments.reporting.evaluation_page import build_report
from experiments.reporting.matplotlib_backend import chart_png
from experiments.reporting.page import Report, render
from experiments.reporting.tensorboard import write_pictures
from experiments.reporting.terminal import caveat, performance_table, verdict_text
from experiments.runs.cli import GateFailed, launch
from experiments.runs.config import config_hash, plain_config
from experiments.runs.folder import resolve_run, shown_path
from experiments.runs.market_setup import MarketSetup, open_market
from experiments.runs.record import load_manifest, load_run_config
from experiments.runs.settings import OptionMarketSettings, market_settings, surface_kind
from experiments.runs.trials import TrialCount, count_trials, record_run
from experiments.statistics.comparison import Outcome

# What stands on the terminal; the report has everybody.
SHOWN = (AGENT, INDEX, "put_write", "weekend_seller", "equal_weight", "mean_variance")


@settings
class EvaluateSettings:
    """What to evaluate, where, and which of its policies."""

    run: str = Field(min_length=1)
    split: Literal["train", "validation", "test", "all"] | None = None
    policy: Literal["best", "last"] = "best"
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 2000  # of the bootstrap
    report: bool = True  # the page, its pictures and TensorBoard's
    gate: bool = False  # exit code 1 unless the verdict is OUTPERFORMS


def evaluate(config: DictConfig) -> float:
    """Run the policy and every baseline through whole splits; print and write the verdict."""
    # A few books at a time: handing them to a second core costs more than it brings.
    torch.set_num_threads(1)
    plain = plain_config(config)
    request: EvaluateSettings = build_settings(EvaluateSettings, own_keys(plain), "evaluate")
    run = resolve_run(request.run)
    own = load_run_config(run)
    replaced = replaced_sections(plain, own)
    wanted = market_settings({**own, **replaced})
    loaded_policy = load_chosen(run, request.policy)
    setup = open_market(wanted)
    check_policy_fits(loaded_policy, setup.market)
    names = [request.split] if request.split else ["validation", "test"]
    # Only what the run itself was made for is a trial of its search.
    is_trial = request.policy == "best" and not changes(own, replaced)
    results = []
    for name in names:
        results.append(
            evaluate_split(
                name,
                loaded_policy.policy,
                setup,
                partial(_count_trials, run, setup, name, loaded_policy, is_trial),
                request.resamples,
            )
        )
    folder = run / _folder_name(request, own, replaced)
    header = describe(run, request, setup, loaded_policy, {**own, **replaced})
    report = None
    if request.report:
        about = {"manifest": load_manifest(run), "config": {**own, **replaced}}
        report = build_report(header, about, results, setup, loaded_policy.policy)
    pictures = {} if report is None else {c.key: chart_png(c) for c in report.charts}
    write_results(folder, header, results, setup, report, pictures)
    if pictures:
        step = int(loaded_policy.metadata.get("step", 0))
        write_pictures(run / "tensorboard" / folder.name, pictures, step)
    _print(header, results, folder)
    if request.gate and results[-1].headline.verdict.outcome is not Outcome.OUTPERFORMS:
        raise GateFailed(
            f"verdict on the {results[-1].name} years: {results[-1].headline.verdict.outcome}"
        )
    return float(np.mean(results[0].raw.performance[AGENT].sharpe))


def _count_trials(
    run: Path,
    setup: MarketSetup,
    split: str,
    policy: LoadedPolicy,
    is_trial: bool,
    backtest: Backtest,
) -> TrialCount:
    """Its own row first, so that a second evaluation finds the ledger as the first one did."""
    if is_trial:
        step = int(policy.metadata.get("step", 0))
        record_run(run, setup, split, backtest, step, candidates=None)
    return count_trials(run, setup, split)


def describe(
    run: Path,
    request: EvaluateSettings,
    setup: MarketSetup,
    policy: LoadedPolicy,
    config: Mapping[str, Any],
) -> dict[str, Any]:
    """What was evaluated on what, for the head of `metrics.json`."""
    history, wanted = setup.loaded.history, setup.settings
    trained_on = policy.metadata.get("fingerprint")
    return {
        "run": "/".join(run.parts[-3:]),
        "policy": request.policy,
        "policy_step": policy.metadata.get("step"),
        "data": history.name,
        "data_fingerprint": history.fingerprint,
        "same_data_as_training": trained_on == history.fingerprint,
        "surface": surface_kind(wanted),
        "costs": wanted.env.costs.kind,
        "conditions": _conditions(setup, config),
        "resamples": request.resamples,
        "notices": list(setup.loaded.notices),
    }


def write_results(
    folder: Path,
    header: Mapping[str, Any],
    results: list[SplitEvaluation],
    setup: MarketSetup,
    report: Report | None,
    pictures: Mapping[str, bytes],
) -> None:
    """Write `metrics.json`, each book's days, and the report with its pictures, in one step."""
    splits = {result.name: split_numbers(result) for result in results}
    with new_folder(folder) as temporary:
        for result in results:
            for suffix, done in recorded_books(result).items():
                daily = daily_table(done, setup.market.instruments)
                daily.to_parquet(temporary / f"daily_{result.name}{suffix}.parquet")
                trades = build_trade_log(done, setup.market, setup.settings.env)
                write_trade_log(trades, temporary / f"trades_{result.name}{suffix}.parquet")
        write_json(temporary / "metrics.json", {**header, "splits": splits})
        if report is not None:
            (temporary / "report.html").write_text(render(report), encoding="utf-8")
        for name, png in pictures.items():
            (temporary / f"{name}.png").write_bytes(png)


def _conditions(setup: MarketSetup, config: Mapping[str, Any]) -> str:
    """A hash of what the books were subject to; results under another are not comparable."""
    names = (
        ("chain", "sizing", "initial_equity_usd")
        if isinstance(setup.settings, OptionMarketSettings)
        else ("initial_equity_usd", "rebalance_threshold")
    )
    env = {key: config["env"].get(key) for key in names}
    sections = {key: config.get(key) for key in ("surface", "costs", "risk")}
    return config_hash({"data": setup.loaded.history.fingerprint, "env": env, **sections})[:16]


def _folder_name(
    request: EvaluateSettings, own: Mapping[str, Any], replaced: Mapping[str, Any]
) -> str:
    """`evaluation`, and behind it whatever differs from the plain one, so that both can stay."""
    changed = changes(own, replaced)
    names = [str(changed[s][REPLACEABLE[s]]) if REPLACEABLE[s] else s for s in changed]
    names += [request.policy] if request.policy != "best" else []
    names += [request.split] if request.split else []
    if changed:
        names.append(config_hash(changed)[:6])
    return "_".join(["evaluation", *names])


def _print(header: Mapping[str, Any], results: list[SplitEvaluation], folder: Path) -> None:
    console = Console()
    console.print(
        f"{header['run']}: {header['policy']} policy (step {header['policy_step']}) on "
        f"{header['data']}, surface {header['surface']}, costs {header['costs']}"
    )
    for notice in dict.fromkeys(notice for result in results for notice in result.notices):
        console.print(notice)
    for result in results:
        shown = {
            name: result.raw.performance[name] for name in SHOWN if name in result.raw.performance
        }
        if result.managed is not None:
            managed = {"managed": result.managed.performance[AGENT]}
            shown = {AGENT: shown.pop(AGENT), **managed, **shown}
        console.print(performance_table(result.name, result.raw.agent.dates, shown))
        if result.managed is not None:
            console.print(risk_table(risk_report(result.managed.agent)))
        if result.raw.agent.ruined.any():
            console.print(f"{int(result.raw.agent.ruined.sum())} book(s) were ruined")
        for label, comparison in comparisons(result):
            which = f"{result.name} years, the book {label}"
            console.print(verdict_text(which, comparison.verdict, caveat(result.name)))
    console.print(f"written to {shown_path(folder)}")


def main() -> int:
    """Entry point of the command."""
    return launch(evaluate, "evaluate")


if __name__ == "__main__":
    sys.exit(main())
