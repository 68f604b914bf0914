"""Whether a saved resume state belongs to this model, and can repeat its last bits.

Everything is checked before anything of the model changes.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import sb3_contrib
import stable_baselines3
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.off_policy.policies import acting_part
from conf.errors import InputError

# Numbers of PPO; agents' settings and Stable-Baselines3 have them under the same names.
HYPERPARAMETERS = (
    "batch_size",
    "n_epochs",
    "gamma",
    "gae_lambda",
    "ent_coef",
    "vf_coef",
    "max_grad_norm",
    "target_kl",
)
_OF_PPO = ("n_steps", "normalize_advantage", *HYPERPARAMETERS)
# Version of the project's own networks, raised whenever the same weights give other last bits.
_ARITHMETIC = 2
# Environment variables that choose the numerical libraries' kernels, so the order of additions.
_VARIABLES = ("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")

_MT19937_WORDS = 624


def optimizers_of(model: BaseAlgorithm) -> dict[str, torch.optim.Optimizer]:
    """The optimisers of an algorithm by name; PPO has one."""
    several: dict[str, torch.optim.Optimizer] | None = getattr(model, "optimizers", None)
    return {"policy": model.policy.optimizer} if several is None else several


def determinism_fingerprint(model: BaseAlgorithm) -> dict[str, Any]:
    """Versions, numerical hardware and settings, threads and hyperparameters, as plain data.

    A resumed run repeats the uninterrupted one bit for bit only if all of these are equal.
    """

    def plain(value: Any) -> Any:
        return value.item() if isinstance(value, np.generic) else value

    device = torch.device(model.device)
    cuda = device.type == "cuda"
    policy, acting = model.policy, acting_part(model.policy)
    schedules: Any = getattr(model, "schedules", None)  # None, as in earlier checkpoints: none
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "gymnasium": gymnasium.__version__,
        "stable_baselines3": stable_baselines3.__version__,
        "sb3_contrib": sb3_contrib.__version__,
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "mkldnn": bool(torch.backends.mkldnn.enabled),
        "mkl": bool(torch._C.has_mkl),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "device": torch.cuda.get_device_name(device) if cuda else device.type,
        "cuda": torch.version.cuda if cuda else None,
        "policy": type(policy).__name__,
        "arithmetic": _ARITHMETIC,
        **{name.lower(): os.environ.get(name) for name in _VARIABLES},
        "num_envs": model.n_envs,
        # Of what changes the schedule counts, and not its value when it was saved.
        **{
            name: None if name in (schedules or ()) else plain(getattr(model, name))
            for name in getattr(model, "HYPERPARAMETERS", _OF_PPO)
        },
        "schedules": schedules,
        "sequence_length": getattr(model, "sequence_length", None),
        "distribution": getattr(policy, "distribution", None),  # None: not on a simplex
        # Nor do the weights' shapes tell these; None, as in earlier checkpoints: all of them.
        "columns": [*getattr(acting.features_extractor, "columns", ())] or None,
        "basis": [list(book) for book in getattr(policy, "basis", None) or ()] or None,
    }


def check_setup(
    parts: Mapping[str, Any],
    model: BaseAlgorithm,
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
    refuse_differences(saved, current)
    if set(parts["callbacks"]) != set(callbacks):
        raise InputError(
            f"the checkpoint has callbacks {sorted(parts['callbacks'])}, this run has "
            f"{sorted(callbacks)}",
            "Resume with the same callbacks, or accept others: allow_inexact_resume=true",
        )


def refuse_differences(saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """InputError that names what differs between two fingerprints."""
    differences = [
        f"{name}: {saved.get(name)} -> {current.get(name)}"
        for name in sorted(saved.keys() | current.keys())
        if saved.get(name) != current.get(name)
    ]
    if differences:
        raise InputError(
            "this run would not repeat the interrupted one bit for bit; changed: "
            + "; ".join(differences),
            "Restore the former setup, or accept small differences: allow_inexact_resume=true",
        )


def check_fits(parts: Mapping[str, Any], model: BaseAlgorithm) -> None:
    """InputError unless names, shapes and types are those of the model."""
    _check_network(parts["policy"], model)
    for name, optimizer in optimizers_of(model).items():
        _check_optimizer(parts["optimizers"][name], optimizer)
    observation = model.observation_space.shape or ()
    for name, shape in (("_last_obs", observation), ("_last_episode_starts", ())):
        if parts["observed"][name].shape != (model.n_envs, *shape):
            raise InputError(f"{name} has shape {parts['observed'][name].shape}")
    _check_lstm_states(parts["lstm"], model)
    for name, value in parts["counters"].items():
        # The last rollout may end after the requested steps; what remains is then negative.
        least = -math.inf if name == "_current_progress_remaining" else 0
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
            raise InputError(f"the counter {name} is {value!r}")
    # NumPy does not check these itself and would read beyond the array.
    state = parts["random"]["numpy"]["state"]
    if state["key"].shape != (_MT19937_WORDS,) or not 0 <= state["pos"] <= _MT19937_WORDS:
        raise InputError("the state of NumPy's random generator is damaged")


def _check_lstm_states(saved: Mapping[str, Any] | None, model: BaseAlgorithm) -> None:
    states: Any = getattr(model, "_last_lstm_states", None)
    if (saved is None) != (states is None):
        raise InputError(
            "only one of the checkpoint and this run has a recurrent agent",
            "Resume with the agent that the run was started with",
        )
    if saved is None:
        return
    shape = tuple(states.pi[0].shape)
    for net in ("pi", "vf"):
        if [array.shape for array in saved[net]] != [shape, shape]:  # hidden and cell
            raise InputError(f"the LSTM state of {net} does not have shape {shape}")


def _check_network(saved: Mapping[str, Any], model: BaseAlgorithm) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in model.policy.state_dict().items()}
    shapes = {name: array.shape for name, array in saved.items()}
    names = shapes.keys() | expected.keys()
    odd = sorted(name for name in names if shapes.get(name) != expected.get(name))
    if odd:
        raise InputError(
            f"the checkpoint's network differs in {', '.join(odd[:3])} ({len(odd)} in all)",
            "Resume with the network that the run was started with",
        )


def _check_optimizer(saved: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> None:
    own = optimizer.state_dict()["param_groups"]
    groups = saved["groups"]
    is_same_kind = len(groups) == len(own) and all(
        one.keys() == two.keys()
        and one["params"] == two["params"]
        and all(type(one[key]) is type(two[key]) for key in two)
        for one, two in zip(groups, own, strict=True)
    )
    if not is_same_kind:
        raise InputError("the checkpoint's optimizer is of another kind than this run's")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, entry in saved["state"].items():
        shape = tuple(parameters[int(index)].shape)
        for name, value in entry.items():
            if not isinstance(value, np.ndarray) or value.shape not in ((), shape):
                raise InputError(f"the optimizer's {name} of parameter {index} does not fit")
