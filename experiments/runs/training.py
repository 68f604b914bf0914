"""A training run from its settings to its last policy: the recipe behind `experiments.train`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import CallbackList

from agents.factory import build_agent, num_parameters, rollout_size
from agents.off_policy.policies import acting_part
from agents.off_policy.settings import TQCSettings
from agents.off_policy.tqc import BookTQC
from agents.persistence.checkpoint import list_checkpoints, newest_checkpoint, restore_checkpoint
from agents.persistence.policy_file import DESCRIPTION, load_policy, policy_step, save_policy
from agents.persistence.resume_state import StatefulCallback
from agents.persistence.sb3_zip import export_sb3_zip
from agents.persistence.strict_json import read_json
from agents.ppo.curiosity import CuriousVecEnv
from agents.ppo.schedules import Linear, Schedules, schedules_of
from agents.ppo.self_imitation import SelfImitation, SelfImitationSettings
from callbacks.checkpointing import Checkpointing
from callbacks.curriculum import CurriculumSettings, Places, StagedEpisodes, places_of
from callbacks.dashboard import Dashboard, make_logger
from callbacks.divergence import DivergenceCallback, explained_divergence
from callbacks.performance import PerformanceCallback
from callbacks.progress import Progress
from callbacks.validation import Validation
from conf.errors import InputError
from conf.files import remove_leftovers
from envs.kernels import open_kernel
from envs.sb3_vec_env import KernelVecEnv
from experiments.environments.opening import open_market
from experiments.environments.setup import MarketSetup
from experiments.runs.config import recorded_data
from experiments.runs.folder import MANIFEST, is_walk, resolve_run, run_lock, shown_path
from experiments.runs.pathwise_stage import PathwiseStage
from experiments.runs.record import MERGED_FROM, RunRecord, load_manifest, load_run_config
from experiments.runs.settings import RunSettings, TopLevel, run_settings
from experiments.runs.trials import record_run, record_start

log = logging.getLogger(__name__)

# Settings of one invocation, not of the run.
INVOCATION_KEYS = ("resume", "allow_inexact_resume")

# Settings that a resumed run may go on with otherwise.
CHANGEABLE_KEYS = ("device", "total_timesteps")

# A policy in a folder of that name in the run folder: the run begins with its weights.
START = "start"

_SHOWN = (
    *("seed", "num_envs", "total_timesteps"),
    *("agent", "pretrain", "reward", "costs", "surface", "risk"),
)


@dataclass(frozen=True)
class TrainingJob:
    """What one invocation trains, and where."""

    folder: Path
    config: Mapping[str, Any]  # plain; with the data settings that were really used
    settings: RunSettings
    setup: MarketSetup
    resumed: bool
    allow_inexact: bool
    replaced: Mapping[str, Any] = field(default_factory=dict)  # former values of a resumed run


def prepare_job(plain: Mapping[str, Any], folder: Path) -> TrainingJob:
    """Check everything and load the data, before anything is written."""
    resumed = plain["resume"] is not None
    allow_inexact = plain["allow_inexact_resume"]
    if not isinstance(allow_inexact, bool):
        raise InputError(f"allow_inexact_resume is {allow_inexact!r}", "Give true or false")
    replaced: dict[str, Any] = {}
    if resumed:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise InputError(
                "resume was given in a multirun", "Resume one run at a time, without -m"
            )
        folder = resolve_run(plain["resume"])
        if MERGED_FROM in load_manifest(folder):
            raise InputError(
                f"{shown_path(folder)} is an ensemble, of which nothing was trained",
                "Resume the runs that it was merged from, and merge them again",
            )
        config = load_run_config(folder)
        changes = _changes(plain, config, allow_inexact=allow_inexact)
        replaced = {name: config.get(name) for name in changes}
        config |= changes
    else:
        refuse_used_folder(folder)
        config = {name: value for name, value in plain.items() if name not in INVOCATION_KEYS}
    settings = run_settings(config)
    configure_torch(settings.top)
    setup = open_market(settings.market)
    if resumed:
        refuse_other_data(folder, setup)
    else:
        # After a fallback this is what was trained on, and what a resume has to ask for.
        config = {**config, "data": recorded_data(setup.loaded.settings)}
    # On another device no last bit can be kept: to name one is to allow that.
    inexact = allow_inexact or "device" in replaced
    return TrainingJob(folder, config, settings, setup, resumed, inexact, replaced)


def train_in(folder: Path, config: Mapping[str, Any]) -> float | None:
    """Train a run of this configuration to its end, wherever it stands; its validation score.

    config: plain. A finished run is left as it is, and one that another process trains is waited
    for. None where no policy had a finite score. Raises InputError where the folder holds a run
    with other settings.
    """
    with run_lock(folder, wait=True):
        begun = (folder / MANIFEST).is_file()
        own = load_run_config(folder) if begun else dict(config)
        if {**own, "data": None} != {**config, "data": None}:
            raise InputError(
                f"{shown_path(folder)} holds a run with other settings", "Move it away"
            )
        if not begun or load_manifest(folder).get("status") != "finished":
            settings = run_settings(own)
            configure_torch(settings.top)
            setup = open_market(settings.market)
            if begun:
                refuse_other_data(folder, setup)
            else:
                own["data"] = recorded_data(setup.loaded.settings)
            train_agent(TrainingJob(folder, own, settings, setup, begun, allow_inexact=False))
    return validation_score(folder)


def validation_score(run: Path) -> float | None:
    """What the run's best policy was chosen by, more is better; None where there is none."""
    return validation_scores(run).get("score")


def validation_scores(run: Path) -> dict[str, float | None]:
    """The metrics of the run's best policy, and its `score`; empty where there is none."""
    path = run / "best" / "validation.json"
    if not path.is_file():
        return {}
    record = read_json(path)
    metrics: dict[str, float | None] = record["metrics"]
    # Those of earlier versions and of ensembles are without the score.
    return {**metrics, "score": record.get("score", metrics.get("score", metrics.get("sharpe")))}


def _changes(
    plain: Mapping[str, Any], own: Mapping[str, Any], *, allow_inexact: bool
) -> dict[str, Any]:
    """The settings that a resumed run goes on with otherwise than it began."""
    given = refuse_other_overrides(
        (*INVOCATION_KEYS, *CHANGEABLE_KEYS),
        "A resumed run keeps its own settings; start a new run to change them",
    )
    changes = {name: plain[name] for name in CHANGEABLE_KEYS if name in given}
    changes = {name: value for name, value in changes.items() if value != own.get(name)}
    steps, former = changes.get("total_timesteps"), own.get("total_timesteps")
    if type(steps) is int and isinstance(former, int) and steps < former:
        raise InputError(
            f"total_timesteps = {steps} is less than the run's own {former}",
            "A resumed run can only be made longer",
        )
    needs_gpu = str(own.get("device")).startswith("cuda") and "device" not in given
    if needs_gpu and not torch.cuda.is_available():
        if not allow_inexact:
            raise InputError(
                f"the run was made on device {own['device']!r}, but torch sees no GPU",
                "Go on with device=cpu beside resume=, which does not give the same last bits",
            )
        log.warning("device is %s, but torch sees no GPU: going on on the CPU", own["device"])
        changes["device"] = "cpu"
    return changes


def train_agent(job: TrainingJob) -> None:
    """Train to the end, from the newest checkpoint where there is one."""
    folder, top, setup = job.folder, job.settings.top, job.setup
    checkpoints, data = folder / "checkpoints", setup.describe_data()
    model = build_model(setup, job.settings)
    if (folder / START).is_dir():
        acting_part(model.policy).load_state_dict(load_policy(folder / START).policy.state_dict())
    stage = _pathwise_stage(job, model)
    places = episode_places(job.settings, setup)
    record_start(folder, job.config, setup.loaded.history.fingerprint)
    with RunRecord(folder, job.config, seed=top.seed, data=data, replaced=job.replaced) as record:
        validation = _validation(job)
        staged, imitating = _curriculum(job, places, validation), _self_imitation(job)
        stateful: dict[str, StatefulCallback] = {"validation": validation, **staged, **imitating}
        checkpointing = _checkpointing(job, stateful, record)
        restored = _restore(job, model, {**stateful, "checkpointing": checkpointing})
        for stages in staged.values():
            stages.init_callback(model)  # before the first episodes begin
        record.start_at(model.num_timesteps)
        record.describe_changes(model.num_timesteps, _inexact_because(job, model, validation))
        _announce(job, model)
        purge_step = model.num_timesteps + 1 if job.resumed else None
        model.set_logger(make_logger(folder / "tensorboard", purge_step))
        if stage is not None and not restored:
            stage.run()
            # A candidate, like the policies that PPO makes of it.
            validation.init_callback(model)
            validation.evaluate(model.num_timesteps)
        progress = Progress(job.settings.steps, job.settings.callbacks.progress_bar)
        callbacks = [
            *imitating.values(),  # before its policy is scored
            Dashboard(
                {name: job.config[name] for name in _SHOWN if name in job.config}, setup.criterion
            ),
            DivergenceCallback(checkpoints),
            PerformanceCallback(),
            validation,
            progress,
            Schedules(schedules_of(job.settings.agent), job.settings.steps),
            *staged.values(),
            checkpointing,
        ]
        try:
            with closing(progress), explained_divergence(model, checkpoints):
                model.learn(
                    max(job.settings.steps - model.num_timesteps, 0),
                    callback=CallbackList(callbacks),
                    reset_num_timesteps=not restored,
                )
        except KeyboardInterrupt:
            checkpointing.interrupted()
            raise
        _finish(job, model, validation, checkpointing)
        record.progress(model.num_timesteps)


def _pathwise_stage(job: TrainingJob, model: BaseAlgorithm) -> PathwiseStage | None:
    """The run's pathwise training; None without one."""
    options = job.settings.pathwise
    if options is None:
        return None
    return PathwiseStage(
        job.folder,
        job.setup,
        model,
        options,
        job.settings.top.seed,
        show_bar=job.settings.callbacks.progress_bar,
        allow_inexact=job.allow_inexact,
    )


def build_model(setup: MarketSetup, settings: RunSettings) -> BaseAlgorithm:
    """A fresh agent in `num_envs` episodes of the market that it learns in."""
    top, env, (market, window) = settings.top, setup.settings.env, setup.learning
    kernel = open_kernel(market, env, window, top.num_envs, top.seed, risk=setup.training_risk)
    episodes = KernelVecEnv(kernel, getattr(settings.agent, "reward_scale", 1.0))
    curiosity = getattr(settings.agent, "curiosity", None)
    curious = CuriousVecEnv(episodes, curiosity, top.seed) if curiosity is not None else episodes
    return build_agent(settings.agent, curious, top.seed, top.device)


def configure_torch(top: TopLevel) -> None:
    """Set torch's threads; InputError where the requested device does not exist."""
    if top.device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device is {top.device!r}, but torch sees no GPU", "Use cpu")
    torch.set_num_threads(top.threads)


def refuse_used_folder(folder: Path) -> None:
    """A new run never writes over an earlier one."""
    if (folder / MANIFEST).exists() or (folder / "checkpoints").exists():
        raise InputError(
            f"{shown_path(folder)} already holds a run",
            f"Go on with resume={shown_path(folder)}, or choose another hydra.run.dir",
        )


def refuse_other_data(folder: Path, setup: MarketSetup) -> None:
    """InputError unless the market holds the history that the run in `folder` began with.

    Split alike; the notices of how it was loaded do not matter.
    """
    began_with, data = load_manifest(folder)["data"], setup.describe_data()
    if any(began_with.get(key) != data[key] for key in data if key != "notices"):
        raise InputError(
            f"the data of {shown_path(folder)} has changed since the run began",
            "Put the original data back, or start a new run",
        )


def refuse_other_overrides(allowed: Sequence[str], remedy: str) -> set[str]:
    """What is resumed keeps its settings: the keys given; InputError for another than these."""
    given = set()
    for override in HydraConfig.get().overrides.task:
        key = override.lstrip("+~").partition("=")[0]
        if key not in allowed:
            raise InputError(f"{override!r} was given together with resume=", remedy)
        given.add(key)
    return given


def _validation(job: TrainingJob) -> Validation:
    options, setup = job.settings.callbacks, job.setup
    return Validation(
        options.validate_every,
        job.folder / "best",
        setup.scorer("validation"),
        setup.scorer("train"),
        metadata=setup.describe_data(),
        patience=options.patience,
        criterion=setup.criterion,
    )


def episode_places(settings: RunSettings, setup: MarketSetup) -> list[Places]:
    """Where the episodes of each stage begin; none without a curriculum.

    InputError where what is trained on does not reach for a stage.
    """
    curriculum = settings.curriculum
    if not isinstance(curriculum, CurriculumSettings):
        return []
    market, window = setup.learning
    env: Any = setup.settings.env
    return places_of(curriculum.stages, market, window, env.episode.sessions)


def _curriculum(
    job: TrainingJob, places: Sequence[Places], validation: Validation
) -> dict[str, StagedEpisodes]:
    """The callback that leads through the stages, by its name in checkpoints; empty without."""
    curriculum = job.settings.curriculum
    if not isinstance(curriculum, CurriculumSettings):
        return {}
    return {"curriculum": StagedEpisodes(curriculum.stages, places, job.settings.steps, validation)}


def _self_imitation(job: TrainingJob) -> dict[str, SelfImitation]:
    """The callback that learns from kept episodes, by its name in checkpoints; empty without."""
    options: SelfImitationSettings | None = getattr(job.settings.agent, "self_imitation", None)
    if options is None or options.weight == 0.0:
        return {}
    return {"self_imitation": SelfImitation(options)}


def _checkpointing(
    job: TrainingJob, stateful: Mapping[str, StatefulCallback], record: RunRecord
) -> Checkpointing:
    options = job.settings.callbacks
    return Checkpointing(
        job.folder / "checkpoints",
        options.checkpoint_every,
        stateful,
        options.keep_last,
        on_saved=record.progress,
    )


def _restore(
    job: TrainingJob, model: BaseAlgorithm, stateful: Mapping[str, StatefulCallback]
) -> bool:
    """Put the newest checkpoint back, if this is a resume and there is one."""
    checkpoints = job.folder / "checkpoints"
    remove_leftovers(job.folder)
    remove_leftovers(checkpoints)
    saved = list_checkpoints(checkpoints) if job.resumed else []
    if not saved:
        return False
    newest = newest_checkpoint(checkpoints)
    if newest is None:
        raise InputError(
            f"every checkpoint in {shown_path(checkpoints)} is damaged",
            "Remove them to begin from the start, or put back a copy",
        )
    for path in saved[saved.index(newest) + 1 :]:
        log.warning("checkpoint %s is damaged and was passed over", path.name)
    restore_checkpoint(model, stateful, newest, job.allow_inexact)
    log.info("resuming from %s", newest.name)
    return True


def _inexact_because(job: TrainingJob, model: BaseAlgorithm, validation: Validation) -> str | None:
    """Why a run whose settings were changed is not one that always had them; None if it is."""
    if job.allow_inexact:
        return "the device was changed, or an inexact resume was allowed"
    agent = job.settings.agent
    if getattr(agent, "learning_rate_end", None) is not None and job.settings.steps:
        return "the learning rate falls with total_timesteps"
    for name, schedule in schedules_of(agent).items():
        if isinstance(schedule, Linear):
            return f"{name} changes with total_timesteps"
    if isinstance(agent, TQCSettings) and agent.replay.kind == "prioritised":
        return "the weights of a prioritised replay change with total_timesteps"
    if isinstance(job.settings.curriculum, CurriculumSettings):
        return "the stages of the curriculum are shares of total_timesteps"
    rollout, every = rollout_size(model), job.settings.callbacks.validate_every
    for step in (validation.scored_at, _best_step(job.folder)):
        if step > 0 and step // every == (step - rollout) // every:
            return f"the policy of step {step} was scored because the run ended there"
    return None


def _best_step(folder: Path) -> int:
    """The step of the policy in `best/`, or 0."""
    if not (folder / "best" / DESCRIPTION).is_file():
        return 0
    return policy_step(load_policy(folder / "best"))


def _announce(job: TrainingJob, model: BaseAlgorithm) -> None:
    top, folder = job.settings.top, shown_path(job.folder)
    for name, (first, last) in job.setup.describe_data()["splits"].items():
        log.info("%s: %s to %s", name, first, last)
    log.info(
        "agent: %s, %s weights, %d episodes in parallel, %d steps, seed %d, on %s",
        job.settings.agent.kind,
        f"{num_parameters(model):,}",
        top.num_envs,
        job.settings.steps,
        top.seed,
        model.device,
    )
    if isinstance(model, BookTQC):
        model.announce()
    log.info("run folder: %s   (watch: tensorboard --logdir %s)", folder, folder)


def _finish(
    job: TrainingJob, model: BaseAlgorithm, validation: Validation, checkpointing: Checkpointing
) -> None:
    """Score, save and export the last policy, and count the best one as a trial."""
    folder, setup = job.folder, job.setup
    validation.finish()
    # Stopped inside a rollout there is no state to resume.
    if model.num_timesteps % rollout_size(model) == 0:
        checkpointing.finish()
    save_policy(model.policy, folder, {**setup.describe_data(), "step": model.num_timesteps})
    # A walk-forward is one trial as a whole, its windows are none.
    if validation.best_step is not None and not is_walk(folder.parent):
        backtest = setup.judge(load_policy(folder / "best").policy, "validation")
        step, scored = validation.best_step, validation.scored
        record_run(folder, setup, "validation", backtest, step, candidates=scored)
    export_sb3_zip(model, folder / "model.zip")
    model.logger.close()
    if validation.best_step is None:
        title = validation.criterion.title
        log.warning("no validation gave a finite %s: there is no best policy", title)
    else:
        log.info("best %s at step %d", validation.best_shown(), validation.best_step)
