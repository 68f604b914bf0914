"""What must be equal for a resumed run to repeat the last bit of the run that was not stopped."""

from __future__ import annotations

import os
import platform
from typing import Any

import gymnasium
import numpy as np
import sb3_contrib
import stable_baselines3
import torch
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

_HYPERPARAMETERS = (
    "n_steps",
    "batch_size",
    "n_epochs",
    "gamma",
    "gae_lambda",
    "ent_coef",
    "vf_coef",
    "max_grad_norm",
    "normalize_advantage",
    "target_kl",
)
# Of our own networks: raised whenever the same weights come to give other last bits.
_ARITHMETIC = 2
# They choose among kernels of the numerical libraries, and with them the order of additions.
_VARIABLES = ("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")


def determinism_fingerprint(model: OnPolicyAlgorithm) -> dict[str, Any]:
    """Versions, numerical hardware and settings, threads and hyperparameters, as plain data."""
    device = torch.device(model.device)
    cuda = device.type == "cuda"
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
        "policy": type(model.policy).__name__,
        "arithmetic": _ARITHMETIC,
        **{name.lower(): os.environ.get(name) for name in _VARIABLES},
        "num_envs": model.n_envs,
        **{name: _plain(getattr(model, name)) for name in _HYPERPARAMETERS},
        "sequence_length": getattr(model, "sequence_length", None),
        "distribution": getattr(model.policy, "distribution", None),  # None: not on a simplex
    }


def fingerprint_differences(saved: dict[str, Any], current: dict[str, Any]) -> list[str]:
    """Each difference as "name: saved -> current"; empty if the fingerprints are equal."""
    return [
        f"{name}: {saved.get(name)} -> {current.get(name)}"
        for name in sorted(saved.keys() | current.keys())
        if saved.get(name) != current.get(name)
    ]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
