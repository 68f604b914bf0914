"""The messages that the page on troubleshooting quotes are those of the commands."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
QUOTED = re.findall(
    r"^\$ python -m (experiments\.\w+) ?(.*)\n(error: .*)$", PAGE.read_text(), flags=re.MULTILINE
)


@pytest.mark.parametrize(("module", "arguments", "message"), QUOTED, ids=[q[1] for q in QUOTED])
def test_a_quoted_error_is_what_the_command_says(command, module, arguments, message):
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    code, _, err = command(importlib.import_module(module), *shlex.split(arguments))
    assert code == 2
    assert err.startswith(message)
