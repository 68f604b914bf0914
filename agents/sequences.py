"""A rollout cut into sequences of equal length, and minibatches drawn from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib.common.recurrent.buffers import RecurrentRolloutBuffer

from agents.short_lstm import LstmState


@dataclass(frozen=True)
class Minibatch:
    """B sequences of L steps, one sequence after the other: every first axis is B * L."""

    observations: torch.Tensor  # (B * L, features)
    actions: torch.Tensor  # (B * L, ...)
    old_values: torch.Tensor  # (B * L,)
    old_log_prob: torch.Tensor  # (B * L,)
    advantages: torch.Tensor  # (B * L,) as the rollout gave them, not normalised
    returns: torch.Tensor  # (B * L,)
    episode_starts: torch.Tensor  # (B * L,) 1 where an episode begins, at any step
    actor_state: LstmState  # before the first step of each sequence, each (layers, B, size)
    critic_state: LstmState


class RolloutSequences:
    """The steps of a full rollout buffer as S sequences of L steps, on the device, made once."""

    def __init__(
        self, buffer: RecurrentRolloutBuffer, length: int, device: torch.device | str
    ) -> None:
        self._length = length
        self._steps = {
            name: _to(device, _steps_of_sequences(getattr(buffer, source), length))
            for name, source in (
                ("observations", "observations"),
                ("actions", "actions"),
                ("old_values", "values"),
                ("old_log_prob", "log_probs"),
                ("advantages", "advantages"),
                ("returns", "returns"),
                ("episode_starts", "episode_starts"),
            )
        }
        self._states = {
            name: tuple(_to(device, _first_states(part, length)) for part in parts)
            for name, parts in (
                ("actor_state", (buffer.hidden_states_pi, buffer.cell_states_pi)),
                ("critic_state", (buffer.hidden_states_vf, buffer.cell_states_vf)),
            )
        }

    def minibatches(self, batch_size: int) -> Iterator[Minibatch]:
        """All sequences once, shuffled by NumPy's generator; the last minibatch may be smaller."""
        count = len(self._steps["returns"])
        order = torch.from_numpy(np.random.permutation(count))
        order = order.to(self._steps["returns"].device)
        for chosen in torch.split(order, batch_size // self._length):
            parts: dict[str, Any] = {
                name: part[chosen].flatten(0, 1) for name, part in self._steps.items()
            }
            for name, states in self._states.items():
                parts[name] = tuple(part[chosen].transpose(0, 1).contiguous() for part in states)
            yield Minibatch(**parts)


def _steps_of_sequences(values: NDArray[Any], length: int) -> NDArray[Any]:
    """(steps, episodes, ...) to (sequences, length, ...)."""
    steps, episodes, *rest = values.shape
    cut = values.reshape(steps // length, length, episodes, *rest)
    return cut.swapaxes(1, 2).reshape(-1, length, *rest)


def _first_states(states: NDArray[Any], length: int) -> NDArray[Any]:
    """(steps, layers, episodes, size) to (sequences, layers, size), where sequences begin."""
    _, layers, _, size = states.shape
    return states[::length].swapaxes(1, 2).reshape(-1, layers, size)


def _to(device: torch.device | str, values: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(device)
