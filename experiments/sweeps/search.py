"""A sweep: its folder, and the rounds in which it asks for trials, trains and tells their results.

`sweep.json` holds the settings and never changes; `study.journal`, or a database, is Optuna's
record, under a name that no other sweep has. Each run of a trial is an ordinary run folder,
`<trial>-<seed>`. Trials are asked for in rounds of `together`, and whatever is drawn is drawn from
the trial's number: neither the number of workers, nor when they or the whole sweep were killed,
changes which trials there are.
"""

from __future__ import annotations

import secrets
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import OptunaError
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from agents.persistence.strict_json import read_json
from conf.errors import Diverged, InputError
from conf.files import write_json
from conf.settings import settings_to_json
from experiments.runs.folder import SWEEP, log_into, shown_path
from experiments.runs.parallel import Workers, run_tasks
from experiments.runs.training import train_in
from experiments.sweeps.arguments import portable_override
from experiments.sweeps.space import (
    SweepSettings,
    Value,
    configuration,
    overrides_of,
    sweep_settings,
)
from risk.bootstrap import interquartile_mean

SWEEP_FORMAT = 2  # 2: the study has a name of its own
JOURNAL = "study.journal"
_LOCK_SUFFIX = ".lock"  # Optuna's
_FEWEST_TO_PRUNE = 4  # completed trials, before any is spared its other seeds
_CONTENT = "content"  # in Optuna's record: what sweep.json says of the search
_SCORES = "scores"  # in Optuna's record: a trial's validation scores by seed; null: ruined


@dataclass(frozen=True)
class Sweep:
    """A search in its folder."""

    folder: Path
    overrides: tuple[str, ...]  # of every run
    settings: SweepSettings
    study: optuna.Study

    def point(self, number: int) -> dict[str, Value]:
        """The values that a trial tries."""
        params: Mapping[str, Value] = self.study.trials[number].params
        return {name: params[name] for name in self.settings.space}

    def run_folder(self, number: int, seed: int) -> Path:
        """Where a run of a trial lives."""
        return self.folder / f"{number:03d}-{seed}"

    def arguments(self, number: int, seed: int) -> list[str]:
        """What `experiments.train` has to be given to do that run by hand."""
        return overrides_of(self.overrides, self.point(number), seed)


def begin_sweep(
    folder: Path, overrides: Sequence[str], settings: SweepSettings, storage: str | None
) -> Sweep:
    """A new search in `folder`; InputError where there is one, or the storage cannot be used."""
    if (folder / SWEEP).exists():
        raise InputError(
            f"{shown_path(folder)} already holds a sweep", f"Go on with resume={shown_path(folder)}"
        )
    portable = tuple(portable_override(override) for override in overrides)
    content = {"overrides": list(portable), "sweep": settings_to_json(settings)}
    name = f"{'/'.join(folder.absolute().parts[-3:])}-{secrets.token_hex(4)}"
    with _storage(folder, storage) as where:
        study = optuna.create_study(storage=where, study_name=name, direction="maximize")
        study.set_user_attr(_CONTENT, content)
    write_json(folder / SWEEP, {"format": SWEEP_FORMAT, "study": name, **content})
    return Sweep(folder, portable, settings, study)


def reopen_sweep(folder: Path, storage: str | None) -> Sweep:
    """The search in `folder`, to go on with; `storage` as it was given before.

    InputError where the storage cannot be used, or has no record of this search.
    """
    record = read_json(folder / SWEEP)
    name, content = record.get("study"), {key: record.get(key) for key in ("overrides", "sweep")}
    if record.get("format") != SWEEP_FORMAT or not isinstance(content["overrides"], list):
        raise InputError(f"{folder / SWEEP} is no sweep of this version", "Start a new sweep")
    chosen = sweep_settings(content["sweep"] or {})
    with _storage(folder, storage) as where:
        study = optuna.load_study(storage=where, study_name=name)
    if study.user_attrs.get(_CONTENT) != content:
        raise InputError(
            f"{folder / SWEEP} is not what its record was begun with", "Put back the original file"
        )
    return Sweep(folder, tuple(content["overrides"]), chosen, study)


def search(
    sweep: Sweep, workers: Workers, on_runs: Callable[[int], object] = lambda _: None
) -> None:
    """Do all trials that are not done; `on_runs` is told of runs as they need doing no more.

    That is how many were done, spared, or done by an earlier call: in the end all of all trials.
    """
    chosen = sweep.settings
    for first in range(0, chosen.trials, chosen.together):
        numbers = range(first, min(first + chosen.together, chosen.trials))
        waiting = _ask(sweep, numbers)
        on_runs((len(numbers) - len(waiting)) * len(chosen.seeds))
        if not waiting:
            continue
        scores = _train(sweep, waiting, chosen.seeds[:1], workers, on_runs)
        pruned = _pruned(sweep, first, {number: scores[number][0] for number in waiting})
        on_runs(len(pruned) * (len(chosen.seeds) - 1))
        others = [number for number in waiting if number not in pruned]
        more = _train(sweep, others, chosen.seeds[1:], workers, on_runs)
        for number in waiting:
            _tell(sweep, number, [*scores[number], *more.get(number, [])], number in pruned)


def _ask(sweep: Sweep, numbers: Sequence[int]) -> list[int]:
    """Draw the trials of a round that are not there yet; those of it that have no result."""
    study, chosen = sweep.study, sweep.settings
    distributions = {name: part.distribution for name, part in chosen.space.items()}
    while len(study.trials) <= numbers[-1]:
        # Drawn in a copy and put down in one step: no kill leaves half a trial behind.
        copy = optuna.create_study(
            sampler=_sampler(chosen, len(study.trials)), direction=study.direction
        )
        copy.add_trials(study.trials)
        point = copy.ask(distributions).params
        study.add_trial(
            optuna.create_trial(state=TrialState.RUNNING, params=point, distributions=distributions)
        )
    return [number for number in numbers if not study.trials[number].state.is_finished()]


def _sampler(chosen: SweepSettings, number: int) -> TPESampler:
    """Of a trial: it depends on nothing but the trial's number and the trials before."""
    (seed,) = np.random.SeedSequence((chosen.sampler_seed, number)).generate_state(1)
    return TPESampler(seed=int(seed), n_startup_trials=chosen.random_trials)


def _train(
    sweep: Sweep,
    numbers: Sequence[int],
    seeds: Sequence[int],
    workers: Workers,
    on_runs: Callable[[int], object],
) -> dict[int, list[float | None]]:
    """The validation scores by trial, in the order of the seeds; None for a run that was ruined."""
    runs = [(number, seed) for number in numbers for seed in seeds]
    tasks = [
        (str(sweep.run_folder(*run).absolute()), configuration(sweep.arguments(*run)))
        for run in runs
    ]
    scores = run_tasks(train_one, tasks, workers, lambda: on_runs(1))
    found: dict[int, list[float | None]] = {number: [] for number in numbers}
    for (number, _), score in zip(runs, scores, strict=True):
        found[number].append(score)
    return found


def train_one(task: tuple[str, dict[str, Any]]) -> float | None:
    """A run in its folder, from wherever it stands; None also where it diverged."""
    folder, config = Path(task[0]), task[1]
    folder.mkdir(parents=True, exist_ok=True)
    with log_into(folder / "train.log"):
        try:
            return train_in(folder, config)
        except Diverged:
            return None  # a try, where every other error is a mistake


def _pruned(sweep: Sweep, first: int, scores: Mapping[int, float | None]) -> set[int]:
    """The trials whose first seed is worse than the median of earlier rounds' completed trials."""
    earlier = [trial for trial in sweep.study.trials[:first] if trial.state == TrialState.COMPLETE]
    if not sweep.settings.prune or len(sweep.settings.seeds) == 1:
        return set()
    ruined = {number for number, score in scores.items() if score is None}
    if len(earlier) < _FEWEST_TO_PRUNE:
        return ruined
    firsts = [scores_of(trial)[0] for trial in earlier]
    median = statistics.median(score for score in firsts if score is not None)
    return ruined | {n for n, score in scores.items() if score is not None and score < median}


def _tell(sweep: Sweep, number: int, scores: Sequence[float | None], pruned: bool) -> None:
    """Tell a trial's result: pruned, where a seed was ruined or the others were spared."""
    study, recorded = sweep.study, sweep.study.trials[number]
    trial = optuna.Trial(study, recorded._trial_id)
    trial.set_user_attr(_SCORES, list(scores))
    finite = [score for score in scores if score is not None]
    if scores[0] is not None and not recorded.intermediate_values:
        trial.report(scores[0], 0)
    if pruned or len(finite) < len(scores):
        study.tell(number, state=TrialState.PRUNED)
    else:
        study.tell(number, float(interquartile_mean(finite)))


def scores_of(trial: FrozenTrial) -> list[float | None]:
    """The validation scores of a trial's runs, in the order of the seeds."""
    return list(trial.user_attrs.get(_SCORES, ()))


def value_of(trial: FrozenTrial) -> float | None:
    """A trial's objective; None where it was pruned."""
    return trial.value if trial.state == TrialState.COMPLETE else None


def ranked(sweep: Sweep) -> list[FrozenTrial]:
    """The trials that have a result: the best first, those that were pruned last."""
    trials = [t for t in sweep.study.trials[: sweep.settings.trials] if t.state.is_finished()]
    return sorted(trials, key=lambda t: (value_of(t) is None, -(value_of(t) or 0.0), t.number))


def sweep_numbers(sweep: Sweep) -> dict[str, Any]:
    """The result as JSON holds it."""
    return {
        "format": SWEEP_FORMAT,
        "sweep": shown_path(sweep.folder),
        "seeds": list(sweep.settings.seeds),
        "objective": "interquartile mean over seeds of the validation score",
        "trials": [
            {
                "trial": trial.number,
                "state": trial.state.name.lower(),
                "value": value_of(trial),
                "scores": scores_of(trial),
                "point": sweep.point(trial.number),
            }
            for trial in ranked(sweep)
        ],
    }


@contextmanager
def _storage(folder: Path, storage: str | None) -> Iterator[Any]:
    """Where Optuna keeps its record; InputError where the block finds that it cannot be used."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    where: Any = storage
    if storage is None:
        folder.mkdir(parents=True, exist_ok=True)
        path = str(folder / JOURNAL)
        # The folder has one writer: a lock of a killed one needs not to be waited for.
        Path(path + _LOCK_SUFFIX).unlink(missing_ok=True)
        where = JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path)))
    try:
        yield where
    except KeyError:
        raise InputError(
            f"the storage has no record of the sweep in {shown_path(folder)}",
            f"Give the storage= that it was begun with, or put back its {JOURNAL}",
        ) from None
    except (ImportError, ValueError, SQLAlchemyError, OptunaError) as error:
        if storage is None:
            raise
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(
            f"the storage of the sweep cannot be used: {reason}",
            "Give the address of a database that runs and whose driver is installed, as "
            "storage=postgresql://user:password@host/name, or leave it away",
        ) from None
