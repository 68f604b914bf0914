"""Determinism: the same settings and seed give the same weights and metrics, killed or not.

Two short runs, and one that is killed on the way and resumed, must leave the same bytes. In the
full form the third is a process that really is killed; in the short form a copy of the first
run's folder is cut back to what a kill would have left.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from agents.persistence.checkpoint import list_checkpoints
from agents.ppo.parallel import torch_threads
from conf.errors import InputError
from conf.settings import settings_to_json
from envs.hedging.market import HEDGING_REWARD
from experiments.certificates.certificate import Certificate, Certification
from experiments.environments.opening import open_market
from experiments.runs.folder import MANIFEST
from experiments.runs.record import load_run_config
from experiments.runs.settings import run_settings
from experiments.runs.training import TrainingJob, train_agent

# What a run leaves that must not depend on anything but its settings.
COMPARED = (
    "policy.safetensors",
    "best/policy.safetensors",
    "best/validation.json",
    "trial_validation.parquet",
)
STEPS = 256
KILLED_AFTER = 128  # steps; before the first validation, so that no best policy is there yet
_TIMEOUT_SECONDS = 300.0


def determinism(certification: Certification) -> list[Certificate]:
    """One certificate of an option book and one of a hedger."""
    seed, kill = certification.seed, certification.profile.kill
    steps = STEPS * (24 if kill else 1)
    return [
        runs_agree("determinism", tiny_config(seed, steps), kill=kill),
        runs_agree("determinism.hedging", tiny_hedging_config(seed, steps), kill=kill),
    ]


def runs_agree(name: str, config: Mapping[str, Any], *, kill: bool) -> Certificate:
    """The certificate of a second run, and of a third that was killed."""
    with TemporaryDirectory() as folder:
        root = Path(folder) / "outputs" / "certify"
        first, second, killed = root / "first", root / "second", root / "killed"
        train_once(config, first)
        train_once(config, second)
        if kill:
            kill_and_resume(config, killed)
        else:
            cut_back_and_resume(first, killed)
        return certificate_of(first, {"a second run": second, "a killed run": killed}, name)


def certificate_of(
    first: Path, others: Mapping[str, Path], name: str = "determinism"
) -> Certificate:
    """PASS where every compared file of every other run has the bytes of the first's."""
    hashes = {name: sha256_of(first / name) for name in COMPARED}
    different = [
        f"{name} of {title}"
        for title, folder in others.items()
        for name in COMPARED
        if sha256_of(folder / name) != hashes[name]
    ]
    compared = len(COMPARED) * len(others)
    what = f"of {compared} files of {' and '.join(others)} differ from those of the first"
    if different:
        what += f": {', '.join(different)}"
    details = {"sha256": hashes, "different": different, "killed_after_steps": KILLED_AFTER}
    return Certificate(name, not different, float(len(different)), what, details)


def sha256_of(file: Path) -> str:
    """SHA-256 of a file; InputError where the run left none."""
    if not file.is_file():
        raise InputError(f"the certificate's own run left no {file.name}", "See its log above")
    return hashlib.sha256(file.read_bytes()).hexdigest()


def tiny_config(seed: int, steps: int) -> dict[str, Any]:
    """A run of seconds: a simulated market, tiny networks, a few rollouts."""
    return {
        "experiment": "certify",
        "seed": seed,
        "total_timesteps": steps,
        "num_envs": 4,
        "device": "cpu",
        "threads": 1,
        "data": {"source": "synthetic", "sessions": 600},
        "surface": {"kind": "vix"},
        "env": {"kind": "options", "episode": {"sessions": 40}},
        "costs": {"kind": "realistic"},
        "reward": {},
        "risk": {},
        "agent": {
            "kind": "recurrent_ppo",
            "learning_rate": 1e-3,
            "rollout_steps": 128,
            "batch_size": 64,
            "n_epochs": 2,
            "lstm_hidden_size": 8,
            "n_lstm_layers": 1,
            "net_arch": [8],
        },
        "callbacks": {
            "checkpoint_every": 128,
            "validate_every": 256,
            "keep_last": None,
            "progress_bar": False,
        },
    }


def tiny_hedging_config(seed: int, steps: int) -> dict[str, Any]:
    """The same of a hedger that learns by whole episodes; 128 steps are a rollout here too."""
    return {
        **tiny_config(seed, steps),
        "num_envs": 32,
        "data": {"source": "synthetic", "sessions": 130, "paths": 20},
        "surface": {"kind": "none"},
        "env": {"kind": "hedging", "episode": {"sessions": 4, "ruin_share": 0.0}},
        "costs": {"kind": "flat", "rate_bps": 100.0},
        "reward": settings_to_json(HEDGING_REWARD),
        "risk": {"enabled": False},
        "agent": {"kind": "episode_ppo", "batch_size": 64, "net_arch": [8], "critic_arch": [8]},
    }


def train_once(config: Mapping[str, Any], folder: Path, *, resumed: bool = False) -> None:
    """Train in this process, into a folder of its own, or resume there."""
    settings = run_settings(config)
    folder.mkdir(parents=True, exist_ok=True)
    with quiet(), torch_threads(settings.top.threads):
        setup = open_market(settings.market)
        train_agent(TrainingJob(folder, config, settings, setup, resumed, allow_inexact=False))


def cut_back_and_resume(first: Path, folder: Path) -> None:
    """What a kill soon after a checkpoint leaves of a run, resumed."""
    shutil.copytree(first, folder)
    for checkpoint in list_checkpoints(folder / "checkpoints"):
        if int(checkpoint.name.removeprefix("step_")) > KILLED_AFTER:
            shutil.rmtree(checkpoint)
    for name in COMPARED:
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "best", ignore_errors=True)
    train_once(load_run_config(folder), folder, resumed=True)


def kill_and_resume(config: Mapping[str, Any], folder: Path) -> None:
    """Train in a process, kill it once it has written a checkpoint, and resume it here."""
    process = get_context("spawn").Process(target=train_once, args=(config, folder))
    process.start()
    try:
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while not _reached_checkpoint(folder):
            if not process.is_alive() or time.monotonic() > deadline:
                raise InputError(
                    "the training process that was to be killed ended by itself or never reached "
                    f"step {KILLED_AFTER} (code {process.exitcode})",
                    "Train by hand to see why: python -m experiments.train +exp=quickstart",
                )
            time.sleep(0.005)
    finally:
        process.kill()
        process.join()
    train_once(load_run_config(folder), folder, resumed=True)


def _reached_checkpoint(folder: Path) -> bool:
    steps = [int(path.name[5:]) for path in (folder / "checkpoints").glob("step_*")]
    return (folder / MANIFEST).is_file() and max(steps, default=0) >= KILLED_AFTER


@contextmanager
def quiet() -> Iterator[None]:
    """Without the log of a training run."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
