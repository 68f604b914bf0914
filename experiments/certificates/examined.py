"""Who is examined: the policy of a run in its own market, or a small network made on the spot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from agents.factory import RecurrentPPOSettings, build_agent
from agents.policy import Policy
from envs.adapters import KernelVecEnv
from envs.batch import BatchKernel
from experiments.evaluate import check_policy_fits, load_chosen
from experiments.run_folder import resolve_run
from experiments.runinfo import load_run_config
from experiments.session import Session, open_session
from experiments.settings import market_settings

# Trained, it finds a large edge in two thousand steps; untrained, it still has a memory.
SMALL_AGENT: dict[str, Any] = {
    "learning_rate": 3e-3,
    "rollout_steps": 512,
    "batch_size": 256,
    "n_epochs": 6,
    "gamma": 0.9,
    "lstm_hidden_size": 16,
    "n_lstm_layers": 1,
    "net_arch": (32,),
    "log_std_init": -2.0,
}
_LOUDER = 50.0  # a fresh action head asks for next to nothing


@dataclass(frozen=True)
class Examined:
    """A run's policy and the market that it was trained in."""

    run: Path
    policy: Policy
    session: Session


def examine(run: str, which: Literal["best", "last"]) -> Examined:
    """Load a run's policy and open its market; InputError for what is no finished run."""
    folder = resolve_run(run)
    config = load_run_config(folder)
    loaded = load_chosen(folder, which)
    session = open_session(market_settings(config))
    check_policy_fits(loaded, session.market)
    return Examined(folder, loaded.policy, session)


def untrained_policy(kernel: BatchKernel, seed: int) -> Policy:
    """A small recurrent network that trades what it sees and remembers, without any sense."""
    options = RecurrentPPOSettings(**{**SMALL_AGENT, "rollout_steps": 256 * kernel.num_envs})
    policy = build_agent(options, KernelVecEnv(kernel), seed, "cpu").policy
    with torch.no_grad():
        head: Any = policy.action_net
        for parameter in head.parameters():
            parameter.mul_(_LOUDER)
    policy.set_training_mode(False)
    return policy
