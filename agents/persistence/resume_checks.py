"""Does a saved resume state belong to this model? Asked before anything of the model is changed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from agents.persistence.fingerprint import determinism_fingerprint, fingerprint_differences
from conf.errors import InputError

_MT19937_WORDS = 624


def check_setup(
    parts: Mapping[str, Any],
    model: OnPolicyAlgorithm,
    callbacks: Mapping[str, Any],
    allow_inexact: bool,
) -> None:
    """InputError unless environments, software, hardware, settings and callbacks are the same.

    `allow_inexact` accepts every difference but the number of environments.
    """
    saved, current = parts["fingerprint"], determinism_fingerprint(model)
    if saved["num_envs"] != current["num_envs"]:
        raise InputError(
            f"the checkpoint has {saved['num_envs']} parallel environments, this run has "
            f"{current['num_envs']}",
            f"Resume with num_envs={saved['num_envs']}",
        )
    if allow_inexact:
        return
    differences = fingerprint_differences(saved, current)
    if differences:
        raise InputError(
            "this run would not repeat the interrupted one bit for bit; changed: "
            + "; ".join(differences),
            "Restore the former setup, or accept small differences: allow_inexact_resume=true",
        )
    if set(parts["callbacks"]) != set(callbacks):
        raise InputError(
            f"the checkpoint has callbacks {sorted(parts['callbacks'])}, this run has "
            f"{sorted(callbacks)}",
            "Resume with the same callbacks, or go on without: allow_inexact_resume=true",
        )


def check_fits(parts: Mapping[str, Any], model: OnPolicyAlgorithm) -> None:
    """InputError unless names, shapes and types are those of the model."""
    _check_network(parts["policy"], model)
    _check_optimizer(parts["optimizer"], model)
    for name in ("_last_obs", "_last_episode_starts"):
        inner = (model.observation_space.shape or ()) if name == "_last_obs" else ()
        if parts["observed"][name].shape != (model.n_envs, *inner):
            raise InputError(f"{name} has shape {parts['observed'][name].shape}")
    _check_memory(parts["lstm"], model)
    for name, value in parts["counters"].items():
        # The last rollout may go beyond the steps asked for: what remains is then below zero.
        least = -math.inf if name == "_current_progress_remaining" else 0
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
            raise InputError(f"the counter {name} is {value!r}")
    # NumPy does not check these itself and would read beyond the array.
    numbers = parts["random"]["numpy"]["state"]
    if numbers["key"].shape != (_MT19937_WORDS,) or not 0 <= numbers["pos"] <= _MT19937_WORDS:
        raise InputError("the state of NumPy's random generator is damaged")


def _check_memory(saved: Mapping[str, Any] | None, model: OnPolicyAlgorithm) -> None:
    states: Any = getattr(model, "_last_lstm_states", None)
    if (saved is None) != (states is None):
        raise InputError(
            "the checkpoint has a recurrent agent and this run not, or the other way round",
            "Resume with the agent that the run was started with",
        )
    if saved is None:
        return
    shape = tuple(states.pi[0].shape)
    for net in ("pi", "vf"):
        if any(array.shape != shape for array in saved[net]):
            raise InputError(f"the LSTM state of {net} does not have shape {shape}")


def _check_network(saved: Mapping[str, Any], model: OnPolicyAlgorithm) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in model.policy.state_dict().items()}
    found = {name: array.shape for name, array in saved.items()}
    odd = sorted(n for n in found.keys() | expected.keys() if found.get(n) != expected.get(n))
    if odd:
        raise InputError(
            f"the checkpoint's network differs in {', '.join(odd[:3])} ({len(odd)} in all)",
            "Resume with the network that the run was started with",
        )


def _check_optimizer(saved: Mapping[str, Any], model: OnPolicyAlgorithm) -> None:
    own = model.policy.optimizer.state_dict()["param_groups"]
    groups = saved["groups"]
    same = len(groups) == len(own) and all(
        one.keys() == two.keys()
        and one["params"] == two["params"]
        and all(type(one[key]) is type(two[key]) for key in two)
        for one, two in zip(groups, own, strict=True)
    )
    if not same:
        raise InputError("the checkpoint's optimizer is of another kind than this run's")
    parameters = [p for group in model.policy.optimizer.param_groups for p in group["params"]]
    for index, entry in saved["state"].items():
        shape = tuple(parameters[int(index)].shape)
        for name, value in entry.items():
            if not isinstance(value, np.ndarray) or value.shape not in ((), shape):
                raise InputError(f"the optimizer's {name} of parameter {index} does not fit")
