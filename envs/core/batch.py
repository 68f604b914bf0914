"""The batched kernel that every environment is: N episodes in step, one random generator.

A kernel holds the only copy of an environment's dynamics. It does not restart episodes by itself:
`step` returns the last observation of a finished one, and `reset(mask)` begins the next. The
adapters do that as each library expects.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from conf.errors import InputError
from conf.types import BoolArray, FloatArray, IntArray, ObsArray
from risk.overlay import OverlayResult


class StepRecord(NamedTuple):
    """One trade of N books in M instruments, planned or executed; quantities in units."""

    row: IntArray  # (N,) of the market at the trade: path x T + session
    requested: FloatArray  # (N, M) before the risk module
    quantity: FloatArray  # (N, M) after the trade: held into the next close
    price: FloatArray  # (N, M) dollars a unit
    cost: FloatArray  # (N,) dollars of this trade; what rolling costs later is not among it
    traded: FloatArray  # (N,) dollars, likewise; 0 as long as it is only planned
    overlay: OverlayResult | None  # what the risk module did, where there is one


class StepResult(NamedTuple):
    """The result of one step of N episodes."""

    observation: ObsArray  # (N, D)
    reward: FloatArray  # (N,)
    terminated: BoolArray  # (N,) ended for good: ruin
    truncated: BoolArray  # (N,) cut off: the year or the data ended
    record: StepRecord


@dataclass(frozen=True)
class Window:
    """The sessions that episodes may use: decisions from `start`, the last close at `stop - 1`."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if self.start < 0 or self.stop - self.start < 2:
            raise InputError(
                f"a window of sessions {self.start} to {self.stop - 1} is too short to trade in",
                "Give at least two sessions: one to decide at and one to settle at",
            )


class SavedArrays:
    """Arrays that are saved and restored together: the attributes named in FIELDS."""

    FIELDS: ClassVar[tuple[str, ...]]

    def get_state(self) -> dict[str, Any]:
        """A copy of every array."""
        return {name: getattr(self, name).copy() for name in self.FIELDS}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take back what `get_state` gave."""
        for name in self.FIELDS:
            setattr(self, name, np.array(state[name], dtype=getattr(self, name).dtype))


class BatchKernel(ABC):
    """N episodes stepped together. Everything it knows is in arrays and one Generator."""

    num_envs: int
    observation_space: spaces.Box[np.float32]  # of one episode
    action_space: spaces.Box[np.float32]  # of one episode

    def __init__(self, num_envs: int, seed: int | None = None) -> None:
        if num_envs < 1:
            raise InputError(f"num_envs is {num_envs}", "Give at least one episode")
        self.num_envs = num_envs
        self.rng = np.random.default_rng(seed)

    def seed(self, seed: int | None) -> None:
        """Start the random generator afresh."""
        self.rng = np.random.default_rng(seed)

    @abstractmethod
    def reset(self, mask: BoolArray | None = None) -> ObsArray:
        """Begin new episodes where `mask` (N,) is set, or everywhere; observations (N, D)."""

    def restart(self, mask: BoolArray) -> ObsArray:
        """Like `reset(mask)`, but the first observations (K, D) of the K new episodes alone."""
        return self.reset(mask)[mask]

    @abstractmethod
    def step(self, action: NDArray[np.floating[Any]]) -> StepResult:
        """Act (N, A) in every episode and go to the next close."""

    @abstractmethod
    def episode_summary(self, index: int) -> dict[str, float]:
        """A finished episode in numbers, for logs; among them reward sum `r` and length `l`."""

    def get_state(self) -> dict[str, Any]:
        """The whole state: arrays and JSON-able values. Feeding it back restores the kernel."""
        return {"rng": self.rng.bit_generator.state, **self._get_arrays()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take back what `get_state` gave; another number of episodes is an InputError."""
        arrays = {name: value for name, value in state.items() if name != "rng"}
        for name, value in self._get_arrays().items():
            saved, shape = np.shape(arrays[name]) if name in arrays else None, np.shape(value)
            if saved != shape:
                raise InputError(
                    f"the saved environment has {name} of shape {saved}, this one {shape}",
                    "Restore it with the same num_envs and the same settings",
                )
        self.rng.bit_generator.state = state["rng"]
        self._set_arrays(arrays)

    @cached_property
    def _action_bounds(self) -> tuple[FloatArray, FloatArray]:
        space = self.action_space
        return space.low.astype(np.float64), space.high.astype(np.float64)

    @abstractmethod
    def _get_arrays(self) -> dict[str, Any]: ...

    @abstractmethod
    def _set_arrays(self, arrays: dict[str, Any]) -> None: ...

    def checked_action(self, action: Any) -> FloatArray:
        """The action as float64 (N, A) inside its bounds; a wrong shape or a NaN is refused."""
        low, high = self._action_bounds
        return np.minimum(np.maximum(self.finite_action(action), low), high)

    def finite_action(self, given: Any) -> FloatArray:
        """The action as float64 (N, A); a wrong shape or a NaN is refused."""
        action: FloatArray = np.asarray(given, dtype=np.float64)
        expected = (self.num_envs, *self.action_space.shape)
        if action.shape != expected:
            raise InputError(f"action has shape {action.shape}", f"Give one of shape {expected}")
        if np.count_nonzero(np.isfinite(action)) < action.size:
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(action))[0])
            raise InputError(
                f"action {where[1]} of episode {where[0]} is {action[where]}",
                "The policy has diverged, or its observation is not finite",
            )
        return action
