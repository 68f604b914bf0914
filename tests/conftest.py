"""Fixtures for all tests."""

import copy
import functools
import gc
import os
from typing import Any
from unittest import mock

import pytest
import torch
import yaml
from hydra._internal.hydra import Hydra
from omegaconf._utils import get_yaml_loader

_Loader = get_yaml_loader()


@pytest.fixture(scope="session", autouse=True)
def light_commands():
    """Hundreds of commands are run: the text of a file of settings is parsed once.

    Hydra composes everything a second time to ask for hydra.mode, which no test sets; and files
    are not waited for until they are on the disk.
    """
    yaml_load = yaml.load
    parse = functools.cache(yaml_load)

    def load(stream: Any, Loader: Any) -> Any:
        if Loader.__qualname__ != _Loader.__qualname__:  # OmegaConf makes the class anew each time
            return yaml_load(stream, Loader)
        text = stream if isinstance(stream, str) else stream.read()
        return copy.deepcopy(parse(text, _Loader))

    with (
        mock.patch.object(Hydra, "get_mode", return_value=None),
        mock.patch.object(yaml, "load", load),
        mock.patch.object(os, "fsync"),  # a killed process loses nothing without it
    ):
        yield


@pytest.fixture(scope="module")
def one_thread():
    """The last bits of a network's numbers may depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_collection_finish():
    """What was imported and collected stays: the garbage collector need not look at it again."""
    gc.collect()
    gc.freeze()
