"""Replay buffers: transitions drawn by their TD errors, and what a checkpoint holds of a buffer."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples

from agents.off_policy.hindsight import HindsightReplay
from agents.off_policy.sum_tree import SumTree
from conf.errors import InputError
from conf.types import FloatArray, IntArray

_ROWS = ("observations", "actions", "rewards", "dones", "timeouts")
# Of hindsight, also rows: where each transition's episode begins and how long it is.
_EPISODES = ("ep_start", "ep_length")


class Draw(NamedTuple):
    """A minibatch of B transitions."""

    data: ReplayBufferSamples
    weights: torch.Tensor  # (B,) of importance
    items: IntArray  # (B,) which they are, for `PrioritisedReplay.learned`


class PrioritisedReplay(ReplayBuffer):
    """Proportional prioritisation (Schaul et al. 2016, arXiv:1511.05952).

    Transition i is drawn with probability P(i) = p_i^alpha / sum_k p_k^alpha, where p_i is the
    absolute TD error when it was last learned from plus `epsilon`; one that was never learned from
    has the largest so far. Its weight in the loss is (n P(i))^-beta over the largest of the
    minibatch, n transitions in all.
    """

    def __init__(self, *args: Any, alpha: float, epsilon: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self.alpha, self.epsilon = alpha, epsilon
        self.tree = SumTree(self.buffer_size * self.n_envs)
        self.largest = 1.0  # of all p^alpha so far

    def add(self, *args: Any, **options: Any) -> None:
        """One step of every episode."""
        new = self.pos * self.n_envs + np.arange(self.n_envs)
        super().add(*args, **options)
        self.tree.set(new, np.full(self.n_envs, self.largest))

    def draw(self, batch_size: int, beta: float) -> Draw:
        """A minibatch, one from each of `batch_size` equal parts of the total priority."""
        total = self.tree.total
        points = (np.arange(batch_size) + np.random.random_sample(batch_size)) / batch_size
        items = self.tree.find(points * total)
        share = self.tree.weights[items] / total
        weights = (self.size() * self.n_envs * share) ** -beta
        return Draw(
            self._rows(items), self.to_torch((weights / weights.max()).astype(np.float32)), items
        )

    def learned(self, items: IntArray, td_errors: FloatArray) -> None:
        """These transitions (B,) had these TD errors (B,)."""
        priorities = (np.abs(td_errors) + self.epsilon) ** self.alpha
        self.largest = max(self.largest, float(priorities.max()))
        self.tree.set(items, priorities)

    def _rows(self, items: IntArray) -> ReplayBufferSamples:
        where = np.divmod(items, self.n_envs)
        ended = self.dones[where] * (1.0 - self.timeouts[where])  # a cut-off year goes on
        parts = (
            self.observations[where],
            self.actions[where],
            self.next_observations[where],
            ended[:, None],
            self.rewards[where][:, None],
        )
        return ReplayBufferSamples(*(self.to_torch(part) for part in parts))


def replay_bytes(buffer: ReplayBuffer) -> int:
    """The memory of a full buffer."""
    return sum(array.nbytes for array in _arrays(buffer).values())


def _arrays(buffer: ReplayBuffer) -> dict[str, NDArray[Any]]:
    """By name, of all rows, with flat observations."""
    flat = buffer.flat if isinstance(buffer, HindsightReplay) else {}
    return {name: getattr(buffer, name) for name in (*_ROWS, "next_observations")} | flat


def replay_state(buffer: ReplayBuffer) -> dict[str, Any]:
    """What is in a buffer, as plain data; arrays may be views.

    Of the next observations those that are not the ones of the next row: half of the size.
    """
    size, arrays = buffer.size(), _arrays(buffer)
    state: dict[str, Any] = {name: arrays[name][:size] for name in _ROWS}
    following = arrays["next_observations"][:size]
    differs = np.ones(following.shape[:2], np.bool_)
    differs[:-1] = (following[:-1] != state["observations"][1:]).any(axis=-1)
    state |= {"differs": differs, "next_observations": following[differs]}
    state |= {"pos": buffer.pos, "full": buffer.full}
    if isinstance(buffer, PrioritisedReplay):
        weights = buffer.tree.weights[: size * buffer.n_envs]
        state |= {"priorities": weights, "largest": buffer.largest}
    if isinstance(buffer, HindsightReplay):
        state |= {name: getattr(buffer, name)[:size] for name in _EPISODES}
        state["begun"] = buffer._current_ep_start
    return state


def load_replay_state(buffer: ReplayBuffer, state: dict[str, Any]) -> None:
    """Fill an empty buffer with what `replay_state` gave; InputError where it does not fit."""
    size, arrays = len(state["rewards"]), _arrays(buffer)
    fits = size == (buffer.buffer_size if state["full"] else state["pos"]) <= buffer.buffer_size
    for name in _ROWS:
        fits = fits and state[name].shape[1:] == arrays[name].shape[1:]
    if not fits:
        raise InputError(
            f"the checkpoint's {size} rows of replay do not fit {buffer.buffer_size} of this run",
            "Resume with the agent.replay that the run was started with",
        )
    for name in _ROWS:
        arrays[name][:size] = state[name]
    following = arrays["next_observations"][:size]
    following[:-1] = state["observations"][1:]
    following[state["differs"]] = state["next_observations"]
    buffer.pos, buffer.full = state["pos"], state["full"]
    if isinstance(buffer, PrioritisedReplay):
        weights = cast(FloatArray, state["priorities"])
        buffer.tree.set(np.arange(len(weights)), weights)
        buffer.largest = state["largest"]
    if isinstance(buffer, HindsightReplay):
        for name in _EPISODES:
            getattr(buffer, name)[:size] = state[name]
        buffer._current_ep_start[:] = state["begun"]
