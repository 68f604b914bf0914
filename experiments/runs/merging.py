"""Finished runs merged into one: a run folder whose best policy is made of theirs.

It acts as their average, or as the specialist of the regime that the market is in.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.policies import BasePolicy

from agents.ensemble import merge_policies
from agents.persistence.policy_file import LoadedPolicy, load_policy, policy_step, save_policy
from agents.ppo.columns import columns_named
from agents.regimes import REGIMES, Gating, RegimeFilter, RegimeKind, RegimePolicy, fit_filter
from callbacks.criterion import Criterion
from conf.errors import InputError
from conf.files import new_folder, write_json
from conf.settings import settings_to_json
from conf.types import FloatArray
from envs.kernels import open_kernel
from experiments.environments.opening import market_settings, open_market
from experiments.environments.setup import MarketSetup
from experiments.runs.folder import shown_path
from experiments.runs.record import RunRecord, as_it_was_trained, load_manifest, load_run_config
from experiments.runs.training import refuse_other_data, refuse_used_folder
from experiments.runs.trials import record_run

log = logging.getLogger(__name__)

# The feature that tells the regimes apart unless another is named.
_FEATURES: Mapping[RegimeKind, str] = {"volatility": "return", "trend": "macd_signal"}
_MOST_SESSIONS = 20_000  # that regimes are fitted to: whole paths, one after another


@dataclass(frozen=True)
class Specialists:
    """Two runs are specialists of the market's regimes, named in the order of REGIMES."""

    regime: RegimeKind
    feature: str | None  # of the observation; None: the usual one
    gating: Gating


@dataclass(frozen=True)
class Member:
    """A finished run and the policy that it chose."""

    run: Path
    config: Mapping[str, Any]
    best: LoadedPolicy

    def describe(self) -> dict[str, Any]:
        """Which run it is, for the manifest of the ensemble."""
        return {
            "run": "/".join(self.run.parts[-3:]),
            "seed": self.config["seed"],
            "policy_step": policy_step(self.best),
        }


def merge_runs(
    runs: Sequence[Path], folder: Path, experiment: str, specialists: Specialists | None = None
) -> tuple[Criterion, float]:
    """Merge the best policies of runs into a run in `folder`; what it is judged by, and its value.

    Its configuration is the first run's, with the wider network of an average. The validation is a
    trial of its own; those of the members are in the ledger already. Raises InputError for too few
    runs, for one that is not finished, for different environments or data, for policies that
    cannot be averaged exactly, and for regimes that the training years do not show.
    """
    if len(runs) < 2:
        raise InputError(f"runs has {len(runs)} run", "Name two or more to merge")
    if specialists is not None and len(runs) > 2:
        raise InputError(
            f"runs has {len(runs)} runs, and {specialists.regime} has two regimes",
            f"Name two, the {REGIMES[specialists.regime][0]} one first; either may be an ensemble",
        )
    refuse_used_folder(folder)
    members = [_member(run) for run in runs]
    first, steps = members[0], sum(policy_step(member.best) for member in members)
    for member in members[1:]:
        _refuse_other_environment(first, member)
    setup = open_market(market_settings(first.config))
    for member in members:
        refuse_other_data(member.run, setup)
    policies = [member.best.policy for member in members]
    config, described = {**first.config, "experiment": experiment}, [m.describe() for m in members]
    policy: BasePolicy
    if specialists is None:
        policy = merge_policies(policies)
        config["agent"] = _wider(config["agent"], len(members))
    else:
        regimes = _fitted(specialists, setup)
        policy = RegimePolicy(policies, regimes, specialists.gating)
        for one, name, share in zip(
            described, REGIMES[specialists.regime], regimes.shares, strict=True
        ):
            one["regime"] = name
            log.info("%s, %.0f %% of the sessions: %s", name, 100.0 * share, one["run"])
    record = RunRecord(
        folder,
        config,
        seed=config["seed"],
        data=setup.describe_data(),
        merged_from=described,
    )
    with record:
        record.start_at(steps)
        with new_folder(folder / "best") as best:
            save_policy(policy, best, {**setup.describe_data(), "step": steps})
            measured = setup.scorer("validation")(policy)
            finite = {name: float(x) if np.isfinite(x) else None for name, x in measured.items()}
            write_json(best / "validation.json", {"step": steps, "metrics": finite})
        backtest = setup.judge(policy, "validation")
        record_run(folder, setup, "validation", backtest, steps, candidates=1)
    return setup.criterion, float(measured[setup.criterion.metric])


def _fitted(specialists: Specialists, setup: MarketSetup) -> RegimeFilter:
    """The regimes that the training years show."""
    name = specialists.feature or _FEATURES[specialists.regime]
    columns = columns_named([name], [feature.name for feature in setup.market.features])
    if len(columns) > 1:
        raise InputError(f"feature={name} fits {len(columns)} features", "Name one")
    try:
        return fit_filter(specialists.regime, columns[0], _observed_in_training(setup, columns[0]))
    except InputError:
        raise InputError(
            f"feature={name} shows no two regimes in the training years",
            "Name another feature, which moves with the market and not with the book",
        ) from None


def _observed_in_training(setup: MarketSetup, column: int) -> FloatArray:
    """A feature as a policy without a book observes it at every training session, (S,)."""
    window = setup.window("train")
    sessions = np.arange(window.start, window.stop)
    paths = min(setup.history.num_paths, max(_MOST_SESSIONS // len(sessions), 1))
    start, path = np.tile(sessions, paths), np.repeat(np.arange(paths), len(sessions))
    books = open_kernel(setup.market, setup.settings.env, window, len(start), random_start=False)
    return books.place(start, path, start + 1)[:, column].astype(np.float64)


def _member(run: Path) -> Member:
    status = load_manifest(run).get("status")
    if status != "finished":
        raise InputError(
            f"{shown_path(run)} is {status}, not finished", f"Go on with resume={shown_path(run)}"
        )
    return Member(run, as_it_was_trained(load_run_config(run)), load_policy(run / "best"))


def _refuse_other_environment(first: Member, other: Member) -> None:
    """What was paid for and learned in may differ; what is seen, traded and judged on may not."""
    ours, theirs = _environment(first.config), _environment(other.config)
    odd = sorted(
        f"{section}.{key}"
        for section in ours
        for key in ours[section].keys() | theirs.get(section, {}).keys()
        if ours[section].get(key) != theirs.get(section, {}).get(key)
    )
    if odd:
        raise InputError(
            f"the environment of {shown_path(other.run)} differs from that of "
            f"{shown_path(first.run)} in {', '.join(odd)}",
            "Merge runs that differ in their seed or their training alone",
        )


def _environment(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    market: Any = market_settings(config)
    sections = {
        field.name: settings_to_json(getattr(market, field.name)) for field in fields(market)
    }
    del sections["env"]["reward"]
    sections["data"].pop("worlds", None)
    return sections


def _wider(agent: Mapping[str, Any], count: int) -> dict[str, Any]:
    """The agent's settings with the merged network's sizes."""
    return {
        **agent,
        "lstm_hidden_size": count * agent["lstm_hidden_size"],
        "net_arch": [count * width for width in agent["net_arch"]],
    }
