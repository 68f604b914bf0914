"""The code, packages and machine behind a run; nothing that names a person or holds a secret."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = (
    "polyhedgerl",
    "arch",
    "gymnasium",
    "hydra-core",
    "numpy",
    "pandas",
    "safetensors",
    "sb3-contrib",
    "scipy",
    "stable-baselines3",
    "torch",
)


def gather_provenance() -> dict[str, Any]:
    """Git state of this package, versions, hardware and thread count, as plain data."""
    import torch  # commands that never train should not wait for it

    packages: dict[str, str] = {}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            packages[name] = version(name)
    return {
        "code": _git_state(),
        "python": platform.python_version(),
        "packages": packages,
        "machine": {
            "system": platform.system(),
            "architecture": platform.machine(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "threads": torch.get_num_threads(),
    }


def _git_state() -> dict[str, Any] | None:
    """Commit and dirty flag of this package's own checkout; None outside of one."""
    file = Path(__file__).resolve()

    def git(*arguments: str) -> str | None:
        try:
            command = ["git", "-C", str(file.parent), *arguments]
            return subprocess.check_output(
                command, stderr=subprocess.DEVNULL, text=True, timeout=10
            ).strip()
        except (OSError, subprocess.SubprocessError):
            return None

    # An installed copy may lie inside somebody else's repository.
    if git("ls-files", "--error-unmatch", file.name) is None:
        return None
    commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain")
    if commit is None or changes is None:
        return None
    return {"commit": commit, "dirty": bool(changes)}


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
