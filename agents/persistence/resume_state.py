"""Everything a PPO run, recurrent or not, consists of between two rollouts, taken out and put back.

At the start of a rollout (`on_rollout_start`) the rollout buffer is empty and all parts agree; a
model rebuilt from the same settings that is given these parts goes on as if it had never stopped.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnvWrapper, VecMonitor

from agents.persistence.fingerprint import determinism_fingerprint
from agents.persistence.packing import Array, as_array, pack, unpack
from agents.persistence.resume_checks import check_fits, check_setup
from conf.errors import InputError

_COUNTERS = ("num_timesteps", "_n_updates", "_episode_num", "_current_progress_remaining")
_OBSERVED = ("_last_obs", "_last_episode_starts", "_last_original_obs")
_MISFITS = (LookupError, TypeError, AttributeError, ValueError, RuntimeError, ArithmeticError)
_MONITORED = ("episode_returns", "episode_lengths", "episode_count")


@runtime_checkable
class StatefulEnv(Protocol):
    """A vectorised environment whose whole state, its random generators included, can be moved."""

    def get_state(self) -> dict[str, Any]:
        """Plain data: numbers (integers of any size), text, lists, tuples, mappings, arrays."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where `get_state` was called; InputError for a state that cannot fit."""


@runtime_checkable
class StatefulCallback(Protocol):
    """A callback that remembers something which later steps depend on."""

    def state_dict(self) -> dict[str, Any]:
        """Plain data, as for `StatefulEnv.get_state`."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was called."""


@dataclass(frozen=True)
class ResumeState:
    """A run between two rollouts: JSON data and the arrays that it refers to."""

    values: dict[str, Any]
    arrays: dict[str, Array]

    @property
    def step(self) -> int:
        """Environment steps done in all."""
        step = self.values.get("counters", {}).get("num_timesteps")
        if not isinstance(step, int) or isinstance(step, bool) or step < 0:
            raise InputError(f"the resume state has step {step!r}", "It is damaged")
        return step


def capture(model: OnPolicyAlgorithm, callbacks: Mapping[str, StatefulCallback]) -> ResumeState:
    """Take a copy of everything, at the start of a rollout.

    Raises InputError for what cannot be resumed exactly: state-dependent exploration, an
    environment that is no `StatefulEnv`, wrappers other than `VecMonitor`.
    """
    if model.use_sde:
        raise InputError("use_sde=True cannot be resumed", "Train with use_sde=False")
    if getattr(model, "_last_obs", None) is None:
        raise InputError("training has not begun", "Save at the start of a rollout")
    optimizer = model.policy.optimizer.state_dict()
    parts = {
        "policy": dict(model.policy.state_dict()),
        "optimizer": {
            "state": {str(index): entry for index, entry in optimizer["state"].items()},
            "groups": optimizer["param_groups"],
        },
        "lstm": _lstm_states(model),
        "observed": {name: getattr(model, name) for name in _OBSERVED},
        "env": [_wrapper_state(layer) for layer in _env_layers(model)],
        "random": _random_states(model),
        "counters": {name: getattr(model, name) for name in _COUNTERS},
        "episodes": {
            "infos": list(model.ep_info_buffer or []),
            "successes": list(model.ep_success_buffer or []),
        },
        "callbacks": {name: callback.state_dict() for name, callback in callbacks.items()},
        "fingerprint": determinism_fingerprint(model),
    }
    arrays: dict[str, Array] = {}
    values: dict[str, Any] = {}
    for name, part in parts.items():
        values[name], found = pack(part, name)
        arrays.update(found)
    return ResumeState(values, arrays)


def restore(
    state: ResumeState,
    model: OnPolicyAlgorithm,
    callbacks: Mapping[str, StatefulCallback],
    allow_inexact: bool = False,
) -> None:
    """Put everything back into a model that was built from the same settings.

    Then call `learn(total - model.num_timesteps, reset_num_timesteps=False)`: Stable-Baselines3
    adds the steps it is given to those already done. Raises InputError if the state does
    not fit the model (names and shapes are compared before anything changes), or if the machine,
    the software or the hyperparameters differ and `allow_inexact` is false; a different number of
    environments is never accepted.
    """
    try:
        parts = {name: unpack(part, state.arrays) for name, part in state.values.items()}
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
    parts: dict[str, Any], model: OnPolicyAlgorithm, callbacks: Mapping[str, StatefulCallback]
) -> None:
    tensors = {name: torch.from_numpy(array) for name, array in parts["policy"].items()}
    model.policy.load_state_dict(tensors, strict=True)
    model.policy.optimizer.load_state_dict(_optimizer_state(parts["optimizer"]))
    _restore_lstm(parts["lstm"], model)
    for name in _OBSERVED:
        setattr(model, name, parts["observed"][name])
    for name in _COUNTERS:
        setattr(model, name, parts["counters"][name])
    window = model._stats_window_size
    model.ep_info_buffer = deque(parts["episodes"]["infos"], maxlen=window)
    model.ep_success_buffer = deque(parts["episodes"]["successes"], maxlen=window)
    for layer, layer_state in zip(_env_layers(model), parts["env"], strict=True):
        _restore_wrapper(layer, layer_state)
    for name, callback in callbacks.items():
        if name in parts["callbacks"]:
            callback.load_state_dict(parts["callbacks"][name])
    # Last, so that nothing above can have drawn from them.
    _restore_random(parts["random"], model)


def _lstm_states(model: OnPolicyAlgorithm) -> dict[str, Any] | None:
    """None for an agent without memory."""
    states: Any = getattr(model, "_last_lstm_states", None)
    return None if states is None else {"pi": tuple(states.pi), "vf": tuple(states.vf)}


def _restore_lstm(saved: dict[str, Any] | None, model: OnPolicyAlgorithm) -> None:
    if saved is None:
        return
    states = {
        net: tuple(torch.from_numpy(array).to(model.device) for array in saved[net])
        for net in ("pi", "vf")
    }
    untyped: Any = model
    untyped._last_lstm_states = RNNStates(states["pi"], states["vf"])


def _optimizer_state(saved: dict[str, Any]) -> dict[str, Any]:
    state = {
        int(index): {
            name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
            for name, value in entry.items()
        }
        for index, entry in saved["state"].items()
    }
    return {"state": state, "param_groups": saved["groups"]}


def _env_layers(model: OnPolicyAlgorithm) -> list[Any]:
    """The environment and the wrappers around it, outermost first."""
    layers: list[Any] = [model.get_env()]
    while isinstance(layers[-1], VecEnvWrapper):
        if not isinstance(layers[-1], VecMonitor):
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


def _wrapper_state(layer: Any) -> dict[str, Any]:
    if isinstance(layer, VecMonitor):
        return {name: getattr(layer, name) for name in _MONITORED}
    state: dict[str, Any] = layer.get_state()
    return state


def _restore_wrapper(layer: Any, state: dict[str, Any]) -> None:
    if isinstance(layer, VecMonitor):
        for name in _MONITORED:
            setattr(layer, name, state[name])
    else:
        layer.set_state(state)


def _random_states(model: OnPolicyAlgorithm) -> dict[str, Any]:
    cuda = torch.device(model.device).type == "cuda"
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),
        "torch": as_array(torch.get_rng_state()),
        "cuda": as_array(torch.cuda.get_rng_state(model.device)) if cuda else None,
    }


def _restore_random(states: dict[str, Any], model: OnPolicyAlgorithm) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(torch.from_numpy(states["torch"]))
    if states["cuda"] is not None and torch.device(model.device).type == "cuda":
        torch.cuda.set_rng_state(torch.from_numpy(states["cuda"]), model.device)
