"""A file with given lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Lines = list[str]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Lines], Path]:
    def writer(lines: Lines) -> Path:
        path = tmp_path / "prices.csv"
        path.write_text("\n".join(lines) + "\n")
        return path

    return writer
