"""What a package offers by name, imported when it is first asked for (PEP 562).

So `from envs import price` costs no torch, and editors and mypy still see every name: a package
lists them once, as imports under `if TYPE_CHECKING`, and that list is read here.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def lazy_names(
    package: str, file: str
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """`__all__`, `__getattr__` and `__dir__` of the package whose `__init__.py` is `file`."""
    homes = {
        alias.name: node.module
        for block in ast.parse(Path(file).read_text(encoding="utf-8")).body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module is not None
        for alias in node.names
    }
    own = vars(sys.modules[package])

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return own.setdefault(name, getattr(import_module(homes[name]), name))

    return sorted(homes), get, lambda: sorted({*own, *homes})
