"""A training run from its plan to its last policy: the recipe behind `experiments.train`."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from sb3_contrib.ppo_recurrent.policies import MlpLstmPolicy
from stable_baselines3.common.callbacks import CallbackList
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from agents.factory import build_agent, num_parameters
from agents.persistence.checkpoint import list_checkpoints, newest_checkpoint, restore_checkpoint
from agents.persistence.policy_file import load_policy, save_policy
from agents.persistence.resume_state import StatefulCallback
from agents.ppo.policies import MaskedMlpLstmPolicy
from callbacks.checkpointing import Checkpointing
from callbacks.dashboard import Dashboard, make_logger
from callbacks.divergence import DivergenceCallback, explained_divergence
from callbacks.performance import PerformanceCallback
from callbacks.progress import Progress
from callbacks.validation import Validation
from conf.errors import InputError
from conf.files import remove_leftovers, write_atomically
from conf.settings import settings_to_json
from envs.kernels import open_kernel
from envs.sb3_vec_env import KernelVecEnv
from experiments.environments.opening import open_market
from experiments.environments.setup import MarketSetup
from experiments.runs.folder import (
    MANIFEST,
    is_walk,
    resolve_run,
    shown_path,
)
from experiments.runs.record import RunRecord, load_manifest, load_run_config
from experiments.runs.settings import RunSettings, TopLevel, run_settings
from experiments.runs.trials import record_run

_EXPORTABLE = (MaskedMlpLstmPolicy, MlpLstmPolicy)


def export_sb3_zip(model: OnPolicyAlgorithm, path: Path) -> None:
    """Write an SB3 zip that `sb3_contrib.RecurrentPPO.load` reads without this package.

    The zip names the stock policy, which the weights fit; nothing is written for other policies.
    This package itself never reads the file: loading such a zip can run code.
    """
    own = model.policy_class
    if own not in _EXPORTABLE:
        return
    content = io.BytesIO()
    model.policy_class = MlpLstmPolicy
    try:
        model.save(content, exclude=["_logger"])
    finally:
        model.policy_class = own
    write_atomically(path, content.getvalue())


log = logging.getLogger(__name__)

# Settings of one invocation, not of the run.
INVOCATION_KEYS = ("resume", "allow_inexact_resume")

# A policy in a folder of that name in the run folder: the run begins with its weights.
START = "start"


@dataclass(frozen=True)
class Plan:
    """What one invocation is to do, and where."""

    folder: Path
    config: Mapping[str, Any]  # plain; with the data settings that were really used
    settings: RunSettings
    setup: MarketSetup
    resumed: bool
    allow_inexact: bool


def make_plan(plain: Mapping[str, Any], folder: Path) -> Plan:
    """Check everything and load the data, before anything is written."""
    resumed = plain["resume"] is not None
    if resumed:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise InputError(
                "resume was given in a multirun", "Resume one run at a time, without -m"
            )
        refuse_other_overrides(
            INVOCATION_KEYS, "A resumed run keeps its own settings; start a new run to change them"
        )
        folder = resolve_run(plain["resume"])
        config = load_run_config(folder)
    else:
        refuse_used_folder(folder)
        config = {name: value for name, value in plain.items() if name not in INVOCATION_KEYS}
    settings = run_settings(config)
    prepare_torch(settings.top)
    setup = open_market(settings.market)
    if resumed:
        refuse_other_data(folder, setup)
    # After a fallback this is what was trained on, and what a resume has to ask for.
    config = {**config, "data": settings_to_json(setup.loaded.settings)}
    return Plan(folder, config, settings, setup, resumed, bool(plain["allow_inexact_resume"]))


def refuse_used_folder(folder: Path) -> None:
    """A new run never writes over an earlier one."""
    if (folder / MANIFEST).exists() or (folder / "checkpoints").exists():
        raise InputError(
            f"{shown_path(folder)} already holds a run",
            f"Go on with resume={shown_path(folder)}, or choose another hydra.run.dir",
        )


def prepare_torch(top: TopLevel) -> None:
    """Set torch's threads; InputError where the device that is asked for is not there."""
    if top.device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device is {top.device!r}, but torch sees no GPU", "Use cpu")
    torch.set_num_threads(top.threads)


def refuse_other_data(folder: Path, setup: MarketSetup) -> None:
    """InputError unless the session holds what the run in `folder` began with."""
    if not same_data(load_manifest(folder)["data"], setup.describe_data()):
        raise InputError(
            f"the data of {shown_path(folder)} has changed since the run began",
            "Put the original data back, or start a new run",
        )


def same_data(saved: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Is it the same history, split alike? How it was come by (the notices) does not matter."""
    return all(saved.get(key) == now[key] for key in now if key != "notices")


def run(plan: Plan) -> float | None:
    """Train to the end, from the newest checkpoint where there is one."""
    folder, top, setup = plan.folder, plan.settings.top, plan.setup
    model = build_model(setup, plan.settings)
    if (folder / START).is_dir():
        model.policy.load_state_dict(load_policy(folder / START).policy.state_dict())
    data = setup.describe_data()
    with RunRecord(folder, plan.config, seed=top.seed, data=data) as record:
        validation = _validation(plan)
        checkpointing = _checkpointing(plan, validation, record)
        progress = Progress(top.total_timesteps, plan.settings.callbacks.progress_bar)
        going_on = _restore(plan, model, {"validation": validation, "checkpointing": checkpointing})
        record.start_at(model.num_timesteps)
        _announce(plan, model)
        purge_step = model.num_timesteps + 1 if plan.resumed else None
        model.set_logger(make_logger(folder / "tensorboard", purge_step))
        watching = [
            _dashboard(plan),
            DivergenceCallback(folder / "checkpoints"),
            PerformanceCallback(),
        ]
        try:
            with explained_divergence(model, folder / "checkpoints"):
                model.learn(
                    max(top.total_timesteps - model.num_timesteps, 0),
                    callback=CallbackList([*watching, validation, progress, checkpointing]),
                    reset_num_timesteps=not going_on,
                )
        finally:
            progress.close()
        _finish(plan, model, validation, checkpointing)
        record.progress(model.num_timesteps)
    return validation.best_sharpe


def _dashboard(plan: Plan) -> Dashboard:
    names = ("seed", "num_envs", "total_timesteps", "agent", "reward", "costs", "surface", "risk")
    return Dashboard({name: plan.config[name] for name in names if name in plan.config})


def _validation(plan: Plan) -> Validation:
    options, setup = plan.settings.callbacks, plan.setup
    return Validation(
        options.validate_every,
        plan.folder / "best",
        setup.scorer("validation"),
        setup.scorer("train"),
        metadata=setup.describe_data(),
        patience=options.patience,
    )


def _checkpointing(plan: Plan, validation: Validation, record: RunRecord) -> Checkpointing:
    options = plan.settings.callbacks
    return Checkpointing(
        plan.folder / "checkpoints",
        options.checkpoint_every,
        {"validation": validation},
        options.keep_last,
        on_saved=record.progress,
    )


def _restore(
    plan: Plan, model: OnPolicyAlgorithm, stateful: Mapping[str, StatefulCallback]
) -> bool:
    """Put the newest checkpoint back, if this is a resume and there is one."""
    checkpoints = plan.folder / "checkpoints"
    remove_leftovers(plan.folder)
    remove_leftovers(checkpoints)
    if not plan.resumed:
        return False
    newest, there = newest_checkpoint(checkpoints), list_checkpoints(checkpoints)
    if newest is None and not there:
        return False
    if newest is None:
        raise InputError(
            f"every checkpoint in {shown_path(checkpoints)} is damaged",
            "Remove them to begin from the start, or put back a copy",
        )
    for path in there[there.index(newest) + 1 :]:
        log.warning("checkpoint %s is damaged and was passed over", path.name)
    restore_checkpoint(model, stateful, newest, plan.allow_inexact)
    log.info("resuming from %s", newest.name)
    return True


def _announce(plan: Plan, model: OnPolicyAlgorithm) -> None:
    top, folder = plan.settings.top, shown_path(plan.folder)
    for name, (first, last) in plan.setup.describe_data()["splits"].items():
        log.info("%s: %s to %s", name, first, last)
    log.info(
        "agent: %s, %s weights, %d episodes in parallel, %d steps, seed %d, on %s",
        plan.settings.agent.kind,
        f"{num_parameters(model):,}",
        top.num_envs,
        top.total_timesteps,
        top.seed,
        model.device,
    )
    log.info("run folder: %s   (watch: tensorboard --logdir %s)", folder, folder)


def _finish(
    plan: Plan, model: OnPolicyAlgorithm, validation: Validation, checkpointing: Checkpointing
) -> None:
    """Score and save the last policy. Stopped inside a rollout there is no state to resume."""
    validation.finish()
    if model.num_timesteps % (model.n_steps * model.n_envs) == 0:
        checkpointing.finish()
    metadata = {**plan.setup.describe_data(), "step": model.num_timesteps}
    save_policy(model.policy, plan.folder, metadata)
    # A walk-forward is one trial as a whole, its windows are none.
    if validation.best_step is not None and not is_walk(plan.folder.parent):
        best = load_policy(plan.folder / "best").policy
        backtest = plan.setup.judge(best, "validation")
        record_run(
            plan.folder,
            plan.setup,
            "validation",
            backtest,
            validation.best_step,
            candidates=validation.scored,
        )
    export_sb3_zip(model, plan.folder / "model.zip")
    model.logger.close()
    if validation.best_sharpe is None:
        log.warning("no validation gave a finite Sharpe ratio: there is no best policy")
    else:
        step = validation.best_step
        log.info("best validation Sharpe %.2f at step %d", validation.best_sharpe, step)


def refuse_other_overrides(allowed: Sequence[str], remedy: str) -> None:
    """What is resumed keeps its settings: InputError for an override of another key."""
    for override in HydraConfig.get().overrides.task:
        if override.lstrip("+~").partition("=")[0] not in allowed:
            raise InputError(f"{override!r} was given together with resume=", remedy)


def build_model(setup: MarketSetup, settings: RunSettings) -> OnPolicyAlgorithm:
    """A fresh agent in `num_envs` episodes of the training split."""
    top = settings.top
    kernel = open_kernel(
        setup.market,
        setup.settings.env,
        setup.window("train"),
        top.num_envs,
        top.seed,
        risk=setup.training_risk,
    )
    env = KernelVecEnv(kernel, settings.agent.reward_scale)
    return build_agent(settings.agent, env, top.seed, top.device)
