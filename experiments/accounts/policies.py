"""Which policies decide for an account, each with its share of the book.

An account begins with the policy that it was opened with. A `policies` event says who decides from
the next decision on, whether anything may be opened, and at which drawdown the account goes back to
another policy by itself. Each policy has a memory of its own, which has seen every session of the
account from the first one on, whenever it came in.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.persistence.policy_file import DESCRIPTION, WEIGHTS
from agents.policy import Policy, PolicyBatch, PolicyState
from conf.files import new_folder
from conf.types import BoolArray, FloatArray, ObsArray
from envs.core.kernel import BookKernel
from experiments.accounts.events import EventStore, decoded, encoded

POLICIES = "policies"  # kind of event
FIRST = "policy"  # the folder of the one that the account was opened with


@dataclass(frozen=True)
class Appointed:
    """Who decides, from one decision on."""

    shares: Mapping[str, float]  # folder in the account -> share of what it asks for
    held_back: str = ""  # why nothing is opened; empty where it may be
    since: str = ""  # the session that the drawdown is counted from
    max_drawdown: float | None = None  # beyond it `back_to` decides alone
    back_to: str = FIRST


def appointed(store: EventStore, before: int | None = None) -> Appointed:
    """Who decides now, or decided at the event of that number."""
    events = [e for e in store.of(POLICIES) if before is None or e.number < before]
    return Appointed(**events[-1].content["appointed"]) if events else Appointed({FIRST: 1.0})


def held_back(store: EventStore) -> list[str]:
    """Why nothing is opened, one reason or none."""
    return [reason] if (reason := appointed(store).held_back) else []


def appoint(
    store: EventStore, session: str, chosen: Appointed, because: str, sha256: Mapping[str, str] = {}
) -> None:
    """Let these decide from the decision after `session` on, unless they do already.

    sha256: the files of a policy that is new, by their path in the account's folder.
    """
    if appointed(store) != chosen:
        content = {"session": session, "appointed": asdict(chosen), "because": because}
        store.append(POLICIES, {**content, "sha256": dict(sha256)})


def copy_policy(source: Path, folder: Path, name: str = FIRST) -> dict[str, str]:
    """Copy a policy into an account's folder; the SHA-256 of its files there, by path."""
    with new_folder(folder / name) as copy:
        for file in (WEIGHTS, DESCRIPTION):
            shutil.copyfile(source / file, copy / file)
    return {f"{name}/{file}": sha256(folder / name / file) for file in (WEIGHTS, DESCRIPTION)}


def sha256(path: Path) -> str:
    """Of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def challenger_name(retraining: int) -> str:
    """What the policy of an account's retraining of that number is called."""
    return f"policy-{retraining + 1}"


def policy_names(store: EventStore) -> list[str]:
    """All that have ever decided, the first one first."""
    found = (name for e in store.of(POLICIES) for name in e.content["appointed"]["shares"])
    return list(dict.fromkeys([FIRST, *found]))


def asked_together(
    kernel: BookKernel, actions: Mapping[str, NDArray[Any]], shares: Mapping[str, float]
) -> FloatArray:
    """Units (1, M) that policies ask for together, each its share of what it would alone."""
    asked = [share * kernel.quantity_of(actions[name]) for name, share in sorted(shares.items())]
    return reduce(np.add, asked)


@dataclass(frozen=True)
class Succession(PolicyBatch):
    """Policies that decide for one book, each with its share at each of T sessions."""

    traders: Sequence[Policy]  # K
    shares: FloatArray  # (T, K)

    def quantities(
        self, kernel: BookKernel, observation: ObsArray, state: Any, episode_start: BoolArray
    ) -> tuple[FloatArray, Any]:
        """Units (N, M) that they ask for together; the state counts the sessions."""
        session, memories = (0, [None] * len(self.traders)) if state is None else state
        actions, after = {}, []
        for k, (policy, memory) in enumerate(zip(self.traders, memories, strict=True)):
            action, seen = policy.predict(observation, memory, episode_start, deterministic=True)
            actions[f"{k:04d}"] = action
            after.append(seen)
        parts = enumerate(self.shares[session].tolist())
        shares = {f"{k:04d}": share for k, share in parts if share}
        return asked_together(kernel, actions, shares), (session + 1, after)


def act(
    name: str,
    policy: Policy,
    decisions: Mapping[str, Mapping[str, Any]],
    sessions: Sequence[str],
    observed: Sequence[ObsArray],
) -> tuple[NDArray[Any], PolicyState]:
    """A policy's action (1, A) at the newest of the account's sessions, and its memory after it.

    It sees first what it has not seen since it last decided: what was recorded at the decisions of
    others (decisions: by session), and at sessions without one what the book shows now.
    """
    own = [session for session, content in decisions.items() if name in content["states"]]
    state = plain_to_state(decisions[own[-1]]["states"][name]) if own else None
    begins = np.array([not own])
    for at in range(sessions.index(own[-1]) + 1 if own else 0, len(sessions) - 1):
        decision = decisions.get(sessions[at])
        seen = observed[at] if decision is None else decoded(decision["observation"])
        _, state = policy.predict(seen, state, begins, deterministic=True)
        begins = np.zeros(1, np.bool_)
    return policy.predict(observed[-1], state, begins, deterministic=True)


def state_to_plain(state: Any) -> Any:
    """A policy's memory (arrays in nested tuples, or None) as JSON holds it."""
    if isinstance(state, tuple):
        return [state_to_plain(part) for part in state]
    return None if state is None else encoded(np.asarray(state))


def plain_to_state(plain: Any) -> Any:
    """What `state_to_plain` wrote."""
    if isinstance(plain, list):
        return tuple(plain_to_state(part) for part in plain)
    return None if plain is None else decoded(plain)
