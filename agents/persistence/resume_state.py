"""The whole state of a training run, recurrent or not, between two rollouts: captured and restored.

At the start of a rollout (`on_rollout_start`) a rollout buffer is empty and all parts agree; a
model rebuilt from the same settings that is given these parts continues as if never stopped.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnvWrapper, VecMonitor

from agents.persistence.packing import Array, as_array, pack, unpack
from agents.persistence.resume_checks import (
    check_fits,
    check_setup,
    determinism_fingerprint,
    optimizers_of,
)
from conf.errors import InputError

_COUNTERS = ("num_timesteps", "_n_updates", "_episode_num", "_current_progress_remaining")
_OBSERVED = ("_last_obs", "_last_episode_starts", "_last_original_obs")
_MISFITS = (LookupError, TypeError, AttributeError, ValueError, RuntimeError, ArithmeticError)
_MONITORED = ("episode_returns", "episode_lengths", "episode_count")


@runtime_checkable
class StatefulEnv(Protocol):
    """A vectorised environment whose whole state, with its random generators, can be saved."""

    def get_state(self) -> dict[str, Any]:
        """Plain data: numbers (integers of any size), text, lists, tuples, mappings, arrays."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where `get_state` was called; InputError for a state that cannot fit."""


@runtime_checkable
class StatefulCallback(Protocol):
    """A callback with a state that later steps depend on."""

    def state_dict(self) -> dict[str, Any]:
        """Plain data, as for `StatefulEnv.get_state`."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was called."""


@runtime_checkable
class StatefulAlgorithm(Protocol):
    """An algorithm with a state of its own: noise, a replay buffer."""

    def own_state(self) -> dict[str, Any]:
        """Plain data, as for `StatefulEnv.get_state`."""

    def load_own_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where `own_state` was called."""


@dataclass(frozen=True)
class ResumeState:
    """A run between two rollouts: JSON data and the arrays that it refers to."""

    values: dict[str, Any]
    arrays: dict[str, Array]

    @property
    def step(self) -> int:
        """Environment steps so far."""
        counters = self.values.get("counters")
        step = counters.get("num_timesteps") if isinstance(counters, dict) else None
        if not isinstance(step, int) or isinstance(step, bool) or step < 0:
            raise InputError(f"the resume state has step {step!r}", "It is damaged")
        return step


def capture(model: BaseAlgorithm, callbacks: Mapping[str, StatefulCallback]) -> ResumeState:
    """Copy the whole state, at the start of a rollout.

    Raises InputError for what cannot be resumed exactly: state-dependent exploration, an
    environment or a wrapper that is no `StatefulEnv`, but for `VecMonitor`.
    """
    if model.use_sde:
        raise InputError("use_sde=True cannot be resumed", "Train with use_sde=False")
    if getattr(model, "_last_obs", None) is None:
        raise InputError("training has not begun", "Save at the start of a rollout")
    lstm_states: Any = getattr(model, "_last_lstm_states", None)  # None: not recurrent
    parts: dict[str, Any] = {
        "policy": dict(model.policy.state_dict()),
        "optimizers": {
            name: _saved_optimizer(optimizer) for name, optimizer in optimizers_of(model).items()
        },
        "lstm": None if lstm_states is None else lstm_states._asdict(),
        "observed": {name: getattr(model, name) for name in _OBSERVED},
        "env": [_layer_state(layer) for layer in _env_layers(model)],
        "random": _random_states(model),
        "counters": {name: getattr(model, name) for name in _COUNTERS},
        "episodes": {
            "infos": list(model.ep_info_buffer or []),
            "successes": list(model.ep_success_buffer or []),
        },
        "callbacks": {name: callback.state_dict() for name, callback in callbacks.items()},
        "fingerprint": determinism_fingerprint(model),
    }
    if isinstance(model, StatefulAlgorithm):
        parts["algorithm"] = model.own_state()
    arrays: dict[str, Array] = {}
    values: dict[str, Any] = {}
    for name, part in parts.items():
        values[name], part_arrays = pack(part, name)
        arrays.update(part_arrays)
    return ResumeState(values, arrays)


def restore(
    state: ResumeState,
    model: BaseAlgorithm,
    callbacks: Mapping[str, StatefulCallback],
    allow_inexact: bool = False,
) -> None:
    """Put a captured state into a model that was built from the same settings.

    Then call `learn(total - model.num_timesteps, reset_num_timesteps=False)`: Stable-Baselines3
    adds these steps to the earlier ones. Raises InputError if the state does not fit the model
    (names and shapes are compared before anything changes), or if the machine, the software or the
    hyperparameters differ and `allow_inexact` is false: each difference is named. A different
    number of environments is never accepted.
    """
    try:
        parts = {name: unpack(part, state.arrays) for name, part in state.values.items()}
        if "optimizer" in parts:  # of earlier versions, which knew only one
            parts["optimizers"] = {"policy": parts.pop("optimizer")}
        check_setup(parts, model, callbacks, allow_inexact)
        check_fits(parts, model)
        _restore_parts(parts, model, callbacks)
    except _MISFITS as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"the checkpoint does not fit this run: {type(error).__name__}: {reason}",
            "Resume with the settings that the run was started with",
        ) from error


def _restore_parts(
    parts: dict[str, Any], model: BaseAlgorithm, callbacks: Mapping[str, StatefulCallback]
) -> None:
    tensors = {name: torch.from_numpy(array) for name, array in parts["policy"].items()}
    model.policy.load_state_dict(tensors, strict=True)
    for name, optimizer in optimizers_of(model).items():
        optimizer.load_state_dict(_optimizer_state(parts["optimizers"][name]))
    if parts["lstm"] is not None:
        pi, vf = (
            tuple(torch.from_numpy(array).to(model.device) for array in parts["lstm"][net])
            for net in ("pi", "vf")
        )
        setattr(model, "_last_lstm_states", RNNStates(pi, vf))  # noqa: B010  # PPO has none
    for part, names in (("observed", _OBSERVED), ("counters", _COUNTERS)):
        for name in names:
            setattr(model, name, parts[part][name])
    if isinstance(model, StatefulAlgorithm):
        model.load_own_state(parts["algorithm"])
    window = model._stats_window_size
    model.ep_info_buffer = deque(parts["episodes"]["infos"], maxlen=window)
    model.ep_success_buffer = deque(parts["episodes"]["successes"], maxlen=window)
    for layer, layer_state in zip(_env_layers(model), parts["env"], strict=True):
        _restore_layer(layer, layer_state)
    for name, callback in callbacks.items():
        if name in parts["callbacks"]:
            callback.load_state_dict(parts["callbacks"][name])
    # Last, so that nothing above can draw from them.
    _restore_random(parts["random"], model)


def _saved_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    state = optimizer.state_dict()
    entries = {str(index): entry for index, entry in state["state"].items()}
    return {"state": entries, "groups": state["param_groups"]}


def _optimizer_state(saved: dict[str, Any]) -> dict[str, Any]:
    state = {
        int(index): {
            name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
            for name, value in entry.items()
        }
        for index, entry in saved["state"].items()
    }
    return {"state": state, "param_groups": saved["groups"]}


def _env_layers(model: BaseAlgorithm) -> list[Any]:
    """The environment and the wrappers around it, outermost first."""
    layers: list[Any] = [model.get_env()]
    while isinstance(layers[-1], VecEnvWrapper):
        # By its class: a wrapper answers for what it wraps.
        stateful = hasattr(type(layers[-1]), "get_state")
        if not stateful and not isinstance(layers[-1], VecMonitor):
            raise InputError(
                f"{type(layers[-1]).__name__} keeps state that a checkpoint does not hold",
                "Train without that wrapper",
            )
        layers.append(layers[-1].venv)
    if not isinstance(layers[-1], StatefulEnv):
        raise InputError(
            f"{type(layers[-1]).__name__} cannot be resumed: it has no get_state and set_state",
            "Implement agents.persistence.resume_state.StatefulEnv",
        )
    return layers


def _layer_state(layer: Any) -> dict[str, Any]:
    if isinstance(layer, VecMonitor):
        return {name: getattr(layer, name) for name in _MONITORED}
    return cast(dict[str, Any], layer.get_state())


def _restore_layer(layer: Any, state: dict[str, Any]) -> None:
    if isinstance(layer, VecMonitor):
        for name in _MONITORED:
            setattr(layer, name, state[name])
    else:
        layer.set_state(state)


def _random_states(model: BaseAlgorithm) -> dict[str, Any]:
    cuda = torch.device(model.device).type == "cuda"
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),
        "torch": as_array(torch.get_rng_state()),
        "cuda": as_array(torch.cuda.get_rng_state(model.device)) if cuda else None,
    }


def _restore_random(states: dict[str, Any], model: BaseAlgorithm) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(torch.from_numpy(states["torch"]))
    if states["cuda"] is not None and torch.device(model.device).type == "cuda":
        torch.cuda.set_rng_state(torch.from_numpy(states["cuda"]), model.device)
