"""Everything that the evaluation of a run measures, computed once; pages and files only show it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from conf.settings import settings_to_json
from envs.market.sources.index import past_of
from experiments.backtests.backtest import Backtest
from experiments.environments.opening import option_setup
from experiments.environments.setup import MarketSetup
from experiments.evaluation.days_met import caution, has_training_prices
from experiments.evaluation.open_run import TestedRun
from experiments.evaluation.sensitivity import (
    CostRow,
    FlatVolComparison,
    Periods,
    across_time,
    cost_sensitivity,
    flat_vol_comparison,
)
from experiments.evaluation.skill import Skill, measure_skill, skill_worlds
from experiments.evaluation.split import SplitEvaluation, evaluate_split, policies_of
from experiments.runs.config import config_hash
from experiments.runs.record import load_manifest
from experiments.runs.trials import TrialCount, count_trials, multirun_overfitting, record_run

# The baselines in charts and under other costs, where all of them would be too many.
PROMINENT = (
    *("put_write", "static_mean_variance", "weekend_seller"),
    *("equal_weight", "minimum_variance", "mean_variance", "cash"),
)


@dataclass(frozen=True)
class Evaluation:
    """A policy over splits of a market, and how the result depends on what was assumed."""

    header: Mapping[str, Any]  # what was evaluated on what
    manifest: Mapping[str, Any]  # of the run
    config: Mapping[str, Any]  # of the run, as evaluated
    setup: MarketSetup
    splits: tuple[SplitEvaluation, ...]  # the last one is what the report is about
    periods: Periods | None  # None where dates are simulated
    costs: tuple[CostRow, ...]  # of the last split's headline book
    flat_vol: FlatVolComparison | None  # of the last split; None without options
    skill: Skill | None = None  # where it was asked for


PARTS = 2  # besides the splits: all years, and other costs and volatilities


def evaluate_run(
    tested: TestedRun,
    splits: Sequence[str],
    *,
    resamples: int,
    is_trial: bool,
    skill_paths: int | None = None,
    on_done: Callable[[], object] = lambda: None,
) -> Evaluation:
    """The policy and every baseline through whole splits, without and with the risk module.

    `is_trial`: whether the result is one of the run's own search and goes into its ledger.
    `skill_paths`: on how many paths of each world skill is measured; None: it is not. `on_done` is
    called after that, after each split, and PARTS times more.
    """
    setup, policy = tested.setup, tested.policy
    # First, for it may find that the data does not suit it.
    skill = None
    if skill_paths is not None:
        skill = skill_of(tested, skill_paths, resamples)
        on_done()
    results: tuple[SplitEvaluation, ...] = ()
    for name in splits:
        count = partial(_trials, tested, name, is_trial)
        results = (*results, evaluate_split(name, policy, setup, count, resamples))
        on_done()
    same_prices = has_training_prices(tested)
    results = tuple(
        replace(r, caution=caution(tested, r.raw.agent.dates, same_prices=same_prices))
        for r in results
    )
    main = results[-1]
    risk = None if main.managed is None else setup.settings.risk
    prominent = [baseline for baseline in main.baselines if baseline.name in PROMINENT]
    periods = across_time(setup, policy, managed=main.managed is not None)
    on_done()
    evaluation = Evaluation(
        header=_header(tested, resamples),
        manifest=load_manifest(tested.run),
        config=tested.config,
        setup=setup,
        splits=results,
        periods=periods,
        costs=cost_sensitivity(setup, policies_of(policy, prominent), main.name, risk),
        flat_vol=flat_vol_comparison(main, setup, policy),
        skill=skill,
    )
    on_done()
    return evaluation


def skill_of(tested: TestedRun, paths: int, resamples: int) -> Skill:
    """The raw policy in the worlds fitted to its training years; InputError without options."""
    setup = option_setup(tested.setup)
    worlds = skill_worlds(setup.settings, past_of(setup.loaded, "train"), paths=paths)
    return measure_skill([tested.policy], worlds, resamples=resamples)


def _header(tested: TestedRun, resamples: int) -> dict[str, Any]:
    setup, config = tested.setup, tested.config
    # As built: a run from before a setting existed met the same conditions as one at its default.
    built = settings_to_json(setup.settings.env)
    env = {key: built[key] for key in setup.conditions}
    sections = {key: config.get(key) for key in ("surface", "costs", "risk")}
    fingerprint = setup.history.fingerprint
    conditions = {"data": fingerprint, "env": env, **sections}
    clock = setup.closed_day_weight
    if clock is not None:
        conditions["closed_day_weight"] = clock
    trained_on = tested.loaded.metadata
    same_data = trained_on.get("fingerprint") == fingerprint
    return {
        **tested.header(),
        "same_data_as_training": same_data and trained_on.get("closed_day_weight", clock) == clock,
        # What the books were subject to; results under another are not comparable.
        "conditions": config_hash(conditions)[:16],
        "split_days": tested.setup.describe_data()["splits"],
        "resamples": resamples,
    }


def _trials(tested: TestedRun, split: str, is_trial: bool, backtest: Backtest) -> TrialCount:
    """The run's own row first, so that a second evaluation finds the ledger as the first did."""
    run, setup = tested.run, tested.setup
    if is_trial:
        record_run(run, setup, split, backtest, tested.step, candidates=None)
    trials = count_trials(run, setup, split)
    return trials._replace(overfitting_probability=multirun_overfitting(run, setup, split))
