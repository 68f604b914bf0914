"""Finished runs merged into one: a run folder whose best policy is the average of theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from agents.ensemble import merge_policies
from agents.persistence.policy_file import LoadedPolicy, load_policy, policy_step, save_policy
from callbacks.criterion import Criterion
from conf.errors import InputError
from conf.files import new_folder, write_json
from conf.settings import settings_to_json
from experiments.environments.opening import market_settings, open_market
from experiments.runs.folder import shown_path
from experiments.runs.record import RunRecord, as_it_was_trained, load_manifest, load_run_config
from experiments.runs.training import refuse_other_data, refuse_used_folder
from experiments.runs.trials import record_run


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


def merge_runs(runs: Sequence[Path], folder: Path, experiment: str) -> tuple[Criterion, float]:
    """Merge the best policies of runs into a run in `folder`; what it is judged by, and its value.

    Its configuration is the first run's with the wider network. The validation is a trial of its
    own; those of the members are in the ledger already. Raises InputError for fewer than two runs,
    for one that is not finished, for different environments, data or networks, and for policies
    that cannot be merged exactly.
    """
    if len(runs) < 2:
        raise InputError(f"runs has {len(runs)} run", "Name two or more to merge")
    refuse_used_folder(folder)
    members = [_member(run) for run in runs]
    first, steps = members[0], sum(policy_step(member.best) for member in members)
    for member in members[1:]:
        _refuse_other_environment(first, member)
    policy = merge_policies([member.best.policy for member in members])
    setup = open_market(market_settings(first.config))
    for member in members:
        refuse_other_data(member.run, setup)
    config = {
        **first.config,
        "experiment": experiment,
        "agent": _wider(first.config["agent"], len(members)),
    }
    record = RunRecord(
        folder,
        config,
        seed=config["seed"],
        data=setup.describe_data(),
        merged_from=[member.describe() for member in members],
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
